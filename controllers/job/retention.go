package job

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

const (
	// finishedField is the index of finished Jobs by their pool. A pool may have a hundred times as many
	// that wait, which a round has no business with.
	finishedField = "finished.spec.pool"

	// keepAll is the maxFinished of pools of which nothing is deleted.
	keepAll = 0
	// minRetention is how long a Job is kept for those who wait for its end, however many there are.
	minRetention = 60 * time.Second

	// maxDeletes bounds a round. With a round every five seconds, that is 500 Jobs a second: more than
	// finish in that time.
	maxDeletes = 2500
	// concurrentDeletes bounds what a round takes of the API server, which has more urgent things to do.
	concurrentDeletes = 4
	// roundTimeout bounds a round when the API server is slow.
	roundTimeout = time.Minute
	// maxBackoff is how long a round that failed is put off at the most.
	maxBackoff = 5 * time.Minute
)

// RetentionReconciler deletes the oldest finished Jobs of pools that have more than their
// retention.maxFinished.
type RetentionReconciler struct {
	// Client reads Jobs and pools from the cache.
	Client  client.Client
	Counter Counter
	Clock   clock.PassiveClock
	// Interval is how often the Jobs of a pool are looked at, at the most: each time, all of its
	// finished ones are listed.
	Interval time.Duration
	// Installation is the one whose pools are looked at.
	Installation string
}

// SetupWithManager adds the controller, and the index it needs, to the manager.
func (r *RetentionReconciler) SetupWithManager(mgr ctrl.Manager) error {
	if err := mgr.GetFieldIndexer().IndexField(context.Background(), &v1alpha1.Job{}, finishedField, poolOfFinished); err != nil {
		return fmt.Errorf("indexing finished Jobs by pool: %w", err)
	}
	return ctrl.NewControllerManagedBy(mgr).
		Named("job-retention").
		Watches(&v1alpha1.Job{}, r.onFinish()).
		Watches(&v1alpha1.WorkerPool{}, r.onPoolChange(), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: 2,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](r.Interval, maxBackoff),
			ReconciliationTimeout:   roundTimeout,
		}).
		Complete(r)
}

func poolOfFinished(o client.Object) []string {
	job := o.(*v1alpha1.Job)
	if !job.Status.State.Finished() {
		return nil
	}
	return []string{job.Spec.Pool}
}

// onFinish asks for a look at the pool of each Job that finishes.
func (r *RetentionReconciler) onFinish() handler.EventHandler {
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q workqueueOf[reconcile.Request]) {
			if job := e.Object.(*v1alpha1.Job); job.Status.State.Finished() {
				r.lookAt(job.Namespace, job.Spec.Pool, q)
			}
		},
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q workqueueOf[reconcile.Request]) {
			before, job := e.ObjectOld.(*v1alpha1.Job), e.ObjectNew.(*v1alpha1.Job)
			if job.Status.State.Finished() && !before.Status.State.Finished() {
				r.lookAt(job.Namespace, job.Spec.Pool, q)
			}
		},
	}
}

func (r *RetentionReconciler) onPoolChange() handler.EventHandler {
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q workqueueOf[reconcile.Request]) {
			r.lookAt(e.Object.GetNamespace(), e.Object.GetName(), q)
		},
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q workqueueOf[reconcile.Request]) {
			r.lookAt(e.ObjectNew.GetNamespace(), e.ObjectNew.GetName(), q)
		},
	}
}

// lookAt asks for a look at a pool, once for all that happens within an interval.
func (r *RetentionReconciler) lookAt(namespace, pool string, q workqueueOf[reconcile.Request]) {
	q.AddAfter(reconcile.Request{NamespacedName: types.NamespacedName{Namespace: namespace, Name: pool}}, r.Interval)
}

// Reconcile deletes what a pool has too many of, and comes back when there is more to delete.
func (r *RetentionReconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	pool := &v1alpha1.WorkerPool{}
	if err := r.Client.Get(ctx, request.NamespacedName, pool); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if pool.InstalledElsewhere(r.Installation) {
		return reconcile.Result{RequeueAfter: othersInterval}, nil
	}
	maxFinished := int(ptr.Deref(pool.Spec.Retention.MaxFinished, keepAll)) // the schema has the default
	if maxFinished == keepAll {
		return reconcile.Result{}, nil
	}
	jobs, err := r.finished(ctx, request.NamespacedName)
	if err != nil {
		return reconcile.Result{}, err
	}
	over, wait := surplus(jobs, maxFinished, r.Clock.Now())
	due := r.counted(request.NamespacedName, over)
	if err := r.discardAll(ctx, due); err != nil {
		return reconcile.Result{}, err
	}
	switch {
	case len(due) < len(over), len(over) == maxDeletes:
		return reconcile.Result{RequeueAfter: r.Interval}, nil
	case wait > 0:
		return reconcile.Result{RequeueAfter: max(wait, r.Interval)}, nil
	}
	return reconcile.Result{}, nil
}

