package workerpool

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// Actions of events: what the controller was about when it had something to say.
const (
	actionCreate  = "CreateWorker"
	actionReplace = "ReplaceWorker"

	actionLeaveAlone = "LeaveAlone"
)

// workerLost says that a worker is replaced that was not heard of. Of workers that are lost at the same time the
// pods tell the events apart: those that differ in their text alone are taken for one.
func (r *Reconciler) workerLost(pool *v1alpha1.WorkerPool, pod *corev1.Pod) {
	r.recorder.Eventf(pool, pod, corev1.EventTypeWarning, v1alpha1.ReasonWorkerLost, actionReplace,
		"Worker %s was not heard of for too long and is replaced.", pod.Name)
}

// workerStray says that a worker is replaced whose label or owner was changed.
func (r *Reconciler) workerStray(pool *v1alpha1.WorkerPool, pod *corev1.Pod) {
	r.recorder.Eventf(pool, pod, corev1.EventTypeWarning, v1alpha1.ReasonWorkerChanged, actionReplace,
		"Worker %s is replaced, because its label %s or its owner was changed. It takes no more Jobs, and goes when those that it runs have "+
			"ended, or when its grace period is over: then they are cut off and run again. If they need longer, raise spec.drainTimeoutSeconds.",
		pod.Name, v1alpha1.LabelPool)
}

// unfit begins what an agent says that can run nothing any more, reset or not.
const unfit = "the agent "

// resetsFailed says, once of each worker, that it is replaced because it could not be reset, or can run nothing any more.
func (r *Reconciler) resetsFailed(s *scope) {
	for _, pod := range s.pods {
		failure := s.snapshot.Pods[pod.UID].ResetFailure
		if failure == "" || s.memory.resetFailed[pod.UID] || s.deleting() {
			continue
		}
		s.memory.resetFailed[pod.UID] = true
		what := "its resetCommand has failed: "
		if strings.HasPrefix(failure, unfit) {
			what = ""
		}
		r.recorder.Eventf(s.pool, pod, corev1.EventTypeWarning, v1alpha1.ReasonResetFailed, actionReplace,
			"Worker %s is replaced, because %s%s", pod.Name, what, failure)
	}
}

// nameTaken says that a pod that is not the pool's has a worker's name.
func (r *Reconciler) nameTaken(pool *v1alpha1.WorkerPool, pod *corev1.Pod) {
	r.recorder.Eventf(pool, pod, corev1.EventTypeWarning, v1alpha1.ReasonNameTaken, actionCreate, nameTakenMessage, pod.Name)
}

// progressChanged says that something new keeps workers from being made or from starting. It is called after the
// status was written, with the conditions that the status had before. While a worker is tried again and again
// it may look for a moment as if nothing were in the way: the same is not told again before all workers have been
// as wanted.
func (r *Reconciler) progressChanged(pool *v1alpha1.WorkerPool, m *memory, before []metav1.Condition) {
	now := meta.FindStatusCondition(pool.Status.Conditions, v1alpha1.PoolProgressing)
	if now == nil {
		return
	}
	if now.Reason == v1alpha1.ReasonStable || now.Reason == v1alpha1.ReasonNameTaken {
		m.told = ""
		return
	}
	trouble := troubleOf(now)
	if trouble == "" {
		return
	}
	if trouble != m.told && trouble != troubleOf(meta.FindStatusCondition(before, v1alpha1.PoolProgressing)) {
		r.recorder.Eventf(pool, nil, corev1.EventTypeWarning, now.Reason, actionCreate, "%s", now.Message)
	}
	m.told = trouble
}

// troubleOf tells one trouble from another that a user must see to; it is empty where the condition tells of none.
// The API server has many reasons to refuse a worker; other messages change while the trouble is the same.
func troubleOf(progress *metav1.Condition) string {
	if progress == nil {
		return ""
	}
	switch progress.Reason {
	case v1alpha1.ReasonNotCreated:
		return progress.Reason + progress.Message
	case v1alpha1.ReasonLimit, v1alpha1.ReasonWorkerCannotStart:
		return progress.Reason
	}
	return ""
}
