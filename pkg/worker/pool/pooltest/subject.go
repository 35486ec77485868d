package pooltest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/workerpool-dev/workerpool/pkg/worker"
)

// subject is a Subject whose jobs end and whose pool is stopped with the test, also if that fails:
// goroutines left behind would hide why.
type subject struct {
	worker.Manager
	begin func(t *testing.T) (end func(err error), err error)
	ends  []func(err error) // of the jobs of submit
	slack int

	handedBack func() int // nil if Stop runs what is queued
}

func adopt(t *testing.T, given Subject) *subject {
	s := &subject{Manager: given.Manager, begin: given.Submit, slack: given.Slack, handedBack: given.HandedBack}
	t.Cleanup(func() {
		s.endAll()
		_ = s.Stop()
	})
	return s
}

// submit is Submit of a job that must be accepted, with an end that may be called again.
func (s *subject) submit(t *testing.T) (end func(err error)) {
	t.Helper()
	givenEnd, err := s.begin(t)
	wantErr(t, err, nil)
	var once sync.Once
	end = func(err error) { once.Do(func() { givenEnd(err) }) }
	s.ends = append(s.ends, end)
	return end
}

// handsBack tells whether Stop hands back what is queued.
func (s *subject) handsBack() bool { return s.handedBack != nil }

func (s *subject) numberHandedBack() int {
	if !s.handsBack() {
		return 0
	}
	return s.handedBack()
}

func (s *subject) wantHandedBack(t *testing.T, want int) {
	t.Helper()
	mustBe(t, "number of jobs handed back", s.numberHandedBack(), want)
}

func (s *subject) endAll() {
	for _, end := range s.ends {
		end(nil)
	}
}

func (s *subject) mustStart(t *testing.T) {
	t.Helper()
	wantErr(t, s.Start(), nil)
}

// handBack is a StopContext that may wait.
type handBack struct {
	*call
	jobs []worker.Job // for reading once the call has returned
}

func (s *subject) stopContext(ctx context.Context) *handBack {
	h := &handBack{}
	h.call = start(func() (err error) {
		h.jobs, err = s.Manager.(worker.ManagerContext).StopContext(ctx)
		return err
	})
	return h
}

// wantCounts lets things happen and wants these numbers. It does not look at that of the workers.
func (s *subject) wantCounts(t *testing.T, want worker.PoolStatus) {
	t.Helper()
	synctest.Wait()
	got := s.Status()
	got.Workers = want.Workers
	mustBe(t, "status (but for its workers)", got, want)
}

func (s *subject) wantRefused(t *testing.T, oneOf ...error) {
	t.Helper()
	_, err := s.begin(t)
	wantOneOf(t, err, oneOf...)
}

// wantOnce ends all jobs and wants each of those that were accepted to have been processed or handed
// back, not both, and at least so many of them handed back.
func (s *subject) wantOnce(t *testing.T, accepted, atLeast int, handedBack []worker.Job) {
	t.Helper()
	s.endAll()
	start(s.Stop).wantErr(t, nil)
	different := map[worker.Job]bool{}
	for _, job := range handedBack {
		different[job] = true
	}
	mustBe(t, "number of different jobs handed back", len(different), len(handedBack))
	mustBe(t, "enough jobs handed back", len(handedBack) >= atLeast, true)
	s.wantCounts(t, worker.PoolStatus{ProcessedJobs: uint64(accepted - len(handedBack))})
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

func wantOneOf(t *testing.T, got error, oneOf ...error) {
	t.Helper()
	if !slices.ContainsFunc(oneOf, func(want error) bool { return errors.Is(got, want) }) {
		t.Errorf("error is %v, want one of %v", got, oneOf)
	}
}

func wantErr(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Fatalf("error is %v, want %v", got, want)
	}
}
