package workertest_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/worker/workertest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// simple is the least that keeps the contract: one goroutine that takes jobs from a channel.
type simple struct {
	queue chan *job
	stop  chan struct{} // closed by the first Stop
	ended chan struct{} // closed when no job will run any more

	mu     sync.Mutex
	status worker.WorkerStatus
}

// job ends when it gets its result.
type job struct{ result chan error }

func newSimple() *simple {
	return &simple{
		queue:  make(chan *job, 10),
		stop:   make(chan struct{}),
		ended:  make(chan struct{}),
		status: worker.WorkerStatus{State: worker.WorkerNew},
	}
}

func (s *simple) give(*testing.T) (end func(err error)) {
	j := &job{result: make(chan error, 1)}
	s.queue <- j
	return func(err error) { j.result <- err }
}

func (s *simple) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.status.State {
	case worker.WorkerStopping, worker.WorkerStopped:
		return worker.ErrStopped
	case worker.WorkerNew:
		s.status.Running, s.status.State = true, worker.WorkerIdle
		go s.run()
	}
	return nil
}

func (s *simple) run() {
	defer s.change(func(status *worker.WorkerStatus) {
		status.Running, status.State = false, worker.WorkerStopped
		close(s.ended)
	})
	for {
		select {
		case <-s.stop:
			return
		case j := <-s.queue:
			if !s.process(j) {
				return
			}
		}
	}
}

// process reports false if the worker was stopped.
func (s *simple) process(j *job) bool {
	stopped := false
	s.change(func(status *worker.WorkerStatus) {
		if stopped = status.State == worker.WorkerStopping; !stopped {
			status.State, status.CurrentJob = worker.WorkerBusy, &worker.JobInfo{ID: "job", Attempt: 1}
		}
	})
	if stopped {
		return false
	}
	err := <-j.result
	s.change(func(status *worker.WorkerStatus) {
		status.CurrentJob = nil
		status.ProcessedJobs++
		if err != nil {
			status.FailedJobs++
		}
		if status.State == worker.WorkerBusy {
			status.State = worker.WorkerIdle
		}
	})
	return true
}

func (s *simple) change(f func(status *worker.WorkerStatus)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.status)
}

func (s *simple) beginStop() {
	s.change(func(status *worker.WorkerStatus) {
		switch status.State {
		case worker.WorkerNew:
			status.State = worker.WorkerStopped
			close(s.ended)
		case worker.WorkerIdle, worker.WorkerBusy:
			status.State = worker.WorkerStopping
			close(s.stop)
		}
	})
}

func (s *simple) Stop() error {
	s.beginStop()
	<-s.ended
	return nil
}

func (s *simple) StopContext(ctx context.Context) error {
	s.beginStop()
	select {
	case <-s.ended:
		return nil
	case <-ctx.Done():
	}
	select {
	case <-s.ended:
		return nil
	case <-time.After(time.Second):
		return context.Cause(ctx)
	}
}

func (s *simple) ID() int { return 7 }

func (s *simple) Status() (status worker.WorkerStatus) {
	s.change(func(now *worker.WorkerStatus) { status = *now })
	if status.CurrentJob != nil {
		status.CurrentJob = new(*status.CurrentJob)
	}
	return status
}

func TestASimpleWorkerKeepsTheContract(t *testing.T) {
	workertest.Run(t, func(*testing.T) workertest.Subject {
		s := newSimple()
		return workertest.Subject{Worker: s, Give: s.give}
	})
}
