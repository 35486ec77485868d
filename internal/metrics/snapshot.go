package metrics

import (
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/internal/engine"
)

// What is read from a pool's snapshot.
var (
	queueJobs = describe("queue_jobs",
		"Jobs in the queue.")
	queueCapacity = describe("queue_capacity_jobs",
		"Jobs that the queue holds at the most: spec.queue.capacity.")
	waitingJobs = describe("waiting_jobs",
		"Jobs that wait beyond the capacity of the queue.")
	runningJobs = describe("running_jobs",
		"Jobs that run, with those that have ended and whose end is not stored yet.")
	workers = describe("workers",
		"Worker pods. Disconnected ones have no session with the operator, as while they start. "+
			"Of the others, draining ones take nothing new, and busy ones run a Job or have a result that is not stored yet.", labelState)
	jobsTotal = describe("jobs_total",
		"Jobs that have finished, since the pool was made. It goes on from the pool's status when another replica takes the lead.", labelResult)
	resourcesUsed = describe("resources_used",
		"What the running tasks take: cores and bytes of memory of the connected workers, and open files of the pool.", labelResource)
	resourcesCapacity = describe("resources_capacity",
		"What there is for tasks: cores and bytes of memory of the connected workers, and open files of the pool. Absent where it is not limited.", labelResource)
	limit = describe("limit",
		"The pool's spec.limits: cores, bytes and open files. Absent where there is none.", labelResource)
	limitUsed = describe("limit_used",
		"What counts against the limit: the requests of the worker pods, and the open files of the running tasks. Absent where there is no limit.", labelResource)
)

// read are all of them.
var read = []*prometheus.Desc{
	queueJobs, queueCapacity, waitingJobs, runningJobs, workers, jobsTotal, resourcesUsed, resourcesCapacity, limit, limitUsed,
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("workerpool_"+name, help, append([]string{labelNamespace, labelPool}, labels...), nil)
}

// view is the way of one pool's metrics out.
type view struct {
	ch  chan<- prometheus.Metric
	key types.NamespacedName
}

func (v view) send(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
	v.ch <- prometheus.MustNewConstMetric(d, kind, value, append([]string{v.key.Namespace, v.key.Name}, labels...)...)
}

func (v view) gauge(d *prometheus.Desc, value float64, labels ...string) {
	v.send(d, prometheus.GaugeValue, value, labels...)
}

func (v view) show(s *engine.PoolSnapshot) {
	v.gauge(queueJobs, float64(s.Queued))
	v.gauge(queueCapacity, float64(s.QueueCapacity))
	v.gauge(waitingJobs, float64(s.Waiting))
	v.gauge(runningJobs, float64(s.Active))
	failed := min(s.Failed, s.Processed) // whatever the status said
	v.send(jobsTotal, prometheus.CounterValue, float64(s.Processed-failed), results[engine.TaskSucceeded])
	v.send(jobsTotal, prometheus.CounterValue, float64(failed), results[engine.TaskFailed])
	v.showWorkers(s)
	v.showResources(s)
}

func (v view) showWorkers(s *engine.PoolSnapshot) {
	n := map[string]int{"idle": 0, "busy": 0, "draining": 0, "disconnected": 0}
	for _, pod := range s.Pods {
		n[stateOf(pod)]++
	}
	for state, pods := range n {
		v.gauge(workers, float64(pods), state)
	}
}

func stateOf(pod engine.PodSnapshot) string {
	switch {
	case !pod.Connected:
		return "disconnected"
	case pod.Draining:
		return "draining"
	case pod.Busy:
		return "busy"
	}
	return "idle"
}

func (v view) showResources(s *engine.PoolSnapshot) {
	for _, r := range []struct {
		name                                    string
		used, capacity, limit, countedAgainstIt float64
	}{
		{"cpu", s.Used.CPU, s.Capacity.CPU, s.Limits.CPU, s.Requested.CPU},
		{"memory", float64(s.Used.Memory), float64(s.Capacity.Memory), float64(s.Limits.Memory), float64(s.Requested.Memory)},
		{"files", float64(s.Used.Files), float64(s.Capacity.Files), float64(s.Limits.Files), float64(s.Used.Files)},
	} {
		v.gauge(resourcesUsed, r.used, r.name)
		if r.capacity > 0 {
			v.gauge(resourcesCapacity, r.capacity, r.name)
		}
		if r.limit > 0 {
			v.gauge(limit, r.limit, r.name)
			v.gauge(limitUsed, r.countedAgainstIt, r.name)
		}
	}
}
