package job

import (
	"context"
	"fmt"
	"time"

	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// defaultTTL is that of the schema, for Jobs that were stored without one.
const defaultTTL = 24 * time.Hour

// ExpiryReconciler deletes finished Jobs when their ttlSecondsAfterFinished is over.
type ExpiryReconciler struct {
	Client client.Client
	Clock  clock.PassiveClock
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
	if left := expires(job).Sub(r.Clock.Now()); left > 0 {
		return reconcile.Result{RequeueAfter: left}, nil
	}
	// This very Job in this very state: what was changed meanwhile is looked at again.
	err := r.Client.Delete(ctx, job, client.Preconditions{UID: &job.UID, ResourceVersion: &job.ResourceVersion},
		client.PropagationPolicy("Background"))
	if client.IgnoreNotFound(err) != nil {
		return reconcile.Result{}, fmt.Errorf("deleting the expired Job: %w", err)
	}
	return reconcile.Result{}, nil
}

// expires returns when a finished Job is to be deleted.
func expires(job *v1alpha1.Job) time.Time {
	finished := job.CreationTimestamp.Time
	if job.Status.CompletionTime != nil {
		finished = job.Status.CompletionTime.Time
	}
	ttl := defaultTTL
	if job.Spec.TTLSecondsAfterFinished != nil {
		ttl = time.Duration(*job.Spec.TTLSecondsAfterFinished) * time.Second
	}
	return finished.Add(ttl)
}
