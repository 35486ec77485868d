package feed

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"github.com/workerpool-dev/workerpool/pkg/worker/internal/fault"
)

// Queue is a queue that knows nothing of feeds: worker.Queue.
type Queue[T any] interface {
	Push(v T) error
	Pop() (T, error)
	Len() int
	Close() error
}

// What a Queue may have besides: see worker.QueueContext and worker.Requeuer.
type (
	pusher[T any] interface {
		PushContext(context.Context, T) error
	}
	popper[T any] interface {
		PopContext(context.Context) (T, error)
	}
	requeuer[T any] interface {
		Requeue(T, time.Duration) error
		Delayed() int
		Drain() []T
	}
)

// Foreign is a Feed from a queue that is none. What the queue itself cannot do is done aside: retries
// wait there for their time, and the books are kept there.
//
// After Close, a taker that finds the queue empty goes on to wait aside, because a job that others hold
// may come back.
type Foreign[T any] struct {
	queue Queue[T]

	// aside keeps the books, and has the retries if the queue takes none back. Its lock guards round,
	// mover and moves.
	aside *FIFO[T]

	// gate, locked, lets nobody begin to pop: so only those who pop already can move a job from the
	// queue to the books while both are read.
	gate sync.RWMutex

	// round counts the jobs that went back to the queue.
	round uint64

	// mover brings retries from aside to the queue. It moves from the first of them until Close, and
	// moving waits for it.
	mover  *taker[T]
	moves  bool
	moving sync.WaitGroup
	ctx    context.Context //nolint:containedctx // ends at Close, for the mover
	close  context.CancelFunc
}

// NewForeign makes a feed of a queue.
func NewForeign[T any](queue Queue[T]) *Foreign[T] {
	f := &Foreign[T]{queue: queue, aside: NewFIFO[T](math.MaxInt)}
	f.mover = f.aside.newTaker()
	f.ctx, f.close = context.WithCancel(context.Background()) //nolint:gosec // Close calls it
	return f
}

// Books returns the numbers. For each taker one job may be missing, or counted twice: the one on its way
// between the queue and the books.
func (f *Foreign[T]) Books() Books {
	f.gate.Lock()
	defer f.gate.Unlock()
	b := f.booksAside()
	b.Ready += f.queue.Len()
	if q, ok := f.queue.(requeuer[T]); ok {
		b.Delayed += q.Delayed()
	}
	return b
}

func (f *Foreign[T]) booksAside() Books {
	f.aside.mu.Lock()
	defer f.aside.mu.Unlock()
	b := f.aside.booksLocked()
	if f.mover.hand.View().Holds { // it waits for room in the queue
		b.Taken--
		b.Ready++
	}
	return b
}

// Close closes the queue, and then what is aside: it ends when no job that is taken can come back.
func (f *Foreign[T]) Close() error {
	err := f.queue.Close()
	_ = f.aside.Close()
	f.close()
	return err
}

// Drain takes out what the queue has and what is aside.
func (f *Foreign[T]) Drain() []T {
	if f.ctx.Err() != nil {
		f.moving.Wait() // it may be about to put a retry back; it does not take long
	}
	var items []T
	if q, ok := f.queue.(requeuer[T]); ok {
		items = q.Drain()
	} else {
		for {
			v, err := f.queue.Pop() // does not wait: the queue is closed and delays nothing
			if err != nil {
				break
			}
			items = append(items, v)
		}
	}
	return append(items, f.aside.Drain()...)
}

// NewTaker returns what one worker takes by.
func (f *Foreign[T]) NewTaker() Taker[T] {
	ctx, stop := context.WithCancelCause(context.Background())
	return &foreignTaker[T]{taker: f.aside.newTaker(), feed: f, ctx: ctx, stop: stop}
}

// foreignTaker pops from the queue, and has the taker of what is aside keep its books.
type foreignTaker[T any] struct {
	*taker[T]
	feed *Foreign[T]
	ctx  context.Context //nolint:containedctx // ends with Stop
	stop context.CancelCauseFunc
}

func (t *foreignTaker[T]) Next(last Outcome) (T, error) {
	for {
		round := t.expect(last)
		v, err := t.pop()
		switch {
		case err == nil:
			t.hold(v)
			return v, nil
		case !errors.Is(err, fault.ErrClosed):
			t.expectNone()
			return v, err
		}
		if v, err = t.nextAside(round); !errors.Is(err, errCameBack) {
			return v, err
		}
		last = None
	}
}

