// Package metrics shows Prometheus what the pools of an engine do.
package metrics

import (
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/internal/engine"
)

// Labels of all metrics. The others are enums, so that the number of pools bounds that of the series.
const (
	labelNamespace = "namespace"
	labelPool      = "pool"
	labelState     = "state"
	labelResult    = "result"
	labelResource  = "resource"
)

// Buckets in seconds, up to ten hours and to one minute.
var (
	longBuckets  = []float64{.001, .005, .025, .1, .5, 2.5, 10, 60, 300, 1800, 7200, 36000}
	shortBuckets = []float64{.001, .002, .005, .01, .025, .05, .1, .25, 1, 5, 60}
)

// results are the fates of tasks as label values.
var results = [...]string{
	engine.TaskSucceeded:   "succeeded",
	engine.TaskRetried:     "retried",
	engine.TaskFailed:      "failed",
	engine.TaskInterrupted: "interrupted",
	engine.TaskLost:        "lost",
	engine.TaskRefused:     "refused",
	engine.TaskCancelled:   "cancelled",
}

// collector has the metrics of all pools. What a snapshot tells is read when it is asked for; what happened
// between two of them is told to it as the engine's Meter. Both are gone with their pool.
type collector struct {
	engine              *engine.Engine
	tasks               *prometheus.CounterVec
	wait, run, dispatch *prometheus.HistogramVec
}

var (
	_ prometheus.Collector = (*collector)(nil)
	_ engine.Meter         = (*collector)(nil)
)

// Register makes the metrics of an engine's pools known. It is called once for an engine, before its Begin.
func Register(registry prometheus.Registerer, eng *engine.Engine) error {
	c := newCollector(eng)
	eng.Measure(c)
	return registry.Register(c)
}

func newCollector(eng *engine.Engine) *collector {
	return &collector{
		engine: eng,
		tasks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "workerpool_tasks_total",
			Help: "Attempts of tasks that have ended, by what came of them, as seen by this leader. An onFailure counts as a task.",
		}, []string{labelNamespace, labelPool, labelResult}),
		wait: histogram("workerpool_job_wait_seconds", longBuckets,
			"Time from when a task could be started, as its Job was taken into the queue or the task was due again, until it was sent to a worker."),
		run: histogram("workerpool_task_run_seconds", longBuckets,
			"Time from the start of an attempt to its end, by the clock of its worker."),
		dispatch: histogram("workerpool_dispatch_seconds", shortBuckets,
			"Time from sending an attempt to a worker until it was started there, as far as the operator can tell."),
	}
}

func histogram(name string, buckets []float64, help string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, []string{labelNamespace, labelPool})
}

func (c *collector) vectors() []prometheus.Collector {
	return []prometheus.Collector{c.tasks, c.wait, c.run, c.dispatch}
}

// Describe is prometheus.Collector's.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range read {
		ch <- d
	}
	for _, v := range c.vectors() {
		v.Describe(ch)
	}
}

// Collect is prometheus.Collector's.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	for key, snapshot := range c.engine.Snapshots() {
		view{ch, key}.show(&snapshot)
	}
	for _, v := range c.vectors() {
		v.Collect(ch)
	}
}

// Open is engine.Meter's.
func (c *collector) Open(key types.NamespacedName) engine.PoolMeter {
	m := &poolMeter{
		collector: c,
		key:       key,
		wait:      c.wait.WithLabelValues(key.Namespace, key.Name),
		run:       c.run.WithLabelValues(key.Namespace, key.Name),
		dispatch:  c.dispatch.WithLabelValues(key.Namespace, key.Name),
	}
	for fate, result := range results {
		m.tasks[fate] = c.tasks.WithLabelValues(key.Namespace, key.Name, result)
	}
	return m
}
