// Package job brings Jobs into the engine, and deletes finished ones when their time is over.
package job

import (
	"context"
	"fmt"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
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
)

// Engine is what the controller needs of the pools in memory.
type Engine interface {
	// Submit takes in a Job that is not finished, or what is new of it.
	Submit(job engine.Job)
	// Cancel ends a Job that does not exist any more.
	Cancel(job types.UID)
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
}

// +kubebuilder:rbac:groups=workerpool.dev,resources=jobs,verbs=get;list;watch;delete
// +kubebuilder:rbac:groups=workerpool.dev,resources=jobs/status,verbs=patch

// SetupWithManager adds the controller to the manager. The source carries the engine's own wishes;
// ready is waited for before anything is reconciled.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager, wishes source.TypedSource[Request], ready func(context.Context) error) error {
	if err := indexByPool(mgr); err != nil {
		return err
	}
	gated := reconcile.TypedFunc[Request](func(ctx context.Context, request Request) (reconcile.Result, error) {
		if err := ready(ctx); err != nil {
			return reconcile.Result{}, err
		}
		return r.Reconcile(ctx, request)
	})
	return builder.TypedControllerManagedBy[Request](mgr).
		Named("job").
		WatchesRawSource(source.TypedKind(mgr.GetCache(), &v1alpha1.Job{}, requests())).
		WatchesRawSource(wishes).
		// One at a time: it is all in memory, and what was read last is what is submitted last.
		WithOptions(controller.TypedOptions[Request]{MaxConcurrentReconciles: 1}).
		WithLogConstructor(func(request *Request) logr.Logger {
			log := mgr.GetLogger().WithValues("controller", "job")
			if request != nil {
				log = log.WithValues("Job", request.NamespacedName)
			}
			return log
		}).
		Complete(gated)
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

// Reconcile brings one Job into the engine, or out of it.
func (r *Reconciler) Reconcile(ctx context.Context, request Request) (reconcile.Result, error) {
	switch request.Cause {
	case Deleted:
		r.Engine.Cancel(request.UID)
		return reconcile.Result{}, nil
	case PoolOpened:
		return reconcile.Result{}, r.submitPool(ctx, request.NamespacedName)
	case Changed:
	}
	job, gone, err := r.find(ctx, request)
	if err != nil {
		return reconcile.Result{}, err
	}
	switch {
	case gone || job != nil && !job.DeletionTimestamp.IsZero():
		r.Engine.Cancel(request.UID)
	case job == nil:
		// The cache may not show it yet, and will tell when it does.
	case job.Status.State.Finished():
		r.Engine.Forget(job.UID)
	default:
		r.Engine.Submit(Convert(job))
	}
	return reconcile.Result{}, nil
}

// find returns the Job of this UID, nil if the cache does not show it. That proves nothing: where the
// engine knows of it, the API server is asked, and only what that does not have is gone.
func (r *Reconciler) find(ctx context.Context, request Request) (job *v1alpha1.Job, gone bool, err error) {
	job = &v1alpha1.Job{}
	err = r.Client.Get(ctx, request.NamespacedName, job, client.UnsafeDisableDeepCopy)
	if client.IgnoreNotFound(err) != nil {
		return nil, false, fmt.Errorf("reading the Job: %w", err)
	}
	if err == nil && job.UID == request.UID {
		return job, false, nil
	}
	if !r.Engine.Knows(request.UID) {
		return nil, false, nil
	}
	job = &v1alpha1.Job{} // what was read may share its parts with the cache
	err = r.Live.Get(ctx, request.NamespacedName, job)
	switch {
	case apierrors.IsNotFound(err):
		return nil, true, nil
	case err != nil:
		return nil, false, fmt.Errorf("reading the Job live: %w", err)
	case job.UID != request.UID:
		return nil, true, nil
	}
	return job, false, nil
}

// submitPool submits all Jobs of a pool, the oldest first.
func (r *Reconciler) submitPool(ctx context.Context, pool types.NamespacedName) error {
	return Load(ctx, r.Client, r.Engine, client.InNamespace(pool.Namespace), client.MatchingFields{poolField: pool.Name})
}
