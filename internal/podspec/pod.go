package podspec

import (
	"maps"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// Agent is what the agent in a worker pod needs from the operator that makes the pod.
type Agent struct {
	// Installation of the operator: its namespace.
	Installation string
	// Image that the agent is copied from.
	Image string
	// Addresses of the operator, host:port each.
	Addresses []string
	// CA has the certificates, in PEM, that the operator's may be signed by.
	CA string
}

const (
	// reservedPrefix is that of the labels and annotations which only the operator sets.
	reservedPrefix = "workerpool.dev/"

	// annotationProofs says that the pod's agent keeps the proofs of its attempts. An agent says no such thing itself:
	// one that lies would be believed without a proof.
	annotationProofs = reservedPrefix + "keeps-proofs"

	// annotationLocalVolumes lists the emptyDirs, by name and separated by commas, that the cluster
	// autoscaler may throw away when it removes a node. Without it one emptyDir holds the node.
	annotationLocalVolumes = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"

	// minGraceSeconds is the shortest grace period of a worker. With 0 each deletion of the pod would be a forced one: it
	// would be gone from the API while its processes may run on, and what they do would be begun again elsewhere.
	minGraceSeconds = 1

	// defaultDrainSeconds is the default of the API, for pools that were read without it.
	defaultDrainSeconds = 300
)

// Name of the worker pod with this ordinal: at most 63 characters for ordinals below ten billion,
// because a pool's name has at most 52.
func Name(pool string, ordinal int) string { return pool + "-" + strconv.Itoa(ordinal) }

// Ordinal of the pool's worker pod of this name; false if no worker of the pool is called so.
func Ordinal(pool, name string) (int, bool) {
	digits, ok := strings.CutPrefix(name, pool+"-")
	if !ok {
		return 0, false
	}
	ordinal, err := strconv.Atoi(digits)
	return ordinal, err == nil && Name(pool, ordinal) == name && ordinal >= 0
}

// Labels that select the worker pods of a pool in its namespace.
func Labels(pool string) map[string]string { return map[string]string{v1alpha1.LabelPool: pool} }

// Pod is the worker pod of a pool with this ordinal: the pool's template with the agent put in. It
// shares nothing with the pool. It passes the restricted Pod Security Standard if the template does. Of a pool that is
// reduced it only asks for the same resources.
func Pod(pool *v1alpha1.WorkerPool, ordinal int, agent Agent) *corev1.Pod {
	template := pool.Spec.Template.DeepCopy()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name:            Name(pool.Name, ordinal),
			Namespace:       pool.Namespace,
			Labels:          labels(pool, template.Labels, ordinal, agent.Installation),
			Annotations:     annotations(template.Annotations),
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(pool, v1alpha1.GroupVersion.WithKind("WorkerPool"))},
		},
		Spec: template.Spec,
	}
	setDefaults(&pod.Spec, pool.Spec.DrainTimeoutSeconds)
	inject(pod, pool, agent)
	return pod
}

func labels(pool *v1alpha1.WorkerPool, template map[string]string, ordinal int, installation string) map[string]string {
	l := unreserved(template)
	maps.Copy(l, Labels(pool.Name))
	l[v1alpha1.LabelOrdinal] = strconv.Itoa(ordinal)
	l[v1alpha1.LabelTemplateHash] = Hash(pool)
	if installation != "" {
		l[v1alpha1.Installation] = installation
	}
	return l
}

func annotations(template map[string]string) map[string]string {
	a := unreserved(template)
	if volumes := a[annotationLocalVolumes]; volumes != "" {
		a[annotationLocalVolumes] = volumes + "," + volumeAgent
	} else {
		a[annotationLocalVolumes] = volumeAgent
	}
	a[annotationProofs] = "true"
	return a
}

// KeepsProofs tells whether a worker pod's agent keeps the proofs that it was given with its attempts. Those of the
// version before do not.
func KeepsProofs(pod *corev1.Pod) bool { return pod.Annotations[annotationProofs] == "true" }

// ProofsKept are the annotations of a pod that KeepsProofs is true of, and none besides.
func ProofsKept() map[string]string { return map[string]string{annotationProofs: "true"} }

// unreserved copies a map without the keys that only the operator sets.
func unreserved(in map[string]string) map[string]string {
	out := maps.Clone(in)
	if out == nil {
		out = map[string]string{}
	}
	maps.DeleteFunc(out, func(key, _ string) bool { return strings.HasPrefix(key, reservedPrefix) })
	return out
}

// setDefaults fills what the template leaves open where a worker's default is not a pod's.
func setDefaults(spec *corev1.PodSpec, drainSeconds *int32) {
	spec.RestartPolicy = corev1.RestartPolicyAlways
	if spec.AutomountServiceAccountToken == nil {
		spec.AutomountServiceAccountToken = new(false)
	}
	if spec.TerminationGracePeriodSeconds == nil {
		spec.TerminationGracePeriodSeconds = new(int64(ptr.Deref(drainSeconds, defaultDrainSeconds)))
	}
	spec.TerminationGracePeriodSeconds = new(max(*spec.TerminationGracePeriodSeconds, minGraceSeconds))
}
