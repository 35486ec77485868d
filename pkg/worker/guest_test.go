package worker_test

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/queue"
)

// own is a worker as a user may write it: it runs what its queue has until that is closed, or Stop.
type own struct {
	id                int
	queue             worker.Queue
	startErr, stopErr error

	// stopAfter ends the worker after so many jobs, 0 never.
	stopAfter int

	stops int

	mu     sync.Mutex
	status worker.WorkerStatus
	done   sync.WaitGroup
}

func newOwn(id int, q worker.Queue) *own { return &own{id: id, queue: q} }

func (w *own) Start() error {
	if w.startErr != nil {
		return w.startErr
	}
	w.note(func(s *worker.WorkerStatus) { s.Running = true })
	w.done.Go(w.run)
	return nil
}

func (w *own) Stop() error {
	w.stops++
	_ = w.queue.Close()
	w.done.Wait()
	w.note(func(s *worker.WorkerStatus) { s.Running = false })
	return w.stopErr
}

func (w *own) ID() int { return w.id }

func (w *own) Status() worker.WorkerStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.status
}

func (w *own) note(change func(*worker.WorkerStatus)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(&w.status)
}

func (w *own) run() {
	for n := 0; w.stopAfter == 0 || n < w.stopAfter; n++ {
		job, err := w.queue.Pop()
		if err != nil {
			return
		}
		w.note(func(s *worker.WorkerStatus) { s.CurrentJob = &worker.JobInfo{Attempt: 1} })
		err = job.Process()
		w.note(func(s *worker.WorkerStatus) {
			s.CurrentJob = nil
			s.ProcessedJobs++
			if err != nil {
				s.FailedJobs++
			}
		})
	}
}

func TestOwnWorkersRunThePoolsJobsAndAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queue.New(10)
		workers := []worker.Worker{newOwn(1, q), newOwn(2, q)}
		p := newPool(t, worker.Options{Workers: workers, Queue: q})
		submit(t, p, sleep(time.Minute), &job{process: fails}, sleep(time.Minute), sleep(time.Minute))
		synctest.Wait()
		wantStatus(t, p, worker.PoolStatus{Workers: 2, QueueSize: 1, ActiveJobs: 2, ProcessedJobs: 1, FailedJobs: 1})
		if got := p.Workers(); len(got) != 2 || got[0] != workers[0] || got[1] != workers[1] {
			t.Errorf("workers are %v", got)
		}
		wantErr(t, p.Resize(3), worker.ErrInvalid)
		stop(t, p)
		wantStatus(t, p, worker.PoolStatus{ProcessedJobs: 4, FailedJobs: 1})
	})
}

func TestWhatOwnWorkersLeaveIsHandedBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queue.New(10)
		lazy := newOwn(1, q)
		lazy.stopAfter, lazy.stopErr = 1, errJob
		p := newPool(t, worker.Options{
			Workers: []worker.Worker{lazy}, Queue: q, Logger: slog.New(slog.DiscardHandler),
		})
		left := &job{}
		submit(t, p, &job{}, left)
		wantErr(t, p.Stop(), worker.ErrStopped)
		back, err := p.StopContext(t.Context())
		wantErr(t, err, worker.ErrStopped)
		wantLeft(t, back, 1, left)
	})
}

func TestAPoolOfOwnWorkersThatWasNeverStartedDoesNotStopThem(t *testing.T) {
	q := queue.New(10)
	w := newOwn(1, q)
	p, err := worker.NewPool(worker.Options{Workers: []worker.Worker{w}, Queue: q})
	wantErr(t, err, nil)
	stop(t, p)
	if w.stops != 0 {
		t.Errorf("a worker that was not started was stopped %d times", w.stops)
	}
}

func TestAResultIsThereForAllWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, worker.Options{Workers: 1})
		r, err := p.SubmitResult(t.Context(), sleep(time.Minute))
		wantErr(t, err, nil)
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errJob)
		wantErr(t, r.Wait(ctx), errJob)
		select {
		case <-r.Done():
			t.Error("done before the job has ended")
		default:
		}
		for range 2 {
			wantErr(t, r.Wait(t.Context()), nil)
		}
		<-r.Done()
		wantErr(t, r.Wait(ctx), nil) // the result goes before the end of the context
		stop(t, p)
	})
}

// A queue of the user's own sees the jobs that were submitted, or what stands for them.
func TestAJobThatStandsForAnotherDoesAsThatOne(t *testing.T) {
	q := queue.New(1)
	p, err := worker.NewPool(worker.Options{Workers: 1, Queue: q})
	wantErr(t, err, nil)
	j := &prioritized{priority: 5, patient: patient{job: job{process: fails, retries: 2}}}
	_, err = p.SubmitResult(t.Context(), j)
	wantErr(t, err, nil)
	standIn, err := q.Pop()
	wantErr(t, err, nil)
	wantErr(t, standIn.Process(), errJob)
	standIn.OnFailure(errJob)
	wantTries(t, j, 1, 1)
	if standIn.MaxRetries() != 2 || standIn.(worker.Prioritized).Priority() != 5 {
		t.Errorf("MaxRetries is %d, Priority %d", standIn.MaxRetries(), standIn.(worker.Prioritized).Priority())
	}
	if standIn.(interface{ Unwrap() worker.Job }).Unwrap() != worker.Job(j) {
		t.Error("it does not unwrap to the job")
	}
	wantErr(t, q.Push(standIn), nil)
	_, err = p.StopContext(t.Context())
	wantErr(t, err, worker.ErrStopped)
}

