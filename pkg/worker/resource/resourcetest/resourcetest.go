// Package resourcetest checks that an implementation keeps the contract of worker.ResourceController,
// and that of worker.ResourceControllerContext if it has the method.
package resourcetest

import (
	"context"
	"errors"
	"math"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/workerpool-dev/workerpool/pkg/worker"
)

// New makes a controller with nothing in use.
type New func(t *testing.T, limits worker.ResourceLimits) worker.ResourceController

// Run runs the suite.
func Run(t *testing.T, newController New) {
	t.Run("Status shows limits and what is held", func(t *testing.T) { testStatus(t, newController) })
	t.Run("all of a usage is held or nothing", func(t *testing.T) { testAllOrNothing(t, newController) })
	t.Run("Check answers as Acquire and takes nothing", func(t *testing.T) { testCheck(t, newController) })
	t.Run("more than a limit is too large", func(t *testing.T) { testTooLarge(t, newController) })
	t.Run("a limit of 0 is none", func(t *testing.T) { testNoLimit(t, newController) })
	t.Run("usage that makes no sense is invalid", func(t *testing.T) { testInvalid(t, newController) })
	t.Run("releasing more than is held panics", func(t *testing.T) { testReleasePanics(t, newController) })
	t.Run("many at once never hold more than the limits", func(t *testing.T) { testConcurrent(t, newController) })
	if _, ok := newController(t, limits).(worker.ResourceControllerContext); !ok {
		return
	}
	newContext := func(t *testing.T, limits worker.ResourceLimits) worker.ResourceControllerContext {
		return newController(t, limits).(worker.ResourceControllerContext)
	}
	t.Run("AcquireContext waits for a Release", func(t *testing.T) { testWaits(t, newContext) })
	t.Run("AcquireContext does not wait for the impossible", func(t *testing.T) { testHopeless(t, newContext) })
	t.Run("the end of a context ends a wait with its cause", func(t *testing.T) { testContextEnds(t, newContext) })
}

type newContextController func(t *testing.T, limits worker.ResourceLimits) worker.ResourceControllerContext

var (
	limits = worker.ResourceLimits{Memory: 100, CPU: 1, Files: 10}
	all    = worker.ResourceUsage{Memory: 100, CPU: 1, Files: 10}
	some   = worker.ResourceUsage{Memory: 60, CPU: 0.25, Files: 1}
)

func testStatus(t *testing.T, newController New) {
	c := newController(t, limits)
	wantUsed(t, c, worker.ResourceUsage{})
	if got := c.Status().Limits; got != limits {
		t.Fatalf("limits are %+v, want %+v", got, limits)
	}
	mustAcquire(t, c, some)
	wantUsed(t, c, some)
	c.Release(some)
	wantUsed(t, c, worker.ResourceUsage{})
}

func testAllOrNothing(t *testing.T, newController New) {
	c := newController(t, limits)
	mustAcquire(t, c, some)
	wantErr(t, c.Acquire(some), worker.ErrUnavailable) // memory is short, the others are not
	wantUsed(t, c, some)
	c.Release(some)
	mustAcquire(t, c, all)
}

func testCheck(t *testing.T, newController New) {
	c := newController(t, limits)
	wantErr(t, c.Check(all), nil)
	wantUsed(t, c, worker.ResourceUsage{})
	mustAcquire(t, c, some)
	wantErr(t, c.Check(all), worker.ErrUnavailable)
	wantErr(t, c.Check(worker.ResourceUsage{Memory: 101}), worker.ErrTooLarge)
	wantErr(t, c.Check(worker.ResourceUsage{Memory: -1}), worker.ErrInvalid)
	wantUsed(t, c, some)
}

func testTooLarge(t *testing.T, newController New) {
	c := newController(t, limits)
	mustAcquire(t, c, all) // "never" comes before "not now"
	for _, u := range []worker.ResourceUsage{{Memory: 101}, {CPU: 1.000000001}, {Files: 11}} {
		wantErr(t, c.Acquire(u), worker.ErrTooLarge)
	}
	wantUsed(t, c, all)
}

func testNoLimit(t *testing.T, newController New) {
	c := newController(t, worker.ResourceLimits{Files: 1})
	mustAcquire(t, c, worker.ResourceUsage{Memory: math.MaxInt64, CPU: 1e6, Files: 1})
	wantErr(t, c.Acquire(worker.ResourceUsage{Files: 1}), worker.ErrUnavailable)
	mustAcquire(t, c, worker.ResourceUsage{CPU: 1e6})
}