// expect settles the job that is held and has those who wait aside wait for the one that may come now.
// It returns the round.
func (t *foreignTaker[T]) expect(last Outcome) uint64 {
	t.queue.mu.Lock()
	defer t.queue.mu.Unlock()
	t.hand.Settle(last)
	t.queue.expected++
	return t.feed.round
}

// hold and expectNone end what expect has begun, and nextAside does.

func (t *foreignTaker[T]) hold(v T) {
	t.queue.mu.Lock()
	defer t.queue.mu.Unlock()
	t.queue.expected--
	t.hand.Hold(v)
}

func (t *foreignTaker[T]) expectNone() {
	t.queue.mu.Lock()
	t.queue.expected--
	var done settled[T]
	t.queue.endLocked(&done)
	t.queue.mu.Unlock()
	done.notify()
}

// errCameBack ends a wait aside: a job went back to the queue.
var errCameBack = errors.New("look into the queue again")

// nextAside waits for a retry, or for the end. The queue was over when its round was the given one.
func (t *foreignTaker[T]) nextAside(round uint64) (v T, err error) {
	t.queue.mu.Lock()
	t.queue.expected--
	if t.feed.round != round {
		t.queue.mu.Unlock()
		return v, errCameBack
	}
	if t.queue.availableLocked() { // retries are aside only if none goes back to the queue
		t.queue.mu.Unlock()
		return t.taker.Next(None)
	}
	return t.waitAndUnlock()
}

func (t *foreignTaker[T]) pop() (v T, err error) {
	if t.ctx.Err() != nil {
		return v, fault.ErrStopped
	}
	t.feed.gate.RLock()
	t.feed.gate.RUnlock() //nolint:staticcheck // nothing is guarded: it is passed
	if q, ok := t.feed.queue.(popper[T]); ok {
		return q.PopContext(t.ctx)
	}
	return t.feed.queue.Pop()
}

func (t *foreignTaker[T]) Requeue(v T, delay time.Duration) error {
	q, ok := t.feed.queue.(requeuer[T])
	if !ok {
		t.feed.startMover()
		return t.taker.Requeue(v, delay)
	}
	if err := q.Requeue(v, delay); err != nil {
		return err
	}
	t.cameBack()
	return nil
}

// cameBack settles a job that went back to the queue, and sends those there who wait aside: none of
// them may be left here for the end, when this taker may be one that takes no more.
func (t *foreignTaker[T]) cameBack() {
	t.queue.mu.Lock()
	t.hand.Settle(None)
	t.feed.round++
	var done settled[T]
	t.queue.dismissLocked(errCameBack, &done)
	t.queue.mu.Unlock()
	done.notify()
}

// Stop ends a Next that waits, if the queue has a Pop that can be ended.
func (t *foreignTaker[T]) Stop() {
	t.stop(fault.ErrStopped)
	t.taker.Stop()
}

// startMover starts the mover, once, unless the feed is closed: then the takers get what is aside.
func (f *Foreign[T]) startMover() {
	f.aside.mu.Lock()
	defer f.aside.mu.Unlock()
	if !f.moves && !f.aside.closed {
		f.moves = true
		f.moving.Go(f.move)
	}
}

// move brings the retries whose time has come to the queue, until that is closed.
func (f *Foreign[T]) move() {
	stop := context.AfterFunc(f.ctx, f.mover.Stop)
	defer stop()
	for {
		v, err := f.mover.Next(None)
		if err != nil {
			return
		}
		switch err := f.push(v); {
		case err == nil:
		case errors.Is(err, fault.ErrClosed), f.ctx.Err() != nil:
			_ = f.mover.Requeue(v, 0)
			return
		default: // the others first: it may be refused for what it is
			_ = f.mover.Requeue(v, refusedAgain)
		}
	}
}

const (
	// fullAgain is how long the mover waits for room in a queue that can't say when there is some.
	fullAgain = 10 * time.Millisecond

	// refusedAgain is how long a retry stays aside that the queue has refused for a reason of its own.
	refusedAgain = time.Second
)

// push waits while the queue is full.
func (f *Foreign[T]) push(v T) error {
	if q, ok := f.queue.(pusher[T]); ok {
		return q.PushContext(f.ctx, v)
	}
	for {
		err := f.queue.Push(v)
		if !errors.Is(err, fault.ErrFull) {
			return err
		}
		select {
		case <-time.After(fullAgain):
		case <-f.ctx.Done():
			return context.Cause(f.ctx)
		}
	}
}
