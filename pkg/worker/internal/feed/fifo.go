package feed

import (
	"context"
	"sync"
	"time"

	"github.com/workerpool-dev/workerpool/pkg/worker/internal/fault"
)

// FIFO is a bounded queue, first in first out, and a Feed. Package queue has the contract of its
// methods.
type FIFO[T any] struct {
	// mu guards all below. It is held for a few steps, never while a call waits.
	mu sync.Mutex

	size   int
	closed bool

	// ready has the items that can be popped, delayed those whose time has not come. Both count for
	// the size, and may be more than that: what is requeued was accepted before.
	ready   ring[T]
	delayed delayed[T]

	// timer moves what is due from delayed to ready; nil until something was delayed.
	timer *time.Timer

	// pushers wait for room: none while there is room, and none after Close.
	pushers waiters[T]

	// poppers wait for an item: none while one is ready or a pusher has one, and none once the queue
	// is over.
	poppers waiters[T]

	ledger Ledger

	// expected is the number of takers that may come to hold an item from elsewhere: see Foreign.
	expected int

	// spare has waiters to be used again.
	spare sync.Pool
}

var _ Feed[any] = (*FIFO[any])(nil)

// NewFIFO returns an empty queue with room for size items.
func NewFIFO[T any](size int) *FIFO[T] {
	return &FIFO[T]{size: size, spare: sync.Pool{New: func() any { return newWaiter[T]() }}}
}

// Feed returns the queue itself if it is the owner too: a type that embeds the queue has this method as
// well, but what it does to Push or Pop must not be passed by.
func (q *FIFO[T]) Feed(owner any) Feed[T] {
	if owner != any(q) {
		return nil
	}
	return q
}

// Push adds an item, or returns ErrFull, ErrClosed, or ErrNilJob.
func (q *FIFO[T]) Push(v T) error {
	q.mu.Lock()
	got, err := q.acceptLocked(v)
	q.mu.Unlock()
	got.notify()
	return err
}

// PushContext adds an item and waits for room.
func (q *FIFO[T]) PushContext(ctx context.Context, v T) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	q.mu.Lock()
	got, err := q.acceptLocked(v)
	if err != fault.ErrFull { //nolint:errorlint // returned two lines above, and hot
		q.mu.Unlock()
		got.notify()
		return err
	}
	w := q.spare.Get().(*waiter[T])
	w.item = v
	q.pushers.add(w)
	q.mu.Unlock()
	_, err = q.await(ctx, w, &q.pushers)
	return err
}

// acceptLocked takes an item in, and returns the waiter that got it, if any.
func (q *FIFO[T]) acceptLocked(v T) (*waiter[T], error) {
	switch {
	case any(v) == nil:
		return nil, fault.ErrNilJob
	case q.closed:
		return nil, fault.ErrClosed
	case q.fullLocked() && q.poppers.first == nil:
		return nil, fault.ErrFull
	}
	return q.offerLocked(v), nil
}

// Pop removes the first item and waits for one.
func (q *FIFO[T]) Pop() (T, error) {
	return q.PopContext(context.Background())
}

// PopContext removes the first item and waits for one until the context ends.
func (q *FIFO[T]) PopContext(ctx context.Context) (v T, err error) {
	if ctx.Err() != nil {
		return v, context.Cause(ctx)
	}
	q.mu.Lock()
	switch {
	case q.availableLocked():
		v, admitted := q.takeLocked()
		q.mu.Unlock()
		admitted.notify()
		return v, nil
	case q.overLocked():
		q.mu.Unlock()
		return v, fault.ErrClosed
	}
	w := q.spare.Get().(*waiter[T])
	q.poppers.add(w)
	q.mu.Unlock()
	return q.await(ctx, w, &q.poppers)
}

// await returns the result of a waiter, or takes it off its list at the end of the context.
func (q *FIFO[T]) await(ctx context.Context, w *waiter[T], list *waiters[T]) (T, error) {
	if done := ctx.Done(); done == nil { // a select of two takes a tenth longer
		<-w.wake
	} else {
		select {
		case <-w.wake:
		case <-done:
			if !q.leave(ctx, w, list) {
				<-w.wake // it was settled at the same moment: that stands
			}
		}
	}
	v, err := w.take()
	q.spare.Put(w)
	return v, err
}

// leave reports whether the waiter was still in its list.
func (q *FIFO[T]) leave(ctx context.Context, w *waiter[T], list *waiters[T]) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !w.listed {
		return false
	}
	list.remove(w)
	var zero T
	w.item, w.err = zero, context.Cause(ctx)
	return true
}

// Requeue puts back an item that was popped, to be popped again after the delay.
func (q *FIFO[T]) Requeue(v T, delay time.Duration) error {
	if any(v) == nil {
		return fault.ErrNilJob
	}
	q.putBack(nil, v, delay)
	return nil
}

// putBack takes an item back, from the hand that holds it if that is not nil.
func (q *FIFO[T]) putBack(from *Hand[T], v T, delay time.Duration) {
	q.mu.Lock()
	var done settled[T]
	if w := q.backLocked(v, delay); w != nil {
		done.add(w)
	}
	if from != nil {
		from.Settle(None)
	}
	q.endLocked(&done) // a plain pop may have got the last
	q.mu.Unlock()
	done.notify()
}

