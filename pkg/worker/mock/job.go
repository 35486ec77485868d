package mock

import (
	"sync"

	"github.com/workerpool-dev/workerpool/pkg/worker"
)

// Job is a worker.Job that does what it is told, and no more than a Job must: embed it in a struct to
// give it a Priority, a name or other optional methods. The zero value succeeds. Do not copy a Job once
// it is used.
type Job struct {
	// ProcessFunc, if not nil, is what Process does. It is called without a lock, and may panic.
	ProcessFunc func() error

	// Retries is what MaxRetries returns.
	Retries int

	tries    counter
	failures record[error]
}

var _ worker.Job = (*Job)(nil)

// FailTimes returns a function that returns err n times, and nil from then on: a ProcessFunc, or a
// hook without arguments.
func FailTimes(n int, err error) func() error {
	var mu sync.Mutex
	return func() error {
		mu.Lock()
		defer mu.Unlock()
		if n <= 0 {
			return nil
		}
		n--
		return err
	}
}

// Process calls ProcessFunc.
func (j *Job) Process() error {
	return j.tries.call(j.ProcessFunc)
}

// OnFailure records the error.
func (j *Job) OnFailure(err error) {
	_ = j.failures.call(nil, err)
}

// MaxRetries returns Retries.
func (j *Job) MaxRetries() int {
	return j.Retries
}

// Tries returns the number of calls of Process, those that have not returned included.
func (j *Job) Tries() int {
	return j.tries.count()
}

// Failures returns the arguments of the calls of OnFailure. More than one is a bug of the pool.
func (j *Job) Failures() []error {
	return j.failures.all()
}
