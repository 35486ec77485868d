// Package pooltest checks that an implementation keeps the contract of worker.Manager, and that of
// worker.ManagerContext if it has the method.
package pooltest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/workerpool-dev/workerpool/pkg/worker"
)

// Subject is a pool that was not started, with a way to give it jobs.
type Subject struct {
	Manager worker.Manager

	// Submit pushes a new job on the pool's queue, without waiting, and returns the error of that.
	// The job runs until it is told to end, and heeds no context. If it was accepted, end is the
	// function that tells it: with nil the job succeeds, with an error it fails for good, because it
	// has no retries. The function is called once, maybe before the job runs: then the job ends as
	// soon as it does. Submit is called from many goroutines at once.
	Submit func(t *testing.T) (end func(err error), err error)

	// Slack is how many jobs may be missing from a Status, or counted twice, for the moment between
	// two places: 0 for a pool whose numbers always fit together.
	Slack int

	// HandedBack is nil for a pool whose Stop runs what is queued. Where Stop hands that back instead, it
	// returns the number of accepted jobs that were handed back until now.
	HandedBack func() int
}

// New makes a pool of so many workers that run one job each at a time, whose queue has room for so many
// jobs that wait.
type New func(t *testing.T, workers, capacity int) Subject

// Run runs the suite. Each test runs in a bubble of testing/synctest, and newSubject is called in it:
// what it starts must have ended when the jobs have ended and the pool was stopped, or else in a
// t.Cleanup. Jobs must be taken in the order in which they were submitted.
func Run(t *testing.T, newSubject New) {
	run := func(behaviour string, workers, capacity int, test func(t *testing.T, s *subject)) {
		t.Run(behaviour, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, adopt(t, newSubject(t, workers, capacity))) })
		})
	}
	run("it starts and stops once", 1, 1, testLifecycle)
	run("Stop before Start hands nothing to workers", 2, 2, testStopNew)
	run("Status counts each job at each step", 2, 4, testStatus)
	run("n workers run n jobs at once", 5, 5, testSpread)
	run("Queue is the queue", 1, 2, testQueue)
	run("a full queue refuses jobs until one is taken", 2, 2, testFull)
	run("Stop runs or hands back what is queued, and waits for what runs", 2, 5, testStop)
	run("Status fits together at every look", 3, 200, testLooks)
	run("a job is accepted and processed, or refused, while the pool is stopped", 3, 400, testConcurrentStop)
	if !knowsContexts(t, newSubject) {
		return
	}
	run("StopContext runs what was accepted while its context lasts", 1, 3, testStopContextWaits)
	run("StopContext hands back what was not run", 2, 5, testStopContextEnded)
	run("StopContext runs jobs until its context ends", 1, 5, testStopContextEnds)
	run("StopContext before Start hands back all", 2, 2, testStopContextNew)
}

func knowsContexts(t *testing.T, newSubject New) (ok bool) {
	synctest.Test(t, func(t *testing.T) {
		_, ok = adopt(t, newSubject(t, 1, 1)).Manager.(worker.ManagerContext)
	})
	return ok
}

var errJob = errors.New("the job failed")

func testLifecycle(t *testing.T, s *subject) {
	s.mustStart(t)
	s.mustStart(t)
	s.submit(t)(nil)
	s.wantCounts(t, worker.PoolStatus{ProcessedJobs: 1})
	for range 2 {
		start(s.Stop).wantErr(t, nil)
		wantErr(t, s.Start(), worker.ErrStopped)
	}
	s.wantCounts(t, worker.PoolStatus{ProcessedJobs: 1})
}

func testStopNew(t *testing.T, s *subject) {
	s.submit(t)
	s.submit(t)(nil)
	s.wantCounts(t, worker.PoolStatus{QueueSize: 2})
	for range 2 {
		stop := start(s.Stop)
		mustBe(t, "returned", stop.returned(), true)
		wantOneOf(t, stop.err, nil, worker.ErrStopped) // it may say so that jobs are left
		wantErr(t, s.Start(), worker.ErrStopped)
		synctest.Wait()
		if s.handsBack() {
			s.wantHandedBack(t, 2)
			s.wantCounts(t, worker.PoolStatus{})
		}
		mustBe(t, "number of active jobs", s.Status().ActiveJobs, 0)
		mustBe(t, "number of processed jobs that did not fail", s.Status().ProcessedJobs-s.Status().FailedJobs, 0)
	}
}

