package podspec

import (
	"math"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// Names of what is put into a worker pod, and where it is found there.
const (
	// AgentContainer is the installer's name, and where the agent runs beside the job container, the agent's.
	AgentContainer = "workerpool-agent"
	volumeAgent    = "workerpool"
	volumeToken    = "workerpool-token"

	agentDir    = "/workerpool"
	agentPath   = agentDir + "/agent"
	spoolDir    = agentDir + "/spool"
	readyFile   = agentDir + "/ready"
	drainSocket = agentDir + "/drain"
	tokenDir    = "/var/run/secrets/workerpool.dev"

	// Audience of the agents' tokens. The API server takes them for nothing else.
	Audience = "dispatch.workerpool.dev"

	// agentUser is the user of the operator's image.
	agentUser = 65532
)

// inject puts the agent into a pod. For commands an init container brings the program, and the job
// container runs it; for HTTP it runs beside the job container.
func inject(pod *corev1.Pod, pool *v1alpha1.WorkerPool, agent Agent) {
	spec := &pod.Spec
	// The CRD sees to it that there is one; a pod without it is refused by the API server.
	i := max(0, jobContainerIndex(spec, pool.Spec.Container))
	if len(spec.Containers) > i {
		job := &spec.Containers[i]
		var first corev1.Container
		if pool.Spec.Handler.Type == v1alpha1.HandlerHTTP {
			first = sidecar(pod, job, pool, agent)
			waitForAgent(job, healthPort(pool))
		} else {
			becomeWorker(job, &pod.ObjectMeta, pool, agent)
			first = installer(spec, job, agent)
		}
		spec.InitContainers = slices.Insert(spec.InitContainers, 0, first)
	}
	spec.Volumes = append(spec.Volumes, agentVolume(), tokenVolume())
}

// jobContainerIndex finds the container that runs Jobs: the one of this name, the first for an empty
// name, and -1 if there is none.
func jobContainerIndex(spec *corev1.PodSpec, name string) int {
	return slices.IndexFunc(spec.Containers, func(c corev1.Container) bool { return name == "" || c.Name == name })
}

// becomeWorker makes a container run the agent. The image's entrypoint and the template's args would
// mean nothing to it.
func becomeWorker(c *corev1.Container, pod *metav1.ObjectMeta, pool *v1alpha1.WorkerPool, agent Agent) {
	c.Command, c.Args = []string{agentPath, "run"}, append(agentFlags(pod, pool, agent), "--ready-file="+readyFile)
	if !slices.ContainsFunc(c.Env, func(v corev1.EnvVar) bool { return v.Name == envSlots }) {
		// For operators that look for it there. The template's own is left to its Jobs.
		c.Env = append(c.Env, slotsVariable(pool))
		c.Args = append(c.Args, "--hide="+envSlots)
	}
	c.TerminationMessagePath = "" // the default, where the agent writes
	c.VolumeMounts = append(c.VolumeMounts, agentMounts()...)
	c.StartupProbe = startupProbe()
}

func agentMounts() []corev1.VolumeMount {
	return []corev1.VolumeMount{
		{Name: volumeAgent, MountPath: agentDir},
		{Name: volumeToken, MountPath: tokenDir, ReadOnly: true},
	}
}

// startupProbe looks for the agent's first session, often within a second. After that the worker stays ready, and nobody
// asks: so the agent has no port, which others could reach or use, and probing costs nothing. It is waited for as long as it
// takes.
func startupProbe() *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:     corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{agentPath, "ready", readyFile}}},
		PeriodSeconds:    1,
		TimeoutSeconds:   5,
		FailureThreshold: math.MaxInt32,
	}
}

// slotsFlag tells the agent how many jobs it runs at once.
const slotsFlag = "--slots="

// agentFlags are arguments and not variables: a variable can come from the template, from what envFrom names or from a
// Service, which can have any name.
func agentFlags(pod *metav1.ObjectMeta, pool *v1alpha1.WorkerPool, agent Agent) []string {
	return []string{
		"--addresses=" + strings.Join(agent.Addresses, ","),
		"--ca=" + agent.CA,
		"--token-file=" + tokenDir + "/token",
		"--spool-dir=" + spoolDir,
		slotsFlag + slotsOf(pool),
		"--pool=" + pool.Name,
		"--namespace=" + pod.Namespace,
		"--pod=" + pod.Name,
	}
}

func slotsOf(pool *v1alpha1.WorkerPool) string { return strconv.Itoa(int(max(1, pool.Spec.Slots))) }

func slotsVariable(pool *v1alpha1.WorkerPool) corev1.EnvVar {
	return corev1.EnvVar{Name: envSlots, Value: slotsOf(pool)}
}

// installer is the init container that copies the agent. It comes first, so that no other init
// container can hold it up or find the volume empty.
func installer(spec *corev1.PodSpec, job *corev1.Container, agent Agent) corev1.Container {
	return corev1.Container{
		Name:            AgentContainer,
		Image:           agent.Image,
		ImagePullPolicy: corev1.PullIfNotPresent,
		Command:         []string{"/agent", "install", agentPath},
		Resources:       installerResources(job),
		SecurityContext: agentSecurity(spec.SecurityContext),
		VolumeMounts:    []corev1.VolumeMount{{Name: volumeAgent, MountPath: agentDir}},
	}
}

// installerResources are those of the job container, because they come for free: the installer has ended before that
// starts. So it neither makes the pod larger nor changes its quality of service, and whatever LimitRange or quota lets the
// job container in lets it in. What the job container leaves open, a LimitRange fills in for both.
func installerResources(job *corev1.Container) corev1.ResourceRequirements {
	of := func(all corev1.ResourceList) corev1.ResourceList {
		var own corev1.ResourceList
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
			if q, ok := all[name]; ok {
				if own == nil {
					own = corev1.ResourceList{}
				}
				own[name] = q.DeepCopy()
			}
		}
		return own
	}
	return corev1.ResourceRequirements{Requests: of(job.Resources.Requests), Limits: of(job.Resources.Limits)}
}

// RequestOf is what a container requests: its limit, if it names only that.
func RequestOf(c *corev1.Container, name corev1.ResourceName) (resource.Quantity, bool) {
	if q, ok := c.Resources.Requests[name]; ok {
		return q, true
	}
	q, ok := c.Resources.Limits[name]
	return q, ok
}

// agentSecurity is that of our containers, as tight as can be. The user is the image's, or one that the platform sets,
// unless the pod would make it root.
func agentSecurity(pod *corev1.PodSecurityContext) *corev1.SecurityContext {
	s := &corev1.SecurityContext{
		AllowPrivilegeEscalation: new(false),
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		ReadOnlyRootFilesystem:   new(true),
		RunAsNonRoot:             new(true),
		SeccompProfile:           &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	if pod != nil && pod.RunAsUser != nil && *pod.RunAsUser == 0 {
		s.RunAsUser = new(int64(agentUser))
	}
	return s
}

// agentVolume has the agent, its spool and the TMPDIR of jobs. It has no size limit: a job that fills
// it would have its worker evicted, and other jobs with it. Who wants a bound sets a limit of
// ephemeral storage on the container, which counts this volume too.
func agentVolume() corev1.Volume {
	return corev1.Volume{Name: volumeAgent, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}
}

func tokenVolume() corev1.Volume {
	return corev1.Volume{Name: volumeToken, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
			Audience: Audience, ExpirationSeconds: new(int64(3600)), Path: "token",
		}}},
	}}}
}
