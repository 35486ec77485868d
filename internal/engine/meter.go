package engine

import (
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// Meter keeps statistics of what pools do. Its methods, and those of what it returns, do not block, are
// called with the engine's lock held, and must not call the engine.
type Meter interface {
	// Open begins those of a pool that is new. An earlier one of its name is closed by then.
	Open(pool types.NamespacedName) PoolMeter
}

// PoolMeter keeps those of one pool. An attempt that an earlier leader has sent is told of when it ends, and
// one that a later leader settles is told of there. Durations are not negative.
type PoolMeter interface {
	// Sent says that a task is sent to a worker, so long after this leader could have first: since it took a
	// place in the queue, or was due again.
	Sent(waited time.Duration)
	// Started says that what was sent was started, so long after.
	Started(after time.Duration)
	// Ended says what became of an attempt, and how long it ran; 0 if it did not, or nobody knows.
	Ended(fate Fate, ran time.Duration)
	// Close says that the pool is gone.
	Close()
}

// Fate is what the engine makes of the end of an attempt.
type Fate int

// Fates.
const (
	// TaskSucceeded: the task is done.
	TaskSucceeded Fate = iota
	// TaskRetried: it has failed, and is tried again.
	TaskRetried
	// TaskFailed: it has failed for good.
	TaskFailed
	// TaskInterrupted: it was cut off, because its worker was removed, or its Job suspended or failing. That does
	// not count as a try.
	TaskInterrupted
	// TaskLost: the same, because its worker was lost.
	TaskLost
	// TaskRefused: its worker did not start it.
	TaskRefused
	// TaskCancelled: its Job was deleted.
	TaskCancelled
)

// fateOf what has ended by itself, with a failure or without, and is not tried again.
func fateOf(f *failure) Fate {
	if f != nil {
		return TaskFailed
	}
	return TaskSucceeded
}

// Measure has a Meter told of all pools. It is called before Begin; without it nobody is.
func (e *Engine) Measure(m Meter) {
	e.enter()
	defer e.leave()
	e.meter = m
}

// unmeasured is the Meter of an engine that has no other.
type unmeasured struct{}

func (unmeasured) Open(types.NamespacedName) PoolMeter { return unmeasured{} }
func (unmeasured) Sent(time.Duration)                  {}
func (unmeasured) Started(time.Duration)               {}
func (unmeasured) Ended(Fate, time.Duration)           {}
func (unmeasured) Close()                              {}

// Snapshots has those of all pools, by their names. Each is taken at a moment of its own.
func (e *Engine) Snapshots() map[types.NamespacedName]PoolSnapshot {
	all := map[types.NamespacedName]PoolSnapshot{}
	for _, key := range e.poolNames() {
		if m, ok := e.Manager(key); ok {
			all[key] = m.Snapshot()
		}
	}
	return all
}

func (e *Engine) poolNames() []types.NamespacedName {
	e.enter()
	defer e.leave()
	return slices.Collect(maps.Keys(e.pools))
}

// waited is how long the task could have been started by now.
func (t *task) waited() time.Duration {
	since := t.job.queuedAt
	if t.due.After(since) {
		since = t.due
	}
	return t.job.engine().now.Sub(since)
}

// meterStart tells of the start of the attempt, if this leader has sent it.
func (t *task) meterStart() {
	if a := t.attempt; !a.sent.IsZero() {
		t.job.pool.meter.Started(max(0, a.started.Sub(a.sent)))
	}
}

// ran is how long the attempt ran; 0 if it did not, or that is not known.
func (r *Result) ran() time.Duration {
	if r.Outcome == CannotStart {
		return 0
	}
	return max(0, r.StartedAgo-r.EndedAgo)
}
