package podspec

import (
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

const (
	// envSlots tells operators before slotsFlag, and of their pods this one, how many jobs the agent runs at once.
	envSlots = "WORKERPOOL_SLOTS"
	// envPodIPs of a sidecar are the pod's addresses, for an argument.
	envPodIPs = "WORKERPOOL_POD_IPS"
	// envContainer of a sidecar is the name of the job container. The agent does not look at it.
	envContainer = "WORKERPOOL_CONTAINER"
)

// Handler is how a worker pod runs jobs, whatever its pool says by now.
func Handler(pod *corev1.Pod) v1alpha1.HandlerType {
	if sidecarOf(pod) != nil {
		return v1alpha1.HandlerHTTP
	}
	return v1alpha1.HandlerExec
}

// JobContainer is the container of a worker pod that runs Jobs, or that serves their requests; nil if the
// pod is no worker's.
func JobContainer(pod *corev1.Pod) *corev1.Container {
	is := func(c corev1.Container) bool { return len(c.Command) > 0 && c.Command[0] == agentPath }
	if agent := sidecarOf(pod); agent != nil {
		name := envOf(agent, envContainer)
		is = func(c corev1.Container) bool { return c.Name == name }
	}
	if i := slices.IndexFunc(pod.Spec.Containers, is); i >= 0 {
		return &pod.Spec.Containers[i]
	}
	return nil
}

// Slots is how many jobs a worker pod was made to run at once; 1 if the pod does not say.
func Slots(pod *corev1.Pod) int {
	agent := agentContainer(pod)
	if agent == nil {
		return 1
	}
	said := envOf(agent, envSlots)
	for _, arg := range agent.Args {
		if value, ok := strings.CutPrefix(arg, slotsFlag); ok {
			said = value
		}
	}
	slots, err := strconv.Atoi(said)
	if err != nil {
		return 1
	}
	return max(1, slots)
}

// Started tells whether a worker pod's agent may have been given jobs: it has run, and where it runs
// beside the job container, that has too, for before it there is no port that answers.
func Started(pod *corev1.Pod) bool {
	job := JobContainer(pod)
	if job == nil || !hasRun(pod.Status.ContainerStatuses, job.Name) {
		return false
	}
	return sidecarOf(pod) == nil || hasRun(pod.Status.InitContainerStatuses, AgentContainer)
}

func hasRun(statuses []corev1.ContainerStatus, name string) bool {
	return slices.ContainsFunc(statuses, func(s corev1.ContainerStatus) bool {
		return s.Name == name && (s.State.Running != nil || s.State.Terminated != nil || s.LastTerminationState.Terminated != nil)
	})
}

// AgentStatus is the status of the container that a worker pod's agent runs in; nil if the kubelet has not told it, or
// the pod is no worker's.
func AgentStatus(pod *corev1.Pod) *corev1.ContainerStatus {
	statuses, agent := pod.Status.InitContainerStatuses, sidecarOf(pod)
	if agent == nil {
		statuses, agent = pod.Status.ContainerStatuses, JobContainer(pod)
	}
	if agent == nil {
		return nil
	}
	if i := slices.IndexFunc(statuses, func(s corev1.ContainerStatus) bool { return s.Name == agent.Name }); i >= 0 {
		return &statuses[i]
	}
	return nil
}

// agentContainer is the container of a worker pod that its agent runs in; nil if the pod is no worker's.
func agentContainer(pod *corev1.Pod) *corev1.Container {
	if agent := sidecarOf(pod); agent != nil {
		return agent
	}
	return JobContainer(pod)
}

// sidecarOf is the agent's own container; nil if it runs in the job container. The installer has the same
// name, but ends.
func sidecarOf(pod *corev1.Pod) *corev1.Container {
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		if c.Name == AgentContainer && c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			return c
		}
	}
	return nil
}

// envOf is the value of a container's variable, empty if it has none.
func envOf(c *corev1.Container, name string) string {
	for _, env := range c.Env {
		if env.Name == name {
			return env.Value
		}
	}
	return ""
}