func TestAPlainJobInThePlaceOfAPrioritizedHasPriorityZero(t *testing.T) {
	q := queue.New(1)
	p, err := worker.NewPool(worker.Options{Workers: 1, Queue: q})
	wantErr(t, err, nil)
	_, err = p.SubmitResult(t.Context(), &job{})
	wantErr(t, err, nil)
	standIn, err := q.Pop()
	wantErr(t, err, nil)
	if got := standIn.(worker.Prioritized).Priority(); got != 0 {
		t.Errorf("Priority is %d", got)
	}
	stop(t, p)
}

// refusing is a queue that takes nothing back.
type refusing struct{ *queue.FIFO }

func (refusing) Requeue(worker.Job, time.Duration) error { return errJob }

func TestARetryThatTheQueueRefusesIsAFailure(t *testing.T) {
	p := newPool(t, worker.Options{Workers: 1, Queue: refusing{queue.New(1)}})
	mine := &job{retries: 3, process: func() error { return context.Canceled }}
	err := result(t, p, mine)
	wantErr(t, err, errJob)
	wantErr(t, err, context.Canceled)
	wantTries(t, mine, 1, 1)
	stop(t, p)
}

func TestAWorkerThatRunsItsLastJobTakesNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, worker.Options{Workers: 1})
		submit(t, p, sleep(time.Minute))
		synctest.Wait()
		go func() { _ = p.Workers()[0].Stop() }()
		synctest.Wait()
		wantStatus(t, p, worker.PoolStatus{ActiveJobs: 1})
		if s := p.Workers()[0].Status(); !s.Running || s.State != worker.WorkerStopping {
			t.Errorf("status is %+v", s)
		}
		stop(t, p)
	})
}

func TestAWorkerOfThePoolCanBeStoppedAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, worker.Options{Workers: 2})
		w := p.Workers()[0]
		wantErr(t, w.Stop(), nil)
		wantErr(t, w.Start(), worker.ErrStopped)
		if s := w.Status(); s.Running || s.State != worker.WorkerStopped {
			t.Errorf("status is %+v", s)
		}
		submit(t, p, sleep(time.Minute), sleep(time.Minute))
		synctest.Wait()
		wantStatus(t, p, worker.PoolStatus{Workers: 1, QueueSize: 1, ActiveJobs: 1})
		if s := p.Workers()[1].Status(); s.State != worker.WorkerBusy {
			t.Errorf("the other worker is %s", s.State)
		}
		stop(t, p)
		wantStatus(t, p, worker.PoolStatus{ProcessedJobs: 2})
	})
}

func TestAFunctionIsAJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, worker.Options{Workers: 1, Timeout: time.Second})
		wantErr(t, result(t, p, worker.JobFunc(func(context.Context) error { return errJob })), errJob)
		wantErr(t, result(t, p, worker.JobFunc(func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		})), worker.ErrTimeout)
		wantErr(t, worker.JobFunc(func(ctx context.Context) error { return ctx.Err() }).Process(), nil)
		stop(t, p)
		wantStatus(t, p, worker.PoolStatus{ProcessedJobs: 2, FailedJobs: 2})
	})
}

// stoppable is an own worker that can be told to end.
type stoppable struct {
	*own
	told chan error
}

func (w *stoppable) StopContext(ctx context.Context) error {
	<-ctx.Done()
	w.told <- context.Cause(ctx)
	return w.Stop()
}

func TestAnOwnWorkerThatCanBeToldIsToldAtTheDeadline(t *testing.T) {
	q := queue.New(1)
	w := &stoppable{own: newOwn(1, q), told: make(chan error, 1)}
	p := newPool(t, worker.Options{Workers: []worker.Worker{w}, Queue: q})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := p.StopContext(ctx)
	wantErr(t, err, context.Canceled)
	wantErr(t, <-w.told, worker.ErrStopped)
}

func TestAPoolOfOwnWorkersHasNoResults(t *testing.T) {
	q := queue.New(1)
	p, err := worker.NewPool(worker.Options{Workers: []worker.Worker{newOwn(1, q)}, Queue: q})
	wantErr(t, err, nil)
	_, err = p.SubmitResult(t.Context(), &job{})
	wantErr(t, err, worker.ErrInvalid)
	stop(t, p)
}

// counting is a queue of the user's own that embeds one of ours.
type counting struct {
	*queue.FIFO
	pops atomic.Int32
}

func (q *counting) PopContext(ctx context.Context) (worker.Job, error) {
	q.pops.Add(1)
	return q.FIFO.PopContext(ctx)
}

func TestWhatAQueueDoesThatEmbedsOneOfOursIsNotPassedBy(t *testing.T) {
	q := &counting{FIFO: queue.New(1)}
	p := newPool(t, worker.Options{Workers: 1, Queue: q})
	wantErr(t, result(t, p, &job{}), nil)
	stop(t, p)
	if q.pops.Load() == 0 {
		t.Error("its PopContext was not called")
	}
}
