package workerpool

import (
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"

	"github.com/workerpool-dev/workerpool/internal/podspec"
	"github.com/workerpool-dev/workerpool/pkg/worker"
	controller "github.com/workerpool-dev/workerpool/pkg/worker/resource"
)

// withinLimits leaves out the workers that would take the pool beyond its limits, and notes why.
func (s *scope) withinLimits(intents []Intent, agent podspec.Agent) []Intent {
	if s.pool.Spec.Limits == nil {
		return intents
	}
	template := podspec.Pod(s.pool, 0, agent)
	requests := controller.NewController(worker.ResourceLimits{})
	_ = requests.Acquire(s.requested()) // nothing is refused without limits
	for range s.memory.created {
		_ = requests.Acquire(requestsOf(template))
	}
	limits := s.limits()
	requests.SetLimits(limits)
	var within []Intent
	for _, intent := range intents {
		if intent.Action != Create || s.limited == "" && s.acquire(requests, requestsOf(template), limits) {
			within = append(within, intent)
		}
	}
	return within
}

// acquire is false if a worker's requests go beyond the limits; then the scope says why.
func (s *scope) acquire(requests *controller.Controller, usage worker.ResourceUsage, limits worker.ResourceLimits) bool {
	err := requests.Acquire(usage)
	if err == nil {
		return true
	}
	used := requests.Status().Used
	what, want, limit := "cpu", amountOfCPU(used.CPU+usage.CPU), amountOfCPU(limits.CPU)
	if limits.Memory > 0 && used.Memory+usage.Memory > limits.Memory {
		what, want, limit = "memory", amountOfMemory(used.Memory+usage.Memory), amountOfMemory(limits.Memory)
	}
	s.limited = fmt.Sprintf("With another worker the pool's pods would request %s of %s together, and spec.limits.%s is %s. "+
		"Raise the limit, or lower the requests of the template, or the number of workers.", want, what, what, limit)
	if errors.Is(err, worker.ErrTooLarge) {
		s.limited = fmt.Sprintf("A worker requests %s of %s, and spec.limits.%s is %s. Raise the limit, or lower the requests of the template.",
			amountOf(what, usage), what, what, limit)
	}
	return false
}

func (s *scope) limits() worker.ResourceLimits {
	var limits worker.ResourceLimits
	if cpu := s.pool.Spec.Limits.CPU; cpu != nil {
		limits.CPU = float64(cpu.MilliValue()) / 1000
	}
	if memory := s.pool.Spec.Limits.Memory; memory != nil {
		limits.Memory = memory.Value()
	}
	limits.Files = int(ptr.Deref(s.pool.Spec.Limits.Files, 0))
	return limits
}

// requested is what the pool's pods request together. A pod counts until it has ended, those that are being
// removed too.
func (s *scope) requested() worker.ResourceUsage {
	all := controller.NewController(worker.ResourceLimits{})
	for _, pod := range s.pods {
		if !terminated(pod) {
			_ = all.Acquire(requestsOf(pod)) // nothing is refused without limits
		}
	}
	return all.Status().Used
}

// requestsOf a pod, as the scheduler counts them.
func requestsOf(pod *corev1.Pod) worker.ResourceUsage {
	requests := podspec.Requests(pod)
	return worker.ResourceUsage{CPU: float64(requests.Cpu().MilliValue()) / 1000, Memory: requests.Memory().Value()}
}

func amountOf(what string, usage worker.ResourceUsage) *resource.Quantity {
	if what == "memory" {
		return amountOfMemory(usage.Memory)
	}
	return amountOfCPU(usage.CPU)
}

func amountOfCPU(cores float64) *resource.Quantity {
	return resource.NewMilliQuantity(int64(cores*1000+0.5), resource.DecimalSI)
}

func amountOfMemory(bytes int64) *resource.Quantity {
	return resource.NewQuantity(bytes, resource.BinarySI)
}
