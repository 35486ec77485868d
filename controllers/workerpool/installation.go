package workerpool

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// Pools belong to one installation of the operator each, by an annotation. Two operators that both took a pool for
// theirs would delete each other's workers, because neither has a session with those of the other.

// tellAgain is how long an operator leaves it at one event that a pool is another's.
const tellAgain = time.Hour

// adopt makes a pool that is no installation's this one's, and sees to it that the pool does not go before its workers.
// It tells whether it has written; the change brings the next reconcile.
func (r *Reconciler) adopt(ctx context.Context, pool *v1alpha1.WorkerPool) (bool, error) {
	claim := pool.Annotations[v1alpha1.Installation] == "" && r.agent.Installation != ""
	hold := pool.DeletionTimestamp.IsZero() && !controllerutil.ContainsFinalizer(pool, v1alpha1.Finalizer)
	if !claim && !hold {
		return false, nil
	}
	return true, r.patch(ctx, pool, "adopt the pool", func(meta *metav1.PartialObjectMetadata) {
		if claim {
			metav1.SetMetaDataAnnotation(&meta.ObjectMeta, v1alpha1.Installation, r.agent.Installation)
		}
		if hold {
			controllerutil.AddFinalizer(meta, v1alpha1.Finalizer)
		}
	})
}

// anothers tells whether a pool is another installation's.
func (r *Reconciler) anothers(pool *v1alpha1.WorkerPool) bool {
	return pool.InstalledElsewhere(r.agent.Installation)
}

// leaveAlone does nothing to a pool that is another installation's but to say so. If it was this one's a moment ago, it is
// left like one that is gone: the other has no use for its workers, which dial this operator.
func (r *Reconciler) leaveAlone(ctx context.Context, pool *v1alpha1.WorkerPool) (reconcile.Result, error) {
	key := client.ObjectKeyFromObject(pool)
	if r.others.tell(key, r.clock.Now()) {
		owner := pool.Annotations[v1alpha1.Installation]
		log.FromContext(ctx).Error(nil, "The WorkerPool belongs to another installation of the operator and is left alone",
			"WorkerPool", klog.KObj(pool), "installation", owner, "thisInstallation", r.agent.Installation)
		r.recorder.Eventf(pool, nil, corev1.EventTypeWarning, v1alpha1.ReasonOtherInstallation, actionLeaveAlone,
			"The WorkerPool belongs to the operator in namespace %s, by its annotation %s. The operator in namespace %s leaves it alone.",
			owner, v1alpha1.Installation, r.agent.Installation)
	}
	result, err := r.leave(ctx, key)
	if err != nil {
		return reconcile.Result{}, err
	}
	return again(result.RequeueAfter, tellAgain), nil
}

// others remembers of which pools it was told that they are another installation's.
type others struct {
	mu   sync.Mutex
	told map[types.NamespacedName]time.Time
}

// tell tells whether it is time to tell of a pool, and notes that it was.
func (o *others) tell(key types.NamespacedName, now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if told, ok := o.told[key]; ok && now.Sub(told) < tellAgain {
		return false
	}
	if o.told == nil {
		o.told = map[types.NamespacedName]time.Time{}
	}
	o.told[key] = now
	return true
}

// forget drops what is known of a pool that is gone.
func (o *others) forget(key types.NamespacedName) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.told, key)
}
