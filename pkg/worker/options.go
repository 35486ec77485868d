package worker

import (
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"reflect"
	"runtime"
	"time"

	"github.com/workerpool-dev/workerpool/pkg/worker/internal/feed"
	basic "github.com/workerpool-dev/workerpool/pkg/worker/worker"
)

// DefaultQueueSize is the room of a pool's queue if Options say nothing of it.
const DefaultQueueSize = 1000

// Options of a pool. The zero value is a pool of as many workers as GOMAXPROCS says, with a queue of
// DefaultQueueSize, and no limits.
type Options struct {
	// Workers says who runs the jobs:
	//
	//   - an int, or NewWorkers of it: so many goroutines. It must be positive.
	//   - a []Worker: the caller's own, at least one. They take jobs from the pool's queue by
	//     themselves, so set Queue too, and do what is said below of tries, retries and resources by
	//     themselves too. The pool starts them, and stops them once its queue is closed, by StopContext
	//     if they have it; what they leave in the queue is handed back.
	//   - a func(id int, queue Queue, resource ResourceController) Worker, with WorkerCount: it is
	//     called for each.
	//   - nil: as many goroutines as GOMAXPROCS says.
	Workers any

	// WorkerCount is the number of workers where Workers is a function; else it must be 0.
	WorkerCount int

	// QueueSize is the room of the queue, a queue.FIFO. 0 is DefaultQueueSize. It must be 0 if Queue is
	// set.
	QueueSize int

	// Queue is the caller's own queue. The pool closes it when it is stopped. What a queue can do
	// beyond Queue is used: see QueueContext and Requeuer. Without PushContext, Submit does not wait
	// for room; without PopContext, a worker that is to go waits for one more job or for Close.
	Queue Queue

	// Resource gives out what jobs take that are Sized. With nil nothing is reserved. If it is not a
	// ResourceControllerContext, workers ask it again, less and less often, until once a second.
	Resource ResourceController

	// Timeout limits each try of a JobContext that is not Timed. 0 does not limit.
	Timeout time.Duration

	// Backoff is the wait before a retry, for jobs that are not Retried.
	Backoff Backoff

	// Timestamps has JobInfo.StartTime set for all jobs, at the cost of reading the clock for each.
	Timestamps bool

	// Logger gets what nobody else would: panics of OnFailure, and errors of the queue. With nil it
	// is slog.Default.
	Logger *slog.Logger
}

// Backoff is how long a job waits before it is tried again: Initial before the first retry, Factor
// times that before each further one, Max at most; and of that a random part between a half and all,
// so that jobs that failed together do not come back together.
type Backoff struct {
	// Initial is 1 second if it is 0.
	Initial time.Duration

	// Factor is 2 if it is 0. It must not be less than 1.
	Factor float64

	// Max is 5 minutes if it is 0.
	Max time.Duration
}

func (b Backoff) withDefaults() Backoff {
	if b.Initial == 0 {
		b.Initial = time.Second
	}
	if b.Factor == 0 {
		b.Factor = 2
	}
	if b.Max == 0 {
		b.Max = 5 * time.Minute
	}
	return b
}

func (b Backoff) validate() error {
	if b.Initial < 0 || b.Max < 0 || !(b.Factor == 0 || b.Factor >= 1) || math.IsInf(b.Factor, 1) {
		return fmt.Errorf("%w: Backoff of Initial %v, Factor %v, Max %v: times must not be negative, and Factor not below 1",
			ErrInvalid, b.Initial, b.Factor, b.Max)
	}
	return nil
}

// delay returns the wait before a retry, 1 for the first; random is in [0, 1).
func (b Backoff) delay(retry int, random float64) time.Duration {
	full := min(float64(b.Initial)*math.Pow(b.Factor, float64(retry-1)), float64(b.Max))
	return time.Duration(full * (1 + random) / 2)
}

// Workers is a number of goroutines: see NewWorkers.
type Workers struct{ n int }

// NewWorkers returns n goroutines for Options.Workers. NewPool refuses it if n is not positive.
func NewWorkers(n int) Workers { return Workers{n} }

// crew is what Options.Workers say, checked.
type crew struct {
	workers int
	guests  []Worker
}

