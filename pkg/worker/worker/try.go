package worker

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/workerpool-dev/workerpool/pkg/worker/internal/fault"
	"github.com/workerpool-dev/workerpool/pkg/worker/internal/feed"
)

// contextual is worker.JobContext.
type contextual interface {
	ProcessContext(ctx context.Context) error
}

// timed is worker.Timed.
type timed interface{ Timeout() time.Duration }

// handle tries a job that was taken, and settles it.
func (w *Worker[J]) handle(job J) feed.Outcome {
	w.run.job, w.run.ticket = Open(job)
	if w.ctx.Err() != nil {
		return w.giveUp()
	}
	return w.settle(w.try())
}

// try runs the job once.
func (w *Worker[J]) try() (err error) {
	w.run.phase = trying
	defer w.catch(&err)
	if w.crew.Resources != nil {
		err = w.acquire()
	}
	if err == nil {
		err = w.process()
	}
	w.run.phase = ours
	return err
}

// catch, deferred, makes an error of a panic in the user's code. If that has called runtime.Goexit
// instead, there is nothing to recover, the phase stays, and leave sees it.
func (w *Worker[J]) catch(err *error) {
	if w.run.phase == ours {
		return
	}
	if v := recover(); v != nil {
		*err = &fault.PanicError{Value: v, Stack: debug.Stack()}
		w.run.phase = ours
	}
}

func (w *Worker[J]) process() error {
	c, ok := any(w.run.job).(contextual)
	if !ok {
		if w.crew.Timestamps {
			w.noteStart()
		}
		return w.run.job.Process()
	}
	limit := w.crew.Timeout
	if t, ok := any(w.run.job).(timed); ok {
		limit = t.Timeout()
	}
	if w.crew.Timestamps || limit > 0 {
		w.noteStart()
	}
	if limit <= 0 {
		return c.ProcessContext(w.ctx)
	}
	return processFor(w.ctx, limit, c)
}

// processFor tells the job to end after the limit.
func processFor(ctx context.Context, limit time.Duration, c contextual) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fault.ErrTimeout)
	defer cancel()
	err := c.ProcessContext(ctx)
	if err != nil && errors.Is(context.Cause(ctx), fault.ErrTimeout) && !errors.Is(err, fault.ErrTimeout) {
		return fmt.Errorf("%w after %v: %w", fault.ErrTimeout, limit, err)
	}
	return err
}

func (w *Worker[J]) noteStart() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.run.noted = true
	w.startTime = time.Now() //nolint:forbidigo // asked for, to be shown
}

func (w *Worker[J]) noteWaiting(waiting bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.run.noted = true
	w.waiting = waiting
}

func (w *Worker[J]) acquire() error {
	release, err := w.crew.Resources.Acquire(w.ctx, w.run.job, w.waits)
	if w.run.noted {
		w.noteWaiting(false)
	}
	w.run.release = release
	w.run.hopeless = errors.Is(err, fault.ErrTooLarge) || errors.Is(err, fault.ErrInvalid)
	return err
}

// settle says what becomes of a job after a try.
func (w *Worker[J]) settle(err error) feed.Outcome {
	if w.run.release != nil {
		w.run.release()
	}
	switch {
	case err == nil:
		return w.end(feed.Succeeded, nil)
	case w.cutOff(err):
		return w.giveUp()
	}
	delay, again, err := w.judge(err)
	switch {
	case !again:
		return w.fail(err)
	case w.ctx.Err() != nil:
		return w.giveUp()
	}
	return w.requeue(delay, err)
}

// cutOff tells whether the try has failed because of a stop, as far as one can know.
func (w *Worker[J]) cutOff(err error) bool {
	if w.ctx.Err() == nil {
		return false
	}
	_, told := any(w.run.job).(contextual)
	return told || errors.Is(err, fault.ErrStopped)
}

// judge tells whether and when the job is to be tried again.
func (w *Worker[J]) judge(failure error) (delay time.Duration, again bool, err error) {
	if w.run.hopeless {
		return 0, false, failure
	}
	var panicked error
	func() {
		w.run.phase = judging
		defer w.catch(&panicked)
		retry := w.run.ticket.attempt()
		if retry <= w.run.job.MaxRetries() {
			delay = w.crew.Delay(w.run.job, retry, failure)
			again = delay >= 0
		}
		w.run.phase = ours
	}()
	if panicked != nil {
		return 0, false, errors.Join(failure, panicked)
	}
	return delay, again, failure
}

func (w *Worker[J]) requeue(delay time.Duration, failure error) feed.Outcome {
	ticket := w.run.ticket
	if ticket == nil {
		ticket = &Ticket[J]{job: w.run.job}
		w.run.ticket = ticket
	}
	ticket.retries.Add(1)
	if err := w.taker.Requeue(ticket.asJob(), delay); err != nil {
		return w.fail(errors.Join(failure, fmt.Errorf("requeue: %w", err)))
	}
	w.clear()
	return feed.None
}

// fail tells the job that it has failed for good.
func (w *Worker[J]) fail(failure error) feed.Outcome {
	var panicked error
	func() {
		w.run.phase = failing
		defer w.catch(&panicked)
		w.run.job.OnFailure(failure)
		w.run.phase = ours
	}()
	if panicked != nil {
		w.crew.Logger.Error("OnFailure panicked", "worker", w.id, "error", panicked, "failure", failure)
	}
	return w.end(feed.Failed, failure)
}

// end has the books closed before the result is told: who has the result finds it counted.
func (w *Worker[J]) end(outcome feed.Outcome, err error) feed.Outcome {
	ticket := w.run.ticket
	w.clear()
	if ticket == nil || ticket.settled == nil {
		return outcome // counted by the next call of Next
	}
	w.taker.Settle(outcome)
	ticket.Settle(err)
	return feed.None
}

// giveUp leaves the job to another worker, or hands it back if there will be none.
func (w *Worker[J]) giveUp() feed.Outcome {
	job, ticket := w.run.job, w.run.ticket
	if w.crew.Context.Err() == nil {
		item := job
		if ticket != nil {
			item = ticket.asJob()
		}
		if err := w.taker.Requeue(item, 0); err != nil {
			return w.fail(err)
		}
		w.clear()
		return feed.None
	}
	w.clear()
	w.taker.Settle(feed.None)
	w.crew.HandBack(job)
	ticket.Settle(fault.ErrStopped)
	return feed.None
}

// clear forgets the job, so that it can be collected while the worker waits for another.
func (w *Worker[J]) clear() {
	if w.run.noted {
		w.mu.Lock()
		w.waiting, w.startTime = false, time.Time{}
		w.mu.Unlock()
	}
	w.run = run[J]{}
}
