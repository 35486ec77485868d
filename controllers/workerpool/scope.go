package workerpool

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/engine"
	"github.com/workerpool-dev/workerpool/internal/podspec"
	"github.com/workerpool-dev/workerpool/internal/tolerant"
)

// scope is what one reconcile sees and gathers.
type scope struct {
	pool *v1alpha1.WorkerPool
	key  types.NamespacedName
	// fault is why the pool's spec could not be read. Then the workers that there are stay, and none is made.
	fault tolerant.Fault
	// hash is that of the present template.
	hash string
	now  time.Time
	// pods of the pool as the cache shows them, and as live reads show those that it does not, by ordinal.
	pods []*corev1.Pod
	// gone are those that the engine knows, and of which a live read says that nothing runs any more.
	gone     []types.UID
	memory   *memory
	snapshot engine.PoolSnapshot
	// target is the number of workers wanted of a pool with autoscaling.
	target int
	// limited is why workers are not made that go beyond the pool's limits; empty if none does.
	limited string
	// waits are after how long to look again, for each matter that asks for it.
	waits []time.Duration
}

// observe reads what there is of a pool, and drops from memory what the cache shows by now.
func (r *Reconciler) observe(ctx context.Context, pool *v1alpha1.WorkerPool) (*scope, error) {
	s := &scope{
		pool: pool, key: client.ObjectKeyFromObject(pool), hash: podspec.Hash(pool), now: r.clock.Now(),
		memory: r.memories.of(client.ObjectKeyFromObject(pool), pool.UID), fault: tolerant.FaultOf(pool),
	}
	list := &corev1.PodList{}
	err := r.client.List(ctx, list, client.InNamespace(pool.Namespace), client.MatchingFields{ownerIndex: string(pool.UID)})
	if err != nil {
		return nil, fmt.Errorf("list the pool's pods: %w", err)
	}
	cached := map[types.UID]bool{}
	for i := range list.Items {
		if pod := &list.Items[i]; isNamed(pool, pod) { // a stray too, where the cache still shows it
			cached[pod.UID] = true
			s.pods = append(s.pods, pod)
		}
	}
	if err := r.findUnseen(ctx, s, cached); err != nil {
		return nil, err
	}
	slices.SortFunc(s.pods, func(a, b *corev1.Pod) int { return ordinalOf(pool, a) - ordinalOf(pool, b) })
	s.memory.observe(cached)
	return s, r.checkMemory(ctx, s)
}

// isWorker tells whether a pod is a worker of the pool: made by it and not changed by hand since.
func isWorker(pool *v1alpha1.WorkerPool, pod *corev1.Pod) bool {
	return isNamed(pool, pod) && metav1.IsControlledBy(pod, pool) && pod.Labels[v1alpha1.LabelPool] == pool.Name && sameInstallation(pool, pod)
}

// isNamed tells whether a pod has the name of a worker of the pool.
func isNamed(pool *v1alpha1.WorkerPool, pod *corev1.Pod) bool {
	_, named := podspec.Ordinal(pool.Name, pod.Name)
	return named
}

// sameInstallation tells whether the operator that has made a pod is the one that the pool belongs to. Pods that do not
// say are from before there were installations.
func sameInstallation(pool *v1alpha1.WorkerPool, pod *corev1.Pod) bool {
	made := pod.Labels[v1alpha1.Installation]
	return made == "" || pool.InstalledBy(made)
}

// ordinalOf a pod that is a worker of the pool.
func ordinalOf(pool *v1alpha1.WorkerPool, pod *corev1.Pod) int {
	ordinal, _ := podspec.Ordinal(pool.Name, pod.Name)
	return ordinal
}

// checkMemory asks the API about what the cache should have shown by now, and about names that were
// taken.
func (r *Reconciler) checkMemory(ctx context.Context, s *scope) error {
	for uid, e := range s.memory.created {
		if wait := expectedWithin - s.now.Sub(e.since); wait > 0 {
			s.waits = append(s.waits, wait)
			continue
		}
		pod, err := r.livePod(ctx, s, e.ordinal)
		if err != nil {
			return err
		}
		delete(s.memory.created, uid)
		if pod != nil && pod.UID == uid && isWorker(s.pool, pod) {
			s.memory.expect(uid, e.ordinal, e.hash, s.now)
			s.waits = append(s.waits, expectedWithin)
		}
	}
	for ordinal, since := range s.memory.taken {
		if s.now.Sub(since) >= takenRecheck {
			if err := r.checkTaken(ctx, s, ordinal); err != nil {
				return err
			}
		}
	}
	if len(s.memory.taken) > 0 {
		s.waits = append(s.waits, takenRecheck)
	}
	return nil
}

