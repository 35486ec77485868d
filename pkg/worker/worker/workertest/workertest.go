// Package workertest checks that an implementation keeps the contract of worker.Worker, and that of
// worker.WorkerContext if it has the method.
package workertest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/workerpool-dev/workerpool/pkg/worker"
)

// Subject is a worker that was not started, with a way to give it jobs.
type Subject struct {
	Worker worker.Worker

	// Give makes one job available to the worker: it pushes it on the worker's queue, which has room
	// for 10 of them. The job runs until it is told to end, and heeds no context. Give returns the
	// function that tells it: with nil the job succeeds, with an error it fails for good, because it
	// has no retries. The function is called once, maybe before the job runs: then the job ends as
	// soon as it does.
	Give func(t *testing.T) (end func(err error))

	// GiveRetried is Give with a job that has one retry, which comes at once. The function that it returns is called
	// for each of its tries, in turn: once, or twice if the first call was with an error. Nil if such a job can't be
	// given; then nothing is checked that is about retries.
	GiveRetried func(t *testing.T) (end func(err error))
}

// Run runs the suite. Each test runs in a bubble of testing/synctest, and newSubject is called in it:
// what it starts must have ended when the jobs have ended and the worker was stopped, or else in a
// t.Cleanup.
func Run(t *testing.T, newSubject func(t *testing.T) Subject) {
	run := func(behaviour string, test func(t *testing.T, s *subject)) {
		t.Run(behaviour, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, adopt(t, newSubject(t))) })
		})
	}
	run("its ID does not change", testID)
	run("a new worker runs nothing", testNew)
	run("a started worker runs a job and counts it", testRuns)
	run("a failed job counts as processed and as failed", testFails)
	if hasRetries(t, newSubject) {
		run("a try after which the job is tried again does not count", testRetried)
	}
	run("a second Start does nothing", testStartTwice)
	run("Stop waits for the job that runs, and no other is taken", testStopWaits)
	run("a stopped worker stays stopped", testStopped)
	run("a worker can be stopped before it was started", testStopNew)
	run("Status is a copy", testStatusCopy)
	run("many calls at once", testConcurrent)
	run("many stops at once", testConcurrentStop)
	if !knowsContexts(t, newSubject) {
		return
	}
	run("StopContext without a job returns at once", testStopContextIdle)
	run("StopContext waits for the job that runs", testStopContextWaits)
	run("StopContext gives up soon after the end of its context", testStopContextEnds)
}

func knowsContexts(t *testing.T, newSubject func(t *testing.T) Subject) (ok bool) {
	synctest.Test(t, func(t *testing.T) {
		_, ok = adopt(t, newSubject(t)).Worker.(worker.WorkerContext)
	})
	return ok
}

func hasRetries(t *testing.T, newSubject func(t *testing.T) Subject) (ok bool) {
	synctest.Test(t, func(t *testing.T) {
		given := newSubject(t)
		adopt(t, given)
		ok = given.GiveRetried != nil
	})
	return ok
}

var (
	errJob   = errors.New("the job failed")
	errCause = errors.New("the cause")
)

func testID(t *testing.T, s *subject) {
	id := s.ID()
	s.mustStart(t)
	mustBe(t, "ID of a started worker", s.ID(), id)
	wantErr(t, s.Stop(), nil)
	mustBe(t, "ID of a stopped worker", s.ID(), id)
}

func testNew(t *testing.T, s *subject) {
	s.wantIdle(t, worker.WorkerStatus{State: worker.WorkerNew})
	s.give(t)
	s.wantIdle(t, worker.WorkerStatus{State: worker.WorkerNew})
	s.mustStart(t)
	s.wantJob(t, worker.WorkerStatus{Running: true, State: worker.WorkerBusy})
}

