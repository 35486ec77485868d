package workerpool

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/workerpool-dev/workerpool/internal/engine"
	"github.com/workerpool-dev/workerpool/internal/podspec"
	"github.com/workerpool-dev/workerpool/pkg/worker"
)

// agentMemory is what the agent needs of the job container's memory.
const agentMemory = 32 << 20

// InMemory makes an engine the Engine of a Reconciler.
type InMemory struct{ *engine.Engine }

// Pool is Engine's.
func (m InMemory) Pool(key types.NamespacedName) (Pool, bool) {
	manager, ok := m.Manager(key)
	return inMemoryPool{manager}, ok
}

type inMemoryPool struct{ *engine.Manager }

func (p inMemoryPool) Drain(pod types.UID) {
	if w, ok := p.Worker(pod); ok {
		w.Drain()
	}
}

// tellEngine says what the pool and its pods are like, and takes back what they do.
func (r *Reconciler) tellEngine(s *scope) {
	r.engine.SetPool(engine.PoolConfig{
		Key:       s.key,
		UID:       s.pool.UID,
		Capacity:  int(max(1, s.pool.Spec.Queue.Capacity)),
		Processed: counter(s.pool.Status.ProcessedJobs),
		Failed:    counter(s.pool.Status.FailedJobs),
	})
	pods := make([]engine.WorkerPod, 0, len(s.pods))
	for _, pod := range s.pods {
		pods = append(pods, engine.WorkerPod{
			UID:         pod.UID,
			Name:        pod.Name,
			Ordinal:     ordinalOf(s.pool, pod),
			Started:     started(pod),
			Terminating: s.terminating(pod),
			Terminated:  terminated(pod),
			Slots:       podspec.Slots(pod),
			Resources:   resourcesOf(pod),
		})
	}
	r.engine.SetWorkers(s.key, pods)
	p, ok := r.engine.Pool(s.key)
	switch {
	case !ok:
		return // another reconcile has found meanwhile that the pool is gone
	case s.deleting():
		p.Close()
	default:
		_ = p.Start() // refused only where it was closed, and is to stay so
	}
	s.snapshot = p.Snapshot()
}

func (r *Reconciler) closePool(key types.NamespacedName) {
	if p, ok := r.engine.Pool(key); ok {
		p.Close()
	}
}

func counter(n *int64) uint64 { return uint64(max(0, ptr.Deref(n, 0))) }

// started tells whether the agent of a pod has run, and so may have been given jobs.
func started(pod *corev1.Pod) bool {
	c := podspec.JobContainer(pod)
	if c == nil || pod.Spec.NodeName == "" {
		return false
	}
	for _, status := range pod.Status.ContainerStatuses {
		if status.Name == c.Name {
			return status.State.Running != nil || status.State.Terminated != nil || status.LastTerminationState.Terminated != nil
		}
	}
	return false
}

// resourcesOf is what the jobs of a pod may take together. What the job container does not request is
// not limited.
func resourcesOf(pod *corev1.Pod) worker.ResourceLimits {
	var limits worker.ResourceLimits
	c := podspec.JobContainer(pod)
	if c == nil {
		return limits
	}
	if cpu, ok := c.Resources.Requests[corev1.ResourceCPU]; ok {
		limits.CPU = float64(cpu.MilliValue()) / 1000
	}
	if memory, ok := c.Resources.Requests[corev1.ResourceMemory]; ok {
		// Less than the agent needs is almost nothing, and not unlimited.
		limits.Memory = max(1, memory.Value()-agentMemory)
	}
	return limits
}