func (o *Options) crew(queue Queue) (crew, error) {
	if _, isFunc := o.Workers.(func(int, Queue, ResourceController) Worker); !isFunc && o.WorkerCount != 0 {
		return crew{}, fmt.Errorf("%w: WorkerCount is for Workers that are a function", ErrInvalid)
	}
	switch w := o.Workers.(type) {
	case nil:
		return crew{workers: runtime.GOMAXPROCS(0)}, nil
	case int:
		return goroutines(w)
	case Workers:
		return goroutines(w.n)
	case []Worker:
		return guests(w)
	case func(int, Queue, ResourceController) Worker:
		return o.built(w, queue)
	}
	return crew{}, fmt.Errorf("%w: Workers is a %T; it must be an int, NewWorkers(n), a []worker.Worker or a func", ErrInvalid, o.Workers)
}

func goroutines(n int) (crew, error) {
	if n <= 0 {
		return crew{}, fmt.Errorf("%w: %d Workers, must be positive", ErrInvalid, n)
	}
	return crew{workers: n}, nil
}

func (o *Options) built(build func(int, Queue, ResourceController) Worker, queue Queue) (crew, error) {
	if build == nil || o.WorkerCount <= 0 {
		return crew{}, fmt.Errorf("%w: Workers is a function, so it must not be nil and WorkerCount, %d, must be positive", ErrInvalid, o.WorkerCount)
	}
	list := make([]Worker, o.WorkerCount)
	for id := range list {
		list[id] = build(id, queue, o.Resource)
	}
	return guests(list)
}

func guests(list []Worker) (crew, error) {
	if len(list) == 0 {
		return crew{}, fmt.Errorf("%w: Workers is empty", ErrInvalid)
	}
	ids := map[int]bool{}
	for i, w := range list {
		switch {
		case isNil(w):
			return crew{}, fmt.Errorf("%w: Workers[%d] is nil", ErrInvalid, i)
		case ids[w.ID()]:
			return crew{}, fmt.Errorf("%w: two Workers have the ID %d", ErrInvalid, w.ID())
		}
		ids[w.ID()] = true
	}
	return crew{guests: list}, nil
}

// validate checks all but Workers.
func (o *Options) validate() error {
	switch {
	case o.QueueSize < 0:
		return fmt.Errorf("%w: QueueSize %d, must not be negative", ErrInvalid, o.QueueSize)
	case o.Queue != nil && o.QueueSize != 0:
		return fmt.Errorf("%w: Queue and QueueSize are both set: the queue has a size of its own", ErrInvalid)
	case o.Queue != nil && isNil(o.Queue):
		return fmt.Errorf("%w: Queue is a nil %T", ErrInvalid, o.Queue)
	case o.Resource != nil && isNil(o.Resource):
		return fmt.Errorf("%w: Resource is a nil %T", ErrInvalid, o.Resource)
	case o.Timeout < 0:
		return fmt.Errorf("%w: Timeout %v, must not be negative", ErrInvalid, o.Timeout)
	}
	return o.Backoff.validate()
}

// isNil tells whether an interface is nil or has a nil pointer in it.
func isNil(v any) bool {
	if v == nil {
		return true
	}
	r := reflect.ValueOf(v)
	switch r.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Func, reflect.Chan, reflect.Slice:
		return r.IsNil()
	}
	return false
}

// shared returns what the pool's goroutines have in common.
func (o *Options) shared(f feed.Feed[Job]) basic.Crew[Job] {
	c := basic.Crew[Job]{
		Feed:       f,
		Delay:      delayOf(o.Backoff.withDefaults()),
		Timeout:    o.Timeout,
		Timestamps: o.Timestamps,
		Logger:     o.Logger,
	}
	if o.Resource != nil {
		c.Resources = claims{o.Resource}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func delayOf(b Backoff) func(Job, int, error) time.Duration {
	return func(job Job, retry int, err error) time.Duration {
		if r, ok := job.(Retried); ok {
			return r.RetryDelay(retry, err)
		}
		return b.delay(retry, rand.Float64()) //nolint:forbidigo,gosec // to spread load; no decision hangs on it, and no secret
	}
}
