package resource_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"

	"pgregory.net/rapid"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/resource"
)

// vector is a usage in whole numbers; CPU in tenths of a core.
type vector [3]int

func (v vector) usage() worker.ResourceUsage {
	return worker.ResourceUsage{Memory: int64(v[0]), CPU: float64(v[1]) / 10, Files: v[2]}
}

func (v vector) limits() worker.ResourceLimits {
	return worker.ResourceLimits(v.usage())
}

// model is the policy, as its comment says it: the caller passes if each resource that it uses
// has enough left for the first of those that wait.
type model struct {
	limits  vector
	held    []vector
	waiting []*modelWaiter
}

type modelWaiter struct {
	*call
	want   vector
	cancel context.CancelFunc
}

func (m *model) free() vector {
	free := m.limits
	for _, h := range m.held {
		for d := range free {
			free[d] -= h[d]
		}
	}
	return free
}

func (m *model) tooLarge(want vector) bool {
	for d := range want {
		if want[d] > m.limits[d] {
			return true
		}
	}
	return false
}

// may says whether want may be held now by one who comes after the first waiter, if there is one.
func (m *model) may(want vector, first *modelWaiter) bool {
	free := m.free()
	for d := range want {
		left := free[d] - want[d]
		if want[d] > 0 && (left < 0 || first != nil && left < first.want[d]) {
			return false
		}
	}
	return true
}

func (m *model) first() *modelWaiter {
	if len(m.waiting) == 0 {
		return nil
	}
	return m.waiting[0]
}

// serve grants one after the other, from the start each time, until none can be served.
func (m *model) serve() {
	for {
		i := slices.IndexFunc(m.waiting, func(w *modelWaiter) bool {
			if w == m.first() {
				return m.may(w.want, nil)
			}
			return m.may(w.want, m.first())
		})
		if i < 0 {
			return
		}
		m.held = append(m.held, m.waiting[i].want)
		m.waiting = slices.Delete(m.waiting, i, i+1)
	}
}

type comparison struct {
	c *resource.Controller
	m *model

	// calls are all that ever waited.
	calls []*modelWaiter
}

func TestTheControllerDoesAsTheModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var failure any // rapid stops by panics, which must not end in the bubble
		synctest.Test(t, func(*testing.T) {
			defer func() { failure = recover() }()
			m := &model{limits: drawVector(rt, 1, "limits")}
			c := &comparison{c: resource.NewController(m.limits.limits()), m: m}
			defer c.end()
			c.run(rt)
		})
		if failure != nil {
			panic(failure)
		}
	})
}

func (c *comparison) run(t *rapid.T) {
	t.Repeat(map[string]func(*rapid.T){
		"Acquire":        c.acquire,
		"AcquireContext": c.acquireContext,
		"wait more":      c.acquireContext,
		"Release":        c.release,
		"cancel":         c.cancel,
		"SetLimits":      c.setLimits,
		"":               c.same,
	})
}

func drawVector(t *rapid.T, least int, label string) vector {
	amount := rapid.IntRange(least, 8)
	return vector{amount.Draw(t, label+" memory"), amount.Draw(t, label+" cpu"), amount.Draw(t, label+" files")}
}

func (c *comparison) acquire(t *rapid.T) {
	want := drawVector(t, 0, "want")
	var expected error
	switch {
	case c.m.tooLarge(want):
		expected = worker.ErrTooLarge
	case !c.m.may(want, c.m.first()):
		expected = worker.ErrUnavailable
	default:
		c.m.held = append(c.m.held, want)
	}
	if err := c.c.Check(want.usage()); !errors.Is(err, expected) {
		t.Fatalf("Check: %v, want %v", err, expected)
	}
	if err := c.c.Acquire(want.usage()); !errors.Is(err, expected) {
		t.Fatalf("Acquire: %v, want %v", err, expected)
	}
}

func (c *comparison) acquireContext(t *rapid.T) {
	want := drawVector(t, 0, "want")
	ctx, cancel := context.WithCancel(context.Background())
	w := &modelWaiter{call: acquire(ctx, c.c, want.usage()), want: want, cancel: cancel}
	switch {
	case c.m.tooLarge(want):
		w.wantResult(t, worker.ErrTooLarge)
	case c.m.may(want, c.m.first()):
		w.wantResult(t, nil)
		c.m.held = append(c.m.held, want)
	default:
		c.m.waiting = append(c.m.waiting, w)
		c.calls = append(c.calls, w)
		return
	}
	cancel()
}

func (w *modelWaiter) wantResult(t *rapid.T, want error) {
	if !w.returned() {
		t.Fatalf("AcquireContext of %v waits, want the error %v", w.want, want)
	}
	if !errors.Is(w.err, want) {
		t.Fatalf("AcquireContext of %v: %v, want %v", w.want, w.err, want)
	}
}

func (c *comparison) release(t *rapid.T) {
	if len(c.m.held) == 0 {
		t.Skip("nothing is held")
	}
	i := rapid.IntRange(0, len(c.m.held)-1).Draw(t, "which")
	freed := c.m.held[i]
	c.m.held = slices.Delete(c.m.held, i, i+1)
	c.m.serve()
	c.c.Release(freed.usage())
}

func (c *comparison) cancel(t *rapid.T) {
	if len(c.m.waiting) == 0 {
		t.Skip("nobody waits")
	}
	i := rapid.IntRange(0, len(c.m.waiting)-1).Draw(t, "which")
	w := c.m.waiting[i]
	c.m.waiting = slices.Delete(c.m.waiting, i, i+1)
	c.m.serve()
	w.cancel()
	w.wantResult(t, context.Canceled)
}

func (c *comparison) setLimits(t *rapid.T) {
	c.m.limits = drawVector(t, 1, "limits")
	var refused []*modelWaiter
	c.m.waiting = slices.DeleteFunc(c.m.waiting, func(w *modelWaiter) bool {
		if !c.m.tooLarge(w.want) {
			return false
		}
		refused = append(refused, w)
		return true
	})
	c.m.serve()
	c.c.SetLimits(c.m.limits.limits())
	for _, w := range refused {
		w.wantResult(t, worker.ErrTooLarge)
	}
}

// same checks that exactly those wait who wait in the model, and that the sums agree.
func (c *comparison) same(t *rapid.T) {
	for _, w := range c.calls {
		if waits := slices.Contains(c.m.waiting, w); w.returned() == waits {
			t.Fatalf("the call for %v should wait: %v", w.want, waits)
		}
	}
	var held vector
	for _, h := range c.m.held {
		for d := range held {
			held[d] += h[d]
		}
	}
	want := worker.ResourceStatus{Limits: c.m.limits.limits(), Used: held.usage(), Waiting: len(c.m.waiting)}
	if got := c.c.Status(); got != want {
		t.Fatalf("status is %+v, want %+v", got, want)
	}
}

// end leaves no call behind.
func (c *comparison) end() {
	for _, w := range c.calls {
		w.cancel()
	}
	synctest.Wait()
}