// Len returns the number of items that are ready.
func (q *FIFO[T]) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.ready.n
}

// Delayed returns the number of items whose time has not come.
func (q *FIFO[T]) Delayed() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.delayed.Len()
}

// Close refuses further items.
func (q *FIFO[T]) Close() error {
	q.mu.Lock()
	var done settled[T]
	q.closed = true
	for w := q.pushers.first; w != nil; w = q.pushers.first {
		q.pushers.remove(w)
		var zero T
		w.item, w.err = zero, fault.ErrClosed
		done.add(w)
	}
	q.endLocked(&done)
	q.mu.Unlock()
	done.notify()
	return nil
}

// Drain takes out all that is queued. Those who wait to push come in after it, as there is room.
func (q *FIFO[T]) Drain() []T {
	q.mu.Lock()
	var done settled[T]
	items := make([]T, 0, q.ready.n+q.delayed.Len())
	for q.ready.n > 0 {
		items = append(items, q.ready.pop())
	}
	for q.delayed.Len() > 0 {
		items = append(items, q.delayed.pop())
	}
	for q.pushers.first != nil && !q.fullLocked() {
		done.add(q.admitLocked())
	}
	if q.timer != nil {
		q.timer.Stop() // it would keep the queue from being collected
	}
	q.endLocked(&done)
	q.mu.Unlock()
	done.notify()
	return items
}

// Books returns the numbers at one moment.
func (q *FIFO[T]) Books() Books {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.booksLocked()
}

func (q *FIFO[T]) booksLocked() Books {
	return Books{
		Ready: q.ready.n, Delayed: q.delayed.Len(), Taken: q.ledger.Taken,
		Ended: q.ledger.Ended, Failed: q.ledger.Failed,
	}
}

func (q *FIFO[T]) fullLocked() bool { return q.ready.n+q.delayed.Len() >= q.size }

// overLocked: nothing is there, and nothing can come any more.
func (q *FIFO[T]) overLocked() bool {
	return q.closed && q.ready.n == 0 && q.delayed.Len() == 0 && q.ledger.Taken == 0 && q.expected == 0
}

// endLocked sends the poppers home if the queue is over.
func (q *FIFO[T]) endLocked(done *settled[T]) {
	if q.overLocked() {
		q.dismissLocked(fault.ErrClosed, done)
	}
}

// dismissLocked has all poppers return an error.
func (q *FIFO[T]) dismissLocked(err error, done *settled[T]) {
	for w := q.poppers.first; w != nil; w = q.poppers.first {
		q.poppers.remove(w)
		w.err = err
		done.add(w)
	}
}

// availableLocked: an item is ready, or a pusher has one.
func (q *FIFO[T]) availableLocked() bool { return q.ready.n > 0 || q.pushers.first != nil }

// takeLocked removes the first item that is available, and lets in the first of the pushers if there
// is room now.
func (q *FIFO[T]) takeLocked() (T, *waiter[T]) {
	if q.ready.n == 0 { // full of what is delayed: that must not keep a pusher and a popper apart
		admitted := q.admitLocked()
		return q.ready.pop(), admitted
	}
	v := q.ready.pop()
	if q.pushers.first != nil && !q.fullLocked() {
		return v, q.admitLocked()
	}
	return v, nil
}

func (q *FIFO[T]) admitLocked() *waiter[T] {
	w := q.pushers.first
	q.pushers.remove(w)
	q.ready.push(w.item)
	return w
}

// offerLocked hands the item to the first of the poppers, which it returns, or makes it ready.
func (q *FIFO[T]) offerLocked(v T) *waiter[T] {
	w := q.poppers.first
	if w == nil {
		q.ready.push(v)
		return nil
	}
	q.poppers.remove(w)
	w.item = v
	if w.taker != nil {
		w.taker.hand.Hold(v)
	}
	return w
}

// backLocked puts an item back and returns the waiter that got it, if any.
func (q *FIFO[T]) backLocked(v T, delay time.Duration) *waiter[T] {
	if delay <= 0 {
		return q.offerLocked(v)
	}
	due := clock().Add(delay)
	q.delayed.add(v, due)
	if q.timer == nil {
		q.timer = time.AfterFunc(delay, q.advance)
	} else if q.delayed.due().Equal(due) {
		q.timer.Reset(delay)
	}
	return nil
}

// advance makes ready what is due.
func (q *FIFO[T]) advance() {
	q.mu.Lock()
	now := clock()
	var done settled[T]
	for q.delayed.Len() > 0 && !q.delayed.due().After(now) {
		if w := q.offerLocked(q.delayed.pop()); w != nil {
			done.add(w)
		}
	}
	if q.delayed.Len() > 0 {
		q.timer.Reset(q.delayed.due().Sub(now))
	}
	q.endLocked(&done)
	q.mu.Unlock()
	done.notify()
}

func clock() time.Time {
	return time.Now() //nolint:forbidigo // the retries of a pool in this process; schedulers use queue.Priority, which takes the time
}
