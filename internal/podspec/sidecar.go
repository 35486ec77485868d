package podspec

import (
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

const (
	mebibyte = 1 << 20

	// sidecarMemory is what the agent takes with many connections to come and results to keep, and
	// slotMemory what it takes for each request: its body, which the API server bounds to 1.5 MiB, before
	// and after it was decoded.
	sidecarMemory = 96 * mebibyte
	slotMemory    = 4 * mebibyte

	// drainHeader of a request to /drain must have the pool's UID. The port can be reached from all
	// over the cluster, and not everybody there may take a worker out of service.
	drainHeader = "Workerpool-Drain-Key"
)

// httpPort is the port that a pool's workers serve; 0 if they run commands.
func httpPort(pool *v1alpha1.WorkerPool) int32 {
	if pool.Spec.Handler.Type != v1alpha1.HandlerHTTP {
		return 0
	}
	return ptr.Deref(pool.Spec.Handler.Port, 0)
}

// sidecar is the agent that runs beside the job container: from before it is started until it has ended.
func sidecar(spec *corev1.PodSpec, job *corev1.Container, pool *v1alpha1.WorkerPool, agent Agent) corev1.Container {
	resources := sidecarResources(spec, int(max(1, pool.Spec.Slots)))
	env := append(agentEnv(pool, agent),
		corev1.EnvVar{Name: envContainer, Value: job.Name},
		corev1.EnvVar{Name: "WORKERPOOL_HTTP_PORT", Value: strconv.Itoa(int(httpPort(pool)))},
		corev1.EnvVar{Name: "WORKERPOOL_DRAIN_KEY", Value: string(pool.UID)},
	)
	if limit, ok := resources.Limits[corev1.ResourceMemory]; ok {
		// Garbage is collected sooner rather than the container ended.
		env = append(env, corev1.EnvVar{Name: "GOMEMLIMIT", Value: fmt.Sprintf("%dMiB", limit.Value()*9/10/mebibyte)})
	}
	return corev1.Container{
		Name:            containerAgent,
		Image:           agent.Image,
		ImagePullPolicy: corev1.PullIfNotPresent,
		Command:         []string{"/agent", "run"},
		Env:             env,
		Resources:       resources,
		RestartPolicy:   new(corev1.ContainerRestartPolicyAlways),
		SecurityContext: agentSecurity(spec.SecurityContext),
		VolumeMounts:    agentMounts(),
		ReadinessProbe:  readinessProbe(),
	}
}

// waitForAgent has the kubelet wait, before it ends the job container, until no request of a job is left:
// at most as long as the pod may take to end.
func waitForAgent(job *corev1.Container, pool *v1alpha1.WorkerPool) {
	if job.Lifecycle == nil {
		job.Lifecycle = &corev1.Lifecycle{}
	}
	job.Lifecycle.PreStop = &corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{
		Path:        "/drain",
		Port:        intstr.FromInt32(healthPort),
		HTTPHeaders: []corev1.HTTPHeader{{Name: drainHeader, Value: string(pool.UID)}},
	}}
}

// sidecarResources are small, unless the pod as a whole has its own. Where all other containers make the
// pod one of the quality of service Guaranteed, the requests are the limits, so that it stays one. The processor is
// limited only where that of others is, as a quota may want it: a limit has a busy agent wait, for up to a tenth of a
// second at a time, while processors are idle.
func sidecarResources(spec *corev1.PodSpec, slots int) corev1.ResourceRequirements {
	if spec.Resources != nil {
		return corev1.ResourceRequirements{}
	}
	limits := corev1.ResourceList{
		corev1.ResourceMemory: *resource.NewQuantity(sidecarMemory+int64(slots)*slotMemory, resource.BinarySI),
	}
	if guaranteed(spec) {
		limits[corev1.ResourceCPU] = resource.MustParse("200m") // all of it is kept for the agent
		return corev1.ResourceRequirements{Requests: limits.DeepCopy(), Limits: limits}
	}
	if anyLimited(spec, corev1.ResourceCPU) {
		limits[corev1.ResourceCPU] = resource.MustParse("500m")
	}
	requests := corev1.ResourceList{
		corev1.ResourceCPU:    resource.MustParse("10m"),
		corev1.ResourceMemory: resource.MustParse("32Mi"),
	}
	return corev1.ResourceRequirements{Requests: requests, Limits: limits}
}

// anyLimited tells whether a container has a limit of the resource.
func anyLimited(spec *corev1.PodSpec, name corev1.ResourceName) bool {
	limited := func(c corev1.Container) bool { return !c.Resources.Limits.Name(name, resource.DecimalSI).IsZero() }
	return slices.ContainsFunc(spec.InitContainers, limited) || slices.ContainsFunc(spec.Containers, limited)
}

// guaranteed tells whether all containers have limits of cpu and memory that are their requests.
func guaranteed(spec *corev1.PodSpec) bool {
	for _, containers := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range containers {
			for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
				limit, limited := containers[i].Resources.Limits[name]
				request, requested := RequestOf(&containers[i], name)
				if !limited || !requested || limit.Cmp(request) != 0 {
					return false
				}
			}
		}
	}
	return true
}
