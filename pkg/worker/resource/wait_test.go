package resource_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/resource"
)

// call is an AcquireContext that may wait.
type call struct {
	done chan struct{}
	err  error // for reading once done is closed
}

func acquire(ctx context.Context, c *resource.Controller, u worker.ResourceUsage) *call {
	a := &call{done: make(chan struct{})}
	go func() {
		defer close(a.done)
		a.err = c.AcquireContext(ctx, u)
	}()
	synctest.Wait()
	return a
}

func (a *call) returned() bool {
	synctest.Wait()
	select {
	case <-a.done:
		return true
	default:
		return false
	}
}

func (a *call) wantErr(t *testing.T, want error) {
	t.Helper()
	if !a.returned() {
		t.Fatalf("still waits, want the error %v", want)
	}
	wantErr(t, a.err, want)
}

func (a *call) wantWaiting(t *testing.T) {
	t.Helper()
	if a.returned() {
		t.Fatalf("should wait, returned %v", a.err)
	}
}

func mem(n int64) worker.ResourceUsage {
	return worker.ResourceUsage{Memory: n}
}

func TestWaitersAreServedInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := resource.NewController(worker.ResourceLimits{Memory: 10})
		mustAcquire(t, c, mem(6))
		mustAcquire(t, c, mem(3))
		big := acquire(t.Context(), c, mem(8))
		small := acquire(t.Context(), c, mem(1)) // it would fit, but then big would wait longer
		smallToo := acquire(t.Context(), c, mem(1))
		if waiting := c.Status().Waiting; waiting != 3 {
			t.Fatalf("%d wait, want 3", waiting)
		}
		wantErr(t, c.Acquire(mem(1)), worker.ErrUnavailable)
		wantErr(t, c.Check(mem(1)), worker.ErrUnavailable)

		c.Release(mem(3))
		big.wantWaiting(t)
		small.wantWaiting(t)
		c.Release(mem(6))
		big.wantErr(t, nil)
		small.wantErr(t, nil)
		smallToo.wantErr(t, nil)
	})
}

func TestASmallOnePassesWhereTheFirstIsNotDelayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := resource.NewController(worker.ResourceLimits{Memory: 10, CPU: 4, Files: 10})
		mustAcquire(t, c, mem(10))
		first := acquire(t.Context(), c, worker.ResourceUsage{Memory: 5, CPU: 3})
		for _, free := range []worker.ResourceUsage{{Files: 10}, {CPU: 1}, {}} { // what the first does not need
			acquire(t.Context(), c, free).wantErr(t, nil)
		}
		wantErr(t, c.Acquire(worker.ResourceUsage{CPU: 0.000000001}), worker.ErrUnavailable)
		wantErr(t, c.Acquire(worker.ResourceUsage{Files: 1}), worker.ErrUnavailable)
		cpu := acquire(t.Context(), c, worker.ResourceUsage{CPU: 1})
		memory := acquire(t.Context(), c, mem(1))

		c.Release(worker.ResourceUsage{CPU: 1})
		cpu.wantErr(t, nil) // it passes the first in a Release too
		memory.wantWaiting(t)
		c.Release(mem(5))
		first.wantErr(t, nil)
		memory.wantWaiting(t)
		c.Release(mem(1))
		memory.wantErr(t, nil)
	})
}

// Small jobs come without end, each held for a second; a job that needs all waits no longer than
// those that were there before it.
func TestAStreamOfSmallOnesDoesNotStarveABigOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := resource.NewController(worker.ResourceLimits{Memory: 4})
		ctx, cancel := context.WithCancel(t.Context())
		var small sync.WaitGroup
		for i := range 8 {
			small.Go(func() {
				time.Sleep(time.Duration(i) * 130 * time.Millisecond)
				for c.AcquireContext(ctx, mem(1)) == nil {
					time.Sleep(time.Second)
					c.Release(mem(1))
				}
			})
		}
		time.Sleep(10 * time.Second)
		begin := time.Now()
		if err := c.AcquireContext(t.Context(), mem(4)); err != nil {
			t.Errorf("AcquireContext: %v", err)
		}
		// Those that run end within a second, the four that wait within one more.
		if waited := time.Since(begin); waited > 2*time.Second {
			t.Errorf("waited %v", waited)
		}
		cancel()
		c.Release(mem(4))
		small.Wait()
	})
}

func TestTheRestIsServedWhenAWaiterLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := resource.NewController(worker.ResourceLimits{Memory: 10})
		mustAcquire(t, c, mem(5))
		ctx, cancel := context.WithCancel(t.Context())
		first := acquire(ctx, c, mem(10))
		second := acquire(t.Context(), c, mem(5))
		second.wantWaiting(t)
		cancel()
		first.wantErr(t, context.Canceled)
		second.wantErr(t, nil)
	})
}

func TestACallCutOffWhileItIsServedSaysWhetherItHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := resource.NewController(worker.ResourceLimits{Memory: 10})
		for range 1000 {
			mustAcquire(t, c, mem(10))
			ctx, cancel := context.WithCancel(t.Context())
			a := acquire(ctx, c, mem(10))
			cancel()
			c.Release(mem(10)) // at the moment at which the call leaves
			if !a.returned() {
				t.Fatal("still waits")
			}
			holds := c.Status().Used == mem(10)
			if holds != (a.err == nil) {
				t.Fatalf("holds: %v, but returned %v", holds, a.err)
			}
			if holds {
				c.Release(mem(10))
			}
		}
	})
}

func TestSetLimitsServesAndRefusesWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := resource.NewController(worker.ResourceLimits{Memory: 10})
		mustAcquire(t, c, mem(8))
		big := acquire(t.Context(), c, mem(10))
		second := acquire(t.Context(), c, mem(2))
		third := acquire(t.Context(), c, mem(9))

		c.SetLimits(worker.ResourceLimits{Memory: 9})
		big.wantErr(t, worker.ErrTooLarge)
		second.wantWaiting(t) // 1 is free
		third.wantWaiting(t)
		c.SetLimits(worker.ResourceLimits{Memory: 12})
		second.wantErr(t, nil)
		third.wantWaiting(t)
		c.SetLimits(worker.ResourceLimits{})
		third.wantErr(t, nil)
		c.Release(mem(19))
	})
}

func TestRefusingTheFirstLetsTheRestGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := resource.NewController(worker.ResourceLimits{Memory: 10})
		mustAcquire(t, c, mem(5))
		big := acquire(t.Context(), c, mem(10))
		small := acquire(t.Context(), c, mem(1))
		c.SetLimits(worker.ResourceLimits{Memory: 9})
		big.wantErr(t, worker.ErrTooLarge)
		small.wantErr(t, nil)
	})
}

// Calls of all kinds, cut off at random moments under changing limits: in the end all is free, nobody
// waits, and at no time is more held than the highest limits.
func TestRandomCancelsLeaveNothingBehind(t *testing.T) {
	limits := worker.ResourceLimits{Memory: 10, CPU: 2, Files: 5}
	c := resource.NewController(limits)
	var calls sync.WaitGroup
	for i := range 8 {
		calls.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(i)))
			for range 1000 {
				u := worker.ResourceUsage{Memory: random.Int64N(11), CPU: float64(random.IntN(21)) / 10, Files: random.IntN(6)}
				if err := acquireSomehow(t, c, random, u); err == nil {
					wantWithin(t, c.Status().Used, limits)
					c.Release(u)
				}
				if random.IntN(50) == 0 {
					c.SetLimits(worker.ResourceLimits{Memory: 1 + random.Int64N(10), CPU: 2, Files: 5})
				}
			}
		})
	}
	calls.Wait()
	if s := c.Status(); s.Used != (worker.ResourceUsage{}) || s.Waiting != 0 {
		t.Fatalf("at the end the status is %+v", s)
	}
}

func acquireSomehow(t *testing.T, c *resource.Controller, random *rand.Rand, u worker.ResourceUsage) error {
	var err error
	if random.IntN(3) == 0 {
		err = c.Acquire(u)
	} else {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(random.IntN(100))*time.Microsecond)
		defer cancel()
		err = c.AcquireContext(ctx, u)
	}
	switch {
	case err == nil, errors.Is(err, worker.ErrUnavailable), errors.Is(err, worker.ErrTooLarge), errors.Is(err, context.DeadlineExceeded):
	default:
		t.Errorf("acquire: %v", err)
	}
	return err
}

func wantWithin(t *testing.T, used worker.ResourceUsage, limits worker.ResourceLimits) {
	t.Helper()
	if used.Memory > limits.Memory || used.CPU > limits.CPU || used.Files > limits.Files {
		t.Errorf("%+v is held of %+v", used, limits)
	}
}
