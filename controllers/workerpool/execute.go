package workerpool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/engine"
	"github.com/workerpool-dev/workerpool/internal/podspec"
)

const (
	// createsPerReconcile bounds the pods that one reconcile makes, so that other work gets its turn.
	createsPerReconcile = 50
	// removesAtOnce bounds the deletions under way: one after the other those of 500 pods take seconds, in which
	// nothing else happens to the pool.
	removesAtOnce = 16
	// giveUpGraceSeconds is the shortest grace period that still asks the kubelet first: 0 would
	// remove the pod from the API while its processes may still run.
	giveUpGraceSeconds = 1
	// atOnce is the wait for a reconcile that should follow right away.
	atOnce = time.Millisecond
)

// execute does what was planned. That a worker can't be made is not its error: the pool's memory has
// it, for the status.
func (r *Reconciler) execute(ctx context.Context, s *scope, intents []Intent) error {
	var removes, creates []Intent
	for _, intent := range intents {
		if intent.Action == Create {
			creates = append(creates, intent)
		} else {
			removes = append(removes, intent)
		}
	}
	dispensable, all := r.cordon(s, removes)
	for batch := range slices.Chunk(dispensable, removesAtOnce) {
		if err := r.removeBatch(ctx, s, batch); err != nil {
			return err
		}
	}
	if !all { // those that are left may be in the place of new ones
		s.waits = append(s.waits, atOnce)
		return nil
	}
	return r.create(ctx, s, creates)
}

// cordon has the workers that are to be deleted take no more Jobs, and all others serve. It returns those that are as they
// were when they were chosen, and whether all are. The others have got a Job or have come back since, and another may be
// the one to delete now.
func (r *Reconciler) cordon(s *scope, removes []Intent) (dispensable []Intent, all bool) {
	p, ok := r.engine.Pool(s.key)
	if !ok {
		return removes, true
	}
	var victims []engine.Victim
	for _, intent := range removes {
		victims = append(victims, engine.Victim{Pod: intent.UID, Idle: intent.Idle, Lost: intent.Action == GiveUp})
	}
	cordoned := p.Cordon(victims)
	for _, intent := range removes {
		if cordoned[intent.UID] {
			dispensable = append(dispensable, intent)
		}
	}
	return dispensable, len(dispensable) == len(removes)
}

// removeBatch deletes the pods of some workers at once.
func (r *Reconciler) removeBatch(ctx context.Context, s *scope, batch []Intent) error {
	pods, errs := make([]*corev1.Pod, len(batch)), make([]error, len(batch))
	var group sync.WaitGroup
	for i, intent := range batch {
		pods[i] = &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			Namespace: s.key.Namespace, Name: podspec.Name(s.key.Name, intent.Ordinal), UID: intent.UID,
		}}
		group.Go(func() { errs[i] = r.remove(ctx, pods[i], intent) })
	}
	group.Wait()
	for i, intent := range batch {
		if errs[i] != nil {
			continue
		}
		s.memory.deleted[intent.UID] = true
		if intent.Action != Delete {
			s.memory.givenUp[intent.UID] = true
		}
		if intent.Action == GiveUp {
			r.workerLost(s.pool, pods[i])
		}
		if intent.Reason == strayReason {
			r.workerStray(s.pool, pods[i])
		}
		log.FromContext(ctx).V(1).Info("Deleted worker pod", "Pod", klog.KObj(pods[i]), "reason", intent.Reason)
	}
	return errors.Join(errs...)
}

// remove deletes the pod of a worker.
func (r *Reconciler) remove(ctx context.Context, pod *corev1.Pod, intent Intent) error {
	options := []client.DeleteOption{client.Preconditions{UID: &intent.UID}}
	if intent.Action != Delete {
		options = append(options, client.GracePeriodSeconds(giveUpGraceSeconds))
	}
	err := r.client.Delete(ctx, pod, options...)
	// Where this very pod is gone already, the cache will show it.
	if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) && r.replaced(ctx, pod) {
		return nil
	}
	return fmt.Errorf("delete pod %q: %w", pod.Name, err)
}

