package mock

import (
	"fmt"
	"sync"

	"github.com/workerpool-dev/workerpool/pkg/worker"
)

// Queue is a worker.Queue in memory: first in, first out, with room for a number of jobs. Calls of Pop
// that wait are served in the order in which they came. It takes a job that it has already once more.
type Queue struct {
	BeforePush  func(job worker.Job) error
	BeforePop   func() error
	BeforeClose func() error

	capacity int
	pushed   func() // called without mu when a job was pushed; set by NewManager

	pushes       record[worker.Job]
	pops, closes counter

	mu     sync.Mutex
	closed bool
	jobs   []worker.Job

	// poppers are the calls of Pop that wait: none while there is a job, and none after Close. Each
	// channel has one place, for the job; it is closed when none will come.
	poppers []chan worker.Job
}

var _ worker.Queue = (*Queue)(nil)

// NewQueue returns an empty queue. With a capacity of 0 or less it is always full.
func NewQueue(capacity int) *Queue {
	return &Queue{capacity: capacity, pushed: func() {}}
}

// Push adds a job. It returns ErrInvalid if the job is nil, ErrClosed after Close, and ErrFull.
func (q *Queue) Push(job worker.Job) error {
	if err := q.pushes.call(q.BeforePush, job); err != nil {
		return err
	}
	if err := q.push(job); err != nil {
		return err
	}
	q.pushed()
	return nil
}

func (q *Queue) push(job worker.Job) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case job == nil:
		return fmt.Errorf("%w: the job is nil", worker.ErrInvalid)
	case q.closed:
		return worker.ErrClosed
	case len(q.poppers) > 0:
		q.poppers[0] <- job
		q.poppers = q.poppers[1:]
	case len(q.jobs) >= q.capacity:
		return worker.ErrFull
	default:
		q.jobs = append(q.jobs, job)
	}
	return nil
}

// Pop removes and returns the first job. It waits while there is none, and returns ErrClosed after
// Close once no job is left.
func (q *Queue) Pop() (worker.Job, error) {
	if err := q.pops.call(q.BeforePop); err != nil {
		return nil, err
	}
	if job, ok := <-q.popper(); ok {
		return job, nil
	}
	return nil, worker.ErrClosed
}

// popper returns a channel that gets what a Pop is to return.
func (q *Queue) popper() chan worker.Job {
	result := make(chan worker.Job, 1)
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case len(q.jobs) > 0:
		result <- q.takeLocked()
	case q.closed:
		close(result)
	default:
		q.poppers = append(q.poppers, result)
	}
	return result
}

func (q *Queue) takeLocked() worker.Job {
	job := q.jobs[0]
	q.jobs = q.jobs[1:]
	return job
}

// tryPop is Pop for the manager: not recorded, and nil where Pop would wait.
func (q *Queue) tryPop() worker.Job {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.jobs) == 0 {
		return nil
	}
	return q.takeLocked()
}

// Len returns the number of jobs that are queued.
func (q *Queue) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.jobs)
}

// Close refuses further jobs. Those that are queued can still be popped.
func (q *Queue) Close() error {
	if err := q.closes.call(q.BeforeClose); err != nil {
		return err
	}
	q.close()
	return nil
}

func (q *Queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for _, popper := range q.poppers {
		close(popper)
	}
	q.poppers = nil
}

// Pushes returns the arguments of the calls of Push.
func (q *Queue) Pushes() []worker.Job { return q.pushes.all() }

// Pops returns the number of calls of Pop, those that wait included.
func (q *Queue) Pops() int { return q.pops.count() }

// Closes returns the number of calls of Close.
func (q *Queue) Closes() int { return q.closes.count() }
