package simulation

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/controllers/job"
	"github.com/workerpool-dev/workerpool/internal/engine"
)

// call is code of the operator that makes requests. It runs as a coroutine: at each request it stands still,
// until the world answers. So an operator can die, or be overtaken, between any two of its steps.
type call struct {
	op *operator
	// request is what it waits for, nil once it has ended.
	request *request
	next    func() (*request, bool)
	stop    func()
	yield   func(*request) bool
	// sawLease: it has read the Lease live, and that was the operator's own.
	sawLease bool
}

// request is one request to the API server, or a pause.
type request struct {
	object object
	// perform has it take effect.
	perform func() error
	// write: it changes something, so that it may take effect without an answer.
	write bool
	patch *statusPatch
	// name is that of the Job that is read, and sent when it was sent, by the history's clock.
	name string
	sent int64
	err  error
}

var errDead = errors.New("the process has ended")

// run starts code as a call, up to its first request.
func (op *operator) run(code func(context.Context)) {
	c := &call{op: op}
	c.next, c.stop = iter.Pull(func(yield func(*request) bool) {
		c.yield = yield
		code(op.ctx)
	})
	op.calls = append(op.calls, c)
	c.resume()
}

// resume goes on to the next request, or to the end.
func (c *call) resume() {
	before := c.op.current
	c.op.current = c
	next, more := c.next()
	c.op.current = before
	c.request = next
	if !more {
		c.request = nil
		c.op.forgetCall(c)
	}
}

func (op *operator) forgetCall(c *call) {
	for i, o := range op.calls {
		if o == c {
			op.calls = append(op.calls[:i], op.calls[i+1:]...)
			return
		}
	}
}

// ask makes a request of the call that runs.
func (op *operator) ask(r *request) error {
	if op.dead {
		return errDead
	}
	r.sent = op.w.history.tick()
	if !op.current.yield(r) {
		return errDead
	}
	return r.err
}

// answer lets a request end as the fault says, and the call go on.
func (w *world) answer(c *call, f fault) {
	r := c.request
	switch f {
	case answered:
		r.err = r.perform()
	case conflict:
		r.err = apierrors.NewConflict(jobResource, "", errPrecede)
	case throttled:
		r.err = errThrottled
	case broken:
		r.err = errInternal
	case timeoutBefore:
		r.err = errTimeout
	case timeoutAfter:
		_ = r.perform()
		r.err = errTimeout
	case timeoutLate:
		w.api.ghosts = append(w.api.ghosts, r.perform)
		r.err = errTimeout
	}
	w.count(f, r.object)
	w.history.answered(c, r, f)
	c.resume()
}

// cachedClient is an operator's client: it reads from the caches.
type cachedClient struct {
	client.Client
	op *operator
}

func (c cachedClient) Get(_ context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	job := c.op.jobs.live[key.Name]
	if job == nil || job.Namespace != key.Namespace {
		return apierrors.NewNotFound(jobResource, key.Name)
	}
	*into.(*v1alpha1.Job) = *trimmed(job)
	return nil
}

// trimmed is a Job as the caches have it.
func trimmed(stored *v1alpha1.Job) *v1alpha1.Job {
	cached := *stored
	_, _ = job.Trim(&cached) // it never fails
	return &cached
}

func (c cachedClient) List(_ context.Context, list client.ObjectList, opts ...client.ListOption) error {
	switch list := list.(type) {
	case *v1alpha1.JobList:
		var o client.ListOptions
		o.ApplyOptions(opts)
		list.Items = nil
		for _, name := range sortedKeys(c.op.jobs.live) {
			if job := c.op.jobs.live[name]; asksFor(&o, job) {
				list.Items = append(list.Items, *trimmed(job))
			}
		}
	case *corev1.PodList:
		list.Items = nil
		for _, name := range sortedKeys(c.op.pods.live) {
			p := c.op.pods.live[name]
			list.Items = append(list.Items, corev1.Pod{ObjectMeta: metav1.ObjectMeta{
				Name: name, UID: p.uid, ResourceVersion: strconv.FormatUint(p.revision, 10),
			}})
		}
	case *v1alpha1.WorkerPoolList:
		list.Items = nil
	default:
		return fmt.Errorf("a list of %T is not known here", list)
	}
	return nil
}

// asksFor tells whether a list is to have a Job: it may ask for those of one pool.
func asksFor(o *client.ListOptions, job *v1alpha1.Job) bool {
	return (o.Namespace == "" || o.Namespace == job.Namespace) &&
		(o.FieldSelector == nil || o.FieldSelector.Matches(fields.Set{"spec.pool": job.Spec.Pool}))
}

