package faults

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/testutil"
	"github.com/workerpool-dev/workerpool/test/simulated"
)

const poolName = "demo"

// world is the namespace of one run of a scenario, as the API server shows it to the test.
type world struct {
	t         *testing.T
	h         *harness
	namespace string
	record    *record
	// patience is how long anything may take.
	patience time.Duration
	// slack is how many more writes there may be of each kind, where the operator can't see what it has written.
	slack int
	audit *simulated.Audit
	// expected has what may become of each Job, by name.
	expected map[string][]outcome

	mu      sync.Mutex
	jobs    map[string]*v1alpha1.Job
	gone    map[string]bool
	pods    map[string]*corev1.Pod
	pool    *v1alpha1.WorkerPool
	broken  string
	changed chan struct{}
}

// outcome is how a Job may end.
type outcome struct {
	state  v1alpha1.JobState
	reason string
	// starts is how often each of its tasks is started, at the least and at the most; handled that of its onFailure.
	starts  [2]int
	handled int
	// afterKill outcomes are allowed only if the operator was killed.
	afterKill bool
}

// failure is why a run has failed.
type failure string

// failf ends the run. It must be called by the run's own goroutine.
func (w *world) failf(format string, args ...any) { panic(failure(fmt.Sprintf(format, args...))) }

func (w *world) must(what string, err error) {
	if err != nil {
		w.failf("%s: %v", what, err)
	}
}

// see takes in a change, in the order in which the API server tells it.
func (w *world) see(event watch.Event) {
	switch o := event.Object.(type) {
	case *v1alpha1.Job:
		w.h.proxy.note(w.namespace, "  Job %s: %s %s (%s)", o.Name, o.Status.State, o.Status.Reason, event.Type)
	case *corev1.Pod:
		w.audit.See(event)
		w.h.proxy.note(w.namespace, "  pod %s: %s, deleted: %v (%s)", o.Name, o.Status.Phase, o.DeletionTimestamp != nil, event.Type)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch o := event.Object.(type) {
	case *v1alpha1.Job:
		w.seeJobLocked(o, event.Type == watch.Deleted)
	case *corev1.Pod:
		w.pods[o.Name] = o
		if event.Type == watch.Deleted {
			delete(w.pods, o.Name)
		}
	case *v1alpha1.WorkerPool:
		w.pool = o
		if event.Type == watch.Deleted {
			w.pool = nil
		}
	}
	w.wakeLocked()
}

func (w *world) seeJobLocked(o *v1alpha1.Job, deleted bool) {
	before := w.jobs[o.Name]
	if before != nil && before.Status.State.Finished() && !equality.Semantic.DeepEqual(before.Status, o.Status) {
		w.violatedLocked("the status of Job %s was changed after its end, from %+v to %+v", o.Name, before.Status, o.Status)
	}
	w.jobs[o.Name] = o
	if deleted {
		delete(w.jobs, o.Name)
		w.gone[o.Name] = true
	}
}

func (w *world) violatedLocked(format string, args ...any) {
	if w.broken == "" {
		w.broken = fmt.Sprintf(format, args...)
	}
}

func (w *world) wakeLocked() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// await waits until something holds. That must not block, and may look at the world.
func (w *world) await(what string, holds func() bool) {
	expired := time.After(w.patience)
	for {
		w.mu.Lock()
		changed, broken := w.changed, w.broken
		w.mu.Unlock()
		_, audited, _ := w.audit.Look()
		for _, trouble := range []string{broken, audited, w.h.ledger.trouble(w.namespace)} {
			if trouble != "" {
				w.failf("before %s: %s", what, trouble)
			}
		}
		if holds() {
			w.h.proxy.note(w.namespace, "* %s", what)
			return
		}
		select {
		case <-changed:
		case <-expired:
			w.failf("not after %v: %s", w.patience, what)
		}
	}
}

func (w *world) job(name string) *v1alpha1.Job {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.jobs[name]
}

func (w *world) isGone(job string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.gone[job]
}

func (w *world) getPool() *v1alpha1.WorkerPool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pool
}

