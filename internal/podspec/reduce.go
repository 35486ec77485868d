package podspec

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
	helper "k8s.io/component-helpers/resource"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// A template or a pod may have a megabyte, thousands of containers among it. What is kept of them in memory has a bounded
// size, and asks for the same resources.

// hashAnnotation is on a pool whose template was reduced, and has the hash of the whole one. It is never stored, and what a
// user has stored there is removed where pools are read.
const hashAnnotation = "internal.workerpool.dev/template-hash"

// Reduce drops what of a pool's template only making a worker needs. The hash stays what it was, and what a worker
// requests. A pool that is reduced already is left as it is.
func Reduce(pool *v1alpha1.WorkerPool) {
	if IsReduced(pool) {
		return
	}
	hash, requests := Hash(pool), Requests(Pod(pool, 0, Agent{}))
	reduced := corev1.PodSpec{Resources: &corev1.ResourceRequirements{Requests: requests}}
	template := &pool.Spec.Template.Spec
	if i := max(0, jobContainerIndex(template, pool.Spec.Container)); i < len(template.Containers) {
		reduced.Containers = []corev1.Container{reduceContainer(&template.Containers[i])}
	}
	pool.Spec.Template = corev1.PodTemplateSpec{Spec: reduced}
	if pool.Annotations == nil {
		pool.Annotations = map[string]string{}
	}
	pool.Annotations[hashAnnotation] = hash
}

// IsReduced tells whether a pool has gone through Reduce. No worker can be made from one.
func IsReduced(pool *v1alpha1.WorkerPool) bool { return pool.Annotations[hashAnnotation] != "" }

// ReducePod returns what the functions of this package need of a worker pod's spec. They answer the same of it.
func ReducePod(pod *corev1.Pod) corev1.PodSpec {
	reduced := corev1.PodSpec{Resources: &corev1.ResourceRequirements{Requests: Requests(pod)}}
	job, slots := JobContainer(pod), slotsFlag+strconv.Itoa(Slots(pod))
	if job != nil {
		reduced.Containers = []corev1.Container{reduceContainer(job)}
	}
	if agent := sidecarOf(pod); agent != nil {
		sidecar := corev1.Container{Name: AgentContainer, RestartPolicy: agent.RestartPolicy, Args: []string{slots}}
		if job != nil {
			sidecar.Env = []corev1.EnvVar{{Name: envContainer, Value: job.Name}}
		}
		reduced.InitContainers = []corev1.Container{sidecar}
	} else if job != nil {
		reduced.Containers[0].Command, reduced.Containers[0].Args = []string{agentPath}, []string{slots}
	}
	return reduced
}

// Requests of a pod as the scheduler counts them: of processor and memory.
func Requests(pod *corev1.Pod) corev1.ResourceList {
	all := helper.PodRequests(pod, helper.PodResourcesOptions{})
	return corev1.ResourceList{corev1.ResourceCPU: all.Cpu().DeepCopy(), corev1.ResourceMemory: all.Memory().DeepCopy()}
}

func reduceContainer(c *corev1.Container) corev1.Container {
	return corev1.Container{Name: c.Name, Resources: corev1.ResourceRequirements{
		Requests: processorAndMemory(c.Resources.Requests), Limits: processorAndMemory(c.Resources.Limits),
	}}
}

func processorAndMemory(all corev1.ResourceList) corev1.ResourceList {
	var kept corev1.ResourceList
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		if q, ok := all[name]; ok {
			if kept == nil {
				kept = corev1.ResourceList{}
			}
			kept[name] = q.DeepCopy()
		}
	}
	return kept
}
