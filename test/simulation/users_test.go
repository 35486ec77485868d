package simulation

import (
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/engine"
)

// maxJobs is how many Jobs a run has.
const maxJobs = 24

// createJob makes a Job that asks for anything.
func (w *world) createJob() {
	if len(w.uids) < maxJobs && !w.healing {
		t := w.someTenant()
		w.create(t, fmt.Sprintf("job-%03d", len(w.uids)+1), w.anySpec(t))
	}
}

func (w *world) create(t *tenant, name string, spec *v1alpha1.JobSpec) {
	uid := types.UID(fmt.Sprintf("uid-%03d", len(w.uids)+1))
	created := w.now.Truncate(time.Second)
	w.uids = append(w.uids, uid)
	w.truths[uid] = &jobTruth{
		uid: uid, tenant: t, name: name, spec: spec, created: created, tasks: map[int32]*taskTruth{},
		recorded: map[string]bool{}, recordedOn: map[int32]map[types.UID]bool{}, issued: map[engine.Token]map[types.UID]bool{}, suspended: deref(spec.Suspend),
	}
	w.putJob(&v1alpha1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: t.config.Key.Namespace, Name: name, UID: uid, CreationTimestamp: timeOf(created)},
		Spec:       *spec, Status: v1alpha1.JobStatus{State: v1alpha1.JobPending, Reason: v1alpha1.ReasonWaiting},
	})
	w.note("%s is made: %s, execution %s, %d tasks, retries %d, policy %v, onFailure %t", uid, name, spec.Execution,
		w.truths[uid].size(), deref(spec.MaxRetries), spec.FailurePolicy, spec.OnFailure != nil)
}

// largeText makes a Job too large to be kept whole while it waits.
var largeText = strings.Repeat("x", 1<<14)

func (w *world) anySpec(t *tenant) *v1alpha1.JobSpec {
	spec := &v1alpha1.JobSpec{
		Pool: t.config.Key.Name, Command: []string{"true"}, Backoff: &v1alpha1.Backoff{MaxSeconds: new(int32(4))}, Priority: new(int32(w.rng.IntN(3))),
	}
	if w.chance(3) {
		spec.MaxRetries = new(int32(w.rng.IntN(4)))
	}
	switch w.rng.IntN(8) {
	case 0, 1:
		spec.Completions = new(int32(1 + w.rng.IntN(6)))
		if w.chance(2) {
			spec.Parallelism = new(int32(1 + w.rng.IntN(3)))
		}
	case 2:
		spec.Items = []string{"a", "b", "c"}
	case 3, 4:
		spec.Execution, spec.MaxRetries = v1alpha1.AtMostOnce, nil
	}
	if w.chance(4) && spec.Execution != v1alpha1.AtMostOnce {
		action := []v1alpha1.FailureAction{v1alpha1.ActionFail, v1alpha1.ActionIgnore, v1alpha1.ActionRetry}[w.rng.IntN(3)]
		spec.FailurePolicy = &v1alpha1.FailurePolicy{Rules: []v1alpha1.FailureRule{{Action: action, ExitCodes: []int32{2}}}}
	}
	if w.chance(4) {
		spec.OnFailure = &v1alpha1.FailureHandler{Command: []string{"tell"}}
	}
	if w.chance(4) {
		spec.Stdin = largeText
	}
	if w.chance(8) {
		spec.ActiveDeadlineSeconds = new(int32(20 + w.rng.IntN(60)))
	}
	if w.chance(8) {
		spec.StartAfter = new(timeOf(w.now.Truncate(time.Second).Add(time.Duration(w.rng.IntN(20)) * time.Second)))
	}
	if w.chance(10) {
		spec.Suspend = new(true)
	}
	return spec
}

// someJob is one that exists; nil if none does.
func (w *world) someJob() *v1alpha1.Job { return w.api.jobs.live[pick(w.rng, w.api.jobs.names())] }

// changeJob suspends or resumes a Job, or gives it another priority.
func (w *world) changeJob() {
	if job := w.someJob(); job != nil {
		suspend := w.chance(2)
		w.change(job, func(s *v1alpha1.JobSpec) {
			if suspend {
				s.Suspend = new(!deref(s.Suspend))
				return
			}
			s.Priority = new(int32(w.rng.IntN(3)))
		})
	}
}

func (w *world) change(job *v1alpha1.Job, change func(*v1alpha1.JobSpec)) {
	next := *job
	change(&next.Spec)
	next.Generation++
	j := w.truth(job.UID)
	j.changes++
	j.suspended = j.suspended || deref(next.Spec.Suspend)
	w.note("%s is changed: suspend %t, priority %d", job.UID, deref(next.Spec.Suspend), deref(next.Spec.Priority))
	w.putJob(&next)
}

// resumeAll takes back all suspensions.
func (w *world) resumeAll() {
	for _, name := range w.api.jobs.names() {
		if job := w.api.jobs.live[name]; deref(job.Spec.Suspend) {
			w.change(job, func(s *v1alpha1.JobSpec) { s.Suspend = nil })
		}
	}
}

func (w *world) deleteSome() {
	if job := w.someJob(); job != nil {
		w.remove(job)
	}
}

func (w *world) remove(job *v1alpha1.Job) {
	w.note("%s is deleted", job.UID)
	w.truth(job.UID).gone = true
	w.deleteJob(job.Name)
}

// reuseName makes a Job of the name of one that is deleted for it.
func (w *world) reuseName() {
	if job := w.someJob(); job != nil && len(w.uids) < maxJobs {
		t := w.truth(job.UID).tenant
		w.remove(job)
		w.create(t, job.Name, w.anySpec(t))
	}
}
