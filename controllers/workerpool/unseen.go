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
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/internal/podspec"
)

// A pod that the cache does not show may be there all the same: somebody has changed its label or its owner, or the
// cache is behind. What it ran must not start elsewhere before it has ended. So each pod that the engine knows and the
// cache does not show is read from the API server. It is gone if that does not have it any more, or nothing of it runs.
// If it is there but not the pool's any more, it is a stray: it takes no more tasks, it is deleted with its own grace
// period, and the engine hears of it until it is gone.

const (
	// unseenRecheck is how often a pod that the cache does not show is read again.
	unseenRecheck = time.Second
	// rereadsPerReconcile bounds the reads of pods that were there a moment ago. Those that wait count as there.
	rereadsPerReconcile = 50
	// readsAtOnce bounds the reads under way.
	readsAtOnce = 16
)

// unseen is a pod that the engine knows and the cache does not show.
type unseen struct {
	name string
	// pod is what the last live read has shown; nil before the first, and once the pod is gone.
	pod  *corev1.Pod
	read time.Time
}

// findUnseen adds the pods to the scope that the engine knows and the cache does not show, as far as they are there, and
// notes which are gone. It fails if the API server can't tell: then nothing may be concluded.
func (r *Reconciler) findUnseen(ctx context.Context, s *scope, cached map[types.UID]bool) error {
	known := s.memory.unseen
	s.memory.unseen = map[types.UID]*unseen{}
	p, ok := r.engine.Pool(s.key)
	if !ok {
		return nil
	}
	for uid, w := range p.Snapshot().Pods {
		_, named := podspec.Ordinal(s.key.Name, w.Name)
		_, coming := s.memory.created[uid]
		if cached[uid] || coming || !named {
			continue
		}
		u := known[uid]
		if u == nil {
			u = &unseen{name: w.Name}
		}
		s.memory.unseen[uid] = u
	}
	if err := r.readUnseen(ctx, s); err != nil {
		return err
	}
	for uid, u := range s.memory.unseen {
		if u.pod == nil {
			s.gone = append(s.gone, uid)
			delete(s.memory.unseen, uid)
			continue
		}
		cached[uid] = true
		s.pods = append(s.pods, u.pod)
	}
	if len(s.memory.unseen) > 0 {
		s.waits = append(s.waits, unseenRecheck)
	}
	return nil
}

// readUnseen reads the unseen pods whose turn it is: the new ones all, of the others those that were read longest ago.
func (r *Reconciler) readUnseen(ctx context.Context, s *scope) error {
	var first, again []types.UID
	for uid, u := range s.memory.unseen {
		switch {
		case u.pod == nil:
			first = append(first, uid)
		case s.now.Sub(u.read) >= unseenRecheck:
			again = append(again, uid)
		}
	}
	slices.SortFunc(again, func(a, b types.UID) int { return s.memory.unseen[a].read.Compare(s.memory.unseen[b].read) })
	due := slices.Concat(first, again[:min(len(again), rereadsPerReconcile)])
	errs := make([]error, len(due))
	var group sync.WaitGroup
	slots := make(chan struct{}, readsAtOnce)
	for i, uid := range due {
		u := s.memory.unseen[uid]
		slots <- struct{}{}
		group.Go(func() {
			errs[i] = r.read(ctx, s, uid, u)
			<-slots
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

func (r *Reconciler) read(ctx context.Context, s *scope, uid types.UID, u *unseen) error {
	pod := &corev1.Pod{}
	err := r.apiReader.Get(ctx, client.ObjectKey{Namespace: s.key.Namespace, Name: u.name}, pod)
	switch {
	case apierrors.IsNotFound(err), err == nil && (pod.UID != uid || terminated(pod)):
		u.pod = nil
	case err != nil:
		return fmt.Errorf("get pod %q, which the cache does not show: %w", u.name, err)
	default:
		_, _ = TrimPod(pod) // it is kept, and fails for nothing
		u.pod, u.read = pod, s.now
	}
	return nil
}

// stray tells whether a pod that was the pool's worker is so no more.
func (s *scope) stray(pod *corev1.Pod) bool { return !isWorker(s.pool, pod) }
