package resource

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/workerpool-dev/workerpool/pkg/worker"
)

// Controller gives out resources in the order in which they are asked for, but lets the small go
// ahead where that costs nobody: a caller may pass those that wait only if the first of them finds,
// in each resource that the caller uses, as much as it needs all the same. So the first is never
// delayed by those that come later, and each waiter is the first at some time. Acquire and Check
// keep to this as well. Use NewController to make one.
//
// CPU is counted in billionths of a core, rounded up. If several jobs are to share a limit exactly,
// round their shares down to billionths first: three times 1.0/3 is more than 1, three times
// 0.333333333 is not.
type Controller struct {
	// mu guards all below. It is held for one look at those that wait, never while a call waits.
	mu sync.Mutex

	given  worker.ResourceLimits // as the caller gave them, for Status
	limits amounts               // the same; the highest int64 is no limit

	// used is the sum of what is held: not negative, and more than limits only after SetLimits.
	used amounts

	// waiters are the calls of AcquireContext that wait, as *waiter, in the order in which they came.
	// None of them could be served now, and none asks for more than limits.
	waiters list.List
}

// waiter is an AcquireContext that waits.
type waiter struct {
	want amounts
	done chan struct{} // closed when the call is settled; err is its result from then on
	err  error
}

var _ worker.ResourceControllerContext = (*Controller)(nil)

// NewController returns a controller with nothing in use. It panics if a limit is negative or not a
// finite number.
func NewController(limits worker.ResourceLimits) *Controller {
	return &Controller{given: limits, limits: fromLimits(limits)}
}

// Check verifies resource availability: nil if Acquire would succeed now, else the error that it
// would return.
func (c *Controller) Check(usage worker.ResourceUsage) error {
	return c.CheckLeaving(usage, worker.ResourceUsage{})
}

// CheckLeaving is Check with some resources kept for another, who does not wait here: in each resource that
// the usage takes, as much must be left as kept has of it.
func (c *Controller) CheckLeaving(usage, kept worker.ResourceUsage) error {
	want, err := fromUsage(usage)
	if err != nil {
		return err
	}
	leave, err := fromUsage(kept)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.checkLocked(want, leave)
}

// Acquire reserves resources, all of the usage or nothing, without waiting. It returns ErrInvalid for
// an amount that is negative or not a finite number, a *TooLargeError, or ErrUnavailable: the
// resources are in use, or those that wait come first.
func (c *Controller) Acquire(usage worker.ResourceUsage) error {
	want, err := fromUsage(usage)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.checkLocked(want, amounts{}); err != nil {
		return err
	}
	c.used = c.used.add(want)
	return nil
}

// AcquireContext reserves resources, all of the usage or nothing, and waits for its turn. ErrInvalid
// and *TooLargeError come at once; the latter also if SetLimits makes the wait hopeless. It returns
// the cause of the context's end if that comes first; then nothing was reserved.
func (c *Controller) AcquireContext(ctx context.Context, usage worker.ResourceUsage) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	want, err := fromUsage(usage)
	if err != nil {
		return err
	}
	place, err := c.enter(want)
	if err != nil || place == nil {
		return err
	}
	w := place.Value.(*waiter)
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
		return c.leave(ctx, place)
	}
}

// enter reserves want, or else adds a waiter and returns its place.
func (c *Controller) enter(want amounts) (*list.Element, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.checkLocked(want, amounts{})
	if err == nil {
		c.used = c.used.add(want)
		return nil, nil
	}
	if errors.Is(err, worker.ErrUnavailable) {
		return c.waiters.PushBack(&waiter{want: want, done: make(chan struct{})}), nil
	}
	return nil, err
}

func (c *Controller) leave(ctx context.Context, place *list.Element) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := place.Value.(*waiter)
	select {
	case <-w.done: // it was settled at the same moment: that stands
		return w.err
	default:
		c.waiters.Remove(place)
		c.serveLocked() // it may have been in the way
		return context.Cause(ctx)
	}
}

// Release frees resources that were acquired. It panics if the usage is invalid or more than is held.
func (c *Controller) Release(usage worker.ResourceUsage) {
	freed, err := fromUsage(usage)
	if err != nil {
		panic(fmt.Sprintf("resource: released: %v", err))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !freed.within(c.used) {
		panic(fmt.Sprintf("resource: %+v released, but only %+v is held", usage, c.used.usage()))
	}
	c.used = c.used.sub(freed)
	c.serveLocked()
}

// Reserve is AcquireContext that returns what gives the resources back. release may be called by anybody
// and again: the first call counts, so that it can be deferred and called earlier as well.
func (c *Controller) Reserve(ctx context.Context, usage worker.ResourceUsage) (release func(), err error) {
	if err := c.AcquireContext(ctx, usage); err != nil {
		return nil, err
	}
	return sync.OnceFunc(func() { c.Release(usage) }), nil
}

// Status returns current usage.
func (c *Controller) Status() worker.ResourceStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	return worker.ResourceStatus{Limits: c.given, Used: c.used.usage(), Waiting: c.waiters.Len()}
}

// SetLimits changes the limits. What is held stays held, even if it is more. Those who wait for more
// than the new limits get a *TooLargeError. It panics if a limit is negative or not a finite number.
func (c *Controller) SetLimits(limits worker.ResourceLimits) {
	next := fromLimits(limits)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.given, c.limits = limits, next
	c.refuseLocked()
	c.serveLocked()
}

// checkLocked returns nil if a newcomer may have want now and leave the rest, else ErrUnavailable or a
// *TooLargeError.
func (c *Controller) checkLocked(want, leave amounts) error {
	if err := checkLimits(want, c.limits); err != nil {
		return err
	}
	if !want.within(c.spareLocked().sub(leave)) {
		return worker.ErrUnavailable
	}
	return nil
}

// spareLocked is what others than the first waiter may have: what is free, less what it needs. It may
// be negative. It does not overflow, because a waiter wants no more than the limits.
func (c *Controller) spareLocked() amounts {
	free := c.limits.sub(c.used)
	if first := c.waiters.Front(); first != nil {
		return free.sub(first.Value.(*waiter).want)
	}
	return free
}

// serveLocked grants what can be granted. Call it when resources are freed or a waiter leaves.
func (c *Controller) serveLocked() {
	for first := c.waiters.Front(); first != nil; first = c.waiters.Front() {
		if !first.Value.(*waiter).want.within(c.limits.sub(c.used)) {
			break
		}
		c.grantLocked(first)
	}
	if c.waiters.Len() < 2 {
		return
	}
	for later := c.waiters.Front().Next(); later != nil; {
		place := later
		later = later.Next()
		if place.Value.(*waiter).want.within(c.spareLocked()) {
			c.grantLocked(place)
		}
	}
}

func (c *Controller) grantLocked(place *list.Element) {
	w := c.waiters.Remove(place).(*waiter)
	c.used = c.used.add(w.want)
	close(w.done)
}

// refuseLocked fails those that wait for more than the limits.
func (c *Controller) refuseLocked() {
	for next := c.waiters.Front(); next != nil; {
		place := next
		next = next.Next()
		w := place.Value.(*waiter)
		if w.err = checkLimits(w.want, c.limits); w.err != nil {
			c.waiters.Remove(place)
			close(w.done)
		}
	}
}
