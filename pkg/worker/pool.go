package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/workerpool-dev/workerpool/pkg/worker/internal/fault"
	"github.com/workerpool-dev/workerpool/pkg/worker/internal/feed"
	"github.com/workerpool-dev/workerpool/pkg/worker/pool"
	basic "github.com/workerpool-dev/workerpool/pkg/worker/worker"
)

// Pool is a Manager that runs jobs on goroutines of this process, or on workers that the caller
// brings. Use NewPool to make one.
//
// A job is tried until Process returns nil, at most MaxRetries times more than once; between tries it
// waits in the queue, not in a worker. A panic of a job, or its runtime.Goexit, fails the try. After
// the last one its OnFailure is called, once. A worker that runs a job is taken until the job has
// returned, whatever its timeout.
type Pool struct {
	manager  *pool.Manager[Job]
	queue    Queue
	waits    QueueContext // the queue, if it can wait for room
	resource ResourceController
	guests   []Worker
}

var _ ManagerContext = (*Pool)(nil)

// NewPool returns a pool that was not started. Jobs may be submitted to it already. It returns
// ErrInvalid for options that make no sense.
func NewPool(o Options) (*Pool, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	queue := o.Queue
	if queue == nil {
		queue = feed.NewFIFO[Job](cmp.Or(o.QueueSize, DefaultQueueSize))
	}
	crew, err := o.crew(queue)
	if err != nil {
		return nil, err
	}
	p := &Pool{queue: queue, resource: o.Resource, guests: crew.guests}
	p.waits, _ = queue.(QueueContext)
	config := pool.Config[Job]{Crew: o.shared(feedOf(queue)), Workers: crew.workers}
	for _, g := range crew.guests {
		config.Guests = append(config.Guests, g)
	}
	p.manager = pool.New(config)
	return p, nil
}

// feedOf returns what the pool's workers take from.
func feedOf(q Queue) feed.Feed[Job] {
	if f, ok := q.(interface {
		Feed(owner any) feed.Feed[Job]
	}); ok {
		if own := f.Feed(q); own != nil {
			return own
		}
	}
	return feed.NewForeign[Job](q)
}

// Start starts the workers, all or none of them. It returns ErrStopped after a stop. A second Start
// does nothing and returns nil.
func (p *Pool) Start() error { return p.manager.Start() }

// Stop closes the queue and waits until all that was accepted has been run, retries included. It
// returns ErrStopped if jobs are left nevertheless: the pool was never started, or workers of the
// caller's own have left them. StopContext, called then or instead, returns them.
func (p *Pool) Stop() error { return p.manager.Stop() }

// StopContext is Stop that ends with the context. Then it ends the contexts of the jobs that run,
// with the cause ErrStopped, waits up to a second for them to return, and returns the cause of the
// context's end with the jobs that are left: those that were not run, those that wait to be tried
// again, and those that were cut off (a JobContext that returned an error). They are as they were
// submitted, and OnFailure was not called. A job that runs on is not among them; another call of Stop
// waits for it.
func (p *Pool) StopContext(ctx context.Context) ([]Job, error) { return p.manager.StopContext(ctx) }

// Queue returns the job queue. A Push to it is as good as a Submit that does not wait.
func (p *Pool) Queue() Queue { return p.queue }

// Submit gives a job to the pool and waits while the queue is full. It returns ErrTooLarge at once for
// a job that can never have its resources, ErrStopped after a stop, and the cause of the context's end
// if that comes first; then the job was not accepted.
//
// Do not wait for room, or for a result, in a job of the same pool: with all workers doing that, none
// is left to make it.
func (p *Pool) Submit(ctx context.Context, job Job) error {
	if p.resource != nil {
		if err := p.admissible(job); err != nil {
			return err
		}
	}
	return p.push(ctx, job)
}

func (p *Pool) push(ctx context.Context, job Job) error {
	var err error
	switch {
	case p.waits != nil:
		err = p.waits.PushContext(ctx, job)
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	default:
		err = p.queue.Push(job)
	}
	if err != nil && errors.Is(err, ErrClosed) {
		return fmt.Errorf("%w: %w", ErrStopped, err)
	}
	return err
}

func (p *Pool) admissible(job Job) error {
	sized, ok := job.(Sized)
	if !ok {
		return nil
	}
	if err := p.resource.Check(sized.Resources()); err != nil && !errors.Is(err, ErrUnavailable) {
		return err
	}
	return nil
}

// Result is how a job ends.
type Result struct {
	done chan struct{}
	err  error // set before done is closed
}

// SubmitResult is Submit for those who want to know how the job ends. It returns ErrInvalid if the
// workers are the caller's own: they tell nobody.
func (p *Pool) SubmitResult(ctx context.Context, job Job) (*Result, error) {
	if job == nil {
		return nil, fault.ErrNilJob
	}
	if p.guests != nil {
		return nil, fmt.Errorf("%w: workers that were given to the pool tell no results", ErrInvalid)
	}
	if p.resource != nil {
		if err := p.admissible(job); err != nil {
			return nil, err
		}
	}
	r := &Result{done: make(chan struct{})}
	settled := func(err error) {
		r.err = err
		close(r.done)
	}
	if err := p.push(ctx, basic.NewTicket(job, settled)); err != nil {
		return nil, err
	}
	return r, nil
}

// Done is closed when the job has ended: it succeeded, failed for good, or was handed back.
func (r *Result) Done() <-chan struct{} { return r.done }

// Wait waits for the job's end and returns nil if it succeeded, the error of its last try if it
// failed, and ErrStopped if it was handed back by StopContext. It returns the cause of the context's
// end if that comes first.
func (r *Result) Wait(ctx context.Context) error {
	select {
	case <-r.done:
		return r.err
	default:
	}
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Resize changes the number of workers. New ones start at once if the pool is started. Of those that
// are too many idle ones go first, and the others after their present job. It does not wait. It
// returns ErrInvalid if n is not positive or the workers are the caller's own, ErrStopped after a stop.
func (p *Pool) Resize(n int) error {
	if n <= 0 {
		return fmt.Errorf("%w: %d workers, must be positive", ErrInvalid, n)
	}
	return p.manager.Resize(n)
}

// Workers returns the workers that take jobs, in the order of their IDs. Stop of one of the pool's
// goroutines retires it; the pool does not replace it.
func (p *Pool) Workers() []Worker {
	if p.guests != nil {
		return append([]Worker(nil), p.guests...)
	}
	var list []Worker
	for _, w := range p.manager.Workers() {
		list = append(list, goroutine{w})
	}
	return list
}

// Status returns pool status, with the workers that are started and not stopped. Its numbers fit
// together, unless Queue or Workers are the caller's own: then for each worker one job may be missing,
// or counted twice, on its way from the queue to the worker.
func (p *Pool) Status() PoolStatus {
	b := p.manager.Books()
	s := PoolStatus{
		QueueSize:     b.Ready + b.Delayed,
		ProcessedJobs: b.Ended,
		FailedJobs:    b.Failed,
		ActiveJobs:    b.Taken,
	}
	for _, w := range p.manager.Workers() {
		if w.Running() {
			s.Workers++
		}
	}
	for _, g := range p.guests {
		w := g.Status()
		s.ProcessedJobs += w.ProcessedJobs
		s.FailedJobs += w.FailedJobs
		if w.Running {
			s.Workers++
		}
		if w.CurrentJob != nil {
			s.ActiveJobs++
		}
	}
	return s
}
