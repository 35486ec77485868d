// Package fault has the errors of package worker, for the packages that it stands on.
package fault

import (
	"errors"
	"fmt"
)

// See package worker for what they mean.
var (
	ErrFull        = errors.New("queue is full")
	ErrClosed      = errors.New("queue is closed")
	ErrDuplicate   = errors.New("job is queued already")
	ErrStopped     = errors.New("stopped")
	ErrUnavailable = errors.New("resources are in use")
	ErrTooLarge    = errors.New("more than the limit")
	ErrInvalid     = errors.New("invalid argument")
	ErrTimeout     = errors.New("timeout")
	ErrGoexit      = errors.New("runtime.Goexit was called")
)

// ErrNilJob is the ErrInvalid of a job that is nil.
var ErrNilJob = fmt.Errorf("%w: the job is nil", ErrInvalid)

// PanicError is a panic that was caught.
type PanicError struct {
	// Value is what the panic was called with.
	Value any
	// Stack is that of the goroutine that panicked, as runtime/debug.Stack has it.
	Stack []byte
}

// Error is one line; print Stack to see where it was.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Unwrap returns Value if it is an error, else nil.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}
