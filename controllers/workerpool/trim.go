package workerpool

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/podspec"
	"github.com/workerpool-dev/workerpool/internal/tolerant"
)

// Whoever may edit a namespace may fill it with pools and pods of a megabyte each, and the caches of all replicas have all
// of them. So they keep only what the operator reads. What is cached is no object to write back: writes are patches of
// single fields, and lists that a patch replaces are read from the API server first.

const (
	// textLimit is how much is kept of a text that only people read: more would not be shown.
	textLimit = messageLimit
	// nameLimit is longer than what names an installation.
	nameLimit = 64
	// ownerLimit is longer than all texts of a reference to a WorkerPool.
	ownerLimit = 512
)

// Cached are the options of a cache of WorkerPools, and of the pods with the label of one.
func Cached() map[client.Object]cache.ByObject {
	labelled, err := labels.NewRequirement(v1alpha1.LabelPool, selection.Exists, nil)
	if err != nil {
		panic(fmt.Sprintf("select by the label of a pool: %v", err))
	}
	return map[client.Object]cache.ByObject{
		&corev1.Pod{}:          {Label: labels.NewSelector().Add(*labelled), Transform: TrimPod},
		&v1alpha1.WorkerPool{}: {Transform: TrimPool},
	}
}

// TrimPool is the TransformFunc of the cache of WorkerPools. It may be repeated.
func TrimPool(object any) (any, error) {
	pool, ok := object.(*v1alpha1.WorkerPool)
	if !ok {
		return object, nil
	}
	podspec.Reduce(pool)
	annotations := tolerant.InMemory(pool)
	if installation, ok := pool.Annotations[v1alpha1.Installation]; ok {
		annotations[v1alpha1.Installation] = first(installation, nameLimit)
	}
	finalizers := slices.Contains(pool.Finalizers, v1alpha1.Finalizer)
	pool.ObjectMeta = trimMeta(&pool.ObjectMeta)
	pool.Annotations = annotations
	if finalizers {
		pool.Finalizers = []string{v1alpha1.Finalizer}
	}
	return pool, nil
}

// TrimPod is the TransformFunc of the cache of pods. It may be repeated.
func TrimPod(object any) (any, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return object, nil
	}
	meta := trimMeta(&pod.ObjectMeta)
	meta.Labels = only(pod.Labels, v1alpha1.LabelPool, v1alpha1.LabelTemplateHash, v1alpha1.Installation)
	if podspec.KeepsProofs(pod) {
		meta.Annotations = podspec.ProofsKept()
	}
	if owner := metav1.GetControllerOfNoCopy(pod); owner != nil && len(owner.APIVersion+owner.Kind+owner.Name+string(owner.UID)) < ownerLimit {
		meta.OwnerReferences = []metav1.OwnerReference{*owner}
	}
	status := trimStatus(pod)
	*pod = corev1.Pod{ObjectMeta: meta, Spec: podspec.ReducePod(pod), Status: status}
	return pod, nil
}

func trimMeta(m *metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: m.Namespace, Name: m.Name, UID: m.UID, ResourceVersion: m.ResourceVersion, Generation: m.Generation,
		CreationTimestamp: m.CreationTimestamp, DeletionTimestamp: m.DeletionTimestamp,
	}
}

func only(all map[string]string, keys ...string) map[string]string {
	kept := make(map[string]string, len(keys))
	for _, key := range keys {
		if value, ok := all[key]; ok {
			kept[key] = value
		}
	}
	return kept
}

// trimStatus is what is read of a pod's status: of the containers that is the job's, the agent's, and the first that is stuck.
func trimStatus(pod *corev1.Pod) corev1.PodStatus {
	status := corev1.PodStatus{Phase: pod.Status.Phase}
	for _, kind := range []corev1.PodConditionType{corev1.PodReady, corev1.PodScheduled} {
		if c := conditionOf(pod, kind); c.Type != "" {
			status.Conditions = append(status.Conditions, corev1.PodCondition{
				Type: c.Type, Status: c.Status, Reason: first(c.Reason, textLimit), Message: first(c.Message, textLimit),
			})
		}
	}
	job, stuckBefore := podspec.JobContainer(pod), false
	trim := func(all []corev1.ContainerStatus, agents bool) []corev1.ContainerStatus {
		var kept []corev1.ContainerStatus
		for i := range all {
			s := &all[i]
			named := job != nil && s.Name == job.Name || agents && s.Name == podspec.AgentContainer
			if !named && (stuckBefore || !stuck(s)) {
				continue
			}
			stuckBefore = stuckBefore || stuck(s)
			kept = append(kept, corev1.ContainerStatus{
				Name: s.Name, RestartCount: s.RestartCount, ContainerID: first(s.ContainerID, textLimit),
				State: trimState(&s.State), LastTerminationState: trimState(&s.LastTerminationState),
			})
		}
		return kept
	}
	status.InitContainerStatuses = trim(pod.Status.InitContainerStatuses, true)
	status.ContainerStatuses = trim(pod.Status.ContainerStatuses, false)
	return status
}

func trimState(s *corev1.ContainerState) corev1.ContainerState {
	var kept corev1.ContainerState
	if s.Waiting != nil {
		kept.Waiting = &corev1.ContainerStateWaiting{Reason: first(s.Waiting.Reason, textLimit), Message: first(s.Waiting.Message, textLimit)}
	}
	if s.Running != nil {
		kept.Running = &corev1.ContainerStateRunning{}
	}
	if t := s.Terminated; t != nil {
		kept.Terminated = &corev1.ContainerStateTerminated{
			ExitCode: t.ExitCode, Reason: first(t.Reason, textLimit), Message: first(t.Message, textLimit), FinishedAt: t.FinishedAt,
		}
	}
	return kept
}

// first is the beginning of a text, in memory of its own.
func first(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	return strings.Clone(strings.ToValidUTF8(text[:limit], ""))
}
