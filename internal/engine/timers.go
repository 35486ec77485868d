package engine

import (
	"container/heap"
	"time"
)

// timer is the place of something among others that wait for a time.
type timer[T any] struct {
	of T
	// at is zero unless the timer is set.
	at time.Time
	// index of a timer that is set.
	index int
}

// timers are those that are set, the first to be due first. They are a heap.Interface.
type timers[T any] []*timer[T]

func (h timers[T]) Len() int           { return len(h) }
func (h timers[T]) Less(i, k int) bool { return h[i].at.Before(h[k].at) }

func (h timers[T]) Swap(i, k int) {
	h[i], h[k] = h[k], h[i]
	h[i].index, h[k].index = i, k
}

// Push is heap.Interface's.
func (h *timers[T]) Push(x any) {
	t := x.(*timer[T])
	t.index = len(*h)
	*h = append(*h, t)
}

// Pop is heap.Interface's.
func (h *timers[T]) Pop() any {
	last := len(*h) - 1
	t := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return t
}

// set changes when a timer is due; the zero time is never.
func (h *timers[T]) set(t *timer[T], at time.Time) {
	before := t.at
	switch t.at = at; {
	case at.Equal(before):
	case before.IsZero():
		heap.Push(h, t)
	case at.IsZero():
		heap.Remove(h, t.index)
	default:
		heap.Fix(h, t.index)
	}
}

// due tells whether the first of the timers is.
func (h timers[T]) due(now time.Time) bool { return len(h) > 0 && !h[0].at.After(now) }

// take unsets the first of the timers and returns what it is for.
func (h *timers[T]) take() T {
	t := (*h)[0]
	h.set(t, time.Time{})
	return t.of
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
	if len(j.retrying) > 0 && !j.retrying[0].of.unstored && !j.suspend {
		add(j.retrying[0].at)
	}
	if j.loading && !j.overdue && j.running > 0 {
		add(j.loadBy)
	}
	add(j.flush)
	j.engine().timers.set(&j.timer, next)
}

// disarm has the job woken no more.
func (j *job) disarm() { j.engine().timers.set(&j.timer, time.Time{}) }

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
	if j.loading && !j.overdue && !j.loadBy.After(now) {
		j.giveUpLoading()
	}
	j.wakeRetries()
	if !j.flush.IsZero() && !j.flush.After(now) {
		j.write(0)
	}
	j.proceed()
}

// wakeJobs wakes the jobs whose time has come, each once.
func (e *Engine) wakeJobs() {
	var due []*job
	for e.timers.due(e.now) {
		due = append(due, e.timers.take())
	}
	for e.deadlines.due(e.now) {
		ref := e.deadlines.take()
		delete(e.deadlineOf, ref.UID)
		e.out.Look(ref) // Submit finds that its time is over
	}
	for _, j := range due {
		j.wake()
		j.pool.match()
		e.out.PoolChanged(j.pool.config.Key)
	}
}

// awaitDeadline has a Job without a pool looked at when its deadline has come; the zero time is never.
func (e *Engine) awaitDeadline(job JobRef, at time.Time) {
	t := e.deadlineOf[job.UID]
	switch {
	case t != nil:
	case at.IsZero():
		return
	default:
		t = &timer[JobRef]{of: job}
		e.deadlineOf[job.UID] = t
	}
	e.deadlines.set(t, at)
	if at.IsZero() {
		delete(e.deadlineOf, job.UID)
	}
}
