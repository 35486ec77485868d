package workerpool

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/utils/ptr"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// unavailableAfter is how long no worker must have taken Jobs before the pool and its Jobs say so. After a change of the
// leader all agents need a moment to dial again.
const unavailableAfter = 10 * time.Second

// explanation is why queued Jobs do not start; its reason is empty if they only wait for their turn.
type explanation struct{ reason, message string }

// watchService notes since when no worker takes Jobs, though some should.
func (s *scope) watchService() {
	m := s.memory
	if s.serves() {
		m.unserved = time.Time{}
		return
	}
	if m.unserved.IsZero() {
		m.unserved = s.now
		ready := meta.FindStatusCondition(s.pool.Status.Conditions, v1alpha1.PoolReady)
		if ready != nil && ready.Reason == v1alpha1.ReasonUnavailable { // an earlier leader has waited
			m.unserved = s.now.Add(-unavailableAfter)
		}
	}
	left := unavailableAfter - s.now.Sub(m.unserved)
	if left <= 0 {
		left = unavailableAfter // not all that ends it is told
	}
	s.waits = append(s.waits, left)
}

// serves tells whether a worker takes Jobs, or none is wanted.
func (s *scope) serves() bool {
	if s.replicas() == 0 || s.deleting() {
		return true
	}
	for _, w := range s.workers() {
		if w.live() && w.Ready && s.snapshot.Pods[w.UID].Unavailable == "" {
			return true
		}
	}
	return false
}

// unserved tells whether no worker has taken Jobs for so long that it is to be said.
func (s *scope) unserved() bool {
	return !s.memory.unserved.IsZero() && s.now.Sub(s.memory.unserved) >= unavailableAfter
}

// whyUnavailable is what the first worker says that is there and takes no Jobs; empty if none says anything.
func (s *scope) whyUnavailable() string {
	for _, pod := range s.pods {
		w := s.worker(pod)
		known := s.snapshot.Pods[pod.UID]
		if !w.live() || w.Cordoned || pod.Status.Phase != corev1.PodRunning {
			continue
		}
		ready := conditionOf(pod, corev1.PodReady)
		switch {
		case known.Unavailable != "" && (w.Ready || known.Connected):
			return fmt.Sprintf("Worker %s takes no Jobs: %s.", pod.Name, known.Unavailable)
		case !w.Ready && ready.Message != "":
			return fmt.Sprintf("Worker %s is not ready: %s.", pod.Name, ready.Message)
		}
	}
	return ""
}

// explain has the engine tell Jobs why they wait. Where workers are tried again and again it may look for a moment as if
// nothing were in the way: what was said holds until a worker takes Jobs.
func (r *Reconciler) explain(s *scope) {
	p, ok := r.engine.Pool(s.key)
	if !ok {
		return
	}
	s.watchService()
	m := s.memory
	if now, changed := s.explanation(); changed {
		m.explained = now
	}
	p.Explain(m.explained.reason, shorten(m.explained.message))
}

// explanation is why queued Jobs do not start, and whether that can be told now.
func (s *scope) explanation() (now explanation, known bool) {
	switch {
	case s.deleting():
		return explanation{}, true
	case s.unreadable() && s.config().Suspend:
		return explanation{v1alpha1.ReasonPoolInvalid, fmt.Sprintf(invalidMessage, s.fault.Message)}, true
	case s.suspended():
		return explanation{v1alpha1.ReasonPoolSuspended, suspendedMessage}, true
	case !s.unreadable() && s.pool.Spec.Autoscaling == nil && s.replicas() == 0:
		return explanation{v1alpha1.ReasonNoWorkers, "The pool has no workers: its spec.replicas is 0. Scale it up."}, true
	case s.memory.unserved.IsZero():
		return explanation{}, true
	}
	n := s.count()
	if n.ready > 0 && !s.unserved() {
		return explanation{}, true
	}
	if progress := s.progress(n); hindered(progress.Reason) {
		return explanation{progress.Reason, progress.Message}, true
	}
	if s.unserved() && !hindered(s.memory.explained.reason) {
		ready := s.readiness(n)
		return explanation{ready.Reason, ready.Message}, true
	}
	return explanation{}, ownWill(s.memory.explained.reason)
}

// hindered tells whether a reason is something that keeps workers from being made or from starting.
func hindered(reason string) bool {
	switch reason {
	case v1alpha1.ReasonLimit, v1alpha1.ReasonNotCreated, v1alpha1.ReasonWorkerCannotStart, v1alpha1.ReasonUnschedulable:
		return true
	}
	return false
}

// ownWill tells whether a reason is what the user has asked for, which ends when it is asked for no more.
func ownWill(reason string) bool {
	switch reason {
	case v1alpha1.ReasonPoolInvalid, v1alpha1.ReasonPoolSuspended, v1alpha1.ReasonNoWorkers:
		return true
	}
	return false
}

// suspendedMessage is what users are told of a suspended pool.
const suspendedMessage = "The pool is suspended: its spec.suspend is true. No Job is started until it is false."

func (s *scope) suspended() bool { return !s.unreadable() && ptr.Deref(s.pool.Spec.Suspend, false) }
