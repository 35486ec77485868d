package workerpool

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// Actions of events: what the controller was about when it had something to say.
const (
	actionCreate  = "CreateWorker"
	actionReplace = "ReplaceWorker"
)

// workerLost says that a worker is replaced that was not heard of.
func (r *Reconciler) workerLost(pool *v1alpha1.WorkerPool, pod *corev1.Pod) {
	r.recorder.Eventf(pool, nil, corev1.EventTypeWarning, v1alpha1.ReasonWorkerLost, actionReplace,
		"Worker %s was not heard of for too long and is replaced.", pod.Name)
}

// resetsFailed says, once of each worker, that it is replaced because it could not be reset.
func (r *Reconciler) resetsFailed(s *scope) {
	for _, pod := range s.pods {
		failure := s.snapshot.Pods[pod.UID].ResetFailure
		if failure == "" || s.memory.resetFailed[pod.UID] || s.deleting() {
			continue
		}
		s.memory.resetFailed[pod.UID] = true
		r.recorder.Eventf(s.pool, nil, corev1.EventTypeWarning, v1alpha1.ReasonResetFailed, actionReplace,
			"Worker %s is replaced, because its resetCommand has failed: %s", pod.Name, failure)
	}
}

// progressChanged says that something new is in the way of making workers. It is called after the
// status was written, with the conditions that the status had before.
func (r *Reconciler) progressChanged(pool *v1alpha1.WorkerPool, before []metav1.Condition) {
	now := meta.FindStatusCondition(pool.Status.Conditions, v1alpha1.PoolProgressing)
	if now == nil || now.Reason != v1alpha1.ReasonNotCreated && now.Reason != v1alpha1.ReasonNameTaken {
		return
	}
	if was := meta.FindStatusCondition(before, v1alpha1.PoolProgressing); was != nil && was.Reason == now.Reason && was.Message == now.Message {
		return
	}
	r.recorder.Eventf(pool, nil, corev1.EventTypeWarning, now.Reason, actionCreate, "%s", now.Message)
}
