package resource_test

import (
	"errors"
	"math"
	"testing"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/resource"
	"github.com/workerpool-dev/workerpool/pkg/worker/resource/resourcetest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

func TestControllerKeepsTheContractOfResourceController(t *testing.T) {
	resourcetest.Run(t, func(_ *testing.T, limits worker.ResourceLimits) worker.ResourceController {
		return resource.NewController(limits)
	})
}

func TestWhatWasReservedIsReleasedOnceHoweverOften(t *testing.T) {
	c := resource.NewController(worker.ResourceLimits{Files: 3})
	mustAcquire(t, c, worker.ResourceUsage{Files: 1})
	release, err := c.Reserve(t.Context(), worker.ResourceUsage{Files: 2})
	wantErr(t, err, nil)
	if used := c.Status().Used.Files; used != 3 {
		t.Errorf("%d files are in use, want 3", used)
	}
	for range 3 {
		release()
		if used := c.Status().Used.Files; used != 1 {
			t.Errorf("%d files are in use, want the 1 that others hold", used)
		}
	}
	release, err = c.Reserve(t.Context(), worker.ResourceUsage{Files: 4})
	wantErr(t, err, worker.ErrTooLarge)
	if release != nil {
		t.Error("there is something to release")
	}
}

func TestWhatIsKeptForAnotherIsLeft(t *testing.T) {
	c := resource.NewController(worker.ResourceLimits{Files: 10, Memory: 100})
	mustAcquire(t, c, worker.ResourceUsage{Files: 4, Memory: 50})
	for _, test := range []struct {
		usage, kept worker.ResourceUsage
		want        error
	}{
		{worker.ResourceUsage{Files: 6}, worker.ResourceUsage{}, nil},
		{worker.ResourceUsage{Files: 2}, worker.ResourceUsage{Files: 4}, nil},
		{worker.ResourceUsage{Files: 3}, worker.ResourceUsage{Files: 4}, worker.ErrUnavailable},
		{worker.ResourceUsage{Files: 3}, worker.ResourceUsage{Files: 9}, worker.ErrUnavailable}, // more than there is
		{worker.ResourceUsage{Files: 3, Memory: 1}, worker.ResourceUsage{Memory: 50}, worker.ErrUnavailable},
		{worker.ResourceUsage{Files: 3}, worker.ResourceUsage{Memory: 50}, nil}, // takes nothing of that
		{worker.ResourceUsage{}, worker.ResourceUsage{Files: 9, Memory: 90}, nil},
		{worker.ResourceUsage{Files: 11}, worker.ResourceUsage{}, worker.ErrTooLarge},
		{worker.ResourceUsage{Files: -1}, worker.ResourceUsage{}, worker.ErrInvalid},
		{worker.ResourceUsage{Files: 1}, worker.ResourceUsage{CPU: math.NaN()}, worker.ErrInvalid},
	} {
		if err := c.CheckLeaving(test.usage, test.kept); !errors.Is(err, test.want) {
			t.Errorf("%+v leaving %+v: %v, want %v", test.usage, test.kept, err, test.want)
		}
	}
	if used := c.Status().Used; used.Files != 4 || used.Memory != 50 {
		t.Errorf("%+v are in use: a check has taken some", used)
	}
}

func TestControllerIsFair(t *testing.T) {
	resourcetest.RunFair(t, func(_ *testing.T, limits worker.ResourceLimits) worker.ResourceController {
		return resource.NewController(limits)
	})
}

func mustAcquire(t testing.TB, c *resource.Controller, u worker.ResourceUsage) {
	t.Helper()
	if err := c.Acquire(u); err != nil {
		t.Fatalf("Acquire of %+v: %v", u, err)
	}
}

func wantErr(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Fatalf("error is %v, want %v", got, want)
	}
}

func TestLimitsWithoutSensePanic(t *testing.T) {
	for _, l := range []worker.ResourceLimits{{Memory: -1}, {CPU: -1}, {CPU: math.NaN()}, {CPU: math.Inf(1)}, {Files: -1}} {
		for name, call := range map[string]func(){
			"NewController": func() { resource.NewController(l) },
			"SetLimits":     func() { resource.NewController(worker.ResourceLimits{}).SetLimits(l) },
		} {
			func() {
				defer func() {
					if recover() == nil {
						t.Errorf("%s with %+v did not panic", name, l)
					}
				}()
				call()
			}()
		}
	}
}

func TestTooLargeSaysTheNumbers(t *testing.T) {
	c := resource.NewController(worker.ResourceLimits{Memory: 1 << 30, CPU: 2, Files: 64})
	for _, test := range []struct {
		usage   worker.ResourceUsage
		want    resource.TooLargeError
		message string
	}{
		{worker.ResourceUsage{Memory: 3 << 30, CPU: 9}, resource.TooLargeError{Resource: resource.Memory, Want: 3 << 30, Limit: 1 << 30},
			"memory: 3221225472 bytes asked, limit 1073741824"},
		{worker.ResourceUsage{CPU: 2.5, Files: 99}, resource.TooLargeError{Resource: resource.CPU, Want: 2_500_000_000, Limit: 2_000_000_000},
			"cpu: 2.5 cores asked, limit 2"},
		{worker.ResourceUsage{Files: 100}, resource.TooLargeError{Resource: resource.Files, Want: 100, Limit: 64},
			"files: 100 asked, limit 64"},
	} {
		err := c.Acquire(test.usage)
		var tooLarge *resource.TooLargeError
		if !errors.As(err, &tooLarge) || *tooLarge != test.want || err.Error() != test.message {
			t.Errorf("%+v: got %v, want %s", test.usage, err, test.message)
		}
		wantErr(t, err, worker.ErrTooLarge)
	}
}

