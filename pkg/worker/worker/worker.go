package worker

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/workerpool-dev/workerpool/pkg/worker/internal/fault"
	"github.com/workerpool-dev/workerpool/pkg/worker/internal/feed"
)

// Crew is what the workers of a pool have in common.
type Crew[J Job] struct {
	// Feed has the jobs.
	Feed feed.Feed[J]

	// Resources are reserved for each job while it is tried; nil reserves nothing.
	Resources Resources[J]

	// Delay returns how long to wait before a retry, 1 for the first; less than 0 is not to try again.
	Delay func(job J, retry int, err error) time.Duration

	// Timeout limits one try of a job that has no limit of its own; 0 does not.
	Timeout time.Duration

	// Timestamps: the start of each try is noted, at the cost of reading the clock.
	Timestamps bool

	// HandBack takes a job that was not run or cut off because of a stop.
	HandBack func(job J)

	// Logger gets what nobody else would: panics of OnFailure, errors of a queue.
	Logger *slog.Logger

	// Context is that of all tries. Its end means: cut off what can be cut off, and run nothing more.
	Context context.Context //nolint:containedctx // the workers' life, not a call's
}

// Resources are what jobs take while they are tried.
type Resources[J Job] interface {
	// Acquire reserves what the job takes, and returns what gives it back: nil if that is nothing. It
	// waits if need be, until the context ends, and calls waiting before.
	Acquire(ctx context.Context, job J, waiting func()) (release func(), err error)
}

// Worker is a goroutine that runs jobs, one at a time.
type Worker[J Job] struct {
	id    int
	crew  *Crew[J]
	taker feed.Taker[J]

	// ctx is that of the tries of this worker: the crew's, and ends with Cut.
	ctx context.Context //nolint:containedctx // the worker's life, not a call's
	cut context.CancelCauseFunc

	// waits notes that the job waits for its resources.
	waits func()

	// done is closed when the worker has ended. Until then, Stop waits.
	done chan struct{}

	mu      sync.Mutex // guards what follows; it is taken for jobs only where they ask for more
	started bool
	stopped bool
	// waiting: the job waits for its resources.
	waiting bool
	// startTime of the try, zero if it is not noted.
	startTime time.Time

	// run is the job under way. Only the worker's goroutine uses it; if a job ends that one, the next.
	run run[J]
}

// run is a job under way.
type run[J Job] struct {
	phase    phase
	job      J          // what was submitted
	ticket   *Ticket[J] // nil if there is nothing to remember
	release  func()     // gives back the resources that are reserved, nil if none are
	hopeless bool       // resources can never be had
	noted    bool       // waiting or startTime is set
}

// phase tells which code of the user runs, and may end the goroutine by runtime.Goexit.
type phase int

const (
	ours    phase = iota // none
	trying               // Process, and what is asked before
	judging              // what is asked after a failure
	failing              // OnFailure
)

// New returns a worker that was not started.
func New[J Job](id int, crew *Crew[J]) *Worker[J] {
	w := &Worker[J]{id: id, crew: crew, taker: crew.Feed.NewTaker(), done: make(chan struct{})}
	w.ctx, w.cut = context.WithCancelCause(crew.Context)
	w.waits = func() { w.noteWaiting(true) }
	return w
}

// ID returns the worker's ID.
func (w *Worker[J]) ID() int { return w.id }

// Start starts the worker. It returns ErrStopped after Retire; a second Start does nothing.
func (w *Worker[J]) Start() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return fault.ErrStopped
	}
	if !w.started {
		w.started = true
		go w.work(feed.None)
	}
	return nil
}

// Retire has the worker take no further job. It does not wait: see Done.
func (w *Worker[J]) Retire() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return
	}
	w.stopped = true
	w.taker.Stop()
	if !w.started {
		w.cut(fault.ErrStopped)
		close(w.done)
	}
}

// Cut tells the job that runs to end. It is tried again by another worker, and that does not count as
// a retry. Call Retire before.
func (w *Worker[J]) Cut() { w.cut(fault.ErrStopped) }

// Done is closed when the worker has ended: after Retire, or when the feed is over.
func (w *Worker[J]) Done() <-chan struct{} { return w.done }

// work runs jobs until there are no more.
func (w *Worker[J]) work(last feed.Outcome) {
	defer w.leave()
	for {
		job, ok := w.next(last)
		if !ok {
			return
		}
		last = w.handle(job)
	}
}

// leave ends the worker, or has another goroutine go on if a job has ended this one.
func (w *Worker[J]) leave() {
	switch w.run.phase {
	case ours:
		w.cut(fault.ErrStopped)
		close(w.done)
	case trying:
		go func() { w.work(w.settle(fault.ErrGoexit)) }()
	case judging:
		go func() { w.work(w.fail(fault.ErrGoexit)) }()
	case failing:
		w.crew.Logger.Error("OnFailure ended its goroutine", "worker", w.id, "error", fault.ErrGoexit)
		go func() { w.work(w.end(feed.Failed, fault.ErrGoexit)) }()
	}
}

// queueErrorPause is how long a worker leaves a queue alone that has failed.
const queueErrorPause = time.Second

// next settles the last job and waits for another; false means that there is none any more.
func (w *Worker[J]) next(last feed.Outcome) (J, bool) {
	for {
		job, err := w.taker.Next(last)
		if err == nil {
			return job, true
		}
		if errors.Is(err, fault.ErrClosed) || errors.Is(err, fault.ErrStopped) {
			return job, false
		}
		w.crew.Logger.Error("Queue failed", "worker", w.id, "error", err)
		select {
		case <-time.After(queueErrorPause):
		case <-w.ctx.Done():
		}
	}
}

// Running tells whether the worker was started and takes jobs.
func (w *Worker[J]) Running() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.done:
		return false
	default:
		return w.started && !w.stopped
	}
}

// Status is what a worker does and has done.
type Status[J Job] struct {
	Started, Stopped, Done bool

	// Holds: there is a job, in its try of that number, which waits for resources or has started.
	Holds     bool
	Job       J
	Attempt   int
	Waiting   bool
	StartTime time.Time

	Ended, Failed uint64
}

// Status returns what the worker does and has done.
func (w *Worker[J]) Status() Status[J] {
	view := w.taker.View()
	s := Status[J]{Holds: view.Holds, Ended: view.Ended, Failed: view.Failed}
	if view.Holds {
		job, ticket := Open(view.Item)
		s.Job, s.Attempt = job, ticket.attempt()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s.Started, s.Stopped, s.Waiting, s.StartTime = w.started, w.stopped, w.waiting, w.startTime
	select {
	case <-w.done:
		s.Done = true
	default:
	}
	return s
}