// finished returns a pool's finished Jobs as the cache shows them. They share the cache's memory, and are
// not to be changed.
func (r *RetentionReconciler) finished(ctx context.Context, pool types.NamespacedName) ([]v1alpha1.Job, error) {
	list := &v1alpha1.JobList{}
	err := r.Client.List(ctx, list,
		client.InNamespace(pool.Namespace), client.MatchingFields{finishedField: pool.Name}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return nil, fmt.Errorf("listing the finished Jobs: %w", err)
	}
	return list.Items, nil
}

// counted returns those that the pool's status counts.
func (r *RetentionReconciler) counted(pool types.NamespacedName, over []*v1alpha1.Job) []*v1alpha1.Job {
	var counted []*v1alpha1.Job
	for _, job := range over {
		if r.Counter.Counted(pool, job.UID) {
			counted = append(counted, job)
		}
	}
	return counted
}

// discardAll deletes Jobs. One that can't be deleted holds up no other; the first error is returned.
func (r *RetentionReconciler) discardAll(ctx context.Context, jobs []*v1alpha1.Job) error {
	var deletes errgroup.Group
	deletes.SetLimit(concurrentDeletes)
	for _, job := range jobs {
		deletes.Go(func() error { return discard(ctx, r.Client, job) })
	}
	return deletes.Wait()
}

// surplus returns which Jobs to delete so that maxFinished finished ones are kept, in the order in which
// to delete them: succeeded ones before failed ones, the oldest first, at most maxDeletes at once. What is
// being deleted already is not among those kept.
//
// Jobs that finished less than minRetention ago are left out, and no others are taken in their place:
// their turn comes after the wait, which is 0 if there are none.
func surplus(jobs []v1alpha1.Job, maxFinished int, now time.Time) (over []*v1alpha1.Job, wait time.Duration) {
	var succeeded, failed []*v1alpha1.Job
	for i := range jobs {
		switch job := &jobs[i]; {
		case !job.DeletionTimestamp.IsZero():
		case job.Status.State == v1alpha1.JobSucceeded:
			succeeded = append(succeeded, job)
		case job.Status.State == v1alpha1.JobFailed:
			failed = append(failed, job)
		}
	}
	excess := len(succeeded) + len(failed) - maxFinished
	over, wait = ripe(succeeded, excess, now)
	more, moreWait := ripe(failed, excess-len(succeeded), now)
	if wait == 0 || moreWait > 0 && moreWait < wait {
		wait = moreWait
	}
	over = append(over, more...)
	return over[:min(len(over), maxDeletes)], wait
}

// ripe returns those of the n oldest Jobs that finished at least minRetention ago, sorted and at most
// maxDeletes, and after how long the next of the n will have; 0 if there is none.
func ripe(jobs []*v1alpha1.Job, n int, now time.Time) (old []*v1alpha1.Job, wait time.Duration) {
	if n <= 0 {
		return nil, 0
	}
	for _, job := range jobs {
		left := finishedAt(job).Add(minRetention).Sub(now)
		switch {
		case left <= 0:
			old = append(old, job)
		case wait == 0 || left < wait:
			wait = left
		}
	}
	if len(old) >= n {
		wait = 0
	}
	return oldest(old, min(n, maxDeletes)), wait
}

// oldest returns the n oldest Jobs, sorted. It never sorts more than twice as many, of however many.
func oldest(jobs []*v1alpha1.Job, n int) []*v1alpha1.Job {
	var best []*v1alpha1.Job
	var bar *v1alpha1.Job // the nth of the best so far
	for _, job := range jobs {
		if bar != nil && compareAge(job, bar) > 0 {
			continue
		}
		if best = append(best, job); len(best) == 2*n {
			slices.SortFunc(best, compareAge)
			best, bar = best[:n], best[n-1]
		}
	}
	slices.SortFunc(best, compareAge)
	return best[:min(n, len(best))]
}

// compareAge puts the Job first that finished first. Their namespace is the same.
func compareAge(a, b *v1alpha1.Job) int {
	return cmp.Or(
		finishedAt(a).Compare(finishedAt(b)),
		a.CreationTimestamp.Compare(b.CreationTimestamp.Time),
		cmp.Compare(a.Name, b.Name),
	)
}
