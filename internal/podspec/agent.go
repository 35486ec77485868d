package podspec

import (
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// Names of what is put into a worker pod, and where it is found there.
const (
	containerAgent = "workerpool-agent"
	volumeAgent    = "workerpool"
	volumeToken    = "workerpool-token"

	agentDir  = "/workerpool"
	agentPath = agentDir + "/agent"
	spoolDir  = agentDir + "/spool"
	tokenDir  = "/var/run/secrets/workerpool.dev"

	// Audience of the agents' tokens. The API server takes them for nothing else.
	Audience = "dispatch.workerpool.dev"

	healthPort = 9808
	// agentUser is the user of the operator's image.
	agentUser = 65532
)

// inject puts the agent into a pod. For commands an init container brings the program, and the job
// container runs it; for HTTP it runs beside the job container.
func inject(spec *corev1.PodSpec, pool *v1alpha1.WorkerPool, agent Agent) {
	// The CRD sees to it that there is one; a pod without it is refused by the API server.
	i := max(0, jobContainerIndex(spec, pool.Spec.Container))
	if len(spec.Containers) > i {
		job := &spec.Containers[i]
		var first corev1.Container
		if pool.Spec.Handler.Type == v1alpha1.HandlerHTTP {
			first = sidecar(spec, job, pool, agent)
			waitForAgent(job, pool)
		} else {
			becomeWorker(job, pool, agent)
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
func becomeWorker(c *corev1.Container, pool *v1alpha1.WorkerPool, agent Agent) {
	c.Command, c.Args = []string{agentPath, "run"}, nil
	c.Env = withEnv(c.Env, agentEnv(pool, agent))
	c.VolumeMounts = append(c.VolumeMounts, agentMounts()...)
	c.ReadinessProbe = readinessProbe()
}

func agentMounts() []corev1.VolumeMount {
	return []corev1.VolumeMount{
		{Name: volumeAgent, MountPath: agentDir},
		{Name: volumeToken, MountPath: tokenDir, ReadOnly: true},
	}
}

// readinessProbe asks the agent, which is ready from its first session, often within a second, and stays
// so; for HTTP it also looks at the job container's port. A busy node may take its time to answer: that
// must not look like a worker that has gone.
func readinessProbe() *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:     corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/readyz", Port: intstr.FromInt32(healthPort)}},
		PeriodSeconds:    1,
		TimeoutSeconds:   5,
		FailureThreshold: 3,
	}
}

func agentEnv(pool *v1alpha1.WorkerPool, agent Agent) []corev1.EnvVar {
	return []corev1.EnvVar{
		{Name: "WORKERPOOL_ADDRESSES", Value: strings.Join(agent.Addresses, ",")},
		{Name: "WORKERPOOL_CA", Value: agent.CA},
		{Name: "WORKERPOOL_TOKEN_FILE", Value: tokenDir + "/token"},
		{Name: "WORKERPOOL_SPOOL_DIR", Value: spoolDir},
		{Name: envSlots, Value: strconv.Itoa(int(max(1, pool.Spec.Slots)))},
		{Name: "WORKERPOOL_HEALTH_ADDRESS", Value: ":" + strconv.Itoa(healthPort)},
		{Name: "WORKERPOOL_POOL", Value: pool.Name},
		{Name: "WORKERPOOL_POD_NAME", ValueFrom: fieldRef("metadata.name")},
		{Name: "WORKERPOOL_POD_NAMESPACE", ValueFrom: fieldRef("metadata.namespace")},
	}
}

func fieldRef(path string) *corev1.EnvVarSource {
	return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: path}}
}

// withEnv appends ours to a container's own variables; of two of the same name ours stays.
func withEnv(own, ours []corev1.EnvVar) []corev1.EnvVar {
	own = slices.DeleteFunc(own, func(v corev1.EnvVar) bool {
		return slices.ContainsFunc(ours, func(o corev1.EnvVar) bool { return o.Name == v.Name })
	})
	return append(own, ours...)
}

// installer is the init container that copies the agent. It comes first, so that no other init
// container can hold it up or find the volume empty.
func installer(spec *corev1.PodSpec, job *corev1.Container, agent Agent) corev1.Container {
	return corev1.Container{
		Name:            containerAgent,
		Image:           agent.Image,
		ImagePullPolicy: corev1.PullIfNotPresent,
		Command:         []string{"/agent", "install", agentPath},
		Resources:       installerResources(spec, job),
		SecurityContext: agentSecurity(spec.SecurityContext),
		VolumeMounts:    []corev1.VolumeMount{{Name: volumeAgent, MountPath: agentDir}},
	}
}

// installerResources are those of the job container, because they come for free: the installer has
// ended before that starts. So it neither makes the pod larger nor changes its quality of service.
// Where the job container names none, small ones are set, unless the pod as a whole has its own.
func installerResources(spec *corev1.PodSpec, job *corev1.Container) corev1.ResourceRequirements {
	defaults := map[corev1.ResourceName][2]resource.Quantity{
		corev1.ResourceCPU:    {resource.MustParse("10m"), resource.MustParse("500m")},
		corev1.ResourceMemory: {resource.MustParse("16Mi"), resource.MustParse("64Mi")},
	}
	r := corev1.ResourceRequirements{Requests: corev1.ResourceList{}, Limits: corev1.ResourceList{}}
	for name, d := range defaults {
		request, requested := RequestOf(job, name)
		limit, limited := job.Resources.Limits[name]
		if spec.Resources != nil && !requested {
			continue
		}
		if !requested {
			request = d[0]
		}
		if !limited {
			limit = larger(d[1], request)
		}
		r.Requests[name], r.Limits[name] = request.DeepCopy(), limit.DeepCopy()
	}
	return r
}

// RequestOf is what a container requests: its limit, if it names only that.
func RequestOf(c *corev1.Container, name corev1.ResourceName) (resource.Quantity, bool) {
	if q, ok := c.Resources.Requests[name]; ok {
		return q, true
	}
	q, ok := c.Resources.Limits[name]
	return q, ok
}

func larger(a, b resource.Quantity) resource.Quantity {
	if a.Cmp(b) < 0 {
		return b
	}
	return a
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
