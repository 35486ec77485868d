package queue

import (
	"context"
	"fmt"
	"time"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/internal/feed"
)

// FIFO is a bounded queue, first in first out, for the jobs as well as for the calls that wait: a job
// goes straight to the Pop that has waited longest, room to the PushContext that has. Use New to make
// one.
//
// Jobs that were requeued with a delay count for the size, but they keep no other job from a Pop that
// waits. A requeued job is never refused, so there may be more than that many, by as many as were
// popped. The same job may be in the queue several times. Memory grows to what the most jobs that were
// ever queued took, and stays.
type FIFO struct {
	jobs *feed.FIFO[worker.Job]
	size int
}

var (
	_ worker.QueueContext = (*FIFO)(nil)
	_ worker.Requeuer     = (*FIFO)(nil)
)

// New returns an empty queue with room for size jobs. It panics if size is not positive.
func New(size int) *FIFO {
	if size <= 0 {
		panic(fmt.Sprintf("queue: size %d, must be positive", size))
	}
	return &FIFO{jobs: feed.NewFIFO[worker.Job](size), size: size}
}

// Push adds a job. It never waits, and returns ErrFull, ErrClosed, or ErrInvalid if the job is nil.
func (q *FIFO) Push(job worker.Job) error { return q.jobs.Push(job) }

// PushContext is Push that waits while the queue is full. It returns the cause of the context's end if
// that comes first; then the job was not added.
func (q *FIFO) PushContext(ctx context.Context, job worker.Job) error {
	return q.jobs.PushContext(ctx, job)
}

// Pop removes and returns the first job. It waits while there is none, and returns ErrClosed after
// Close once no job is left, delayed or held by a worker of a pool, who may put it back.
func (q *FIFO) Pop() (worker.Job, error) { return q.jobs.Pop() }

// PopContext is Pop that gives up at the end of the context and returns its cause; then no job was
// removed.
func (q *FIFO) PopContext(ctx context.Context) (worker.Job, error) { return q.jobs.PopContext(ctx) }

// Requeue puts back a job that was popped, to be popped again after the delay, or at once if that is
// not positive. It is refused only if the job is nil, with ErrInvalid. After Close, whoever requeues
// must go on to pop until ErrClosed.
func (q *FIFO) Requeue(job worker.Job, delay time.Duration) error {
	return q.jobs.Requeue(job, delay)
}

// Len returns the number of jobs that Pop could return now.
func (q *FIFO) Len() int { return q.jobs.Len() }

// Delayed returns the number of jobs whose time has not come.
func (q *FIFO) Delayed() int { return q.jobs.Delayed() }

// Cap returns the size.
func (q *FIFO) Cap() int { return q.size }

// Close refuses further jobs, also those whose PushContext waits: they get ErrClosed. What is queued
// can still be popped. It always returns nil.
func (q *FIFO) Close() error { return q.jobs.Close() }

// Drain removes and returns all jobs that are queued, the delayed ones last.
func (q *FIFO) Drain() []worker.Job { return q.jobs.Drain() }

// Feed is for worker.NewPool, which takes the queue apart if it is the owner itself and not a type that
// embeds it.
func (q *FIFO) Feed(owner any) feed.Feed[worker.Job] {
	if owner != any(q) {
		return nil
	}
	return q.jobs
}
