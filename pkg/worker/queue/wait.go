package queue

import (
	"container/list"
	"context"
	"math"
	"time"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/internal/feed"
)

// pusher is a PushContext that waits for room.
type pusher struct {
	job      worker.Job
	created  int64
	priority int

	done chan struct{} // closed when the call is settled; err is its result from then on
	err  error
}

// popper is a Pop that waits for a job. All but wake is guarded by the queue's lock.
type popper struct {
	settled bool // job or err is the result, and the popper is in no list
	job     worker.Job
	err     error

	// hand is that of the worker of a pool who waits, nil for a plain Pop.
	hand *feed.Hand[worker.Job]

	// alarm is when the popper wakes by itself because a delayed job is due. Only the first of the
	// poppers has one.
	alarm int64

	// wake has one place: a token in it says that settled or alarm has changed.
	wake chan struct{}
}

// noAlarm is later than any time.
const noAlarm int64 = math.MaxInt64

// Push adds a job that was created now, with its priority if it is worker.Prioritized. It never
// waits. The errors are those of TryPush.
func (q *Priority) Push(job worker.Job) error {
	now := clock()
	return q.TryPush(now, Item{Job: job, Priority: priorityOf(job), Created: now})
}

// Requeue is Return with the clock: it puts back a job that was popped, to be popped again after the
// delay. The job counts as created now, and has the priority that it has now.
func (q *Priority) Requeue(job worker.Job, delay time.Duration) error {
	now := clock()
	return q.Return(now, again(job, now, delay))
}

// again is a job that is put back.
func again(job worker.Job, now time.Time, delay time.Duration) Item {
	return Item{Job: job, Priority: priorityOf(job), Created: now, NotBefore: now.Add(delay)}
}

// PushContext is Push that waits while the queue is full. Calls that wait are served in the order in
// which they came; a job's creation is its call. It returns the cause of the context's end if that
// comes first; then the job was not added.
func (q *Priority) PushContext(ctx context.Context, job worker.Job) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := validate(job); err != nil {
		return err
	}
	w := &pusher{job: job, created: nanos(clock()), priority: priorityOf(job)}
	place, err := q.enterPusher(w)
	if err != nil || place == nil {
		return err
	}
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
		return q.leavePusher(ctx, w, place)
	}
}

// enterPusher adds the job, or else its pusher to those that wait, and returns its place there.
func (q *Priority) enterPusher(w *pusher) (*list.Element, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.advanceLocked(w.created)
	switch {
	case q.closed:
		return nil, worker.ErrClosed
	case q.jobs.has(w.job):
		return nil, worker.ErrDuplicate
	case q.fullLocked():
		w.done = make(chan struct{})
		return q.pushers.PushBack(w), nil
	}
	q.putLocked(w)
	q.settleLocked()
	return nil, nil
}

func (q *Priority) leavePusher(ctx context.Context, w *pusher, place *list.Element) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case <-w.done: // it was settled at the same moment: that stands
		return w.err
	default:
		q.pushers.Remove(place)
		return context.Cause(ctx)
	}
}

// Pop removes and returns the first ready job. It waits while there is none, and returns ErrClosed
// after Close once no job is left: ready, delayed, or held by a worker of a pool, who may put it back.
func (q *Priority) Pop() (worker.Job, error) {
	return q.PopContext(context.Background())
}

// PopContext is Pop that gives up at the end of the context and returns its cause; then no job was
// removed. Calls that wait are served in the order in which they came.
func (q *Priority) PopContext(ctx context.Context) (worker.Job, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	q.mu.Lock()
	q.advanceLocked(nanos(clock()))
	if q.jobs.ready.ready > 0 {
		defer q.mu.Unlock()
		job := q.jobs.takeFirst()
		q.settleLocked()
		return job, nil
	}
	w := &popper{alarm: noAlarm, wake: make(chan struct{}, 1)}
	place := q.poppers.PushBack(w)
	q.settleLocked()
	q.mu.Unlock()
	return q.awaitJob(ctx, w, place)
}

