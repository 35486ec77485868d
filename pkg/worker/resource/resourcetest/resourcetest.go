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
	"time"

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

// RunFair runs a suite of its own, for a worker.ResourceControllerContext that promises to serve those who
// wait in order, in each resource: whoever comes later gets nothing that would delay the first, but what
// the first does not need. Each test runs in a bubble of testing/synctest, and newController is called
// in it.
func RunFair(t *testing.T, newController New) {
	run := func(behaviour string, limits worker.ResourceLimits, test func(t *testing.T, c worker.ResourceControllerContext)) {
		t.Run(behaviour, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				test(t, newController(t, limits).(worker.ResourceControllerContext))
			})
		})
	}
	run("Waiting counts those who wait", limits, testWaiting)
	run("those who need the same are served in the order in which they came", limits, testOrder)
	run("nobody passes one who needs the same", limits, testNoPassing)
	run("one who leaves holds up nobody", limits, testLeaves)
	run("one who waits for memory does not hold up one who needs CPU only", limits, testOther)
	run("a stream of small ones does not starve a big one", worker.ResourceLimits{Memory: 4}, testStream)
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
		waits := acquire(t.Context(), c, all)
		waits.wantReturned(t, false)
		wantWaiting(t, c, 1)
		c.Release(some)
		waits.wantErr(t, nil)
		wantWaiting(t, c, 0)
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
		waits := acquire(ctx, c, all)
		waits.wantReturned(t, false)
		cancel(cause)
		waits.wantErr(t, cause)
		c.Release(some)
		wantUsed(t, c, worker.ResourceUsage{})
		wantErr(t, c.AcquireContext(ctx, some), cause) // an ended context takes nothing, though it is free
		wantUsed(t, c, worker.ResourceUsage{})
	})
}

func testWaiting(t *testing.T, c worker.ResourceControllerContext) {
	mustAcquire(t, c, all)
	wantWaiting(t, c, 0)
	ctx, cancel := context.WithCancel(t.Context())
	first, leaves, third := acquire(t.Context(), c, some), acquire(ctx, c, some), acquire(t.Context(), c, some)
	wantErr(t, c.Acquire(some), worker.ErrUnavailable) // it does not wait
	wantWaiting(t, c, 3)
	cancel()
	leaves.wantErr(t, context.Canceled)
	wantWaiting(t, c, 2)
	c.Release(all)
	first.wantErr(t, nil)
	wantWaiting(t, c, 1) // there is memory for one
	c.Release(some)
	third.wantErr(t, nil)
	wantWaiting(t, c, 0)
	wantUsed(t, c, some)
}

func testOrder(t *testing.T, c worker.ResourceControllerContext) {
	mustAcquire(t, c, memory(100))
	first, second, third := acquire(t.Context(), c, memory(60)), acquire(t.Context(), c, memory(50)), acquire(t.Context(), c, memory(40))
	c.Release(memory(100))
	first.wantErr(t, nil)
	second.wantReturned(t, false)
	third.wantReturned(t, false) // it fits, but so the second would wait longer
	c.Release(memory(60))
	second.wantErr(t, nil)
	third.wantErr(t, nil)
}

func testNoPassing(t *testing.T, c worker.ResourceControllerContext) {
	mustAcquire(t, c, memory(80))
	first := acquire(t.Context(), c, memory(90))
	second := acquire(t.Context(), c, memory(20))
	for _, release := range []worker.ResourceUsage{{}, memory(50)} {
		c.Release(release)
		first.wantReturned(t, false)
		second.wantReturned(t, false)
		wantErr(t, c.Acquire(memory(20)), worker.ErrUnavailable)
		wantErr(t, c.Check(memory(20)), worker.ErrUnavailable)
	}
	c.Release(memory(30))
	first.wantErr(t, nil)
	second.wantReturned(t, false)
	c.Release(memory(90))
	second.wantErr(t, nil)
}

func testLeaves(t *testing.T, c worker.ResourceControllerContext) {
	mustAcquire(t, c, memory(80))
	ctx, cancel := context.WithCancel(t.Context())
	first := acquire(ctx, c, memory(90))
	second := acquire(t.Context(), c, memory(20))
	second.wantReturned(t, false)
	cancel()
	first.wantErr(t, context.Canceled)
	second.wantErr(t, nil)
}

func testOther(t *testing.T, c worker.ResourceControllerContext) {
	half := worker.ResourceUsage{CPU: 0.5}
	mustAcquire(t, c, all)
	first := acquire(t.Context(), c, memory(10))
	cpu, more := acquire(t.Context(), c, half), acquire(t.Context(), c, half)
	c.Release(half)
	cpu.wantErr(t, nil)
	more.wantReturned(t, false)
	c.Release(half)
	more.wantErr(t, nil)
	c.Release(half)
	mustAcquire(t, c, half) // without waiting, too
	acquire(t.Context(), c, worker.ResourceUsage{}).wantErr(t, nil)
	first.wantReturned(t, false)
	c.Release(memory(10))
	first.wantErr(t, nil)
}

// testStream has small ones come without end, each to stay for a second.
func testStream(t *testing.T, c worker.ResourceControllerContext) {
	ctx, cancel := context.WithCancel(t.Context())
	var small sync.WaitGroup
	for i := range 8 {
		small.Go(func() {
			<-time.After(time.Duration(i) * 130 * time.Millisecond)
			for c.AcquireContext(ctx, memory(1)) == nil {
				<-time.After(time.Second)
				c.Release(memory(1))
			}
		})
	}
	<-time.After(10 * time.Second)
	big := acquire(t.Context(), c, memory(4))
	<-time.After(2 * time.Second) // those who hold some end within a second, the four before it in one more
	big.wantErr(t, nil)
	cancel()
	small.Wait()
	wantUsed(t, c, memory(4))
}

func memory(bytes int64) worker.ResourceUsage {
	return worker.ResourceUsage{Memory: bytes}
}

// call is an AcquireContext that may wait.
type call struct {
	done chan struct{}
	err  error // for reading once done is closed
}

func acquire(ctx context.Context, c worker.ResourceControllerContext, u worker.ResourceUsage) *call {
	a := &call{done: make(chan struct{})}
	go func() {
		defer close(a.done)
		a.err = c.AcquireContext(ctx, u)
	}()
	synctest.Wait()
	return a
}

func (a *call) wantReturned(t *testing.T, want bool) {
	t.Helper()
	synctest.Wait()
	returned := false
	select {
	case <-a.done:
		returned = true
	default:
	}
	if returned != want {
		t.Fatalf("returned: %v, want %v", returned, want)
	}
}

func (a *call) wantErr(t *testing.T, want error) {
	t.Helper()
	a.wantReturned(t, true)
	wantErr(t, a.err, want)
}

func wantWaiting(t *testing.T, c worker.ResourceController, want int) {
	t.Helper()
	synctest.Wait()
	if got := c.Status().Waiting; got != want {
		t.Fatalf("%d wait, want %d", got, want)
	}
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
