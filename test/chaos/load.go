package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/testutil"
	"github.com/workerpool-dev/workerpool/test/chaos/check"
	"github.com/workerpool-dev/workerpool/test/chaos/ledger"
)

// poolKey says which pool of the load.
type poolKey struct{ namespace, name string }

// lostTimeout of the pools: the least that the API takes. drainTimeout is shorter than the longest Jobs, so that some are cut off.
const (
	lostTimeout  = 30 * time.Second
	drainTimeout = 20 * time.Second
)

// replicas is how many workers each pool has, but while it is scaled.
const replicas = 3

func namespaces(seed uint64) []string {
	return []string{fmt.Sprintf("chaos-%d-a", seed), fmt.Sprintf("chaos-%d-b", seed)}
}

// pools of the load: one serves HTTP.
func pools(seed uint64) []poolKey {
	n := namespaces(seed)
	return []poolKey{{n[0], "short"}, {n[0], "long"}, {n[1], "mixed"}, {n[1], "http"}}
}

// load is the Jobs of a run.
type load struct {
	*world

	random *rand.Rand

	mu sync.Mutex
	// jobs that the API server has taken, in order.
	jobs []check.Job
}

func newLoad(w *world) *load {
	return &load{world: w, random: rand.New(rand.NewPCG(w.seed, 1))} //nolint:gosec // chance that can be had again
}

// prepare makes namespaces and pools, and waits until all workers are ready.
func (l *load) prepare(ctx context.Context) error {
	for _, name := range namespaces(l.seed) {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
			Name: name, Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"},
		}}
		if err := l.Create(ctx, namespace); err != nil {
			return err
		}
	}
	for _, key := range pools(l.seed) {
		if err := l.Create(ctx, l.pool(key)); err != nil {
			return err
		}
	}
	for _, key := range pools(l.seed) {
		if !await(ctx, 2*time.Minute, func() bool { return l.isReady(ctx, key) }) {
			return fmt.Errorf("the pool %s does not become ready", key.name)
		}
	}
	return nil
}

// isReady tells whether the pool has all its workers, of its present template, and no others.
func (w *world) isReady(ctx context.Context, key poolKey) bool {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	pool := &v1alpha1.WorkerPool{}
	if w.Get(ctx, client.ObjectKey{Namespace: key.namespace, Name: key.name}, pool) != nil {
		return false
	}
	pods := &corev1.PodList{}
	if w.List(ctx, pods, client.InNamespace(key.namespace), client.MatchingLabels{v1alpha1.LabelPool: key.name}) != nil {
		return false
	}
	wanted := fmt.Sprintf("%d/%d", *pool.Spec.Replicas, *pool.Spec.Replicas)
	return pool.Status.Ready == wanted && len(pods.Items) == int(*pool.Spec.Replicas)
}

func (l *load) pool(key poolKey) *v1alpha1.WorkerPool {
	b := testutil.MakePool(key.namespace, key.name).Image(l.image).Replicas(replicas).Slots(6).Retain(0).
		DrainTimeout(int32(drainTimeout.Seconds())).
		Spec(func(s *v1alpha1.WorkerPoolSpec) { s.WorkerLostTimeoutSeconds = new(int32(lostTimeout.Seconds())) }).
		Template(l.template)
	if key.name == "http" {
		b = b.HTTP(8080).Template(func(t *corev1.PodTemplateSpec) { t.Spec.Containers[0].Args = []string{"-serve", ":8080"} })
	}
	return b.Obj()
}

