package engine

import (
	"fmt"
	"time"

	"github.com/workerpool-dev/workerpool/pkg/worker/resource"
)

// deathNews is how long the pod's status may take to tell why a worker's agent has died.
const deathNews = 5 * time.Second

// Death is the last end of the container that a worker's agent runs in.
type Death struct {
	// At is when it ended, to the second; zero if it has not.
	At time.Time
	// OutOfMemory: the kernel has ended it.
	OutOfMemory bool
}

// orphan keeps a task that was running when its worker's agent died, until it is known why. What it runs
// on has ended, so nothing of it is left.
func (w *podWorker) orphan(t *task) {
	t.attempt.orphaned = true
	w.orphanedAt = w.pool.engine.now
}

// bury ends the orphaned tasks once the pod's status tells of the agent's death, or does not for too long.
// Of a worker that ran out of memory the task furthest over its share is to blame, and no other.
func (w *podWorker) bury() {
	var orphans []*task
	told := false
	for _, t := range w.sorted() {
		if t.attempt.orphaned {
			orphans = append(orphans, t)
			// The status has no fractions of a second.
			told = told || w.death.At.Add(time.Second).After(t.attempt.started)
		}
	}
	if len(orphans) == 0 || !told && w.pool.engine.now.Sub(w.orphanedAt) < deathNews {
		return
	}
	var guilty *task
	if told && w.death.OutOfMemory {
		guilty = furthestOver(orphans)
	}
	for _, t := range orphans {
		if t == guilty {
			t.runOutOfMemory()
			continue
		}
		t.lose(guilty != nil)
	}
}

// furthestOver is the task that was seen with the most memory above its share; nil if none was seen, unless
// there is but one.
func furthestOver(tasks []*task) *task {
	if len(tasks) == 1 {
		return tasks[0]
	}
	var furthest *task
	over := func(t *task) int64 { return t.attempt.memory - t.attempt.usage.Memory }
	for _, t := range tasks {
		if t.attempt.memory > 0 && (furthest == nil || over(t) > over(furthest)) {
			furthest = t
		}
	}
	return furthest
}

// runOutOfMemory ends an attempt that has taken its worker down.
func (t *task) runOutOfMemory() {
	a := t.attempt
	message := "The worker ran out of memory and was ended by the kernel."
	if a.memory > 0 {
		message += fmt.Sprintf(" The command was last seen with %s; its share is %s.",
			quantity(resource.Memory, a.memory), quantity(resource.Memory, a.usage.Memory))
	}
	t.settle(Result{Token: a.token, Outcome: OOMKilled, Message: message, MaxMemoryBytes: a.memory})
}