// workers are the pods that are not being deleted, by name.
func (w *world) workers() []*corev1.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	var live []*corev1.Pod
	for _, name := range slices.Sorted(maps.Keys(w.pods)) {
		if w.pods[name].DeletionTimestamp == nil {
			live = append(live, w.pods[name])
		}
	}
	return live
}

func (w *world) podCount() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.pods)
}

// makePool makes the pool, of which there may be so many workers.
func (w *world) makePool(replicas int32, change ...func(*testutil.PoolBuilder)) {
	w.bound(int(replicas), int(replicas))
	b := testutil.MakePool(w.namespace, poolName).Replicas(replicas).Retain(0).Slots(4)
	for _, f := range change {
		f(b)
	}
	w.must("create the pool", w.h.client.Create(w.t.Context(), b.Obj()))
}

// bound sets how many pods there may be: live ones, and in all.
func (w *world) bound(live, all int) { w.audit.Allow(simulated.Bound{Live: live, All: all}) }

// submit creates a Job that is to end so.
func (w *world) submit(name, command string, expected []outcome, change ...func(*testutil.JobBuilder)) {
	b := testutil.MakeJob(w.namespace, name, poolName).Command(command)
	for _, f := range change {
		f(b)
	}
	w.expected[name] = expected
	w.must("create a Job", w.h.client.Create(w.t.Context(), b.Obj()))
}

// patch changes an object.
func (w *world) patch(o client.Object, name, patch string) {
	o.SetNamespace(w.namespace)
	o.SetName(name)
	w.must("patch "+name, w.h.client.Patch(w.t.Context(), o, client.RawPatch(types.MergePatchType, []byte(patch))))
}

func (w *world) delete(o client.Object, name string) {
	o.SetNamespace(w.namespace)
	o.SetName(name)
	w.must("delete "+name, client.IgnoreNotFound(w.h.client.Delete(w.t.Context(), o)))
}

// awaitState waits until a Job is stored so.
func (w *world) awaitState(name string, state v1alpha1.JobState, reason string) {
	w.await(fmt.Sprintf("Job %s is %s %s", name, state, reason), func() bool {
		job := w.job(name)
		return job != nil && job.Status.State == state && job.Status.Reason == reason
	})
}

// release lets a Job that holds end.
func (w *world) release(name string) { w.h.ledger.release(w.job(name).UID) }

func (w *world) awaitEnds() {
	for _, name := range slices.Sorted(maps.Keys(w.expected)) {
		w.await("Job "+name+" has ended", func() bool {
			job := w.job(name)
			return w.isGone(name) || job != nil && (job.Status.State.Finished() || job.Status.State == w.expected[name][0].state)
		})
	}
}

// killed tells whether the operator has been, since the run began.
func (w *world) killed() (killed bool) {
	w.h.proxy.look(func() { killed = w.record.kills > 0 })
	return killed
}

// settle checks what must hold in the end. Then it deletes the pool, and all must go.
func (w *world) settle() {
	w.awaitEnds()
	finished := int64(0)
	for name := range w.expected {
		w.await("nothing of Job "+name+" runs", func() bool {
			job := w.job(name)
			if job == nil {
				return true
			}
			_, running := w.h.ledger.of(job.UID, 0)
			return !running
		})
		if job := w.job(name); job != nil {
			w.judge(job)
			if job.Status.State.Finished() && job.Status.Attempts != nil {
				finished++
			}
		}
	}
	if pool := w.getPool(); pool != nil && pool.DeletionTimestamp == nil {
		w.awaitTrueStatus(finished)
		w.delete(&v1alpha1.WorkerPool{}, poolName)
	}
	w.await("the pool is gone", func() bool { return w.getPool() == nil })
	w.await("all workers are gone", func() bool { return w.podCount() == 0 })
}

