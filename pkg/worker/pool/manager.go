package pool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/workerpool-dev/workerpool/pkg/worker/internal/fault"
	"github.com/workerpool-dev/workerpool/pkg/worker/internal/feed"
	"github.com/workerpool-dev/workerpool/pkg/worker/worker"
)

// Guest is a worker that the user brings: worker.Worker. It takes jobs from the queue by itself.
type Guest interface {
	Start() error
	Stop() error
	ID() int
}

// Config is what a Manager is made of.
type Config[J worker.Job] struct {
	// Crew is what the workers have in common. The manager sets HandBack and Context.
	Crew worker.Crew[J]

	// Workers is the number of goroutines that run jobs. It is 0 if there are guests.
	Workers int

	Guests []Guest
}

// Manager runs a pool of workers.
type Manager[J worker.Job] struct {
	crew   *worker.Crew[J]
	guests []Guest

	// cut ends the context of all tries.
	cut context.CancelCauseFunc

	// ended is closed when all workers have ended after a stop.
	ended chan struct{}

	mu    sync.Mutex // guards what follows; it is not held while a user's code runs, but for Start of guests
	phase phase
	// workers take jobs; their IDs differ. Retired ones run their last job.
	workers, retired []*worker.Worker[J]
	// left are the jobs that were handed back and not returned yet.
	left []J
}

type phase int

const (
	fresh phase = iota
	started
	stopping
)

// grace is how long StopContext waits, after its context has ended, for what it cut off.
const grace = time.Second

// New returns a manager of workers that were not started.
func New[J worker.Job](c Config[J]) *Manager[J] {
	m := &Manager[J]{crew: &c.Crew, guests: c.Guests, ended: make(chan struct{})}
	m.crew.Context, m.cut = context.WithCancelCause(context.Background())
	m.crew.HandBack = m.handBack
	m.growLocked(c.Workers)
	return m
}

// Start starts the workers, all or none of them.
func (m *Manager[J]) Start() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch m.phase {
	case started:
		return nil
	case stopping:
		return fault.ErrStopped
	}
	for i, g := range m.guests {
		if err := g.Start(); err != nil {
			return m.notStarted(m.guests[:i], fmt.Errorf("worker %d: %w", g.ID(), err))
		}
	}
	for _, w := range m.workers {
		_ = w.Start() // refused after Retire only, and then it is not in this list
	}
	m.phase = started
	return nil
}

// notStarted stops the guests that were started already.
func (m *Manager[J]) notStarted(guests []Guest, err error) error {
	for _, g := range guests {
		if stopErr := g.Stop(); stopErr != nil {
			err = errors.Join(err, fmt.Errorf("worker %d: %w", g.ID(), stopErr))
		}
	}
	return err
}

// Stop is StopContext without an end, for those who expect that no job is left. StopContext returns
// what is.
func (m *Manager[J]) Stop() error {
	m.stop()
	<-m.ended
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.leftErrLocked()
}

// StopContext closes the queue and waits until all that was accepted has been run. If the context ends
// first, it cuts off what runs. It returns the jobs that were not run, or were cut off.
func (m *Manager[J]) StopContext(ctx context.Context) ([]J, error) {
	m.stop()
	select {
	case <-m.ended:
		return m.settled(nil)
	case <-ctx.Done():
	}
	m.halt()
	timeout := time.NewTimer(grace)
	defer timeout.Stop()
	select {
	case <-m.ended:
	case <-timeout.C:
	}
	return m.settled(context.Cause(ctx))
}

// stop begins the stop, once.
func (m *Manager[J]) stop() {
	m.mu.Lock()
	before := m.phase
	m.phase = stopping
	m.mu.Unlock()
	if before == stopping {
		return
	}
	if err := m.crew.Feed.Close(); err != nil {
		m.crew.Logger.Error("Queue not closed", "error", err)
	}
	if before == fresh {
		m.halt() // there is nobody to run what is queued
	}
	go m.awaitEnd(before == started)
}