func TestSharesOfCPUAddUpExactly(t *testing.T) {
	for _, test := range []struct {
		limit, share float64
		fit          int
	}{
		{1, 0.1, 10}, // the sum of ten float64 of 0.1 is not 1
		{2.8, 0.7, 4},
		{0.3, 0.1, 3},
		{1, 0.333333333, 3},
		{1, 1.0 / 3, 2}, // rounded up to a billionth
		{1e-9, 1e-12, 1},
		{1000.000000007, 1000.000000007, 1},
	} {
		c := resource.NewController(worker.ResourceLimits{CPU: test.limit})
		share := worker.ResourceUsage{CPU: test.share}
		for range test.fit {
			mustAcquire(t, c, share)
		}
		if err := c.Acquire(share); !errors.Is(err, worker.ErrUnavailable) {
			t.Errorf("%v cores: share %d of %v: %v", test.limit, test.fit+1, test.share, err)
		}
		for range test.fit {
			c.Release(share)
		}
		if used := c.Status().Used; used != (worker.ResourceUsage{}) {
			t.Errorf("%v cores: %+v is left of %d × %v", test.limit, used, test.fit, test.share)
		}
	}
}

func TestABillionthOfACoreIsNeitherLostNorInvented(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Range(1, 1<<51).Draw(t, "billionths")
		c := resource.NewController(worker.ResourceLimits{CPU: float64(n) / 1e9})
		var tooLarge *resource.TooLargeError
		err := c.Check(worker.ResourceUsage{CPU: math.MaxFloat64})
		if !errors.As(err, &tooLarge) || tooLarge.Limit != n {
			t.Fatalf("%d billionths were counted as %v", n, err)
		}
	})
}

func TestHugeAmountsDoNotOverflow(t *testing.T) {
	c := resource.NewController(worker.ResourceLimits{})
	huge := worker.ResourceUsage{Memory: math.MaxInt64, CPU: math.MaxFloat64, Files: math.MaxInt}
	mustAcquire(t, c, huge)
	wantErr(t, c.Acquire(worker.ResourceUsage{Memory: 1}), worker.ErrUnavailable)
	wantErr(t, c.Acquire(worker.ResourceUsage{CPU: 1}), worker.ErrUnavailable)
	c.SetLimits(worker.ResourceLimits{Memory: 1, CPU: 1, Files: 1}) // as far below zero as free can be
	wantErr(t, c.Acquire(worker.ResourceUsage{Files: 1}), worker.ErrUnavailable)
	mustAcquire(t, c, worker.ResourceUsage{})
	c.Release(huge)
	mustAcquire(t, c, worker.ResourceUsage{Memory: 1, CPU: 1, Files: 1})
}

func TestSetLimitsKeepsWhatIsHeld(t *testing.T) {
	c := resource.NewController(worker.ResourceLimits{Memory: 10, Files: 10})
	held := worker.ResourceUsage{Memory: 8}
	mustAcquire(t, c, held)
	lower := worker.ResourceLimits{Memory: 5, Files: 10}
	c.SetLimits(lower)
	if got := c.Status(); got.Used != held || got.Limits != lower {
		t.Fatalf("status is %+v", got)
	}
	wantErr(t, c.Acquire(worker.ResourceUsage{Memory: 1}), worker.ErrUnavailable)
	mustAcquire(t, c, worker.ResourceUsage{Files: 10}) // memory is over its limit, files are not
	c.Release(held)
	mustAcquire(t, c, worker.ResourceUsage{Memory: 5})
}

func TestTheUncontendedPathAllocatesNothing(t *testing.T) {
	c := resource.NewController(worker.ResourceLimits{Memory: 10, CPU: 1})
	u := worker.ResourceUsage{Memory: 10, CPU: 0.5}
	allocations := testing.AllocsPerRun(1000, func() {
		if c.Check(u) != nil || c.AcquireContext(t.Context(), u) != nil || c.Acquire(u) == nil {
			t.Fatal("the first should succeed, the second not")
		}
		c.Release(u)
	})
	if allocations != 0 {
		t.Fatalf("%v allocations", allocations)
	}
}

func BenchmarkAcquireRelease(b *testing.B) {
	limits := worker.ResourceLimits{Memory: 1 << 40, CPU: 64, Files: 1000}
	u := worker.ResourceUsage{Memory: 1 << 20, CPU: 0.25, Files: 4}
	b.Run("alone", func(b *testing.B) {
		c := resource.NewController(limits)
		b.ReportAllocs()
		for b.Loop() {
			_ = c.Acquire(u)
			c.Release(u)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		c := resource.NewController(limits)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if c.AcquireContext(b.Context(), u) == nil {
					c.Release(u)
				}
			}
		})
	})
}
