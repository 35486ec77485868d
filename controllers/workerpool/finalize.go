package workerpool

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// finish lets a pool go that is being deleted and has no worker left.
func (r *Reconciler) finish(ctx context.Context, s *scope) (bool, error) {
	if !s.deleting() || len(s.workers()) > 0 {
		return false, nil
	}
	return true, r.letGo(ctx, s)
}

// endWithNamespace ends a pool whose namespace is being deleted. Its workers are not drained: nobody is left who could read
// what their Jobs do, and the namespace waits for them. A kubelet that was told to wait long does not take a shorter time
// from then on, so the Jobs are killed: a worker that runs nothing ends by itself. No event tells of it, since none can be
// made there any more.
func (r *Reconciler) endWithNamespace(ctx context.Context, s *scope) (reconcile.Result, error) {
	r.closePool(s.key)
	if p, ok := r.engine.Pool(s.key); ok {
		p.Kill()
	}
	r.tellWorkers(s)
	var intents []Intent
	for _, w := range s.workers() {
		if !w.GivenUp && !w.Terminated {
			intents = append(intents, w.remove(End, "its namespace is being deleted"))
		}
	}
	if err := r.execute(ctx, s, intents); err != nil {
		return reconcile.Result{}, err
	}
	if s.deleting() {
		if err := r.letGo(ctx, s); err != nil {
			return conflictIsLater(err)
		}
	}
	return again(s.waits...), nil
}

// letGo closes a pool and lets the API server remove it.
func (r *Reconciler) letGo(ctx context.Context, s *scope) error {
	r.closePool(s.key)
	if !controllerutil.ContainsFinalizer(s.pool, v1alpha1.Finalizer) {
		return nil
	}
	return r.patch(ctx, s.pool, "remove the finalizer", func(meta *metav1.PartialObjectMetadata) {
		controllerutil.RemoveFinalizer(meta, v1alpha1.Finalizer)
	})
}

// leave closes a pool that does not exist any more, or that is not this installation's any more. Its pods may be there for a while yet, as where a whole
// namespace goes. The engine hears of them to the last: the end of each brings another reconcile.
func (r *Reconciler) leave(ctx context.Context, key types.NamespacedName) (reconcile.Result, error) {
	r.closePool(key)
	uid := r.memories.pool(key)
	if uid == "" {
		return reconcile.Result{}, nil
	}
	gone := &v1alpha1.WorkerPool{ObjectMeta: metav1.ObjectMeta{
		Namespace: key.Namespace, Name: key.Name, UID: uid, Annotations: map[string]string{v1alpha1.Installation: r.agent.Installation},
	}}
	s, err := r.observe(ctx, gone)
	if err != nil {
		return reconcile.Result{}, err
	}
	s.pods = slices.DeleteFunc(s.pods, func(pod *corev1.Pod) bool { return !sameInstallation(gone, pod) })
	r.tellWorkers(s)
	if len(s.workers()) == 0 {
		r.memories.forget(key)
		return reconcile.Result{}, nil
	}
	if err := r.execute(ctx, s, Plan(State{Workers: s.workers()})); err != nil {
		return reconcile.Result{}, err
	}
	return again(s.waits...), nil
}

// namespaceGoing tells whether the pool's namespace is being deleted. That deletes the pods first, and the pool once those
// are gone. So the API server is asked, once for each pod that somebody else has deleted, and while the pool itself is
// being deleted.
func (r *Reconciler) namespaceGoing(ctx context.Context, s *scope) (bool, error) {
	var deleted []types.UID
	for _, pod := range s.pods {
		if !pod.DeletionTimestamp.IsZero() && !s.memory.deleted[pod.UID] && !s.memory.asked[pod.UID] {
			deleted = append(deleted, pod.UID)
		}
	}
	if s.memory.namespaceGoing || len(deleted) == 0 && (!s.deleting() || len(s.workers()) == 0) {
		return s.memory.namespaceGoing, nil
	}
	namespace := &corev1.Namespace{}
	err := r.apiReader.Get(ctx, client.ObjectKey{Name: s.key.Namespace}, namespace)
	gone := apierrors.IsNotFound(err)
	if err != nil && !gone {
		return false, fmt.Errorf("get the namespace: %w", err)
	}
	for _, uid := range deleted {
		s.memory.asked[uid] = true
	}
	s.memory.namespaceGoing = gone || !namespace.DeletionTimestamp.IsZero()
	return s.memory.namespaceGoing, nil
}

// patch changes the metadata of this very pool, unless another write comes between: a merge patch replaces the list of
// finalizers as a whole, so that is read first. The cache does not have all of it. Metadata can be decoded of any pool.
func (r *Reconciler) patch(ctx context.Context, pool *v1alpha1.WorkerPool, what string, change func(*metav1.PartialObjectMetadata)) error {
	live := metadataOf(pool)
	if err := r.apiReader.Get(ctx, client.ObjectKeyFromObject(pool), live); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if live.UID != pool.UID || live.ResourceVersion != pool.ResourceVersion {
		return apierrors.NewConflict(v1alpha1.GroupVersion.WithResource("workerpools").GroupResource(), pool.Name, errBehind)
	}
	base := live.DeepCopy()
	change(live)
	if err := r.client.Patch(ctx, live, client.MergeFromWithOptions(base, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// errBehind: what was decided from the cache is to be decided again.
var errBehind = errors.New("the cache is behind")

// metadataOf names a pool.
func metadataOf(pool *v1alpha1.WorkerPool) *metav1.PartialObjectMetadata {
	meta := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Namespace: pool.Namespace, Name: pool.Name}}
	meta.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("WorkerPool"))
	return meta
}