func testRuns(t *testing.T, s *subject) {
	s.mustStart(t)
	s.wantIdle(t, worker.WorkerStatus{Running: true, State: worker.WorkerIdle})
	for n := range uint64(3) {
		end := s.give(t)
		s.wantJob(t, worker.WorkerStatus{Running: true, State: worker.WorkerBusy, ProcessedJobs: n})
		end(nil)
		s.wantIdle(t, worker.WorkerStatus{Running: true, State: worker.WorkerIdle, ProcessedJobs: n + 1})
	}
	s.give(t)(nil) // it has ended before it runs
	s.wantIdle(t, worker.WorkerStatus{Running: true, State: worker.WorkerIdle, ProcessedJobs: 4})
}

func testFails(t *testing.T, s *subject) {
	s.mustStart(t)
	s.give(t)(errJob)
	s.wantIdle(t, worker.WorkerStatus{Running: true, State: worker.WorkerIdle, ProcessedJobs: 1, FailedJobs: 1})
	end := s.give(t)
	s.wantJob(t, worker.WorkerStatus{Running: true, State: worker.WorkerBusy, ProcessedJobs: 1, FailedJobs: 1})
	end(errJob)
	s.give(t)(nil)
	s.wantIdle(t, worker.WorkerStatus{Running: true, State: worker.WorkerIdle, ProcessedJobs: 3, FailedJobs: 2})
}

func testRetried(t *testing.T, s *subject) {
	s.mustStart(t)
	end := s.giveRetried(t)
	end(errJob)
	s.wantTry(t, 2, worker.WorkerStatus{Running: true, State: worker.WorkerBusy})
	end(nil)
	s.wantIdle(t, worker.WorkerStatus{Running: true, State: worker.WorkerIdle, ProcessedJobs: 1})
	end = s.giveRetried(t)
	end(errJob)
	s.wantTry(t, 2, worker.WorkerStatus{Running: true, State: worker.WorkerBusy, ProcessedJobs: 1})
	end(errJob)
	s.wantIdle(t, worker.WorkerStatus{Running: true, State: worker.WorkerIdle, ProcessedJobs: 2, FailedJobs: 1})
}

func testStartTwice(t *testing.T, s *subject) {
	s.mustStart(t)
	end := s.give(t)
	s.wantJob(t, worker.WorkerStatus{Running: true, State: worker.WorkerBusy})
	s.mustStart(t)
	s.wantJob(t, worker.WorkerStatus{Running: true, State: worker.WorkerBusy})
	end(nil)
	s.wantIdle(t, worker.WorkerStatus{Running: true, State: worker.WorkerIdle, ProcessedJobs: 1})
}

func testStopWaits(t *testing.T, s *subject) {
	s.mustStart(t)
	end := s.give(t)
	synctest.Wait()
	first, second := start(s.Stop), start(s.Stop)
	late := s.give(t)
	s.wantJob(t, worker.WorkerStatus{Running: true, State: worker.WorkerStopping})
	first.wantWaiting(t)
	second.wantWaiting(t)
	wantErr(t, s.Start(), worker.ErrStopped)
	end(nil)
	first.wantErr(t, nil)
	second.wantErr(t, nil)
	s.wantIdle(t, worker.WorkerStatus{State: worker.WorkerStopped, ProcessedJobs: 1})
	late(nil)
	s.wantIdle(t, worker.WorkerStatus{State: worker.WorkerStopped, ProcessedJobs: 1})
}

func testStopped(t *testing.T, s *subject) {
	s.mustStart(t)
	s.give(t)(errJob)
	synctest.Wait()
	for range 2 {
		start(s.Stop).wantErr(t, nil)
		wantErr(t, s.Start(), worker.ErrStopped)
		s.give(t)
		s.wantIdle(t, worker.WorkerStatus{State: worker.WorkerStopped, ProcessedJobs: 1, FailedJobs: 1})
	}
}

func testStopNew(t *testing.T, s *subject) {
	s.give(t)
	for range 2 {
		start(s.Stop).wantErr(t, nil)
		wantErr(t, s.Start(), worker.ErrStopped)
		s.wantIdle(t, worker.WorkerStatus{State: worker.WorkerStopped})
	}
}