// awaitEnd waits for all workers and hands back what they leave.
func (m *Manager[J]) awaitEnd(wereStarted bool) {
	var stops sync.WaitGroup
	for _, g := range m.guests {
		if wereStarted {
			stops.Go(func() { m.stopGuest(g) })
		}
	}
	stops.Wait()
	m.mu.Lock()
	all := slices.Concat(m.workers, m.retired)
	m.mu.Unlock()
	for _, w := range all {
		<-w.Done()
	}
	m.drain()
	close(m.ended)
}

// stopGuest has a guest end, and told so by the cut if it can be told: worker.WorkerContext.
func (m *Manager[J]) stopGuest(g Guest) {
	stop := g.Stop
	if c, ok := g.(interface{ StopContext(context.Context) error }); ok {
		stop = func() error { return c.StopContext(m.crew.Context) }
	}
	if err := stop(); err != nil {
		m.crew.Logger.Error("Worker not stopped", "worker", g.ID(), "error", err)
	}
}

// halt cuts off what runs and takes out what is queued.
func (m *Manager[J]) halt() {
	m.cut(fault.ErrStopped)
	m.mu.Lock()
	for _, w := range m.workers {
		w.Retire()
	}
	m.mu.Unlock()
	m.drain()
}

func (m *Manager[J]) drain() {
	for _, j := range m.crew.Feed.Drain() {
		job, ticket := worker.Open(j)
		m.handBack(job)
		ticket.Settle(fault.ErrStopped)
	}
}

func (m *Manager[J]) handBack(job J) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.left = append(m.left, job)
}

// settled returns what was handed back, to one caller each.
func (m *Manager[J]) settled(cause error) ([]J, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if cause == nil {
		cause = m.leftErrLocked()
	}
	left := m.left
	m.left = nil
	return left, cause
}

func (m *Manager[J]) leftErrLocked() error {
	if len(m.left) == 0 {
		return nil
	}
	return fmt.Errorf("%w, and %d jobs are left", fault.ErrStopped, len(m.left))
}

// Resize changes the number of workers to n, which is positive. Those that are too many end after
// their present job, idle ones first.
func (m *Manager[J]) Resize(n int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.phase == stopping:
		return fault.ErrStopped
	case len(m.guests) > 0:
		return fmt.Errorf("%w: workers that were given to the pool can't be resized", fault.ErrInvalid)
	}
	m.retired = slices.DeleteFunc(m.retired, func(w *worker.Worker[J]) bool { return w.Status().Done })
	m.shrinkLocked(len(m.workers) - n)
	m.growLocked(n - len(m.workers))
	return nil
}

func (m *Manager[J]) shrinkLocked(by int) {
	for range by {
		i := m.dispensableLocked()
		w := m.workers[i]
		m.workers = slices.Delete(m.workers, i, i+1)
		m.retired = append(m.retired, w)
		w.Retire()
	}
}

// dispensableLocked returns the index of an idle worker, or else of the last.
func (m *Manager[J]) dispensableLocked() int {
	for i, w := range slices.Backward(m.workers) {
		if !w.Status().Holds {
			return i
		}
	}
	return len(m.workers) - 1
}

// growLocked adds workers, with the lowest IDs that are free.
func (m *Manager[J]) growLocked(by int) {
	for id := 0; by > 0; id++ {
		i, found := slices.BinarySearchFunc(m.workers, id, func(w *worker.Worker[J], id int) int {
			return cmp.Compare(w.ID(), id)
		})
		if found {
			continue
		}
		w := worker.New(id, m.crew)
		m.workers = slices.Insert(m.workers, i, w)
		if m.phase == started {
			_ = w.Start() // refused after Retire only
		}
		by--
	}
}

// Workers returns the workers that take jobs, in the order of their IDs, as a copy.
func (m *Manager[J]) Workers() []*worker.Worker[J] {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.workers)
}

// Books returns the numbers of the pool's jobs.
func (m *Manager[J]) Books() feed.Books { return m.crew.Feed.Books() }