// judge compares what has become of a Job with what was expected.
func (w *world) judge(job *v1alpha1.Job) {
	tasks := int(ptr.Deref(job.Spec.Completions, 1))
	killed := w.killed()
	var starts []int
	for i := range tasks + 1 {
		n, _ := w.h.ledger.of(job.UID, int32(i))
		starts = append(starts, n)
	}
	fits := func(o outcome) bool {
		if o.afterKill && !killed || job.Status.State != o.state || job.Status.Reason != o.reason {
			return false
		}
		for _, n := range starts[:tasks] {
			if n < o.starts[0] || n > o.starts[1] {
				return false
			}
		}
		return starts[tasks] == o.handled || killed && o.handled > 0 && starts[tasks] > 0 // at least once
	}
	if !slices.ContainsFunc(w.expected[job.Name], fits) {
		w.failf("Job %s is %s %s (%s), and its processes were started %v times; want %+v",
			job.Name, job.Status.State, job.Status.Reason, job.Status.Message, starts, w.expected[job.Name])
	}
	complete := meta.IsStatusConditionTrue(job.Status.Conditions, v1alpha1.JobComplete)
	failed := meta.IsStatusConditionTrue(job.Status.Conditions, v1alpha1.JobFailedCondition)
	if complete != (job.Status.State == v1alpha1.JobSucceeded) || failed != (job.Status.State == v1alpha1.JobFailed) {
		w.failf("Job %s is %s with conditions %+v", job.Name, job.Status.State, job.Status.Conditions)
	}
	if n := int(ptr.Deref(job.Status.Attempts, 0)); job.Spec.Completions == nil && n < starts[0] {
		w.failf("Job %s was started %d times, and its status says %d", job.Name, starts[0], n)
	}
}

// awaitTrueStatus waits until the pool's status tells what there is. The counts of the last second may be missing
// where the operator was killed.
func (w *world) awaitTrueStatus(finished int64) {
	var last string
	defer func() {
		if last != "" {
			w.h.proxy.note(w.namespace, "* the pool's status is not true: %s", last)
		}
	}()
	w.await("the pool's status is true", func() bool {
		s := w.getPool().Status
		want := ptr.Deref(w.getPool().Spec.Replicas, 1)
		processed := ptr.Deref(s.ProcessedJobs, 0)
		last = fmt.Sprintf("%s ready, %d queued, %d active, %d processed, want %d", s.Ready, ptr.Deref(s.QueueSize, 0),
			ptr.Deref(s.ActiveJobs, 0), processed, finished)
		fits := s.Ready == fmt.Sprintf("%d/%d", want, want) && ptr.Deref(s.QueueSize, -1) == 0 && ptr.Deref(s.ActiveJobs, -1) == 0 &&
			meta.IsStatusConditionTrue(s.Conditions, v1alpha1.PoolReady) &&
			(processed == finished || w.killed() && processed < finished || w.getPool().Annotations["uncounted"] != "")
		if fits {
			last = ""
		}
		return fits
	})
}

// checkWrites fails if the operator has written more than it may, given what it writes without a fault.
func (w *world) checkWrites(quiet map[string]int) {
	if quiet == nil {
		return
	}
	var over []string
	w.h.proxy.look(func() {
		for kind, n := range w.record.writes {
			most := (1+w.record.kills)*quiet[kind] + 4 + w.slack
			if strings.Contains(kind, "workerpools/status") {
				most += quiet[kind] + 2
			}
			if n > most {
				over = append(over, fmt.Sprintf("%d writes %q, may be %d", n, kind, most))
			}
		}
	})
	if len(over) > 0 {
		w.failf("too many: %s", strings.Join(over, "; "))
	}
}

// clear deletes what is left, so that it is in nobody's way.
func (w *world) clear() {
	ctx := context.Background()
	errs := []error{
		w.h.client.DeleteAllOf(ctx, &v1alpha1.Job{}, client.InNamespace(w.namespace)),
		w.h.client.DeleteAllOf(ctx, &v1alpha1.WorkerPool{}, client.InNamespace(w.namespace)),
	}
	if err := errors.Join(errs...); err != nil && !apierrors.IsNotFound(err) {
		w.t.Errorf("clear the namespace: %v", err)
	}
}
