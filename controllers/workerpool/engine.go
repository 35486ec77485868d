package workerpool

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
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

func (p inMemoryPool) Gone(pod types.UID) {
	if w, ok := p.Worker(pod); ok {
		w.Gone()
	}
}

// tellEngine says what the pool and its pods are like, and takes back what they do.
func (r *Reconciler) tellEngine(s *scope) {
	r.engine.SetPool(s.config())
	r.tellWorkers(s)
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

// config is what the engine is told of the pool. Of one whose spec can't be read that is what it was told last; an
// operator that has never read it takes in its workers and Jobs, and starts none.
func (s *scope) config() engine.PoolConfig {
	if s.unreadable() && s.memory.config != nil {
		return *s.memory.config
	}
	config := configOf(s.key, s.pool)
	if s.unreadable() {
		config.Suspend = true
		return config
	}
	if s.pool.Spec.Limits != nil {
		config.Limits, config.Requested = s.limits(), s.requested()
	}
	s.memory.config = &config
	return config
}

// tellWorkers says which pods there are, and which are gone for sure.
func (r *Reconciler) tellWorkers(s *scope) {
	r.engine.SetWorkers(s.key, s.workerPods())
	p, ok := r.engine.Pool(s.key)
	for _, uid := range s.gone {
		if ok {
			p.Gone(uid) // it may have come and gone between two lists
		}
	}
}

func configOf(key types.NamespacedName, pool *v1alpha1.WorkerPool) engine.PoolConfig {
	spec := &pool.Spec
	config := engine.PoolConfig{
		Key:       key,
		UID:       pool.UID,
		Capacity:  int(max(1, spec.Queue.Capacity)),
		Aging:     time.Duration(ptr.Deref(spec.Queue.AgingSeconds, defaultAging)) * time.Second,
		Handler:   spec.Handler.Type,
		Slots:     int(max(1, spec.Slots)),
		Suspend:   ptr.Deref(spec.Suspend, false),
		LostAfter: time.Duration(ptr.Deref(spec.WorkerLostTimeoutSeconds, defaultLostAfter)) * time.Second,
		Processed: counter(pool.Status.ProcessedJobs),
		Failed:    counter(pool.Status.FailedJobs),
	}
	if recycle := spec.Recycle; recycle != nil {
		config.MaxAttempts = int(ptr.Deref(recycle.MaxJobs, 0))
		config.SpentOnFailure = ptr.Deref(recycle.OnFailure, false)
		config.Reset = resetOf(recycle)
	}
	if defaults := spec.JobDefaults; defaults != nil {
		config.Defaults = *defaults
	}
	config.Resources = resourcesOf(podspec.Pod(pool, 0, podspec.Agent{}))
	return config
}

// resetOf is nil where workers are not reset.
func resetOf(recycle *v1alpha1.RecycleSpec) *engine.ResetCommand {
	if len(recycle.ResetCommand) == 0 {
		return nil
	}
	timeout := ptr.Deref(recycle.ResetTimeoutSeconds, defaultResetTimeout)
	return &engine.ResetCommand{Argv: recycle.ResetCommand, Timeout: time.Duration(timeout) * time.Second}
}

// Defaults of the schema, for pools that were stored without; and that of resetTimeoutSeconds, which the schema
// can't have without giving it to pools that have no resetCommand.
const (
	defaultAging        = 300
	defaultLostAfter    = 60
	defaultResetTimeout = 60
)

// workerPods are the pool's pods as the engine wants to know them.
func (s *scope) workerPods() []engine.WorkerPod {
	pods := make([]engine.WorkerPod, 0, len(s.pods))
	for _, pod := range s.pods {
		pods = append(pods, engine.WorkerPod{
			UID:         pod.UID,
			Name:        pod.Name,
			Ordinal:     ordinalOf(s.pool, pod),
			Started:     podspec.Started(pod),
			Terminating: s.terminating(pod) || s.stray(pod),
			Terminated:  terminated(pod),
			Death:       deathOf(pod),
			Handler:     podspec.Handler(pod),
			Slots:       podspec.Slots(pod),
			Resources:   resourcesOf(pod),
		})
	}
	return pods
}

func (r *Reconciler) closePool(key types.NamespacedName) {
	if p, ok := r.engine.Pool(key); ok {
		p.Close()
	}
}

func counter(n *int64) uint64 { return uint64(max(0, ptr.Deref(n, 0))) }

// deathOf is the last end of the job container, whose memory the jobs take.
func deathOf(pod *corev1.Pod) engine.Death {
	c := podspec.JobContainer(pod)
	if c == nil {
		return engine.Death{}
	}
	for i := range pod.Status.ContainerStatuses {
		s := &pod.Status.ContainerStatuses[i]
		if last := s.LastTerminationState.Terminated; s.Name == c.Name && last != nil {
			return engine.Death{At: last.FinishedAt.Time, OutOfMemory: last.Reason == "OOMKilled"}
		}
	}
	return engine.Death{}
}

// resourcesOf is what the jobs of a pod may take together. What the job container does not request is not
// limited.
func resourcesOf(pod *corev1.Pod) worker.ResourceLimits {
	var limits worker.ResourceLimits
	c := podspec.JobContainer(pod)
	if c == nil {
		return limits
	}
	if cpu, ok := podspec.RequestOf(c, corev1.ResourceCPU); ok {
		limits.CPU = float64(cpu.MilliValue()) / 1000
	}
	if memory, ok := podspec.RequestOf(c, corev1.ResourceMemory); ok {
		limits.Memory = memory.Value()
		if podspec.Handler(pod) == v1alpha1.HandlerExec { // else the agent has a container of its own
			// Less than the agent needs is almost nothing, and not unlimited.
			limits.Memory = max(1, limits.Memory-agentMemory)
		}
	}
	return limits
}
