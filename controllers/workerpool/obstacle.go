package workerpool

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// obstacle is what keeps workers from starting, until a user does something about it.
type obstacle struct {
	// reason of the condition; empty if there is no obstacle.
	reason string
	// message of the first worker that has it.
	message string
	// workers is the number of those that have it.
	workers int
}

// stuckReasons are the kubelet's words for a container that will not start by waiting alone.
var stuckReasons = []string{
	"CrashLoopBackOff", "ImagePullBackOff", "ErrImagePull", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError",
	"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "PostStartHookError",
}

// obstacle finds what is in the way. A container that can't start comes before a pod that can't be
// scheduled: the former is the template's fault, the latter may be a matter of room.
func (s *scope) obstacle() obstacle {
	found := map[string]*obstacle{}
	for _, pod := range s.pods {
		w := s.worker(pod)
		if !w.live() || w.Ready {
			continue
		}
		reason, message := obstacleOf(pod)
		if found[reason] == nil {
			found[reason] = &obstacle{reason: reason, message: message}
		}
		found[reason].workers++
	}
	for _, reason := range []string{v1alpha1.ReasonWorkerCannotStart, v1alpha1.ReasonUnschedulable} {
		if o := found[reason]; o != nil {
			return *o
		}
	}
	return obstacle{}
}

// obstacleOf returns what keeps a pod from starting; empty strings if nothing does.
func obstacleOf(pod *corev1.Pod) (reason, message string) {
	for _, status := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if w := status.State.Waiting; stuck(&status) {
			return v1alpha1.ReasonWorkerCannotStart, fmt.Sprintf("container %q: %s: %s%s", status.Name, w.Reason, w.Message, lastEnd(status))
		}
	}
	if c := conditionOf(pod, corev1.PodScheduled); c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable {
		return v1alpha1.ReasonUnschedulable, c.Message
	}
	return "", ""
}

// stuck tells whether a container will not start by waiting alone.
func stuck(status *corev1.ContainerStatus) bool {
	return status.State.Waiting != nil && slices.Contains(stuckReasons, status.State.Waiting.Reason)
}

// lastEnd tells how a container ended last, because a kubelet that waits before the next try says
// only that it waits.
func lastEnd(status corev1.ContainerStatus) string {
	ended := status.LastTerminationState.Terminated
	if ended == nil {
		return ""
	}
	text := fmt.Sprintf(" (it ended with exit code %d: %s", ended.ExitCode, ended.Reason)
	if ended.Message != "" {
		text += ": " + ended.Message
	}
	return text + ")"
}