func (c cachedClient) Status() client.SubResourceWriter { return statusClient{op: c.op} }

// statusClient writes the statuses of Jobs.
type statusClient struct {
	client.SubResourceWriter
	op *operator
}

// errUnheld is what leader.Lease's Fence says.
var errUnheld = errors.New("the lease was not renewed in time")

func (c statusClient) Patch(_ context.Context, into client.Object, patch client.Patch, _ ...client.SubResourcePatchOption) error {
	body, err := patch.Data(into)
	if err != nil {
		return err
	}
	p, err := parsePatch(into.GetName(), body)
	if err != nil {
		return err
	}
	op, w, call := c.op, c.op.w, c.op.current
	if !op.held() {
		return errUnheld
	}
	p.confirmed = call.sawLease
	r := &request{object: objectOf(&p.status), write: true, patch: p}
	r.perform = func() error {
		stored, err := w.patchStatus(call, p)
		if err == nil {
			into.SetResourceVersion(stored.ResourceVersion)
		}
		return err
	}
	return op.ask(r)
}

// objectOf tells what a write of a status is, in the table of faults.
func objectOf(s *v1alpha1.JobStatus) object {
	switch {
	case s.State.Finished():
		return finalWrite
	case s.State == v1alpha1.JobRunning:
		return runningWrite
	}
	return waitingWrite
}

// liveReader reads what is stored.
type liveReader struct {
	client.Reader
	op *operator
}

func (l liveReader) Get(_ context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	op, w, call := l.op, l.op.w, l.op.current
	r := &request{object: liveJob, name: key.Name}
	r.perform = func() error {
		job := w.api.jobs.live[key.Name]
		if job == nil || job.Namespace != key.Namespace {
			return apierrors.NewNotFound(jobResource, key.Name)
		}
		*into.(*v1alpha1.Job) = *job
		return nil
	}
	if lease, ok := into.(*coordinationv1.Lease); ok {
		r.object = liveLease
		r.perform = func() error {
			w.readLease(lease)
			call.sawLease = w.api.lease.holder == op
			if op.phase == taking {
				op.epoch = engine.Epoch{LeaseCreated: lease.CreationTimestamp.UnixMicro(), Transitions: int64(*lease.Spec.LeaseTransitions)}
			}
			return nil
		}
	}
	return op.ask(r)
}

func (w *world) readLease(into *coordinationv1.Lease) {
	l := &w.api.lease
	into.CreationTimestamp = timeOf(l.created)
	into.Spec.LeaseTransitions = new(l.transitions)
	into.Spec.HolderIdentity = new("")
	if l.holder != nil {
		into.Spec.HolderIdentity = new(l.holder.identity())
	}
}

func (l liveReader) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	op, w := l.op, l.op.w
	into := list.(*metav1.PartialObjectMetadataList)
	return op.ask(&request{object: liveList, perform: func() error {
		into.Items, into.Continue, into.ResourceVersion = nil, "", strconv.FormatUint(w.api.revision, 10)
		switch into.GroupVersionKind().Kind {
		case "JobList":
			for _, name := range w.api.jobs.names() {
				into.Items = append(into.Items, metadataOf(&w.api.jobs.live[name].ObjectMeta))
			}
		case "PodList":
			for _, name := range w.api.pods.names() {
				p := w.api.pods.live[name]
				into.Items = append(into.Items, metadataOf(&metav1.ObjectMeta{
					Name: name, UID: p.uid, ResourceVersion: strconv.FormatUint(p.revision, 10),
				}))
			}
		}
		return nil
	}})
}

func metadataOf(m *metav1.ObjectMeta) metav1.PartialObjectMetadata {
	return metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: m.Name, UID: m.UID, ResourceVersion: m.ResourceVersion}}
}

// simClock is the world's time. What waits by it waits until the world says that the time has passed.
type simClock struct {
	clock.WithTicker
	op *operator
}

func (c simClock) Now() time.Time                  { return c.op.w.now }
func (c simClock) Since(t time.Time) time.Duration { return c.op.w.now.Sub(t) }

func (c simClock) NewTimer(time.Duration) clock.Timer {
	fired := make(firedTimer, 1)
	if err := c.op.ask(&request{object: pause, perform: func() error { return nil }}); err != nil {
		return fired // what waits sees that its context has ended
	}
	fired <- c.op.w.now
	return fired
}

// firedTimer is a timer whose time has come, unless the process has ended.
type firedTimer chan time.Time

func (t firedTimer) C() <-chan time.Time      { return t }
func (t firedTimer) Stop() bool               { return true }
func (t firedTimer) Reset(time.Duration) bool { return true }