// checkTaken asks the API whose a name is, and remembers and tells it if it is not the pool's.
func (r *Reconciler) checkTaken(ctx context.Context, s *scope, ordinal int) error {
	pod, err := r.livePod(ctx, s, ordinal)
	if err != nil {
		return err
	}
	_, known := s.memory.taken[ordinal]
	delete(s.memory.taken, ordinal)
	switch {
	case pod == nil:
	case isWorker(s.pool, pod):
		s.memory.expect(pod.UID, ordinal, pod.Labels[v1alpha1.LabelTemplateHash], s.now)
	default:
		s.memory.taken[ordinal] = s.now
		if !known {
			r.nameTaken(s.pool, pod)
		}
	}
	return nil
}

// livePod reads the pod that has a worker's name from the API server; nil if there is none.
func (r *Reconciler) livePod(ctx context.Context, s *scope, ordinal int) (*corev1.Pod, error) {
	pod := &corev1.Pod{}
	key := client.ObjectKey{Namespace: s.key.Namespace, Name: podspec.Name(s.key.Name, ordinal)}
	if err := r.apiReader.Get(ctx, key, pod); apierrors.IsNotFound(err) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("get pod %q: %w", key.Name, err)
	}
	return pod, nil
}

// deleting tells whether the pool is to go.
func (s *scope) deleting() bool { return !s.pool.DeletionTimestamp.IsZero() }

// unreadable tells whether the pool's spec can't be trusted, because a part of it is missing.
func (s *scope) unreadable() bool { return s.fault.Part != tolerant.None }

// replicas is the number of workers wanted.
func (s *scope) replicas() int {
	switch {
	case s.deleting():
		return 0
	case s.unreadable():
		return s.liveWorkers()
	case s.pool.Spec.Autoscaling != nil:
		return s.target
	}
	return int(ptr.Deref(s.pool.Spec.Replicas, 1))
}

func (s *scope) liveWorkers() int {
	n := 0
	for _, w := range s.workers() {
		if w.live() {
			n++
		}
	}
	return n
}

// state is what Plan decides from.
func (s *scope) state() State {
	update := s.pool.Spec.Update
	return State{
		Replicas: s.replicas(), Surge: int(ptr.Deref(update.MaxSurge, 1)), Unavailable: int(ptr.Deref(update.MaxUnavailable, 0)),
		Workers: s.workers(), Taken: s.memory.takenOrdinals(),
	}
}

// workers are the pool's pods as they are, with what was done since the cache saw them.
func (s *scope) workers() []Worker {
	workers := make([]Worker, 0, len(s.pods)+len(s.memory.created))
	for _, pod := range s.pods {
		workers = append(workers, s.worker(pod))
	}
	for uid, e := range s.memory.created {
		workers = append(workers, Worker{
			Name: podspec.Name(s.key.Name, e.ordinal), UID: uid, Ordinal: e.ordinal,
			Current: s.unreadable() || e.hash == s.hash, Terminating: s.memory.deleted[uid], GivenUp: s.memory.givenUp[uid],
		})
	}
	slices.SortFunc(workers, byOrdinal)
	return workers
}

func (s *scope) worker(pod *corev1.Pod) Worker {
	known := s.snapshot.Pods[pod.UID]
	fit := conditionOf(pod, corev1.PodReady).Status == corev1.ConditionTrue && !known.Spent
	return Worker{
		Name: pod.Name, UID: pod.UID, Ordinal: ordinalOf(s.pool, pod),
		Current:  s.unreadable() || pod.Labels[v1alpha1.LabelTemplateHash] == s.hash,
		Recycled: !s.unreadable() && (known.Spent || s.aged(pod)),
		Ready:    fit && !known.Cordoned,
		Cordoned: fit && known.Cordoned,
		// What is ready but does not say what it does may be busy since before we led.
		Busy:        known.Busy || fit && !known.Connected,
		Lost:        known.Lost,
		GivenUp:     s.memory.givenUp[pod.UID],
		Stray:       s.stray(pod),
		Terminating: s.terminating(pod),
		Terminated:  terminated(pod),
	}
}

// aged tells whether a pod is older than workers of the pool are to become; else it has the pool looked at
// again when it is.
func (s *scope) aged(pod *corev1.Pod) bool {
	recycle := s.pool.Spec.Recycle
	if recycle == nil || recycle.MaxAgeSeconds == nil {
		return false
	}
	left := time.Duration(*recycle.MaxAgeSeconds)*time.Second - s.now.Sub(pod.CreationTimestamp.Time)
	s.waits = append(s.waits, left)
	return left <= 0
}

// terminating tells whether a pod is being deleted, by whomever.
func (s *scope) terminating(pod *corev1.Pod) bool {
	return !pod.DeletionTimestamp.IsZero() || s.memory.deleted[pod.UID]
}

// terminated tells whether nothing of a pod runs any more, for good.
func terminated(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// conditionOf a pod; the zero condition if it has none of this type.
func conditionOf(pod *corev1.Pod, kind corev1.PodConditionType) corev1.PodCondition {
	for _, c := range pod.Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return corev1.PodCondition{}
}
