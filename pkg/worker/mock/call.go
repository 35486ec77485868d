package mock

import (
	"slices"
	"sync"
	"sync/atomic"
)

// record has the arguments of the calls of a method. It has a lock of its own, because a call is
// recorded before its hook and the hook may ask for the record.
type record[T any] struct {
	mu   sync.Mutex
	args []T
}

// call records a call and asks its hook.
func (r *record[T]) call(hook func(T) error, arg T) error {
	r.mu.Lock()
	r.args = append(r.args, arg)
	r.mu.Unlock()
	if hook == nil {
		return nil
	}
	return hook(arg)
}

func (r *record[T]) all() []T {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.args)
}

// counter is the record of a method without arguments.
type counter struct{ calls atomic.Int64 }

// call counts a call and asks its hook.
func (c *counter) call(hook func() error) error {
	c.calls.Add(1)
	if hook == nil {
		return nil
	}
	return hook()
}

func (c *counter) count() int {
	return int(c.calls.Load())
}
