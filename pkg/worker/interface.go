package worker

import (
	"context"
	"time"
)

// Queue holds jobs until a worker takes them. Calls that wait are served in the order in which they
// came.
type Queue interface {
	// Push adds a job to the queue. It never waits: it returns ErrFull where the queue has no room,
	// ErrClosed after Close, and ErrInvalid for a nil job.
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

// Requeuer is a Queue that takes back what was popped, to be tried again. Where a pool's queue is
// none, the pool itself puts retries aside until their time comes.
type Requeuer interface {
	Queue

	// Requeue puts back a job that was popped. It can be popped again after the delay, or at once if
	// that is not positive. The job was accepted already: it is refused neither for want of room nor
	// after Close. Whoever requeues after Close must go on to pop until ErrClosed, which Pop does not
	// return while a delayed job is left.
	Requeue(job Job, delay time.Duration) error

	// Delayed returns the number of jobs whose time has not come. Len does not count them.
	Delayed() int

	// Drain removes and returns all jobs, the delayed ones too.
	Drain() []Job
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

// JobContext is a Job that can be told to end early. Its Process is not called by a worker that knows
// this method.
type JobContext interface {
	Job

	// ProcessContext is Process that gives up at the end of the context: after the job's Timeout,
	// whose cause is ErrTimeout, or when the pool is stopped and does not wait any longer, whose
	// cause is ErrStopped.
	ProcessContext(ctx context.Context) error
}

// JobFunc is a function as a JobContext that is not tried again. Its OnFailure does nothing: whoever
// wants to know how it ended submits it with Pool.SubmitResult, or has a type of its own.
type JobFunc func(ctx context.Context) error

var _ JobContext = JobFunc(nil)

// Process calls the function with a context that does not end.
func (f JobFunc) Process() error { return f(context.Background()) }

// ProcessContext calls the function.
func (f JobFunc) ProcessContext(ctx context.Context) error { return f(ctx) }

// OnFailure does nothing.
func (JobFunc) OnFailure(error) {}

// MaxRetries returns 0.
func (JobFunc) MaxRetries() int { return 0 }

// Timed is a Job with a limit of its own to the time of one try.
type Timed interface {
	// Timeout returns the limit; 0 or less is none. Only a JobContext can be told: the slot of any
	// other job stays taken until it returns.
	Timeout() time.Duration
}

// Retried is a Job that knows better than the pool's backoff when to try it again.
type Retried interface {
	// RetryDelay returns how long to wait before the given retry, 1 for the first, after the error
	// of the last try. Less than 0 means that the job is not tried again.
	RetryDelay(retry int, err error) time.Duration
}

// Named is a Job with a name, to be shown in JobInfo.
type Named interface {
	// ID returns the name. It is called while the job runs, by those who ask for a status.
	ID() string
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

// WorkerContext is a Worker whose Stop can be bounded.
type WorkerContext interface {
	Worker

	// StopContext is Stop that at the end of the context tells the job that runs to end, if it is a
	// JobContext. It waits a second more for that, and then returns the cause of the context's end.
	StopContext(ctx context.Context) error
}

// WorkerState is where a worker is in its life.
type WorkerState string

// The states of a worker. Start leads from new to idle, Stop to stopping, and to stopped when the
// last job has ended.
const (
	WorkerNew      WorkerState = "new"
	WorkerIdle     WorkerState = "idle"
	WorkerWaiting  WorkerState = "waiting" // has a job that waits for its resources
	WorkerBusy     WorkerState = "busy"
	WorkerStopping WorkerState = "stopping" // runs its last job
	WorkerStopped  WorkerState = "stopped"
)

// WorkerStatus is what a worker does and has done.
type WorkerStatus struct {
	// Running is true from Start until Stop has returned.
	Running bool

	// CurrentJob is the job that runs, nil if none does. A worker with several jobs shows the one
	// that has run longest.
	CurrentJob *JobInfo

	// ProcessedJobs counts the jobs that finished on this worker, the failed ones included. A try
	// after which the job is tried again does not count.
	ProcessedJobs uint64

	// FailedJobs counts those of them that failed for good.
	FailedJobs uint64

	// State says the same in a word, and some more.
	State WorkerState
}

// JobInfo describes a job that runs.
type JobInfo struct {
	// ID of the job, for people: that of a Named job, or else its type. It need not be unique.
	ID string

	// Attempt counts the tries of the job, this one included: 1 for the first.
	Attempt int

	// StartTime is when this try started. It is zero where nobody needed the clock: a worker reads
	// it for jobs with a timeout, and for all if Options.Timestamps says so.
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
	// Start starts the worker pool. It returns ErrStopped if the pool was stopped before. A second
	// Start does nothing and returns nil.
	Start() error

	// Stop stops the worker pool: no job is accepted any more, and Stop returns when those that run
	// have ended. What is still queued is run first, or else handed back as the implementation says;
	// it is never dropped in silence. A second Stop waits likewise.
	Stop() error

	// Queue returns the job queue.
	Queue() Queue

	// Status returns pool status, as a copy whose numbers fit together: each job that was accepted
	// is queued, active or processed, and counted once.
	Status() PoolStatus
}

// ManagerContext is a Manager whose Stop can be bounded.
type ManagerContext interface {
	Manager

	// StopContext is Stop that waits for what is queued and for what runs until the context ends.
	// Then it tells the jobs that run to end, and returns those that were not run, or were cut off,
	// with the cause of the context's end.
	StopContext(ctx context.Context) ([]Job, error)
}

// PoolStatus is what a pool does and has done.
type PoolStatus struct {
	// Workers is the number of workers that take jobs: none before Start and after Stop.
	Workers int

	// QueueSize is the number of jobs that wait, those that wait to be tried again included.
	QueueSize int

	// ProcessedJobs counts the jobs that have finished, the failed ones included.
	ProcessedJobs uint64

	// FailedJobs counts those of them that failed for good.
	FailedJobs uint64

	// ActiveJobs is the number of jobs that run.
	ActiveJobs int
}
