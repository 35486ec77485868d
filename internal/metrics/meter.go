package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/internal/engine"
)

// poolMeter has the metrics of one pool that events change, so that none is looked up for an event.
type poolMeter struct {
	collector           *collector
	key                 types.NamespacedName
	wait, run, dispatch prometheus.Observer
	tasks               [len(results)]prometheus.Counter
}

// Sent is engine.PoolMeter's.
func (m *poolMeter) Sent(waited time.Duration) { m.wait.Observe(waited.Seconds()) }

// Started is engine.PoolMeter's.
func (m *poolMeter) Started(after time.Duration) { m.dispatch.Observe(after.Seconds()) }

// Ended is engine.PoolMeter's.
func (m *poolMeter) Ended(fate engine.Fate, ran time.Duration) {
	m.tasks[fate].Inc()
	if ran > 0 {
		m.run.Observe(ran.Seconds())
	}
}

// Close is engine.PoolMeter's.
func (m *poolMeter) Close() {
	for _, h := range []*prometheus.HistogramVec{m.collector.wait, m.collector.run, m.collector.dispatch} {
		h.DeleteLabelValues(m.key.Namespace, m.key.Name)
	}
	for _, result := range results {
		m.collector.tasks.DeleteLabelValues(m.key.Namespace, m.key.Name, result)
	}
}
