package engine

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// strictMeter fails the test of an engine that does not keep to what Meter says.
type strictMeter struct {
	t    *testing.T
	open map[types.NamespacedName]bool
}

type strictPoolMeter struct {
	of   *strictMeter
	pool types.NamespacedName
	// closed: nothing may come any more.
	closed bool
}

func newStrictMeter(t *testing.T) *strictMeter {
	return &strictMeter{t: t, open: map[types.NamespacedName]bool{}}
}

func (m *strictMeter) Open(pool types.NamespacedName) PoolMeter {
	if m.open[pool] {
		m.t.Errorf("%s is opened before another of its name is closed", pool)
	}
	m.open[pool] = true
	return &strictPoolMeter{of: m, pool: pool}
}

func (m *strictPoolMeter) check(d time.Duration) {
	m.of.t.Helper()
	if d < 0 || m.closed {
		m.of.t.Errorf("%s is told of %v (closed: %t)", m.pool, d, m.closed)
	}
}

func (m *strictPoolMeter) Sent(waited time.Duration)       { m.check(waited) }
func (m *strictPoolMeter) Started(after time.Duration)     { m.check(after) }
func (m *strictPoolMeter) Ended(_ Fate, ran time.Duration) { m.check(ran) }

func (m *strictPoolMeter) Close() {
	m.check(0)
	m.closed = true
	delete(m.of.open, m.pool)
}

// A closed pool may still run something when another takes its name. What becomes of that is its own.
func TestAReplacedPoolIsMeasuredToItsEndAndNoLonger(t *testing.T) {
	w, _ := lone(t)
	w.runJob()
	w.pool().Close()
	w.config.UID = "another"
	w.engine.SetPool(w.config) // the meter of the first is told of the lost worker, and closed
}
