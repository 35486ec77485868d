package queue

import (
	"container/list"
	"context"
	"time"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/internal/fault"
	"github.com/workerpool-dev/workerpool/pkg/worker/internal/feed"
)

// Feed is for worker.NewPool, which takes the queue apart if it is the owner itself and not a type that
// embeds it.
func (q *Priority) Feed(owner any) feed.Feed[worker.Job] {
	if owner != any(q) {
		return nil
	}
	return priorityFeed{q}
}

// priorityFeed is the queue as the workers of a pool see it.
type priorityFeed struct{ *Priority }

// NewTaker returns what one worker takes by.
func (f priorityFeed) NewTaker() feed.Taker[worker.Job] {
	return &taker{queue: f.Priority, hand: feed.NewHand[worker.Job](&f.ledger)}
}

// Books returns the numbers at one moment.
func (f priorityFeed) Books() feed.Books {
	f.mu.Lock()
	defer f.mu.Unlock()
	return feed.Books{
		Ready: f.jobs.ready.ready, Delayed: f.jobs.delayed.len(), Taken: f.ledger.Taken,
		Ended: f.ledger.Ended, Failed: f.ledger.Failed,
	}
}

// taker takes for a worker of a pool. All is guarded by the queue's lock.
type taker struct {
	queue   *Priority
	hand    feed.Hand[worker.Job]
	stopped bool
	// waiting is the Next that waits or, settled, the last one that did; place is its place.
	waiting *popper
	place   *list.Element
}

func (t *taker) Next(last feed.Outcome) (worker.Job, error) {
	q := t.queue
	q.mu.Lock()
	t.hand.Settle(last)
	t.waiting, t.place = nil, nil // and the job of the last wait with them
	q.advanceLocked(nanos(clock()))
	switch {
	case t.stopped:
		q.settleLocked() // the job may have been the last that could come back
		q.mu.Unlock()
		return nil, fault.ErrStopped
	case q.jobs.ready.ready > 0:
		defer q.mu.Unlock()
		job := q.jobs.takeFirst()
		t.hand.Hold(job)
		q.settleLocked()
		return job, nil
	}
	w := &popper{alarm: noAlarm, wake: make(chan struct{}, 1), hand: &t.hand}
	t.waiting, t.place = w, q.poppers.PushBack(w)
	q.settleLocked()
	q.mu.Unlock()
	return q.awaitJob(context.Background(), w, t.place)
}

func (t *taker) Settle(last feed.Outcome) {
	t.queue.mu.Lock()
	defer t.queue.mu.Unlock()
	t.hand.Settle(last)
	t.queue.settleLocked()
}

func (t *taker) Requeue(job worker.Job, delay time.Duration) error {
	q := t.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	now := clock()
	if err := q.addLocked(now, again(job, now, delay), false); err != nil {
		return err
	}
	t.hand.Settle(feed.None)
	q.settleLocked()
	return nil
}

func (t *taker) Stop() {
	q := t.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	t.stopped = true
	w := t.waiting
	if w == nil || w.settled {
		return
	}
	q.poppers.Remove(t.place)
	w.settled, w.err = true, fault.ErrStopped
	w.notify()
	q.settleLocked() // the next one may need the alarm
}

func (t *taker) View() feed.View[worker.Job] {
	t.queue.mu.Lock()
	defer t.queue.mu.Unlock()
	return t.hand.View()
}
