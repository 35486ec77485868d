package worker

import (
	"github.com/workerpool-dev/workerpool/pkg/worker/internal/fault"
)

// Errors that implementations return, as they are or wrapped with more detail: test for them with
// errors.Is.
var (
	// ErrFull means that a queue has no room for another job now.
	ErrFull = fault.ErrFull

	// ErrClosed means that a queue was closed.
	ErrClosed = fault.ErrClosed

	// ErrDuplicate means that a queue holds this very job already.
	ErrDuplicate = fault.ErrDuplicate

	// ErrStopped means that what was asked cannot be had any more, because of a Stop.
	ErrStopped = fault.ErrStopped

	// ErrUnavailable means that resources are in use now and may become free.
	ErrUnavailable = fault.ErrUnavailable

	// ErrTooLarge means that more was asked than the limits allow at any time.
	ErrTooLarge = fault.ErrTooLarge

	// ErrInvalid means that an argument makes no sense, such as a negative amount.
	ErrInvalid = fault.ErrInvalid

	// ErrTimeout means that a try took longer than the job's timeout. It is the cause of the end of
	// the try's context, and among the errors of the try.
	ErrTimeout = fault.ErrTimeout

	// ErrGoexit means that a job ended its goroutine with runtime.Goexit instead of returning.
	ErrGoexit = fault.ErrGoexit
)

// PanicError is the error of a try that panicked. Value is what it panicked with, Stack where, as
// runtime/debug.Stack has it. It unwraps to Value if that is an error. Find it with errors.As.
type PanicError = fault.PanicError
