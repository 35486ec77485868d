package job

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/time/rate"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/engine"
)

const (
	// liveReads is how many Jobs are read live at once, liveRate how many a second, with a burst.
	liveReads = 4
	liveRate  = 100
	liveBurst = 100
	// firstRetry and lastRetry bound the pause before a Job is read live again that could not be.
	firstRetry = 100 * time.Millisecond
	lastRetry  = 10 * time.Second
	// overtakenPause is the pause after a live read that was overtaken.
	overtakenPause = 10 * time.Millisecond
)

// read is a live read that is under way.
type read struct {
	job types.UID
	// overtaken: the engine was told of the Job meanwhile, perhaps of something later than what was read.
	overtaken bool
}

// overtakeLocked makes the live reads of a Job that are under way void.
func (r *Reconciler) overtakeLocked(job types.UID) {
	for read := range r.reads {
		read.overtaken = read.overtaken || read.job == job
	}
}

// Reconcile does what reconcileCached does, of a Job that the cache may not show. That proves nothing: where the engine knows of it,
// the API server is asked, and only what that does not have is gone.
func (r *Reconciler) Reconcile(ctx context.Context, request Request) (reconcile.Result, error) {
	unseen, err := r.apply(ctx, request)
	if err != nil || !unseen {
		return reconcile.Result{}, err
	}
	if len(validation.IsDNS1123Subdomain(request.Name)) > 0 {
		r.Engine.Absent(refOf(request)) // no Job can be called so
		return reconcile.Result{}, nil
	}
	if r.pace != nil && r.pace.Wait(ctx) != nil {
		return reconcile.Result{}, nil // the lead has ended
	}
	under := r.begin(request.UID)
	job := &v1alpha1.Job{}
	err = r.Live.Get(ctx, request.NamespacedName, job)

	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.reads, under)
	switch {
	case err != nil && !apierrors.IsNotFound(err):
		return reconcile.Result{}, fmt.Errorf("reading the Job live: %w", err)
	case under.overtaken:
		return reconcile.Result{RequeueAfter: overtakenPause}, nil
	case err != nil || job.UID != request.UID:
		r.Engine.Absent(refOf(request))
	default:
		noteBytes(job)
		converted := Convert(job)
		converted.Reduced = false // as it is stored
		r.tell(job, converted)
	}
	return reconcile.Result{}, nil
}

func (r *Reconciler) begin(job types.UID) *read {
	r.mu.Lock()
	defer r.mu.Unlock()
	under := &read{job: job}
	if r.reads == nil {
		r.reads = map[*read]bool{}
	}
	r.reads[under] = true
	return under
}

func refOf(request Request) engine.JobRef {
	return engine.JobRef{NamespacedName: request.NamespacedName, UID: request.UID}
}

// liveOptions are those of the controller that reads live. Its queue goes round the namespaces: what agents of one claim,
// however much, does not hold up what those of another do.
func (r *Reconciler) liveOptions() controller.TypedOptions[Request] {
	r.pace = rate.NewLimiter(liveRate, liveBurst)
	return controller.TypedOptions[Request]{
		MaxConcurrentReconciles: liveReads,
		RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[Request](firstRetry, lastRetry),
		NewQueue: func(name string, limiter workqueue.TypedRateLimiter[Request]) workqueue.TypedRateLimitingInterface[Request] {
			inTurn := workqueue.NewTypedWithConfig(workqueue.TypedQueueConfig[Request]{Name: name, Queue: &turns{}})
			delaying := workqueue.NewTypedDelayingQueueWithConfig(workqueue.TypedDelayingQueueConfig[Request]{Name: name, Queue: inTurn})
			return workqueue.NewTypedRateLimitingQueueWithConfig(limiter,
				workqueue.TypedRateLimitingQueueConfig[Request]{Name: name, DelayingQueue: delaying})
		},
	}
}

// turns is a queue of requests from which the namespaces that have some are served in turn. Its user locks it.
type turns struct {
	// waiting has the requests of each namespace in order of arrival, and order the namespaces that have some, the next first.
	waiting map[string][]Request
	order   []string
	count   int
}

var _ workqueue.Queue[Request] = (*turns)(nil)

// Touch is workqueue.Queue's.
func (t *turns) Touch(Request) {}

// Push is workqueue.Queue's.
func (t *turns) Push(request Request) {
	if t.waiting == nil {
		t.waiting = map[string][]Request{}
	}
	if len(t.waiting[request.Namespace]) == 0 {
		t.order = append(t.order, request.Namespace)
	}
	t.waiting[request.Namespace] = append(t.waiting[request.Namespace], request)
	t.count++
}

// Len is workqueue.Queue's.
func (t *turns) Len() int { return t.count }

// Pop is workqueue.Queue's.
func (t *turns) Pop() Request {
	namespace := t.order[0]
	t.order = t.order[1:]
	own := t.waiting[namespace]
	if len(own) == 1 {
		delete(t.waiting, namespace)
	} else {
		t.waiting[namespace] = own[1:]
		t.order = append(t.order, namespace)
	}
	t.count--
	return own[0]
}