func testStatus(t *testing.T, s *subject) {
	s.wantCounts(t, worker.PoolStatus{})
	first, second, third, fourth := s.submit(t), s.submit(t), s.submit(t), s.submit(t)
	s.wantCounts(t, worker.PoolStatus{QueueSize: 4})
	s.mustStart(t)
	s.wantCounts(t, worker.PoolStatus{QueueSize: 2, ActiveJobs: 2})
	mustBe(t, "number of workers of a started pool", s.Status().Workers, 2)
	second(errJob)
	s.wantCounts(t, worker.PoolStatus{QueueSize: 1, ActiveJobs: 2, ProcessedJobs: 1, FailedJobs: 1})
	first(nil)
	s.wantCounts(t, worker.PoolStatus{ActiveJobs: 2, ProcessedJobs: 2, FailedJobs: 1})
	third(nil)
	s.wantCounts(t, worker.PoolStatus{ActiveJobs: 1, ProcessedJobs: 3, FailedJobs: 1})
	fourth(errJob)
	s.wantCounts(t, worker.PoolStatus{ProcessedJobs: 4, FailedJobs: 2})
	s.submit(t)
	s.wantCounts(t, worker.PoolStatus{ActiveJobs: 1, ProcessedJobs: 4, FailedJobs: 2})
	mustBe(t, "number of workers of a started pool", s.Status().Workers, 2)
}

func testSpread(t *testing.T, s *subject) {
	s.mustStart(t)
	for n := range 5 {
		s.submit(t)
		s.wantCounts(t, worker.PoolStatus{ActiveJobs: n + 1})
	}
	s.submit(t)
	s.wantCounts(t, worker.PoolStatus{QueueSize: 1, ActiveJobs: 5})
}

// foreign is a job that does nothing. It has a field because pointers to empty structs may be equal.
type foreign struct{ _ int }

func (*foreign) Process() error  { return nil }
func (*foreign) OnFailure(error) {}
func (*foreign) MaxRetries() int { return 0 }

func testQueue(t *testing.T, s *subject) {
	q := s.Queue()
	s.submit(t)
	s.submit(t)
	mustBe(t, "length of the queue before Start", q.Len(), 2)
	s.mustStart(t)
	synctest.Wait()
	mustBe(t, "Queue after Start", s.Queue(), q)
	mustBe(t, "length of the queue when one job of two runs", q.Len(), 1)
	stop := start(s.Stop)
	wantErr(t, q.Push(&foreign{}), worker.ErrClosed)
	s.endAll()
	stop.wantErr(t, nil)
	mustBe(t, "Queue after Stop", s.Queue(), q)
	mustBe(t, "length of the queue after Stop", q.Len(), 0)
	wantErr(t, q.Push(&foreign{}), worker.ErrClosed)
}

func testFull(t *testing.T, s *subject) {
	first := s.submit(t)
	s.submit(t)
	s.wantRefused(t, worker.ErrFull)
	s.mustStart(t)
	synctest.Wait() // the workers take them
	s.submit(t)
	s.submit(t)
	s.wantRefused(t, worker.ErrFull)
	s.wantCounts(t, worker.PoolStatus{QueueSize: 2, ActiveJobs: 2})
	first(nil)
	synctest.Wait()
	s.submit(t)
	s.wantRefused(t, worker.ErrFull)
	s.wantCounts(t, worker.PoolStatus{QueueSize: 2, ActiveJobs: 2, ProcessedJobs: 1})
}

func testStop(t *testing.T, s *subject) {
	s.mustStart(t)
	var ends []func(error)
	for range 5 {
		ends = append(ends, s.submit(t))
	}
	synctest.Wait()
	first, second := start(s.Stop), start(s.Stop)
	s.wantRefused(t, worker.ErrClosed, worker.ErrStopped)
	wantErr(t, s.Start(), worker.ErrStopped)
	if s.handsBack() {
		s.wantHandedBack(t, 3)
		ends = ends[:2]
	}
	for n, end := range ends {
		left := len(ends) - n
		s.wantCounts(t, worker.PoolStatus{QueueSize: max(left-2, 0), ActiveJobs: min(left, 2), ProcessedJobs: uint64(n)})
		first.wantWaiting(t)
		second.wantWaiting(t)
		end(nil)
	}
	first.wantErr(t, nil)
	second.wantErr(t, nil)
	s.wantCounts(t, worker.PoolStatus{ProcessedJobs: uint64(len(ends))})
	s.wantRefused(t, worker.ErrClosed, worker.ErrStopped)
}

// testLooks has some look at the status all the time while others submit jobs and end them.
func testLooks(t *testing.T, s *subject) {
	const submitters, rounds, each = 4, 5, 10
	s.mustStart(t)
	var begun, accepted atomic.Int64 // calls of Submit
	var over atomic.Bool
	var looking, submitting sync.WaitGroup
	for range 2 {
		looking.Go(func() {
			for last := (worker.PoolStatus{}); !over.Load() && !t.Failed(); {
				least := accepted.Load()
				status := s.Status()
				wantSense(t, last, status, least-int64(s.slack), begun.Load()+int64(s.slack))
				last = status
			}
		})
	}
	for range submitters {
		submitting.Go(func() {
			for range rounds {
				s.submitMany(t, each, &begun, &accepted)
			}
		})
	}
	submitting.Wait()
	over.Store(true)
	looking.Wait()
	const total = submitters * rounds * each
	s.wantCounts(t, worker.PoolStatus{ProcessedJobs: total, FailedJobs: total / 2})
}

