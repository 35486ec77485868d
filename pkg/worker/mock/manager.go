package mock

import (
	"slices"
	"sync"

	"github.com/workerpool-dev/workerpool/pkg/worker"
)

// Manager is a worker.Manager over a Queue, that counts its jobs but does not run them. Between Start
// and Stop a job that was pushed is active as soon as one of the workers is free, and stays so until
// the test calls End.
type Manager struct {
	BeforeStart func() error
	BeforeStop  func() error

	workers int
	queue   *Queue
	over    chan struct{} // closed when Stop may return

	starts, stops counter

	// mu guards all below, and each step of a job from the queue to active and to processed. It comes
	// before the queue's lock.
	mu      sync.Mutex
	started bool
	stopped bool
	fixed   *worker.PoolStatus // by SetStatus
	active  []worker.Job       // not more than workers; less only if none is queued, or not started
	ended   []result           // by End, of jobs that have not been active
	status  worker.PoolStatus  // processed and failed only
}

type result struct {
	job worker.Job
	err error
}

var _ worker.Manager = (*Manager)(nil)

// NewManager returns a pool that was not started. Use the queue for no other pool.
func NewManager(workers int, queue *Queue) *Manager {
	m := &Manager{workers: workers, queue: queue, over: make(chan struct{})}
	queue.pushed = m.settle
	return m
}

// End ends a job, which must be comparable, as a pointer is: with an error it counts as failed. If the
// job is not active, it ends as soon as it is.
func (m *Manager) End(job worker.Job, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended = append(m.ended, result{job, err})
	m.settleLocked()
}

func (m *Manager) settle() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.settleLocked()
}

// settleLocked restores what is said beside the fields. Call it after each change.
func (m *Manager) settleLocked() {
	m.countLocked()
	for m.started && len(m.active) < m.workers {
		job := m.queue.tryPop()
		if job == nil {
			break
		}
		m.active = append(m.active, job)
		m.countLocked()
	}
	...
}
