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
type Foreign[T any] struct {
	queue Queue[T]

	// aside keeps the books, and has the retries if the queue takes none back.
	aside *FIFO[T]

	// gate, locked, lets nobody begin to pop: so only those who pop already may move a job from the
	// queue to the books while both are read.
	gate sync.RWMutex

	// mover brings retries from aside to the queue. It is started with the first.
	mover sync.Once
	ctx   context.Context //nolint:containedctx // ends at Close, for the mover
	close context.CancelFunc
}

// NewForeign makes a feed of a queue.
func NewForeign[T any](queue Queue[T]) *Foreign[T] {
	f := &Foreign[T]{queue: queue, aside: NewFIFO[T](math.MaxInt)}
	f.ctx, f.close = context.WithCancel(context.Background()) //nolint:gosec // Close calls it
	return f
}

// Books returns the numbers. For each taker one job may be missing, or be counted twice: the one on its
// way between the queue and the books.
func (f *Foreign[T]) Books() Books {
	f.gate.Lock()
	defer f.gate.Unlock()
	b := f.aside.Books()
	b.Ready += f.queue.Len()
	if q, ok := f.queue.(requeuer[T]); ok {
		b.Delayed += q.Delayed()
	}
	return b
}

// Close closes the queue, and then what is aside: it ends when no job that is taken can come back.
func (f *Foreign[T]) Close() error {
	err := f.queue.Close()
	f.close()
	_ = f.aside.Close()
	return err
}

// Drain takes out what the queue has and what is aside.
func (f *Foreign[T]) Drain() []T {
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
	t.Settle(last)
	v, err := t.pop()
	switch {
	case err == nil:
		t.hold(v)
		return v, nil
	case errors.Is(err, fault.ErrClosed):
		return t.taker.Next(None)
	}
	return v, err
}

func (t *foreignTaker[T]) pop() (T, error) {
	if t.ctx.Err() != nil {
		var zero T
		return zero, fault.ErrStopped
	}
	t.feed.gate.RLock()
	t.feed.gate.RUnlock() //nolint:staticcheck // nothing is guarded: this is a gate to pass
	if q, ok := t.feed.queue.(popper[T]); ok {
		return q.PopContext(t.ctx)
	}
	return t.feed.queue.Pop()
}

func (t *foreignTaker[T]) Requeue(v T, delay time.Duration) error {
	if q, ok := t.feed.queue.(requeuer[T]); ok {
		if err := q.Requeue(v, delay); err != nil {
			return err
		}
		t.Settle(None)
		return nil
	}
	t.feed.mover.Do(func() { go t.feed.move() })
	return t.taker.Requeue(v, delay)
}

// Stop ends a Next that waits, if the queue has a Pop that can be ended.
func (t *foreignTaker[T]) Stop() {
	t.stop(fault.ErrStopped)
	t.taker.Stop()
}

// move brings the retries whose time has come to the queue, until that is closed. Then the takers get
// them from aside.
func (f *Foreign[T]) move() {
	t := f.aside.newTaker()
	stop := context.AfterFunc(f.ctx, t.Stop)
	defer stop()
	for {
		v, err := t.Next(None)
		if err != nil {
			return
		}
		switch err := f.push(v); {
		case err == nil:
		case errors.Is(err, fault.ErrFull):
			_ = t.Requeue(v, fullAgain)
		default:
			_ = t.Requeue(v, 0)
			return
		}
	}
}

// fullAgain is how long the mover waits for room in a queue that can't say when there is some.
const fullAgain = 10 * time.Millisecond

func (f *Foreign[T]) push(v T) error {
	if q, ok := f.queue.(pusher[T]); ok {
		return q.PushContext(f.ctx, v)
	}
	return f.queue.Push(v)
}
