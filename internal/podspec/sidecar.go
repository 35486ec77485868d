package podspec

import (
	"fmt"
	"math"
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

	// firstHealthPort is where the kubelet asks the agent, and otherHealthPort where the job container's server has that.
	firstHealthPort, otherHealthPort = 9808, 9809
)

func healthPort(pool *v1alpha1.WorkerPool) int32 {
	if httpPort(pool) == firstHealthPort {
		return otherHealthPort
	}
	return firstHealthPort
}

// httpPort is the port that a pool's workers serve; 0 if they run commands.
func httpPort(pool *v1alpha1.WorkerPool) int32 {
	if pool.Spec.Handler.Type != v1alpha1.HandlerHTTP {
		return 0
	}
	return ptr.Deref(pool.Spec.Handler.Port, 0)
}

// sidecar is the agent that runs beside the job container: from before it is started until it has ended. Its preStop is the
// word that the pod is to end, which comes from nobody else.
func sidecar(pod *corev1.Pod, job *corev1.Container, pool *v1alpha1.WorkerPool, agent Agent) corev1.Container {
	memory, port := agentMemory(int(max(1, pool.Spec.Slots))), healthPort(pool)
	c := corev1.Container{
		Name:            AgentContainer,
		Image:           agent.Image,
		ImagePullPolicy: corev1.PullIfNotPresent,
		Command:         []string{"/agent", "run"},
		Args: append(agentFlags(&pod.ObjectMeta, pool, agent),
			"--http-port="+strconv.Itoa(int(httpPort(pool))),
			"--health-address=:"+strconv.Itoa(int(port)),
			"--drain-socket="+drainSocket,
			"--pod-ips=$("+envPodIPs+")",
		),
		Env: []corev1.EnvVar{
			{Name: envContainer, Value: job.Name},
			{Name: envPodIPs, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIPs"}}},
			slotsVariable(pool),
			// Garbage is collected sooner rather than the container ended.
			{Name: "GOMEMLIMIT", Value: fmt.Sprintf("%dMiB", memory*9/10/mebibyte)},
		},
		Resources:       sidecarResources(&pod.Spec, job, memory),
		RestartPolicy:   new(corev1.ContainerRestartPolicyAlways),
		SecurityContext: agentSecurity(pod.Spec.SecurityContext),
		VolumeMounts:    agentMounts(),
		ReadinessProbe:  readinessProbe(port),
		Lifecycle: &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{
			Exec: &corev1.ExecAction{Command: []string{"/agent", "drain", drainSocket}},
		}},
	}
	if pod.Spec.HostNetwork {
		// The scheduler keeps workers apart that would have the same port.
		c.Ports = []corev1.ContainerPort{{Name: "workerpool", ContainerPort: port, Protocol: corev1.ProtocolTCP}}
	}
	return c
}

// readinessProbe asks the agent, which is ready from its first session, often within a second, and while the job
// container's port answers. A busy node may take its time to answer: that must not look like a worker that has gone.
func readinessProbe(port int32) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:     corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/readyz", Port: intstr.FromInt32(port)}},
		PeriodSeconds:    1,
		TimeoutSeconds:   5,
		FailureThreshold: 3,
	}
}

// waitForAgent has the kubelet wait, before it ends the job container, until no request of a job is left: at most as long as
// the pod may take to end. Whoever else asks that finds out no more than that, and changes nothing.
func waitForAgent(job *corev1.Container, port int32) {
	if job.Lifecycle == nil {
		job.Lifecycle = &corev1.Lifecycle{}
	}
	job.Lifecycle.PreStop = &corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/drain", Port: intstr.FromInt32(port)}}
}

func agentMemory(slots int) int64 { return sidecarMemory + int64(slots)*slotMemory }

// sidecarResources are small. They are set where the job container sets its own, since what that leaves open a LimitRange may
// fill in, for both. A limit is no more times the request than there, because a LimitRange may bound that. Where all other
// containers make the pod one of the quality of service Guaranteed, so the requests are the limits, and it stays one. The
// processor is limited only where the job container's is, as a quota may want it: a limit has a busy agent wait, for up to a
// tenth of a second at a time, while processors are idle.
func sidecarResources(spec *corev1.PodSpec, job *corev1.Container, memory int64) corev1.ResourceRequirements {
	if spec.Resources != nil {
		return corev1.ResourceRequirements{}
	}
	cpu := resource.MustParse("500m")
	if guaranteed(spec) {
		cpu = resource.MustParse("200m") // all of it is kept for the agent
	}
	if limit, ok := job.Resources.Limits[corev1.ResourceCPU]; ok && limit.Cmp(cpu) < 0 {
		cpu = limit
	}
	r := corev1.ResourceRequirements{Requests: corev1.ResourceList{}, Limits: corev1.ResourceList{}}
	beside(job, corev1.ResourceCPU, r, resource.MustParse("10m"), cpu)
	beside(job, corev1.ResourceMemory, r, resource.MustParse("32Mi"), *resource.NewQuantity(memory, resource.BinarySI))
	return r
}

// beside sets a request and a limit if the job container has them. The request is raised if the limit would be more times as
// much than there.
func beside(job *corev1.Container, name corev1.ResourceName, r corev1.ResourceRequirements, request, limit resource.Quantity) {
	its, requested := RequestOf(job, name)
	if !requested {
		return
	}
	r.Requests[name] = request
	most, limited := job.Resources.Limits[name]
	if !limited {
		return
	}
	r.Limits[name] = limit.DeepCopy()
	if share := its.AsApproximateFloat64() / most.AsApproximateFloat64(); share < 1 {
		least := limit.DeepCopy()
		if name == corev1.ResourceCPU {
			least.SetMilli(int64(math.Ceil(float64(limit.MilliValue()) * share)))
		} else {
			least.Set(int64(math.Ceil(float64(limit.Value()) * share)))
		}
		if request.Cmp(least) < 0 {
			r.Requests[name] = least
		}
	}
	if its.Cmp(most) >= 0 || request.Cmp(limit) > 0 {
		r.Requests[name] = limit.DeepCopy()
	}
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
