// Package job brings Jobs into the engine, and deletes finished ones when their time is over.
package job

import (
	"context"
	"fmt"
	"sync"

	"github.com/go-logr/logr"
	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/engine"
	"github.com/workerpool-dev/workerpool/internal/trigger"
)

// Engine is what the controller needs of the pools in memory.
type Engine interface {
	// Submit takes in a Job that is not finished, or what is new of it.
	Submit(job engine.Job)
	// Cancel ends a Job that does not exist any more.
	Cancel(job types.UID)
	// Absent says that there is no Job of this UID by this name. Agents name Jobs too, and may be wrong.
	Absent(job engine.JobRef)
	// Forget drops what is remembered of a finished Job.
	Forget(job types.UID)
	// Knows tells whether there is anything to do about a Job.
	Knows(job types.UID) bool
}

// Cause is why a request was made.
type Cause int

const (
	// Changed: the Job is new or has changed, or the engine wants to know about it.
	Changed Cause = iota
	// Deleted: the API server has said that the Job is deleted.
	Deleted
	// Wanted: the engine wants the whole Job, as the API server has it.
	Wanted
	// PoolOpened: the request's name is that of a pool that takes Jobs from now on.
	PoolOpened
)

// Request names a Job, or for PoolOpened a pool. A Job is its UID: one of the same name that comes
// after it is another.
type Request struct {
	types.NamespacedName
	UID   types.UID
	Cause Cause
}

// Reconciler submits Jobs to the engine.
type Reconciler struct {
	// Client reads Jobs from the cache.
	Client client.Client
	// Live reads past the cache.
	Live   client.Reader
	Engine Engine

	// unseen are the requests that need a live read.
	unseen trigger.Source[Request]
	// pace bounds the live reads a second, if it is not nil.
	pace *rate.Limiter

	// mu is held from a look into the cache until the engine is told: what was read last is what it is told last. It is
	// not held during a live read, of which it guards the list.
	mu    sync.Mutex
	reads map[*read]bool
}

// +kubebuilder:rbac:groups=workerpool.dev,resources=jobs,verbs=get;list;watch;delete
// +kubebuilder:rbac:groups=workerpool.dev,resources=jobs/status,verbs=patch

// SetupWithManager adds two controllers to the manager: one for what the cache answers, and one, slower, for what needs
// a live read. The source carries the engine's own wishes; ready is waited for before anything is reconciled.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager, wishes source.TypedSource[Request], ready func(context.Context) error) error {
	if err := indexByPool(mgr); err != nil {
		return err
	}
	type reconciler = func(context.Context, Request) (reconcile.Result, error)
	gated := func(then reconciler) reconcile.TypedReconciler[Request] {
		return reconcile.TypedFunc[Request](func(ctx context.Context, request Request) (reconcile.Result, error) {
			if err := ready(ctx); err != nil {
				return reconcile.Result{}, err
			}
			return then(ctx, request)
		})
	}
	named := func(name string, options controller.TypedOptions[Request]) *builder.TypedBuilder[Request] {
		return builder.TypedControllerManagedBy[Request](mgr).Named(name).WithOptions(options).
			WithLogConstructor(func(request *Request) logr.Logger {
				log := mgr.GetLogger().WithValues("controller", name)
				if request != nil {
					log = log.WithValues("Job", request.NamespacedName)
				}
				return log
			})
	}
	// One at a time: it is all in memory.
	err := named("job", controller.TypedOptions[Request]{MaxConcurrentReconciles: 1}).
		WatchesRawSource(source.TypedKind(mgr.GetCache(), &v1alpha1.Job{}, requests())).
		WatchesRawSource(wishes).
		Complete(gated(r.reconcileCached))
	if err != nil {
		return err
	}
	return named("job-live", r.liveOptions()).WatchesRawSource(&r.unseen).Complete(gated(r.Reconcile))
}

// requests turns what happens to Jobs into requests.
func requests() handler.TypedFuncs[*v1alpha1.Job, Request] {
	type queue = workqueueOf[Request]
	request := func(job *v1alpha1.Job, cause Cause) Request {
		return Request{NamespacedName: client.ObjectKeyFromObject(job), UID: job.UID, Cause: cause}
	}
	return handler.TypedFuncs[*v1alpha1.Job, Request]{
		CreateFunc: func(_ context.Context, e event.TypedCreateEvent[*v1alpha1.Job], q queue) {
			q.Add(request(e.Object, Changed))
		},
		UpdateFunc: func(_ context.Context, e event.TypedUpdateEvent[*v1alpha1.Job], q queue) {
			if e.ObjectOld.UID != e.ObjectNew.UID {
				q.Add(request(e.ObjectOld, Deleted))
			}
			q.Add(request(e.ObjectNew, Changed))
		},
		DeleteFunc: func(_ context.Context, e event.TypedDeleteEvent[*v1alpha1.Job], q queue) {
			q.Add(request(e.Object, Deleted))
		},
	}
}

// reconcileCached brings one Job into the engine, or out of it, as the cache shows it. One that the cache does not show
// is left to Reconcile.
func (r *Reconciler) reconcileCached(ctx context.Context, request Request) (reconcile.Result, error) {
	unseen, err := r.apply(ctx, request)
	if unseen {
		r.unseen.Add(request)
	}
	return reconcile.Result{}, err
}

// apply tells the engine what the cache shows. Unseen is true if that is nothing, and the engine knows of the Job.
func (r *Reconciler) apply(ctx context.Context, request Request) (unseen bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch request.Cause {
	case Deleted:
		r.overtakeLocked(request.UID)
		r.Engine.Cancel(request.UID)
		return false, nil
	case PoolOpened:
		for read := range r.reads {
			read.overtaken = true
		}
		return false, r.submitPool(ctx, request.NamespacedName)
	case Wanted:
		return r.Engine.Knows(request.UID), nil // the cache may not have all of it
	case Changed:
	}
	job := &v1alpha1.Job{}
	err = r.Client.Get(ctx, request.NamespacedName, job, client.UnsafeDisableDeepCopy)
	switch {
	case client.IgnoreNotFound(err) != nil:
		return false, fmt.Errorf("reading the Job: %w", err)
	case err != nil || job.UID != request.UID:
		// If the engine does not know of it, the cache will tell when it shows it.
		return r.Engine.Knows(request.UID), nil
	}
	r.overtakeLocked(request.UID)
	r.tell(job, Convert(job))
	return false, nil
}

// tell tells the engine of a Job that was read, and is this for the engine.
func (r *Reconciler) tell(job *v1alpha1.Job, converted engine.Job) {
	switch {
	case job.Status.State.Finished():
		r.Engine.Forget(job.UID)
	case invalid(job) && !job.DeletionTimestamp.IsZero():
		r.Engine.Cancel(job.UID)
	case invalid(job):
		// What the engine knows of it goes on; the InvalidReconciler does the rest.
	default:
		r.Engine.Submit(converted)
	}
}

// submitPool submits all Jobs of a pool, the oldest first.
func (r *Reconciler) submitPool(ctx context.Context, pool types.NamespacedName) error {
	return Load(ctx, r.Client, r.Engine, client.InNamespace(pool.Namespace), client.MatchingFields{poolField: pool.Name})
}