func testInvalid(t *testing.T, newController New) {
	c := newController(t, limits)
	for _, u := range []worker.ResourceUsage{
		{Memory: -1}, {Files: -1}, {CPU: -0.1}, {CPU: math.NaN()}, {CPU: math.Inf(1)}, {CPU: math.Inf(-1)},
	} {
		wantErr(t, c.Acquire(u), worker.ErrInvalid)
		wantErr(t, c.Check(u), worker.ErrInvalid)
	}
	wantUsed(t, c, worker.ResourceUsage{})
}

func testReleasePanics(t *testing.T, newController New) {
	for _, u := range []worker.ResourceUsage{{Memory: 61}, {CPU: 0.3}, {Files: 2}, {Memory: -1}, {CPU: math.NaN()}} {
		c := newController(t, limits)
		mustAcquire(t, c, some)
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("Release of %+v of %+v did not panic", u, some)
				}
			}()
			c.Release(u)
		}()
		wantUsed(t, c, some)
	}
}

func testConcurrent(t *testing.T, newController New) {
	const callers, rounds = 8, 500
	c := newController(t, limits)
	var mu sync.Mutex
	var held int64
	hold := func(memory int64) {
		mu.Lock()
		defer mu.Unlock()
		if held += memory; held > limits.Memory {
			t.Errorf("%d bytes are held, the limit is %d", held, limits.Memory)
		}
	}
	var calls sync.WaitGroup
	for i := range callers {
		calls.Go(func() {
			u := worker.ResourceUsage{Memory: int64(10 * (i + 1)), CPU: 0.1, Files: 1}
			for range rounds {
				err := c.Acquire(u)
				if errors.Is(err, worker.ErrUnavailable) {
					continue
				}
				if err != nil {
					t.Errorf("Acquire: %v", err)
					return
				}
				hold(u.Memory)
				hold(-u.Memory)
				c.Release(u)
			}
		})
	}
	calls.Wait()
	wantUsed(t, c, worker.ResourceUsage{})
}

func testWaits(t *testing.T, newController newContextController) {
	synctest.Test(t, func(t *testing.T) {
		c := newController(t, limits)
		mustAcquire(t, c, some)
		returned := make(chan error, 1)
		go func() { returned <- c.AcquireContext(t.Context(), all) }()
		synctest.Wait()
		if len(returned) > 0 || c.Status().Waiting != 1 {
			t.Fatalf("AcquireContext of what is in use: returned %v, waiting %d", len(returned) > 0, c.Status().Waiting)
		}
		c.Release(some)
		synctest.Wait()
		if len(returned) == 0 {
			t.Fatal("AcquireContext waits though all is free")
		}
		wantErr(t, <-returned, nil)
		wantUsed(t, c, all)
	})
}

func testHopeless(t *testing.T, newController newContextController) {
	c := newController(t, limits)
	mustAcquire(t, c, all)
	wantErr(t, c.AcquireContext(t.Context(), worker.ResourceUsage{Files: 11}), worker.ErrTooLarge)
	wantErr(t, c.AcquireContext(t.Context(), worker.ResourceUsage{Files: -1}), worker.ErrInvalid)
}

func testContextEnds(t *testing.T, newController newContextController) {
	cause := errors.New("the cause")
	synctest.Test(t, func(t *testing.T) {
		c := newController(t, limits)
		mustAcquire(t, c, some)
		ctx, cancel := context.WithCancelCause(t.Context())
		returned := make(chan error, 1)
		go func() { returned <- c.AcquireContext(ctx, all) }()
		synctest.Wait()
		cancel(cause)
		synctest.Wait()
		if len(returned) == 0 {
			t.Fatal("AcquireContext waits though its context has ended")
		}
		wantErr(t, <-returned, cause)
		c.Release(some)
		wantUsed(t, c, worker.ResourceUsage{})
		wantErr(t, c.AcquireContext(ctx, some), cause) // an ended context takes nothing, though it is free
		wantUsed(t, c, worker.ResourceUsage{})
	})
}

func mustAcquire(t *testing.T, c worker.ResourceController, u worker.ResourceUsage) {
	t.Helper()
	if err := c.Acquire(u); err != nil {
		t.Fatalf("Acquire of %+v: %v", u, err)
	}
}

func wantUsed(t *testing.T, c worker.ResourceController, want worker.ResourceUsage) {
	t.Helper()
	if got := c.Status().Used; got != want {
		t.Fatalf("used is %+v, want %+v", got, want)
	}
}

func wantErr(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Fatalf("error is %v, want %v", got, want)
	}
}
