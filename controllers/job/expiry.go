package job

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

const (
	// defaultTTL is for Jobs that have none and whose pool has none for them either.
	defaultTTL = 24 * time.Hour
	// countInterval is how soon a Job that is over but not counted is looked at again: a pool's
	// status is written once a second.
	countInterval = time.Second
	// othersInterval is how soon it is looked again whether a pool belongs to this installation by now.
	othersInterval = 10 * time.Minute
)

// Counter tells which finished Jobs may be deleted without being missing from their pool's counters.
type Counter interface {
	// Counted is false while a Job has finished under this leader and the pool's status, as it was
	// last written, does not count it. It is true for a Job or a pool that is not known. It does not
	// block.
	Counted(pool types.NamespacedName, job types.UID) bool
}

// ExpiryReconciler deletes finished Jobs when their ttlSecondsAfterFinished is over.
type ExpiryReconciler struct {
	// Client reads Jobs and pools from the cache.
	Client  client.Client
	Counter Counter
	Clock   clock.PassiveClock
	// Installation is the one whose pools' Jobs are deleted; those of other installations are left to them.
	Installation string
}

// SetupWithManager adds the controller to the manager.
func (r *ExpiryReconciler) SetupWithManager(mgr ctrl.Manager) error {
	finished := predicate.NewPredicateFuncs(func(o client.Object) bool {
		return o.(*v1alpha1.Job).Status.State.Finished()
	})
	return ctrl.NewControllerManagedBy(mgr).
		Named("job-expiry").
		For(&v1alpha1.Job{}, builder.WithPredicates(finished)).
		WithOptions(controller.Options{MaxConcurrentReconciles: 4}).
		Complete(r)
}

// Reconcile deletes the Job, or comes back when it is time to.
func (r *ExpiryReconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	job := &v1alpha1.Job{}
	if err := r.Client.Get(ctx, request.NamespacedName, job); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if !job.Status.State.Finished() || !job.DeletionTimestamp.IsZero() {
		return reconcile.Result{}, nil
	}
	key := types.NamespacedName{Namespace: job.Namespace, Name: job.Spec.Pool}
	pool, err := r.findPool(ctx, key)
	if err != nil {
		return reconcile.Result{}, err
	}
	if pool != nil && pool.InstalledElsewhere(r.Installation) {
		return reconcile.Result{RequeueAfter: othersInterval}, nil
	}
	if left := finishedAt(job).Add(ttl(job, pool)).Sub(r.Clock.Now()); left > 0 {
		return reconcile.Result{RequeueAfter: left}, nil
	}
	if pool != nil && !r.Counter.Counted(key, job.UID) {
		return reconcile.Result{RequeueAfter: countInterval}, nil
	}
	return reconcile.Result{}, discard(ctx, r.Client, job)
}

// findPool returns a pool as the cache shows it, nil if it does not.
func (r *ExpiryReconciler) findPool(ctx context.Context, key types.NamespacedName) (*v1alpha1.WorkerPool, error) {
	pool := &v1alpha1.WorkerPool{}
	err := r.Client.Get(ctx, key, pool)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("reading the Job's pool: %w", err)
	}
	return pool, nil
}

// ttl returns how long a Job is kept after it has finished. The pool may be nil.
func ttl(job *v1alpha1.Job, pool *v1alpha1.WorkerPool) time.Duration {
	seconds := job.Spec.TTLSecondsAfterFinished
	if seconds == nil && pool != nil && pool.Spec.JobDefaults != nil {
		seconds = pool.Spec.JobDefaults.TTLSecondsAfterFinished
	}
	if seconds == nil {
		return defaultTTL
	}
	return time.Duration(*seconds) * time.Second
}

// finishedAt returns when a finished Job ended: without a completionTime it never ran, and all that is
// known is when it was created.
func finishedAt(job *v1alpha1.Job) time.Time {
	if job.Status.CompletionTime != nil {
		return job.Status.CompletionTime.Time
	}
	return job.CreationTimestamp.Time
}

// discard deletes this very Job in this very state: what was changed meanwhile is a conflict, and to be
// looked at again.
func discard(ctx context.Context, c client.Writer, job *v1alpha1.Job) error {
	err := c.Delete(ctx, job, client.Preconditions{UID: &job.UID, ResourceVersion: &job.ResourceVersion},
		client.PropagationPolicy("Background"))
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting a finished Job: %w", err)
	}
	return nil
}
