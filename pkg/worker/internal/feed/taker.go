package feed

import (
	"time"

	"github.com/workerpool-dev/workerpool/pkg/worker/internal/fault"
)

// taker takes from a FIFO. All but waiter is guarded by the queue's lock.
type taker[T any] struct {
	queue *FIFO[T]

	// waiter is the Next that waits.
	waiter *waiter[T]

	stopped bool

	hand Hand[T]
}

// NewTaker returns what one worker takes by.
func (q *FIFO[T]) NewTaker() Taker[T] { return q.newTaker() }

func (q *FIFO[T]) newTaker() *taker[T] {
	t := &taker[T]{queue: q, waiter: newWaiter[T](), hand: NewHand[T](&q.ledger)}
	t.waiter.taker = t
	return t
}

func (t *taker[T]) Next(last Outcome) (T, error) {
	q := t.queue
	q.mu.Lock()
	t.hand.Settle(last)
	if q.availableLocked() && !t.stopped {
		v, admitted := q.takeLocked()
		t.hand.Hold(v)
		q.mu.Unlock()
		admitted.notify()
		return v, nil
	}
	return t.waitAndUnlock()
}

// waitAndUnlock waits for an item when none is available, or the taker is stopped. It lets go of the
// lock.
func (t *taker[T]) waitAndUnlock() (v T, err error) {
	q := t.queue
	var done settled[T]
	switch {
	case t.stopped:
		err = fault.ErrStopped
	case q.overLocked():
		err = fault.ErrClosed
	default:
		q.poppers.add(t.waiter)
		q.mu.Unlock()
		<-t.waiter.wake
		return t.waiter.take()
	}
	q.endLocked(&done) // this job may have been the last that could come back
	q.mu.Unlock()
	done.notify()
	return v, err
}

func (t *taker[T]) Requeue(v T, delay time.Duration) error {
	t.queue.putBack(&t.hand, v, delay)
	return nil
}

func (t *taker[T]) Stop() {
	q := t.queue
	q.mu.Lock()
	t.stopped = true
	var waiting *waiter[T]
	if t.waiter.listed {
		waiting = t.waiter
		q.poppers.remove(waiting)
		waiting.err = fault.ErrStopped
	}
	q.mu.Unlock()
	waiting.notify()
}

func (t *taker[T]) View() View[T] {
	t.queue.mu.Lock()
	defer t.queue.mu.Unlock()
	return t.hand.View()
}

func (t *taker[T]) Settle(last Outcome) {
	t.queue.mu.Lock()
	t.hand.Settle(last)
	var done settled[T]
	t.queue.endLocked(&done)
	t.queue.mu.Unlock()
	done.notify()
}