func testStatusCopy(t *testing.T, s *subject) {
	s.mustStart(t)
	end := s.give(t)
	synctest.Wait()
	mine := s.Status()
	want := *mine.CurrentJob
	mine.CurrentJob.ID = "scribble"
	mine.CurrentJob.Attempt = 99
	mustBe(t, "job after a change of another copy of the status", *s.Status().CurrentJob, want)
	end(nil)
	s.wantIdle(t, worker.WorkerStatus{Running: true, State: worker.WorkerIdle, ProcessedJobs: 1})
	mustBe(t, "attempt in a copy of the status after the job's end", mine.CurrentJob.Attempt, 99)
}

// capacity is how many jobs a Subject promises to have room for.
const capacity = 10

func testConcurrent(t *testing.T, s *subject) {
	id := s.ID()
	errs := make([]error, 8)
	var calls sync.WaitGroup
	for i := range errs {
		calls.Go(func() {
			for range 100 {
				errs[i] = errors.Join(errs[i], s.Start())
				if status := s.Status(); s.ID() != id || status.FailedJobs > status.ProcessedJobs {
					errs[i] = errors.New("ID or Status make no sense")
				}
			}
		})
	}
	for range capacity {
		s.give(t)(errJob)
	}
	calls.Wait()
	wantErr(t, errors.Join(errs...), nil)
	s.wantIdle(t, worker.WorkerStatus{Running: true, State: worker.WorkerIdle, ProcessedJobs: capacity, FailedJobs: capacity})
}

func testConcurrentStop(t *testing.T, s *subject) {
	s.mustStart(t)
	end := s.give(t)
	synctest.Wait()
	stopped := make([]bool, 8)
	errs := make([]error, len(stopped))
	var calls sync.WaitGroup
	for i := range stopped {
		calls.Go(func() {
			errs[i] = s.Stop()
			stopped[i] = !s.Status().Running
		})
		calls.Go(func() { _ = s.Start() }) // before or after a Stop
	}
	end(nil)
	calls.Wait()
	wantErr(t, errors.Join(errs...), nil)
	for _, ok := range stopped {
		mustBe(t, "stopped when Stop has returned", ok, true)
	}
	s.wantIdle(t, worker.WorkerStatus{State: worker.WorkerStopped, ProcessedJobs: 1})
}

func testStopContextIdle(t *testing.T, s *subject) {
	s.mustStart(t)
	start(s.stopContext(t.Context())).wantErr(t, nil)
	start(s.stopContext(t.Context())).wantErr(t, nil)
	wantErr(t, s.Start(), worker.ErrStopped)
	s.wantIdle(t, worker.WorkerStatus{State: worker.WorkerStopped})
}

func testStopContextWaits(t *testing.T, s *subject) {
	s.mustStart(t)
	end := s.give(t)
	synctest.Wait()
	stop := start(s.stopContext(t.Context()))
	<-time.After(time.Hour)
	stop.wantWaiting(t)
	s.wantJob(t, worker.WorkerStatus{Running: true, State: worker.WorkerStopping})
	end(nil)
	stop.wantErr(t, nil)
	s.wantIdle(t, worker.WorkerStatus{State: worker.WorkerStopped, ProcessedJobs: 1})
}

func testStopContextEnds(t *testing.T, s *subject) {
	s.mustStart(t)
	end := s.give(t)
	synctest.Wait()
	ctx, cancel := context.WithCancelCause(t.Context())
	bounded := start(s.stopContext(ctx))
	bounded.wantWaiting(t)
	cancel(errCause)
	<-time.After(1500 * time.Millisecond) // a second for the job, and some more
	bounded.wantErr(t, errCause)

	s.wantJob(t, worker.WorkerStatus{Running: true, State: worker.WorkerStopping})
	again := start(s.stopContext(ctx))
	stop := start(s.Stop)
	<-time.After(1500 * time.Millisecond)
	again.wantErr(t, errCause)
	stop.wantWaiting(t)
	end(nil)
	stop.wantErr(t, nil)
	s.wantIdle(t, worker.WorkerStatus{State: worker.WorkerStopped, ProcessedJobs: 1})
}
