package engine

import (
	"container/heap"
	"time"
)

// timer is a job's place among those that wait for a time.
type timer struct {
	job *job
	at  time.Time
	// index in the heap, of a timer that is set.
	index int
}

// timers are the jobs that wait for a time, in its order. They are a heap.Interface.
type timers []*timer

func (h timers) Len() int           { return len(h) }
func (h timers) Less(i, k int) bool { return h[i].at.Before(h[k].at) }

func (h timers) Swap(i, k int) {
	h[i], h[k] = h[k], h[i]
	h[i].index, h[k].index = i, k
}

// Push is heap.Interface's.
func (h *timers) Push(x any) {
	t := x.(*timer)
	t.index = len(*h)
	*h = append(*h, t)
}

// Pop is heap.Interface's.
func (h *timers) Pop() any {
	last := len(*h) - 1
	t := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return t
}

// set has the job woken at a time; the zero time is never.
func (t *timer) set(e *Engine, at time.Time) {
	switch {
	case at.Equal(t.at):
	case at.IsZero():
		t.stop(e)
	case t.at.IsZero():
		t.at = at
		heap.Push(&e.timers, t)
	default:
		t.at = at
		heap.Fix(&e.timers, t.index)
	}
}

func (t *timer) stop(e *Engine) {
	if !t.at.IsZero() {
		heap.Remove(&e.timers, t.index)
		t.at = time.Time{}
	}
}

// arm sets the job's timer to the next time that something is to be done.
func (j *job) arm() {
	var next time.Time
	add := func(at time.Time) {
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	if j.failing == nil {
		add(j.deadline)
	}
	if j.place == parked {
		add(j.startAfter)
	}
	if len(j.retrying) > 0 && !j.retrying[0].unstored && !j.suspend {
		add(j.retrying[0].retryAt)
	}
	add(j.flush)
	j.timer.job = j
	j.timer.set(j.engine(), next)
}

// wake does what it is time for.
func (j *job) wake() {
	now := j.engine().now
	if !j.deadline.IsZero() && !j.deadline.After(now) && j.failing == nil {
		j.exceedDeadline()
	}
	if !j.startAfter.IsZero() && !j.startAfter.After(now) {
		j.startAfter = time.Time{}
		j.engine().out.Look(j.object.JobRef)
	}
	j.wakeRetries()
	if !j.flush.IsZero() && !j.flush.After(now) {
		j.writeNow()
	}
	j.proceed()
}

// wakeJobs wakes the jobs whose time has come, each once.
func (e *Engine) wakeJobs() {
	var due []*job
	for len(e.timers) > 0 && !e.timers[0].at.After(e.now) {
		t := heap.Pop(&e.timers).(*timer)
		t.at = time.Time{}
		due = append(due, t.job)
	}
	for _, j := range due {
		j.wake()
		j.pool.match()
		e.out.PoolChanged(j.pool.config.Key)
	}
}
