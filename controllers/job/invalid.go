package job

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/tolerant"
)

// What a user is told of a Job that can't be read.
const (
	invalidSpecMessage   = "The operator can't read the Job: %s. Delete the Job, and create it with a correct value."
	invalidStatusMessage = "The operator can't read the Job's status, and does not start the Job: %s. " +
		"Correct this field with kubectl edit --subresource=status, or delete the Job."
)

// InvalidReconciler says of Jobs that can't be read that this is so. A Job with such a spec fails. One with such a
// status may run, or may have run once and not be allowed to run again: it stays as it is until the status is
// corrected. It has a queue of its own, so that no other Job waits for its requests.
type InvalidReconciler struct {
	// Client reads Jobs from the cache, which is tolerant.
	Client client.Client
	// Live reads past the cache. It is tolerant too.
	Live  client.Reader
	Clock clock.PassiveClock
}

// SetupWithManager adds the controller to the manager.
func (r *InvalidReconciler) SetupWithManager(mgr ctrl.Manager) error {
	invalid := predicate.NewPredicateFuncs(func(o client.Object) bool { return invalid(o.(*v1alpha1.Job)) })
	return ctrl.NewControllerManagedBy(mgr).
		Named("job-invalid").
		For(&v1alpha1.Job{}, builder.WithPredicates(invalid)).
		WithOptions(controller.Options{MaxConcurrentReconciles: 1}).
		Complete(r)
}

// invalid tells whether a Job can't be read. A finished one is read no more.
func invalid(job *v1alpha1.Job) bool {
	return tolerant.FaultOf(job).Part != tolerant.None && !job.Status.State.Finished()
}

// Reconcile writes the status of a Job that can't be read, if the API server itself shows that it can't.
func (r *InvalidReconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	job := &v1alpha1.Job{}
	if err := r.Client.Get(ctx, request.NamespacedName, job); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if said(job) {
		return reconcile.Result{}, nil
	}
	if err := r.Live.Get(ctx, request.NamespacedName, job); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if said(job) {
		return reconcile.Result{}, nil
	}
	log.FromContext(ctx).Info("Set apart a Job that can't be read", "Job", klog.KObj(job), "fault", tolerant.FaultOf(job).Message)
	err := r.store(ctx, job, r.status(job))
	if apierrors.IsConflict(err) {
		return reconcile.Result{RequeueAfter: countInterval}, nil
	}
	return reconcile.Result{}, client.IgnoreNotFound(err)
}

// said tells whether there is nothing to say of a Job, or nothing more.
func said(job *v1alpha1.Job) bool {
	return !invalid(job) || !job.DeletionTimestamp.IsZero() ||
		tolerant.FaultOf(job).Part == tolerant.Status && job.Status.Message == message(job)
}

func message(job *v1alpha1.Job) string {
	fault := tolerant.FaultOf(job)
	if fault.Part == tolerant.Status {
		return fmt.Sprintf(invalidStatusMessage, fault.Message)
	}
	return fmt.Sprintf(invalidSpecMessage, fault.Message)
}

// status is what is to change of a Job's status: a field that is nil goes.
func (r *InvalidReconciler) status(job *v1alpha1.Job) map[string]any {
	status := map[string]any{"reason": v1alpha1.ReasonInvalid, "message": message(job)}
	if tolerant.FaultOf(job).Part == tolerant.Status {
		return status
	}
	now := r.Clock.Now()
	conditions := slices.Clone(job.Status.Conditions)
	meta.SetStatusCondition(&conditions, metav1.Condition{
		Type: v1alpha1.JobFailedCondition, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonInvalid, Message: message(job),
		ObservedGeneration: job.Generation, LastTransitionTime: metav1.NewTime(now),
	})
	status["state"], status["conditions"], status["completionTime"] = v1alpha1.JobFailed, conditions, metav1.NewMicroTime(now)
	status["attempt"], status["active"], status["runningIndexes"] = nil, nil, nil
	return status
}

// store changes the status of this very Job in this very version. Only metadata comes back, which can be decoded of any
// Job.
func (r *InvalidReconciler) store(ctx context.Context, job *v1alpha1.Job, status map[string]any) error {
	body, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": job.UID, "resourceVersion": job.ResourceVersion},
		"status":   status,
	})
	if err != nil {
		return fmt.Errorf("encoding the status: %w", err)
	}
	written := &metav1.PartialObjectMetadata{}
	written.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("Job"))
	written.Namespace, written.Name = job.Namespace, job.Name
	if err := r.Client.Status().Patch(ctx, written, client.RawPatch(types.MergePatchType, body)); err != nil {
		return fmt.Errorf("saying that a Job can't be read: %w", err)
	}
	return nil
}