// submitMany submits n jobs, for which there is room, and then ends them, half of them as failed.
func (s *subject) submitMany(t *testing.T, n int, begun, accepted *atomic.Int64) {
	var ends []func(error)
	for range n {
		begun.Add(1)
		end, err := s.begin(t)
		if err != nil {
			t.Errorf("refused with room for all: %v", err)
			return
		}
		accepted.Add(1)
		ends = append(ends, end)
	}
	for i, end := range ends {
		end([]error{nil, errJob}[i%2])
	}
}

// wantSense wants a status of a pool of three workers that comes after another one, where at least and
// at most so many jobs were accepted.
func wantSense(t *testing.T, before, now worker.PoolStatus, least, most int64) {
	t.Helper()
	sum := int64(now.QueueSize) + int64(now.ActiveJobs) + int64(now.ProcessedJobs)
	if sum < least || sum > most || now.QueueSize < 0 || now.ActiveJobs < 0 || now.ActiveJobs > 3 ||
		now.FailedJobs > now.ProcessedJobs || now.ProcessedJobs < before.ProcessedJobs || now.FailedJobs < before.FailedJobs {
		t.Errorf("status is %+v, and was %+v before, when between %d and %d jobs were accepted", now, before, least, most)
	}
}

func testConcurrentStop(t *testing.T, s *subject) {
	s.mustStart(t)
	var accepted atomic.Uint64
	var calls sync.WaitGroup
	for i := range 4 {
		calls.Go(func() { _ = s.Start() }) // before or after a Stop
		calls.Go(func() {
			for j := range 100 {
				if i < 2 && j == 50 {
					calls.Go(func() { _ = s.Stop() })
				}
				end, err := s.begin(t)
				if err != nil {
					wantOneOf(t, err, worker.ErrClosed, worker.ErrStopped)
					continue
				}
				accepted.Add(1)
				end(nil)
			}
		})
	}
	calls.Wait()
	synctest.Wait()
	s.wantCounts(t, worker.PoolStatus{ProcessedJobs: accepted.Load() - uint64(s.numberHandedBack())})
}

// grace is longer than the second that a worker leaves its job to end.
const grace = 1500 * time.Millisecond

var errCause = errors.New("the cause")

func testStopContextWaits(t *testing.T, s *subject) {
	s.submit(t)
	s.submit(t)
	s.submit(t)
	s.mustStart(t)
	stop := s.stopContext(t.Context())
	<-time.After(time.Hour)
	stop.wantWaiting(t)
	s.wantCounts(t, worker.PoolStatus{QueueSize: 2, ActiveJobs: 1})
	s.endAll()
	stop.wantErr(t, nil)
	mustBe(t, "number of jobs handed back", len(stop.jobs), 0)
	s.wantCounts(t, worker.PoolStatus{ProcessedJobs: 3})
}

func testStopContextEnded(t *testing.T, s *subject) {
	for range 5 {
		s.submit(t)
	}
	s.mustStart(t)
	synctest.Wait()
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errCause)
	stop, again := s.stopContext(ctx), s.stopContext(ctx)
	<-time.After(grace)
	stop.wantErr(t, errCause)
	mustBe(t, "second StopContext returned", again.returned(), true)
	s.wantRefused(t, worker.ErrClosed, worker.ErrStopped)
	s.wantOnce(t, 5, 3, append(stop.jobs, again.jobs...))
}

func testStopContextEnds(t *testing.T, s *subject) {
	end := s.submit(t)
	for range 4 {
		s.submit(t)
	}
	s.mustStart(t)
	synctest.Wait()
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := s.stopContext(ctx)
	end(nil)
	s.wantCounts(t, worker.PoolStatus{QueueSize: 3, ActiveJobs: 1, ProcessedJobs: 1})
	stop.wantWaiting(t)
	cancel(errCause)
	<-time.After(grace)
	stop.wantErr(t, errCause)
	s.wantOnce(t, 5, 3, stop.jobs)
}

func testStopContextNew(t *testing.T, s *subject) {
	s.submit(t)
	s.submit(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errCause)
	stop := s.stopContext(ctx)
	<-time.After(grace)
	mustBe(t, "returned", stop.returned(), true)
	s.wantOnce(t, 2, 2, stop.jobs)
	wantErr(t, s.Start(), worker.ErrStopped)
}
