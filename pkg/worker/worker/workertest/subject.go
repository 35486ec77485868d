package workertest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/workerpool-dev/workerpool/pkg/worker"
)

// subject is a Subject whose jobs end and whose worker is stopped with the test, also if that fails:
// goroutines left behind would hide why.
type subject struct {
	worker.Worker
	begin, beginRetried func(t *testing.T) (end func(err error))
	ends                []func(err error)
}

func adopt(t *testing.T, given Subject) *subject {
	s := &subject{Worker: given.Worker, begin: given.Give, beginRetried: given.GiveRetried}
	t.Cleanup(func() {
		for _, end := range s.ends {
			end(nil)
		}
		_ = s.Stop()
	})
	return s
}

// give is Give with an end that may be called again.
func (s *subject) give(t *testing.T) (end func(err error)) {
	t.Helper()
	givenEnd := s.begin(t)
	var once sync.Once
	end = func(err error) { once.Do(func() { givenEnd(err) }) }
	s.ends = append(s.ends, end)
	return end
}

// giveRetried is GiveRetried of a job that ends with the test.
func (s *subject) giveRetried(t *testing.T) (end func(err error)) {
	t.Helper()
	givenEnd, left := s.beginRetried(t), 2
	end = func(err error) {
		if left--; err == nil {
			left = 0
		}
		givenEnd(err)
	}
	s.ends = append(s.ends, func(error) {
		if left > 0 {
			end(nil)
		}
	})
	return end
}

func (s *subject) mustStart(t *testing.T) {
	t.Helper()
	wantErr(t, s.Start(), nil)
}

func (s *subject) stopContext(ctx context.Context) func() error {
	return func() error { return s.Worker.(worker.WorkerContext).StopContext(ctx) }
}

// wantIdle lets things happen and wants this status, without a job.
func (s *subject) wantIdle(t *testing.T, want worker.WorkerStatus) {
	t.Helper()
	synctest.Wait()
	mustBe(t, "status", s.Status(), want)
}

// wantJob lets things happen and wants this status, with a job in its first attempt.
func (s *subject) wantJob(t *testing.T, want worker.WorkerStatus) {
	t.Helper()
	s.wantTry(t, 1, want)
}

// wantTry is wantJob for any attempt.
func (s *subject) wantTry(t *testing.T, try int, want worker.WorkerStatus) {
	t.Helper()
	synctest.Wait()
	got := s.Status()
	if job := got.CurrentJob; job == nil || job.ID == "" || job.Attempt != try {
		t.Fatalf("job is %+v, want one with an ID, in attempt %d; status %+v", job, try, got)
	}
	got.CurrentJob = nil
	mustBe(t, "status (but for its job)", got, want)
}

// call is a call that may wait.
type call struct {
	done chan struct{}
	err  error // for reading once done is closed
}

// start runs a call beside the test, until it has returned or waits.
func start(f func() error) *call {
	c := &call{done: make(chan struct{})}
	go func() {
		defer close(c.done)
		c.err = f()
	}()
	synctest.Wait()
	return c
}

func (c *call) returned() bool {
	synctest.Wait()
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

func (c *call) wantErr(t *testing.T, want error) {
	t.Helper()
	mustBe(t, "returned", c.returned(), true)
	wantErr(t, c.err, want)
}

func (c *call) wantWaiting(t *testing.T) {
	t.Helper()
	mustBe(t, "returned while a job runs", c.returned(), false)
}

func mustBe[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Fatalf("%s is %+v, want %+v", what, got, want)
	}
}

func wantErr(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Fatalf("error is %v, want %v", got, want)
	}
}
