package worker

import "errors"

// Errors that implementations return, as they are or wrapped with more detail: test for them with
// errors.Is.
var (
	// ErrFull means that a queue has no room for another job now.
	ErrFull = errors.New("queue is full")

	// ErrClosed means that a queue was closed.
	ErrClosed = errors.New("queue is closed")

	// ErrDuplicate means that a queue holds this very job already.
	ErrDuplicate = errors.New("job is queued already")

	// ErrStopped means that what was asked cannot be had any more, because of a Stop.
	ErrStopped = errors.New("stopped")

	// ErrUnavailable means that resources are in use now and may become free.
	ErrUnavailable = errors.New("resources are in use")

	// ErrTooLarge means that more was asked than the limits allow at any time.
	ErrTooLarge = errors.New("more than the limit")

	// ErrInvalid means that an argument makes no sense, such as a negative amount.
	ErrInvalid = errors.New("invalid argument")
)
