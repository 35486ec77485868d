// Package feed gives the jobs of a queue to workers and keeps the books of them: what is queued, what
// is taken, and how it ended.
//
// A worker takes through a Taker and says how the last job ended in the same call that takes the
// next, so that both happen under one lock: the books add up at any moment, and a job costs no more
// than a push and a pop.
//
// FIFO is a queue that is a feed by itself. Foreign makes a feed of any other queue. The package is
// generic because it stands below the one that declares what a job is.
package feed

import "time"

// Feed is where workers take their jobs from.
type Feed[T any] interface {
	// NewTaker returns what one worker takes by. At most one goroutine may use it, but for Stop and
	// View.
	NewTaker() Taker[T]

	// Books returns the numbers at one moment.
	Books() Books

	// Close refuses further jobs. What was accepted can still be taken.
	Close() error

	// Drain takes out all jobs that are queued, those whose time has not come included. Call it after
	// Close.
	Drain() []T
}

// Taker takes the jobs of one worker.
type Taker[T any] interface {
	// Next settles the job that this taker holds, if any, and waits for another. It returns
	// fault.ErrClosed when the feed is closed and no job is left or can come back, fault.ErrStopped
	// after Stop, and what else the queue returns; then it holds none.
	Next(last Outcome) (T, error)

	// Settle is Next that takes nothing.
	Settle(last Outcome)

	// Requeue puts the job that is held back as v, to be taken again after the delay. Then no job is held.
	Requeue(v T, delay time.Duration) error

	// Stop ends a Next that waits, and all later ones.
	Stop()

	// View returns what the taker holds and has done.
	View() View[T]
}

// Outcome is how a job ended.
type Outcome int

// The outcomes of a job that is held.
const (
	// None: no job is held. A job that is held nevertheless leaves the books, as it was handed back.
	None Outcome = iota
	Succeeded
	Failed
)

// Books are the numbers of a feed. The sum of Ready, Delayed, Taken and Ended is the number of jobs
// accepted, less those that were drained or left the books.
type Books struct {
	Ready, Delayed, Taken int
	// Ended includes Failed.
	Ended, Failed uint64
}

// View is what a taker holds and has done.
type View[T any] struct {
	Holds         bool
	Item          T
	Ended, Failed uint64
}
