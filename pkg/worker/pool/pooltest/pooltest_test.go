package pooltest_test

import (
	"context"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/pool/pooltest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// simple is the least that keeps the contract: a list of jobs, and a goroutine for each job that runs.
// It is its own queue.
type simple struct {
	workers, capacity int
	handsBack         bool // Stop does, and waits for what runs only

	mu      sync.Mutex
	changed *sync.Cond // by mu
	started bool
	stopped bool
	queue   []worker.Job
	status  worker.PoolStatus // but for QueueSize
	active  map[worker.Job]bool

	handedBack int // by Stop
}

func newSimple(workers, capacity int) *simple {
	s := &simple{workers: workers, capacity: capacity, active: map[worker.Job]bool{}}
	s.changed = sync.NewCond(&s.mu)
	return s
}

func (s *simple) Push(j worker.Job) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.stopped:
		return worker.ErrClosed
	case len(s.queue) == s.capacity:
		return worker.ErrFull
	}
	s.queue = append(s.queue, j)
	s.goOnLocked()
	return nil
}

func (s *simple) Pop() (worker.Job, error) { panic("only the pool pops") }
func (s *simple) Close() error             { panic("only Stop closes") }

func (s *simple) Len() int {
	return s.Status().QueueSize
}

func (s *simple) Queue() worker.Queue { return s }

func (s *simple) Status() worker.PoolStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	status := s.status
	status.Workers, status.QueueSize, status.ActiveJobs = s.workers, len(s.queue), len(s.active)
	return status
}

func (s *simple) goOnLocked() {
	for s.started && len(s.active) < s.workers && len(s.queue) > 0 {
		j := s.queue[0]
		s.queue = s.queue[1:]
		s.active[j] = true
		go s.process(j)
	}
	s.changed.Broadcast()
}

func (s *simple) process(j worker.Job) {
	err := j.Process()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.active[j] {
		return // it was handed back
	}
	delete(s.active, j)
	s.status.ProcessedJobs++
	if err != nil {
		s.status.FailedJobs++
	}
	s.goOnLocked()
}

func (s *simple) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return worker.ErrStopped
	}
	s.started = true
	s.goOnLocked()
	return nil
}

func (s *simple) Stop() error {
	_, err := s.StopContext(context.Background())
	return err
}

func (s *simple) StopContext(ctx context.Context) ([]worker.Job, error) {
	defer context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.changed.Broadcast()
	})()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	if s.handsBack {
		s.handedBack += len(s.queue)
		s.queue = nil
	}
	for ctx.Err() == nil && s.started && len(s.queue)+len(s.active) > 0 {
		s.changed.Wait()
	}
	if ctx.Err() == nil {
		return nil, nil
	}
	handBack := s.queue
	for j := range s.active {
		handBack = append(handBack, j)
	}
	s.queue = nil
	clear(s.active)
	s.changed.Broadcast()
	return handBack, context.Cause(ctx)
}

// job ends when it gets its result.
type job struct{ result chan error }

func (j *job) Process() error { return <-j.result }
func (*job) OnFailure(error)  {}
func (*job) MaxRetries() int  { return 0 }

func (s *simple) submit(*testing.T) (end func(error), err error) {
	j := &job{result: make(chan error, 1)}
	return func(err error) { j.result <- err }, s.Push(j)
}

func TestASimplePoolKeepsTheContract(t *testing.T) {
	pooltest.Run(t, func(_ *testing.T, workers, capacity int) pooltest.Subject {
		s := newSimple(workers, capacity)
		return pooltest.Subject{Manager: s, Submit: s.submit}
	})
}

func TestASimplePoolThatHandsBackWhatIsQueuedKeepsTheContract(t *testing.T) {
	pooltest.Run(t, func(_ *testing.T, workers, capacity int) pooltest.Subject {
		s := newSimple(workers, capacity)
		s.handsBack = true
		return pooltest.Subject{
			Manager: struct{ worker.Manager }{s}, // without StopContext
			Submit:  s.submit,
			HandedBack: func() int {
				s.mu.Lock()
				defer s.mu.Unlock()
				return s.handedBack
			},
		}
	})
}