func (q *Priority) awaitJob(ctx context.Context, w *popper, place *list.Element) (worker.Job, error) {
	var timer *time.Timer
	var due <-chan time.Time
	defer func() {
		if timer != nil {
			timer.Stop()
		}
	}()
	for {
		select {
		case <-w.wake:
		case <-due:
		case <-ctx.Done():
		}
		now := clock()
		alarm, settled := q.lookAgain(ctx, w, place, nanos(now))
		if settled {
			return w.job, w.err
		}
		switch wait := time.Unix(0, alarm).Sub(now); {
		case alarm == noAlarm:
			due = nil
		case timer == nil:
			timer = time.NewTimer(wait)
			due = timer.C
		default:
			timer.Reset(wait)
			due = timer.C
		}
	}
}

// lookAgain lets time pass for a popper that woke, and takes it off the list if its context has ended.
func (q *Priority) lookAgain(ctx context.Context, w *popper, place *list.Element, now int64) (alarm int64, settled bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.advanceLocked(now)
	if !w.settled && ctx.Err() != nil {
		q.poppers.Remove(place)
		w.settled, w.err = true, context.Cause(ctx)
		q.settleLocked() // the next one may need the alarm
	}
	return w.alarm, w.settled
}

// clock is the time of the calls that take none.
func clock() time.Time {
	return time.Now() //nolint:forbidigo // schedulers have methods with the time as an argument; these are for all others
}

func priorityOf(job worker.Job) int {
	if p, ok := job.(worker.Prioritized); ok {
		return p.Priority()
	}
	return 0
}

// settleLocked restores what is said beside the fields pushers and poppers. Call it after each change.
func (q *Priority) settleLocked() {
	for q.pushers.Len() > 0 && (q.closed || !q.fullLocked()) {
		q.admitLocked()
	}
	for q.poppers.Len() > 0 && q.jobs.ready.ready > 0 {
		q.handOverLocked(q.jobs.takeFirst(), nil)
	}
	if q.poppers.Len() > 0 {
		q.alarmLocked()
	}
}

// admitLocked settles the first of the pushers.
func (q *Priority) admitLocked() {
	w := q.pushers.Remove(q.pushers.Front()).(*pusher)
	switch {
	case q.closed:
		w.err = worker.ErrClosed
	case q.jobs.has(w.job):
		w.err = worker.ErrDuplicate
	default:
		q.putLocked(w)
	}
	close(w.done)
}

func (q *Priority) putLocked(w *pusher) {
	q.jobs.put(w.job, nil, w.created, w.priority, math.MinInt64, w.created)
}

// handOverLocked settles the first of the poppers.
func (q *Priority) handOverLocked(job worker.Job, err error) {
	w := q.poppers.Remove(q.poppers.Front()).(*popper)
	w.settled, w.job, w.err = true, job, err
	if err == nil && w.hand != nil {
		w.hand.Hold(job)
	}
	w.notify()
}

// alarmLocked has the first popper wake when the first delayed job is due. If no job is ready or
// delayed and none can come any more, it sends all poppers home.
func (q *Priority) alarmLocked() {
	for q.closed && q.jobs.empty() && q.ledger.Taken == 0 && q.poppers.Len() > 0 {
		q.handOverLocked(nil, worker.ErrClosed)
	}
	if q.poppers.Len() == 0 {
		return
	}
	alarm := noAlarm
	if q.jobs.delayed.len() > 0 {
		alarm = q.jobs.delayed.nodes[0].rank.notBefore()
	}
	if w := q.poppers.Front().Value.(*popper); w.alarm != alarm {
		w.alarm = alarm
		w.notify()
	}
}

func (w *popper) notify() {
	select {
	case w.wake <- struct{}{}:
	default: // a token is there already
	}
}
