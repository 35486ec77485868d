package worker

import (
	"context"
	"errors"
	"time"
)

// claims reserves what jobs take from a ResourceController.
type claims struct{ controller ResourceController }

// Acquire reserves what the job takes, and returns what gives it back. It waits if need be, and calls
// waiting before.
func (c claims) Acquire(ctx context.Context, job Job, waiting func()) (release func(), err error) {
	sized, ok := job.(Sized)
	if !ok {
		return nil, nil
	}
	usage := sized.Resources() // asked once: what is released must be what was acquired
	err = c.controller.Acquire(usage)
	if errors.Is(err, ErrUnavailable) {
		waiting()
		err = c.await(ctx, usage)
	}
	if err != nil {
		return nil, err
	}
	return func() { c.controller.Release(usage) }, nil
}

func (c claims) await(ctx context.Context, usage ResourceUsage) error {
	if waiter, ok := c.controller.(ResourceControllerContext); ok {
		return waiter.AcquireContext(ctx, usage)
	}
	return c.poll(ctx, usage)
}

// How often a controller is asked that can't say when something was released.
const (
	firstPoll = time.Millisecond
	lastPoll  = time.Second
)

func (c claims) poll(ctx context.Context, usage ResourceUsage) error {
	for wait := firstPoll; ; wait = min(2*wait, lastPoll) {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := c.controller.Acquire(usage); !errors.Is(err, ErrUnavailable) {
			return err
		}
	}
}
