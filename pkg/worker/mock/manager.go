package mock

import (
	"slices"
	"sync"

	"github.com/workerpool-dev/workerpool/pkg/worker"
)

// Manager is a worker.Manager over a Queue. It counts its jobs but does not run them: from Start on, a
// job that was pushed is active as soon as one of the workers is free, and stays so until the test
// calls End. Stop lets what is queued be active too, unless there was no Start.
type Manager struct {
	BeforeStart func() error
	BeforeStop  func() error

	workers int
	queue   *Queue
	over    chan struct{} // closed when Stop may return
	finish  func()        // closes over; it may be called again

	starts, stops counter

	// mu guards all below, and each step of a job from the queue to active and to processed. It is
	// taken before the queue's lock.
	mu      sync.Mutex
	started bool
	stopped bool
	active  []worker.Job // none before started; less than workers only while none is queued
	ended   []result     // what End said of jobs that are not active

	processed, failed uint64

	fixed *worker.PoolStatus // by SetStatus
}

type result struct {
	job worker.Job
	err error
}

var _ worker.Manager = (*Manager)(nil)

// NewManager returns a pool that was not started. The queue is for no other pool.
func NewManager(workers int, queue *Queue) *Manager {
	over := make(chan struct{})
	m := &Manager{workers: workers, queue: queue, over: over, finish: sync.OnceFunc(func() { close(over) })}
	queue.pushed = m.settle
	return m
}

// Active returns the jobs that are active, the first come first.
func (m *Manager) Active() []worker.Job {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.active)
}

// End ends a job, which must be comparable, as a pointer is: with an error it counts as failed. A job
// that is not active yet ends as soon as it is.
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
	m.ended = slices.DeleteFunc(m.ended, m.countLocked)
	for m.started && len(m.active) < m.workers {
		job := m.queue.tryPop()
		if job == nil {
			break
		}
		m.active = append(m.active, job)
		m.ended = slices.DeleteFunc(m.ended, m.countLocked)
	}
	if m.stopped && len(m.active) == 0 {
		m.finish()
	}
}

// countLocked counts a job that has ended, and reports false if it is not active.
func (m *Manager) countLocked(r result) bool {
	i := slices.Index(m.active, r.job)
	if i < 0 {
		return false
	}
	m.active = slices.Delete(m.active, i, i+1)
	m.processed++
	if r.err != nil {
		m.failed++
	}
	return true
}

// Start starts the pool. It returns ErrStopped after Stop.
func (m *Manager) Start() error {
	if err := m.starts.call(m.BeforeStart); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stopped {
		return worker.ErrStopped
	}
	m.started = true
	m.settleLocked()
	return nil
}

// Stop closes the queue and waits until no job is active any more.
func (m *Manager) Stop() error {
	if err := m.stops.call(m.BeforeStop); err != nil {
		return err
	}
	m.queue.close()
	m.mu.Lock()
	m.stopped = true
	m.settleLocked()
	m.mu.Unlock()
	<-m.over
	return nil
}

// Queue returns the queue that NewManager got.
func (m *Manager) Queue() worker.Queue {
	return m.queue
}

// Status returns what the calls amount to, or what SetStatus says. Workers is 0 before Start and when
// Stop is over.
func (m *Manager) Status() worker.PoolStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fixed != nil {
		return *m.fixed
	}
	workers := m.workers
	if !m.started || m.stopped && len(m.active) == 0 {
		workers = 0
	}
	return worker.PoolStatus{
		Workers:       workers,
		QueueSize:     m.queue.Len(),
		ProcessedJobs: m.processed,
		FailedJobs:    m.failed,
		ActiveJobs:    len(m.active),
	}
}

// SetStatus fixes what Status returns from now on, whatever happens.
func (m *Manager) SetStatus(status worker.PoolStatus) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fixed = &status
}

// Starts returns the number of calls of Start.
func (m *Manager) Starts() int { return m.starts.count() }

// Stops returns the number of calls of Stop, those that wait included.
func (m *Manager) Stops() int { return m.stops.count() }