// replaced tells whether a pod is gone for sure. A conflict alone does not prove it: there are others than that with
// the UID.
func (r *Reconciler) replaced(ctx context.Context, pod *corev1.Pod) bool {
	live := &corev1.Pod{}
	err := r.apiReader.Get(ctx, client.ObjectKeyFromObject(pod), live)
	return apierrors.IsNotFound(err) || err == nil && live.UID != pod.UID
}

// create makes workers in batches that double, and stops after the first batch with a failure: what
// fails for one mostly fails for all.
func (r *Reconciler) create(ctx context.Context, s *scope, intents []Intent) error {
	if len(intents) == 0 {
		s.memory.succeeded()
		return nil
	}
	if wait := s.memory.pause(s.pool.Generation, s.now); wait > 0 {
		s.waits = append(s.waits, wait)
		return nil
	}
	todo := intents[:min(len(intents), createsPerReconcile)]
	if len(todo) < len(intents) {
		s.waits = append(s.waits, atOnce)
	}
	whole, err := r.whole(ctx, s)
	if err != nil {
		return err
	}
	for size := 1; len(todo) > 0; size *= 2 {
		batch := todo[:min(size, len(todo))]
		todo = todo[len(batch):]
		if ok, err := r.createBatch(ctx, s, whole, batch); !ok || err != nil {
			return err
		}
	}
	return nil
}

// whole reads the pool with its template, which the cache does not have. It fails with a conflict if that is not the one
// that the plan is for.
func (r *Reconciler) whole(ctx context.Context, s *scope) (*v1alpha1.WorkerPool, error) {
	live := &v1alpha1.WorkerPool{}
	if err := r.apiReader.Get(ctx, s.key, live); err != nil {
		return nil, fmt.Errorf("get the pool with its template: %w", err)
	}
	if live.UID != s.pool.UID || podspec.Hash(live) != s.hash {
		return nil, apierrors.NewConflict(v1alpha1.GroupVersion.WithResource("workerpools").GroupResource(), s.key.Name, errBehind)
	}
	return live, nil
}

// createBatch makes some workers at once. It is false if one could not be made.
func (r *Reconciler) createBatch(ctx context.Context, s *scope, whole *v1alpha1.WorkerPool, batch []Intent) (bool, error) {
	pods, errs := make([]*corev1.Pod, len(batch)), make([]error, len(batch))
	var group sync.WaitGroup
	for i, intent := range batch {
		pods[i] = podspec.Pod(whole, intent.Ordinal, r.agent)
		group.Go(func() { errs[i] = r.client.Create(ctx, pods[i]) })
	}
	group.Wait()
	var failed error
	for i, err := range errs {
		switch {
		case err == nil:
			s.memory.expect(pods[i].UID, batch[i].Ordinal, s.hash, s.now)
			log.FromContext(ctx).V(1).Info("Created worker pod", "Pod", klog.KObj(pods[i]), "reason", batch[i].Reason)
		case apierrors.IsAlreadyExists(err):
			if err := r.checkTaken(ctx, s, batch[i].Ordinal); err != nil {
				return false, err
			}
			s.waits = append(s.waits, atOnce)
		case failed == nil:
			failed = err
		}
	}
	if apierrors.HasStatusCause(failed, corev1.NamespaceTerminatingCause) {
		s.memory.namespaceGoing = true
		s.waits = append(s.waits, atOnce)
		return false, nil
	}
	if failed != nil && ctx.Err() != nil {
		return false, fmt.Errorf("create pods: %w", failed)
	}
	if failed != nil {
		s.memory.failed(failed.Error(), s.pool.Generation, s.now)
		s.waits = append(s.waits, s.memory.pause(s.pool.Generation, s.now))
		return false, nil
	}
	s.memory.succeeded()
	return true, nil
}