// template of the workers: small ones, which the restricted standard admits.
func (l *load) template(t *corev1.PodTemplateSpec) {
	t.Spec.SecurityContext = &corev1.PodSecurityContext{
		RunAsNonRoot: new(true), RunAsUser: new(int64(65532)),
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	c := &t.Spec.Containers[0]
	c.ImagePullPolicy = corev1.PullIfNotPresent
	c.SecurityContext = &corev1.SecurityContext{
		AllowPrivilegeEscalation: new(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
	c.Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m"), corev1.ResourceMemory: resource.MustParse("64Mi")}
	c.Env = []corev1.EnvVar{{Name: "LEDGER", Value: l.ledger.Address()}}
	for _, field := range []string{"name", "namespace", "uid"} {
		c.Env = append(c.Env, corev1.EnvVar{Name: "POD_" + strings.ToUpper(field), ValueFrom: &corev1.EnvVarSource{
			FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata." + field},
		}})
	}
}

// run creates Jobs at an even rate until the context ends, and catches up after times when the API server took none.
func (l *load) run(ctx context.Context) {
	began := time.Now()
	for n := 0; ctx.Err() == nil; n++ {
		due := began.Add(time.Duration(n) * time.Minute / time.Duration(l.perMinute))
		pause(ctx, time.Until(due))
		job, object := l.next(n)
		if !l.submit(ctx, object) {
			return
		}
		l.mu.Lock()
		l.jobs = append(l.jobs, job)
		l.mu.Unlock()
	}
}

// submit until the API server has taken the Job; false if the context ended before that was known.
func (l *load) submit(ctx context.Context, job *v1alpha1.Job) bool {
	for {
		call, cancel := context.WithTimeout(ctx, callTimeout)
		err := l.Create(call, job.DeepCopy())
		cancel()
		// A create that timed out may have been done.
		if err == nil || apierrors.IsAlreadyExists(err) {
			return true
		}
		if ctx.Err() != nil {
			// Known to be refused, or not known: then it is no part of the load.
			call, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
			defer cancel()
			_ = l.Delete(call, job)
			return false
		}
		pause(ctx, 200*time.Millisecond)
	}
}

// task is what one process of a Job is to do.
type task struct {
	takes time.Duration
	fails int
	code  int
}

// next makes the nth Job and what is to become of it.
func (l *load) next(n int) (check.Job, *v1alpha1.Job) {
	kind := kinds[l.weighted()]
	key := pools(l.seed)[kind.pools[l.random.IntN(len(kind.pools))]]
	name := fmt.Sprintf("%s-%05d", kind.name, n)
	job := check.Job{Key: key.namespace + "/" + name, Tasks: 1}
	b := testutil.MakeJob(key.namespace, name, key.name)
	t := task{takes: l.between(kind.least, kind.most), code: 3 + l.random.IntN(100)}
	if kind.make != nil {
		kind.make(l.random, b, &job, &t)
	}
	job.Fails, job.Code = t.fails, t.code
	if job.HTTP {
		query := url.Values{"job": {job.Key}, "takes": {t.takes.String()}, "fails": {strconv.Itoa(t.fails)}}
		b.HTTP(v1alpha1.HTTPRequest{Method: "POST", Path: "/?" + query.Encode()})
	} else {
		b.Command("/worker", "-job="+job.Key, "-takes="+t.takes.String(), "-fails="+strconv.Itoa(t.fails), "-code="+strconv.Itoa(t.code))
	}
	return job, b.Obj()
}

func (l *load) between(least, most time.Duration) time.Duration {
	return least + time.Duration(l.random.Int64N(int64(most-least)))
}

func (l *load) weighted() int {
	n := l.random.IntN(100)
	for i, kind := range kinds {
		if n -= kind.percent; n < 0 {
			return i
		}
	}
	return 0
}

// kinds of Jobs, with their part of the load. Together they take less than a third of the slots while all is well.
var kinds = []struct {
	name    string
	percent int
	// pools that take it, as indexes of pools.
	pools       []int
	least, most time.Duration
	make        func(*rand.Rand, *testutil.JobBuilder, *check.Job, *task)
}{
	{"short", 38, []int{0, 2}, 0, 400 * time.Millisecond, nil},
	{"middling", 10, []int{0, 1, 2}, 500 * time.Millisecond, 4 * time.Second, nil},
	{"long", 9, []int{1, 2}, 5 * time.Second, 25 * time.Second, nil},
	{"retried", 10, []int{0, 2}, 0, 2 * time.Second, retried},
	{"failing", 4, []int{0, 2}, 0, 2 * time.Second, failing},
	{"indexed", 7, []int{0, 1, 2}, 0, 2 * time.Second, indexed},
	{"items", 4, []int{1, 2}, 0, 2 * time.Second, withItems},
	{"once", 8, []int{0, 1, 2}, 0, 5 * time.Second, atMostOnce},
	{"urgent", 5, []int{0, 2}, 0, time.Second, urgent},
	{"http", 5, []int{3}, 0, 4 * time.Second, request},
}

func retried(r *rand.Rand, b *testutil.JobBuilder, j *check.Job, t *task) {
	t.fails = 1 + r.IntN(3)
	j.MaxRetries = t.fails + r.IntN(2)
	b.MaxRetries(int32(j.MaxRetries)).Backoff(1, 1, 1)
}

// failing Jobs fail for good.
func failing(r *rand.Rand, b *testutil.JobBuilder, j *check.Job, t *task) {
	j.MaxRetries = r.IntN(2)
	t.fails = 1000
	b.MaxRetries(int32(j.MaxRetries)).Backoff(1, 1, 1)
}

func indexed(r *rand.Rand, b *testutil.JobBuilder, j *check.Job, t *task) {
	j.Indexed, j.Tasks = true, 2+r.IntN(7)
	b.Completions(int32(j.Tasks))
	if r.IntN(4) == 0 {
		b.Parallelism(2)
	}
	if r.IntN(3) == 0 {
		retried(r, b, j, t)
	}
}

func withItems(r *rand.Rand, b *testutil.JobBuilder, j *check.Job, _ *task) {
	j.Indexed, j.Tasks = true, 2+r.IntN(4)
	items := make([]string, j.Tasks)
	for i := range items {
		items[i] = "item-" + strconv.Itoa(i)
	}
	b.Items(items...).Args("{}")
}

func atMostOnce(_ *rand.Rand, b *testutil.JobBuilder, j *check.Job, _ *task) {
	j.AtMostOnce = true
	b.AtMostOnce()
}

func urgent(r *rand.Rand, b *testutil.JobBuilder, _ *check.Job, _ *task) {
	b.Priority(int32(1 + r.IntN(10)))
}

// request is for the HTTP pool. A connection that breaks counts as a failure there, so there are retries to spare.
func request(r *rand.Rand, b *testutil.JobBuilder, j *check.Job, t *task) {
	j.HTTP, j.MaxRetries, t.fails = true, 100, r.IntN(2)
	b.MaxRetries(int32(j.MaxRetries)).Backoff(1, 1, 1)
}

// settle waits until all Jobs have ended, looks at everything, and takes the pools away to see what is left.
func (w *world) settle(ctx context.Context, l *load) check.History {
	l.mu.Lock()
	history := check.History{Jobs: l.jobs}
	l.mu.Unlock()
	w.say("mended; %d Jobs are to end", len(history.Jobs))
	var status map[string]*v1alpha1.Job
	if !await(ctx, settling, func() bool {
		status = w.statuses(ctx)
		return unfinished(history.Jobs, status) == 0
	}) {
		w.say("%d Jobs do not end", unfinished(history.Jobs, status))
	}
	history.Orphans = w.orphans(ctx)
	history.Processes = w.ledger.Processes()
	pods, changes, seen := w.seen.all()
	history.Pods, history.Faults = pods, append(w.allFaults(), seen...)
	for i := range history.Jobs {
		fill(&history.Jobs[i], status[history.Jobs[i].Key])
		history.Jobs[i].Changes = changes[history.Jobs[i].Key]
	}
	return history
}

// statuses of all Jobs of the load, by namespace/name; nil if they can't be had.
func (w *world) statuses(ctx context.Context) map[string]*v1alpha1.Job {
	pause(ctx, time.Second)
	ctx, cancel := context.WithTimeout(ctx, 4*callTimeout)
	defer cancel()
	all := map[string]*v1alpha1.Job{}
	for _, namespace := range namespaces(w.seed) {
		list := &v1alpha1.JobList{}
		if w.List(ctx, list, client.InNamespace(namespace)) != nil {
			return nil
		}
		for i := range list.Items {
			all[namespace+"/"+list.Items[i].Name] = &list.Items[i]
		}
	}
	return all
}

func unfinished(jobs []check.Job, status map[string]*v1alpha1.Job) int {
	n := 0
	for i := range jobs {
		if job, ok := status[jobs[i].Key]; status == nil || ok && !job.Status.State.Finished() {
			n++
		}
	}
	return n
}

// fill in what the status says.
func fill(j *check.Job, job *v1alpha1.Job) {
	if job == nil {
		j.Missing = true
		return
	}
	s := job.Status
	j.State, j.Reason = string(s.State), s.Reason
	if s.Result != nil {
		j.ExitCode = s.Result.ExitCode
	}
	if s.Attempts != nil {
		j.Attempts = int(*s.Attempts)
	}
	if s.Retries != nil {
		j.Retries = int(*s.Retries)
	}
	j.Succeeded, j.Failed = numbers(s.SucceededIndexes), numbers(s.FailedIndexes)
}

// numbers of a list like 0-4,7. What is no number is left out, so that the checker misses it.
func numbers(list string) []int {
	var all []int
	for part := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, err := strconv.Atoi(first)
		to, err2 := strconv.Atoi(last)
		if err != nil || err2 != nil {
			continue
		}
		for n := from; n <= to; n++ {
			all = append(all, n)
		}
	}
	return all
}

// orphans waits until each pool is as it should be and nothing runs, then deletes the pools and waits until nothing
// is left. What does not happen is told.
func (w *world) orphans(ctx context.Context) []string {
	const patience = 90 * time.Second
	var all []string
	for _, key := range pools(w.seed) {
		if !await(ctx, patience, func() bool { return w.isReady(ctx, key) }) {
			all = append(all, fmt.Sprintf("the pool %s has other workers than it should: %s", key.name, describe(w.seen.workers(key.namespace, key.name))))
		}
	}
	var running []ledger.Process
	if !await(ctx, patience, func() bool { running = w.ledger.Running(); return len(running) == 0 }) {
		for _, p := range running {
			all = append(all, fmt.Sprintf("process %s of %s still runs on %s (pod %s)", p.ID, p.Job, p.Pod, p.PodUID))
		}
	}
	for _, key := range pools(w.seed) {
		_ = w.Delete(ctx, &v1alpha1.WorkerPool{ObjectMeta: metav1.ObjectMeta{Namespace: key.namespace, Name: key.name}})
	}
	if !await(ctx, patience, func() bool { return len(w.seen.workers("", "")) == 0 }) {
		all = append(all, "workers are left of deleted pools: "+describe(w.seen.workers("", "")))
	}
	uids := w.seen.uids()
	if !await(ctx, patience, func() bool { return len(processesOf(uids)) == 0 }) {
		all = append(all, fmt.Sprintf("processes are left of pods that are gone: %v", processesOf(uids)))
	}
	return all
}

func describe(pods []workerPod) string {
	var all []string
	for _, p := range pods {
		all = append(all, fmt.Sprintf("%s (%s, ready %v, deleted %v)", p.Key, p.UID, p.ready, p.deleting))
	}
	return strings.Join(all, ", ")
}
