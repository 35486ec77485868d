package worker

import (
	"context"
	"time"
)

// Queue holds jobs until a worker takes them.
type Queue interface {
	// Push adds a job to the queue. It never waits: it returns ErrFull where the queue has no room
	// and ErrClosed after Close.
	Push(job Job) error

	// Pop removes and returns the next job. It waits while the queue is empty. After Close it goes
	// on to return the jobs that are left, and then ErrClosed.
	Pop() (Job, error)

	// Len returns the current queue length: the jobs that Pop could return now. By the time the
	// caller looks at it, it may have changed.
	Len() int

	// Close closes the queue: Push is refused from now on, what is queued can still be popped. A
	// second Close does nothing and returns nil.
	Close() error
}

// QueueContext is a Queue whose waits can be bounded.
type QueueContext interface {
	Queue

	// PushContext adds a job and waits while the queue is full. It returns ErrClosed after Close,
	// and the cause of the context's end if that comes first; then the job was not added.
	PushContext(ctx context.Context, job Job) error

	// PopContext is Pop that gives up at the end of the context and returns its cause; then no job
	// was removed.
	PopContext(ctx context.Context) (Job, error)
}

// Job is work for a worker.
type Job interface {
	// Process executes the job. An error, and a panic too, means that this try failed.
	Process() error

	// OnFailure handles job failure: it is called once, with the error of the last try, after the
	// last retry has failed.
	OnFailure(error)

	// MaxRetries returns max retry count: how often the job is tried again after its first try. 0
	// means that it is tried once.
	MaxRetries() int
}

// Prioritized is a Job that asks for a place in a queue that knows priorities.
type Prioritized interface {
	// Priority returns the job's priority; higher goes first. A Job without this method has 0. The
	// queue asks once, when the job is pushed.
	Priority() int
}

// Sized is a Job that takes resources while it runs.
type Sized interface {
	// Resources returns what one execution of the job takes. A Job without this method takes nothing.
	Resources() ResourceUsage
}

// Worker runs jobs.
type Worker interface {
	// Start starts the worker. It returns ErrStopped if the worker was stopped before.
	Start() error

	// Stop stops the worker: it takes no further job, and Stop returns when the job that runs has
	// ended. A second Stop waits likewise.
	Stop() error

	// ID returns the worker ID, unique in its pool.
	ID() int

	// Status returns worker status, as a copy.
	Status() WorkerStatus
}

// WorkerStatus is what a worker does and has done.
type WorkerStatus struct {
	// Running is true from Start until Stop has returned.
	Running bool

	// CurrentJob is the job that runs, nil if none does. A worker with several jobs shows the one
	// that has run longest.
	CurrentJob *JobInfo

	// ProcessedJobs counts the tries that ended on this worker, the failed ones included.
	ProcessedJobs uint64

	// FailedJobs counts those of them that failed.
	FailedJobs uint64
}

// JobInfo describes a job that runs.
type JobInfo struct {
	// ID of the job, for people. It need not be unique.
	ID string

	// Attempt counts the tries of the job, this one included: 1 for the first.
	Attempt int

	// StartTime is when this try started.
	StartTime time.Time

	// Usage is what the job takes while it runs.
	Usage ResourceUsage
}

// ResourceController gives out resources and never more of them than there are.
type ResourceController interface {
	// Check verifies resource availability: nil if the usage could be had now, ErrUnavailable if
	// not now, ErrTooLarge if never, ErrInvalid if it is negative or not a number. It takes nothing,
	// so the answer may be out of date by the time the caller acts on it: use Acquire.
	Check(usage ResourceUsage) error

	// Acquire reserves resources, all of the usage or nothing. It never waits and returns the same
	// errors as Check.
	Acquire(usage ResourceUsage) error

	// Release frees resources that were acquired. Releasing more than is held panics.
	Release(usage ResourceUsage)

	// Status returns current usage.
	Status() ResourceStatus
}

// ResourceControllerContext is a ResourceController that lets callers wait their turn.
type ResourceControllerContext interface {
	ResourceController

	// AcquireContext reserves resources, all of the usage or nothing, and waits until they are
	// free. It returns ErrTooLarge and ErrInvalid at once, and the cause of the context's end if
	// that comes first; then nothing was reserved.
	AcquireContext(ctx context.Context, usage ResourceUsage) error
}

// ResourceUsage is an amount of each resource.
type ResourceUsage struct {
	// Memory in bytes.
	Memory int64

	// CPU in cores. It is counted to a billionth of a core; what is smaller is rounded up.
	CPU float64

	// Files is a number of open files.
	Files int
}

// ResourceLimits is the most that may be in use of each resource at one time. A resource with the
// limit 0 is not limited.
type ResourceLimits struct {
	// Memory in bytes.
	Memory int64

	// CPU in cores.
	CPU float64

	// Files is a number of open files.
	Files int
}

// ResourceStatus is what a ResourceController has given out.
type ResourceStatus struct {
	// Limits are the most that may be in use.
	Limits ResourceLimits

	// Used is what is in use now.
	Used ResourceUsage

	// Waiting is the number of callers that wait in AcquireContext.
	Waiting int
}

// Manager runs a pool of workers.
type Manager interface {
	// Start starts the worker pool.
	Start() error

	// Stop stops the worker pool: no job is started any more, and Stop returns when those that run
	// have ended.
	Stop() error

	// Queue returns the job queue.
	Queue() Queue

	// Status returns pool status, as a copy whose numbers fit together.
	Status() PoolStatus
}

// PoolStatus is what a pool does and has done.
type PoolStatus struct {
	// Workers is the number of workers that take jobs.
	Workers int

	// QueueSize is the number of jobs in the queue.
	QueueSize int

	// ProcessedJobs counts the jobs that have finished, the failed ones included.
	ProcessedJobs uint64

	// FailedJobs counts those of them that failed for good.
	FailedJobs uint64

	// ActiveJobs is the number of jobs that run.
	ActiveJobs int
}
