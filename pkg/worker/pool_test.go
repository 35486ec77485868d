package worker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/queue"
	"github.com/workerpool-dev/workerpool/pkg/worker/resource"
)

func TestJobsThatWereSubmittedBeforeStartRunAfterIt(t *testing.T) {
	p, err := worker.NewPool(worker.Options{Workers: 1})
	wantErr(t, err, nil)
	j := &job{}
	submit(t, p, j)
	wantStatus(t, p, worker.PoolStatus{QueueSize: 1})
	wantErr(t, p.Start(), nil)
	wantErr(t, p.Start(), nil)
	stop(t, p)
	wantTries(t, j, 1, 0)
}

func TestAStoppedPoolAcceptsNothing(t *testing.T) {
	p := newPool(t, worker.Options{Workers: 1})
	stop(t, p)
	err := p.Submit(t.Context(), &job{})
	wantErr(t, err, worker.ErrStopped)
	wantErr(t, err, worker.ErrClosed)
	_, err = p.SubmitResult(t.Context(), &job{})
	wantErr(t, err, worker.ErrStopped)
	wantErr(t, p.Queue().Push(&job{}), worker.ErrClosed)
	wantErr(t, p.Start(), worker.ErrStopped)
	wantErr(t, p.Resize(2), worker.ErrStopped)
	stop(t, p)
}

func TestANilJobIsRefused(t *testing.T) {
	p := newPool(t, worker.Options{Workers: 1})
	wantErr(t, p.Submit(t.Context(), nil), worker.ErrInvalid)
	_, err := p.SubmitResult(t.Context(), nil)
	wantErr(t, err, worker.ErrInvalid)
	stop(t, p)
}

func TestSubmitWaitsForRoomAsLongAsItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, worker.Options{Workers: 1, QueueSize: 1})
		submit(t, p, sleep(time.Hour))
		synctest.Wait()
		submit(t, p, &job{}) // the queue is full now
		wantErr(t, p.Queue().Push(&job{}), worker.ErrFull)
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, errJob)
		defer cancel()
		wantErr(t, p.Submit(ctx, &job{}), errJob)
		start := time.Now()
		submit(t, p, &job{})
		if waited := time.Since(start); waited != 59*time.Minute {
			t.Errorf("Submit waited %v for room, want 59 minutes", waited)
		}
		stop(t, p)
		wantStatus(t, p, worker.PoolStatus{ProcessedJobs: 3})
	})
}

func TestSubmitDoesNotWaitWhereTheQueueCannot(t *testing.T) {
	p, err := worker.NewPool(worker.Options{Workers: 1, Queue: plain{queue.New(1)}})
	wantErr(t, err, nil)
	submit(t, p, &job{})
	wantErr(t, p.Submit(t.Context(), &job{}), worker.ErrFull)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errJob)
	wantErr(t, p.Submit(ctx, &job{}), errJob)
	wantErr(t, p.Start(), nil)
	stop(t, p)
}

func TestStopRunsAllThatWasAcceptedWithItsRetries(t *testing.T) {
	for name, newQueue := range queues {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPool(t, worker.Options{Workers: 2, Queue: newQueue()})
				var jobs []*job
				for i := range 9 {
					j := sleep(time.Second)
					if i%3 == 0 {
						j = &job{process: fails, retries: 3}
					}
					jobs = append(jobs, j)
					submit(t, p, j)
				}
				stop(t, p)
				for i, j := range jobs {
					if i%3 == 0 {
						wantTries(t, j, 4, 1)
					} else {
						wantTries(t, j, 1, 0)
					}
				}
				wantStatus(t, p, worker.PoolStatus{ProcessedJobs: 9, FailedJobs: 3})
			})
		})
	}
}

func TestAPoolThatWasNeverStartedHandsAllJobsBack(t *testing.T) {
	p, err := worker.NewPool(worker.Options{Workers: 2})
	wantErr(t, err, nil)
	jobs := []worker.Job{&job{}, &job{}}
	submit(t, p, jobs...)
	wantErr(t, p.Stop(), worker.ErrStopped)
	left, err := p.StopContext(t.Context())
	wantErr(t, err, worker.ErrStopped)
	if !slices.Equal(left, jobs) {
		t.Errorf("%d jobs were handed back, want the 2 submitted", len(left))
	}
	left, err = p.StopContext(t.Context())
	if len(left) != 0 || err != nil {
		t.Errorf("%d jobs were handed back a second time, error %v", len(left), err)
	}
	for _, w := range p.Workers() {
		if s := w.Status(); s.Running || s.State != worker.WorkerStopped {
			t.Errorf("a worker is %+v", s)
		}
	}
}

// The jobs that StopContext finds: one that listens to its context, one that does not, one in the
// queue, one that waits for a retry.
func TestAtTheEndOfItsContextStopCutsOffAndHandsBack(t *testing.T) {
	for name, newQueue := range queues {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPool(t, worker.Options{Workers: 2, Queue: newQueue(), Backoff: worker.Backoff{Initial: time.Hour}})
				retried := &job{process: fails, retries: 1}
				submit(t, p, retried)
				synctest.Wait()
				listens := &contextJob{job: job{retries: 1}, lasts: time.Hour}
				deaf := sleep(10*time.Second + 500*time.Millisecond)
				submit(t, p, listens, deaf)
				synctest.Wait()
				queued := &job{}
				submit(t, p, queued)
				r, err := p.SubmitResult(t.Context(), &job{})
				wantErr(t, err, nil)

				ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Second, errJob)
				defer cancel()
				start := time.Now()
				left, err := p.StopContext(ctx)
				wantErr(t, err, errJob)
				if took := time.Since(start); took != 10*time.Second+500*time.Millisecond {
					t.Errorf("StopContext took %v, want until the last job has returned", took)
				}
				wantLeft(t, left, 4, retried, listens, queued)
				wantErr(t, r.Wait(t.Context()), worker.ErrStopped)
				wantErr(t, listens.cause, worker.ErrStopped)
				wantTries(t, retried, 1, 0)
				wantTries(t, listens, 1, 0)
				wantTries(t, queued, 0, 0)
				wantStatus(t, p, worker.PoolStatus{ProcessedJobs: 1})
			})
		})
	}
}

func wantLeft(t *testing.T, left []worker.Job, n int, jobs ...worker.Job) {
	t.Helper()
	if len(left) != n {
		t.Errorf("%d jobs were handed back, want %d", len(left), n)
	}
	for i, j := range jobs {
		if !slices.Contains(left, j) {
			t.Errorf("job %d was not handed back", i)
		}
	}
}

func TestStopContextDoesNotWaitForLongForAJobThatDoesNotListen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, worker.Options{Workers: 1})
		j := sleep(time.Hour)
		submit(t, p, j)
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		start := time.Now()
		left, err := p.StopContext(ctx)
		wantErr(t, err, context.Canceled)
		if took := time.Since(start); took != time.Second || len(left) != 0 {
			t.Errorf("StopContext took %v and handed %d jobs back, want one second and none", took, len(left))
		}
		stop(t, p) // waits for it
		if took := time.Since(start); took != time.Hour {
			t.Errorf("Stop returned after %v, before the job had", took)
		}
		wantStatus(t, p, worker.PoolStatus{ProcessedJobs: 1})
	})
}

// What fails by itself while the pool is being cut off is not run again, but its OnFailure is called.
func TestAJobWithoutContextThatFailsDuringTheCutOffHasFailed(t *testing.T) {
	for retries, want := range []struct{ left, failures int }{{0, 1}, {1, 0}} {
		t.Run(fmt.Sprint(retries, " retries"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPool(t, worker.Options{Workers: 1})
				j := &job{retries: retries, process: func() error { time.Sleep(500 * time.Millisecond); return errJob }}
				submit(t, p, j)
				synctest.Wait()
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				left, err := p.StopContext(ctx)
				wantErr(t, err, context.Canceled)
				wantLeft(t, left, want.left)
				wantTries(t, j, 1, want.failures)
			})
		})
	}
}

func TestWhatFailsDuringTheCutOffIsHandedBackThoughAnotherJobRunsOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, worker.Options{Workers: 2})
		deaf := sleep(time.Hour)
		j := &job{retries: 1, process: func() error { time.Sleep(500 * time.Millisecond); return errJob }}
		submit(t, p, deaf, j)
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		left, err := p.StopContext(ctx)
		wantErr(t, err, context.Canceled)
		wantLeft(t, left, 1, j)
		stop(t, p)
	})
}

func TestAResultThatIsToldIsCounted(t *testing.T) {
	p := newPool(t, worker.Options{Workers: 2})
	for n := range uint64(3000) {
		_ = result(t, p, &job{process: fails})
		if s := p.Status(); s.ProcessedJobs != n+1 || s.FailedJobs != n+1 || s.ActiveJobs != 0 {
			t.Fatalf("after %d results the status is %+v", n+1, s)
		}
	}
	stop(t, p)
}

func TestNothingOfAJobIsLeftForTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := resource.NewController(worker.ResourceLimits{Files: 1})
		p := newPool(t, worker.Options{Workers: 1, Resource: c})
		wantErr(t, result(t, p, &limited{contextJob: contextJob{lasts: time.Second}, limit: time.Minute}), nil)
		wantErr(t, result(t, p, &sized{usage: worker.ResourceUsage{Files: 1}}), nil)
		submit(t, p, sleep(time.Minute))
		synctest.Wait()
		if j := p.Workers()[0].Status().CurrentJob; !j.StartTime.IsZero() || j.Usage != (worker.ResourceUsage{}) || j.Attempt != 1 {
			t.Errorf("the job is %+v", j)
		}
		stop(t, p)
	})
}

func TestAJobThatHasEndedCanBeCollected(t *testing.T) {
	p := newPool(t, worker.Options{Workers: 1})
	collected := make(chan struct{})
	func() {
		j := &job{}
		runtime.AddCleanup(j, func(done chan struct{}) { close(done) }, collected)
		submit(t, p, j)
	}()
	for range 1000 { // cleanups run beside the collector: one round is seldom enough
		runtime.GC()
		select {
		case <-collected:
			stop(t, p)
			return
		default:
		}
	}
	t.Fatal("the pool holds a job that has ended")
}

func TestAPanicFailsTheTryAndNothingElse(t *testing.T) {
	p := newPool(t, worker.Options{Workers: 1})
	err := result(t, p, &job{process: func() error { panic(errJob) }})
	var panicked *worker.PanicError
	if !errors.As(err, &panicked) {
		t.Fatalf("error is %v, want a PanicError", err)
	}
	wantErr(t, err, errJob) // it unwraps
	if panicked.Error() != "panic: the job failed" || !strings.Contains(string(panicked.Stack), "pool_test.go") {
		t.Errorf("error is %q with a stack of %s", panicked, panicked.Stack)
	}
	if err := (&worker.PanicError{Value: "no error"}).Unwrap(); err != nil {
		t.Errorf("it unwraps to %v", err)
	}
	err = result(t, p, &job{process: func() error { panic(nil) }})
	if _, ok := errors.AsType[*runtime.PanicNilError](err); !ok {
		t.Errorf("error is %v, want that of a nil panic", err)
	}
	wantErr(t, result(t, p, &job{}), nil)
	stop(t, p)
}

func TestGoexitFailsTheTryAndNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, worker.Options{Workers: 1, Resource: resource.NewController(worker.ResourceLimits{Files: 1})})
		j := &sized{usage: worker.ResourceUsage{Files: 1}}
		j.process, j.retries = func() error { runtime.Goexit(); return nil }, 1
		wantErr(t, result(t, p, j), worker.ErrGoexit)
		wantTries(t, j, 2, 1)
		wantErr(t, result(t, p, &sized{usage: worker.ResourceUsage{Files: 1}}), nil) // it was released
		wantStatus(t, p, worker.PoolStatus{Workers: 1, ProcessedJobs: 2, FailedJobs: 1})
		stop(t, p)
	})
}

// rude misbehaves wherever a job is called.
type rude struct {
	job
	timeout, maxRetries, onFailure func()
}

func (j *rude) Timeout() time.Duration { call(j.timeout); return 0 }
func (j *rude) MaxRetries() int        { call(j.maxRetries); return 0 }
func (j *rude) OnFailure(error)        { call(j.onFailure) }
func (j *rude) ProcessContext(context.Context) error {
	return j.Process()
}

func call(f func()) {
	if f != nil {
		f()
	}
}

func TestAPanicOrGoexitAnywhereInAJobEndsTheJobAlone(t *testing.T) {
	panics, exits := func() { panic("rude") }, runtime.Goexit
	for name, j := range map[string]*rude{
		"panic in Timeout":     {timeout: panics},
		"Goexit in Timeout":    {timeout: exits},
		"panic in MaxRetries":  {job: job{process: fails}, maxRetries: panics},
		"Goexit in MaxRetries": {job: job{process: fails}, maxRetries: exits},
		"panic in OnFailure":   {job: job{process: fails}, onFailure: panics},
		"Goexit in OnFailure":  {job: job{process: fails}, onFailure: exits},
	} {
		t.Run(name, func(t *testing.T) {
			var log strings.Builder
			p := newPool(t, worker.Options{Workers: 1, Logger: slog.New(slog.NewTextHandler(&log, nil))})
			if err := result(t, p, j); err == nil {
				t.Error("the job succeeded")
			}
			wantErr(t, result(t, p, &job{}), nil)
			wantStatus(t, p, worker.PoolStatus{Workers: 1, ProcessedJobs: 2, FailedJobs: 1})
			stop(t, p)
			if logged := strings.Contains(log.String(), "OnFailure"); logged != (j.onFailure != nil) {
				t.Errorf("log is %q", log.String())
			}
		})
	}
}

func TestAJobContextIsToldWhenItsTimeIsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, worker.Options{Workers: 1, Timeout: time.Minute})
		start := time.Now()
		wantTimeout := func(j worker.Job, cause *error, after time.Duration) {
			t.Helper()
			start = time.Now()
			err := result(t, p, j)
			wantErr(t, err, worker.ErrTimeout)
			wantErr(t, err, context.DeadlineExceeded)
			wantErr(t, *cause, worker.ErrTimeout)
			if took := time.Since(start); took != after {
				t.Errorf("the job ended after %v, want %v", took, after)
			}
		}
		byPool := &contextJob{lasts: time.Hour}
		wantTimeout(byPool, &byPool.cause, time.Minute)
		own := &limited{contextJob: contextJob{lasts: time.Hour}, limit: time.Second}
		wantTimeout(own, &own.cause, time.Second)
		none := &limited{contextJob: contextJob{lasts: time.Hour}}
		wantErr(t, result(t, p, none), nil)
		wantErr(t, result(t, p, &contextJob{lasts: time.Second}), nil)
		stop(t, p)
	})
}

func TestASlotIsTakenUntilTheJobHasReturnedWhateverItsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, worker.Options{Workers: 1})
		submit(t, p, &limited{contextJob: contextJob{lasts: time.Hour, deaf: true}, limit: time.Second}, &job{})
		time.Sleep(time.Minute)
		wantStatus(t, p, worker.PoolStatus{Workers: 1, QueueSize: 1, ActiveJobs: 1})
		stop(t, p)
		wantStatus(t, p, worker.PoolStatus{ProcessedJobs: 2}) // it returned nil: a success, if late
	})
}

func TestResourcesAreHeldWhileAJobRunsAndNotBetweenItsTries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := resource.NewController(worker.ResourceLimits{Memory: 10})
		p := newPool(t, worker.Options{Workers: 3, Resource: c})
		want := func(used int64, waiting int) {
			t.Helper()
			synctest.Wait()
			if s := c.Status(); s.Used.Memory != used || s.Waiting != waiting {
				t.Errorf("used is %d and waiting %d, want %d and %d", s.Used.Memory, s.Waiting, used, waiting)
			}
		}
		j := &sized{usage: worker.ResourceUsage{Memory: 6}}
		j.retries, j.process = 1, func() error { time.Sleep(time.Minute); return errJob }
		submit(t, p, j)
		want(6, 0)
		other := &sized{usage: worker.ResourceUsage{Memory: 6}}
		other.process = func() error { time.Sleep(time.Minute); return nil }
		submit(t, p, other)
		want(6, 1)
		time.Sleep(time.Minute)
		want(6, 0)              // the first job waits for its retry now, the other has its turn
		time.Sleep(time.Minute) // the first runs again since a moment
		want(6, 0)
		stop(t, p)
		want(0, 0)
		wantTries(t, j, 2, 1)
	})
}

func TestAJobThatCanNeverHaveItsResourcesIsRefusedAndFailsWithoutRetries(t *testing.T) {
	for usage, want := range map[worker.ResourceUsage]error{{Memory: 11}: worker.ErrTooLarge, {Memory: -1}: worker.ErrInvalid} {
		synctest.Test(t, func(t *testing.T) {
			p := newPool(t, worker.Options{Workers: 1, Resource: resource.NewController(worker.ResourceLimits{Memory: 10})})
			j := &sized{usage: usage}
			j.retries = 3
			wantErr(t, p.Submit(t.Context(), j), want)
			_, err := p.SubmitResult(t.Context(), j)
			wantErr(t, err, want)
			wantErr(t, p.Queue().Push(j), nil) // past the check
			synctest.Wait()
			wantTries(t, j, 0, 1)
			wantErr(t, j.failed()[0], want)
			stop(t, p)
		})
	}
}

func TestAWorkerShowsThatItsJobWaitsForResources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := resource.NewController(worker.ResourceLimits{Files: 1})
		wantErr(t, c.Acquire(worker.ResourceUsage{Files: 1}), nil)
		p := newPool(t, worker.Options{Workers: 1, Resource: c})
		want := func(state worker.WorkerState) {
			t.Helper()
			synctest.Wait()
			if s := p.Workers()[0].Status(); s.State != state {
				t.Errorf("the worker is %s, want %s", s.State, state)
			}
		}
		want(worker.WorkerIdle)
		j := &sized{usage: worker.ResourceUsage{Files: 1}}
		j.process = func() error { time.Sleep(time.Minute); return nil }
		submit(t, p, j)
		want(worker.WorkerWaiting)
		c.Release(worker.ResourceUsage{Files: 1})
		want(worker.WorkerBusy)
		stop(t, p)
		want(worker.WorkerStopped)
	})
}

// plainController hides AcquireContext.
type plainController struct{ worker.ResourceController }

func TestAControllerThatCannotWaitIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := resource.NewController(worker.ResourceLimits{Files: 1})
		p := newPool(t, worker.Options{Workers: 1, Resource: plainController{c}})
		wantErr(t, c.Acquire(worker.ResourceUsage{Files: 1}), nil)
		j := &sized{usage: worker.ResourceUsage{Files: 1}}
		submit(t, p, j)
		time.Sleep(time.Hour)
		wantTries(t, j, 0, 0)
		start := time.Now()
		c.Release(worker.ResourceUsage{Files: 1})
		stop(t, p)
		wantTries(t, j, 1, 0)
		if waited := time.Since(start); waited > time.Second {
			t.Errorf("the job waited %v for what was free", waited)
		}
	})
}

func TestAJobThatWaitsForResourcesIsHandedBackByTheCutOff(t *testing.T) {
	for name, wrap := range map[string]func(worker.ResourceController) worker.ResourceController{
		"waiting": func(c worker.ResourceController) worker.ResourceController { return c },
		"polling": func(c worker.ResourceController) worker.ResourceController { return plainController{c} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := resource.NewController(worker.ResourceLimits{Files: 1})
				wantErr(t, c.Acquire(worker.ResourceUsage{Files: 1}), nil)
				p := newPool(t, worker.Options{Workers: 1, Resource: wrap(c)})
				j := &sized{usage: worker.ResourceUsage{Files: 1}}
				submit(t, p, j)
				synctest.Wait()
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				left, err := p.StopContext(ctx)
				wantErr(t, err, context.Canceled)
				wantLeft(t, left, 1, j)
				wantTries(t, j, 0, 0)
			})
		})
	}
}

func TestStatusOfAWorkerTellsWhatItRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, worker.Options{Workers: 1, Timestamps: true, Resource: resource.NewController(worker.ResourceLimits{})})
		j := &sized{usage: worker.ResourceUsage{CPU: 0.5}}
		j.retries, j.process = 1, func() error { time.Sleep(time.Minute); return errJob }
		submit(t, p, j)
		time.Sleep(time.Minute + 30*time.Second) // in its second try: the wait before was a second at most
		s := p.Workers()[0].Status()
		if s.CurrentJob == nil {
			t.Fatalf("no current job in %+v", s)
		}
		age := time.Since(s.CurrentJob.StartTime)
		if s.CurrentJob.ID != "*worker_test.sized" || s.CurrentJob.Attempt != 2 || s.CurrentJob.Usage.CPU != 0.5 ||
			age < 29*time.Second || age > 30*time.Second {
			t.Errorf("current job is %+v, started %v ago", s.CurrentJob, age)
		}
		if !s.Running || s.State != worker.WorkerBusy || s.ProcessedJobs != 0 {
			t.Errorf("status is %+v", s)
		}
		submit(t, p, &named{id: "nightly", job: job{process: func() error { time.Sleep(time.Hour); return nil }}})
		time.Sleep(time.Minute)
		if s := p.Workers()[0].Status(); s.CurrentJob.ID != "nightly" || s.ProcessedJobs != 1 || s.FailedJobs != 1 {
			t.Errorf("status is %+v of job %+v", s, s.CurrentJob)
		}
		stop(t, p)
	})
}

func TestTheClockIsReadOnlyForThoseWhoAsk(t *testing.T) {
	for name, c := range map[string]struct {
		options worker.Options
		job     worker.Job
		noted   bool
	}{
		"a job":                         {worker.Options{}, sleep(time.Minute), false},
		"a job with a context":          {worker.Options{}, &contextJob{lasts: time.Minute}, false},
		"a job with a timeout":          {worker.Options{}, &limited{contextJob: contextJob{lasts: time.Minute}, limit: time.Hour}, true},
		"a timeout for all":             {worker.Options{Timeout: time.Hour}, &contextJob{lasts: time.Minute}, true},
		"timestamps":                    {worker.Options{Timestamps: true}, sleep(time.Minute), true},
		"timestamps and with a context": {worker.Options{Timestamps: true}, &contextJob{lasts: time.Minute}, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c.options.Workers = 1
				p := newPool(t, c.options)
				submit(t, p, c.job)
				synctest.Wait()
				if start := p.Workers()[0].Status().CurrentJob.StartTime; start.IsZero() == c.noted || c.noted && !start.Equal(time.Now()) {
					t.Errorf("the start is %v at %v", start, time.Now())
				}
				stop(t, p)
			})
		})
	}
}

// gated is a queue whose Pop gives its job when the gate is opened, whatever happened meanwhile.
type gated struct {
	worker.Queue
	gate chan worker.Job
}

func (q *gated) Pop() (worker.Job, error) {
	if j, ok := <-q.gate; ok {
		return j, nil
	}
	return nil, worker.ErrClosed
}

func TestAJobThatComesAfterTheCutOffIsHandedBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &gated{queue.New(1), make(chan worker.Job, 1)}
		p := newPool(t, worker.Options{Workers: 2, Queue: q})
		synctest.Wait() // both wait in Pop
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var left []worker.Job
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			left, _ = p.StopContext(ctx)
		}()
		synctest.Wait()
		j := &job{}
		q.gate <- j
		synctest.Wait()
		close(q.gate)
		<-stopped
		wantLeft(t, left, 1, j)
		wantTries(t, j, 0, 0)
		stop(t, p)
	})
}

func TestResizeChangesHowManyJobsRunAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, worker.Options{Workers: 2})
		for range 12 {
			submit(t, p, sleep(time.Minute))
		}
		want := func(workers, active, queued int) {
			t.Helper()
			synctest.Wait()
			if s := p.Status(); s.Workers != workers || s.ActiveJobs != active || s.QueueSize != queued {
				t.Errorf("status is %+v, want %d workers, %d active and %d queued", s, workers, active, queued)
			}
		}
		want(2, 2, 10)
		wantErr(t, p.Resize(4), nil)
		want(4, 4, 8)
		wantErr(t, p.Resize(1), nil)
		want(1, 4, 8) // those that run go on
		time.Sleep(time.Minute)
		want(1, 1, 7)
		wantErr(t, p.Resize(3), nil)
		want(3, 3, 5)
		ids := fmt.Sprint(p.Workers()[0].ID(), p.Workers()[1].ID(), p.Workers()[2].ID())
		if ids != "0 1 2" {
			t.Errorf("IDs are %s", ids)
		}
		wantErr(t, p.Resize(0), worker.ErrInvalid)
		stop(t, p)
		wantStatus(t, p, worker.PoolStatus{ProcessedJobs: 12})
	})
}

func TestStopWaitsForAWorkerThatResizeHasRetired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, worker.Options{Workers: 2})
		submit(t, p, sleep(time.Hour), sleep(time.Hour))
		synctest.Wait()
		for _, n := range []int{1, 2, 1} { // each time the one that runs its last job must be remembered
			wantErr(t, p.Resize(n), nil)
		}
		start := time.Now()
		stop(t, p)
		if waited := time.Since(start); waited != time.Hour {
			t.Errorf("Stop has waited %v, want the hour that both jobs take", waited)
		}
		wantStatus(t, p, worker.PoolStatus{ProcessedJobs: 2})
	})
}

func TestResizeBeforeStartAndOfIdleWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := worker.NewPool(worker.Options{Workers: 4})
		wantErr(t, err, nil)
		wantErr(t, p.Resize(2), nil)
		wantErr(t, p.Start(), nil)
		submit(t, p, sleep(time.Minute))
		synctest.Wait()
		wantErr(t, p.Resize(1), nil) // the idle one goes, whichever runs the job
		synctest.Wait()
		if s := p.Workers()[0].Status(); s.State != worker.WorkerBusy {
			t.Errorf("the worker that stays is %s", s.State)
		}
		stop(t, p)
	})
}

func TestAWorkerThatIsStoppedLeavesItsJobToTheOthersWhenItsContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, worker.Options{Workers: 2})
		j := &contextJob{lasts: time.Minute}
		r, err := p.SubmitResult(t.Context(), j)
		wantErr(t, err, nil)
		synctest.Wait()
		busy := slices.IndexFunc(p.Workers(), func(w worker.Worker) bool { return w.Status().CurrentJob != nil })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		wantErr(t, p.Workers()[busy].(worker.WorkerContext).StopContext(ctx), context.DeadlineExceeded)
		wantErr(t, r.Wait(t.Context()), nil)
		wantTries(t, j, 2, 0)
		stop(t, p)
	})
}

func TestOfAMillionLooksEachAddsUp(t *testing.T) {
	const jobs = 20000
	p := newPool(t, worker.Options{Workers: 3, QueueSize: 50})
	var accepted atomic.Int64
	done := make(chan struct{})
	looking := make(chan struct{})
	go func() {
		defer close(looking)
		for {
			before := accepted.Load()
			s := p.Status()
			after := accepted.Load() + 1 // one may be accepted and not counted
			sum := int64(s.QueueSize+s.ActiveJobs) + int64(s.ProcessedJobs)
			if sum < before || sum > after || s.ActiveJobs > 3 || s.FailedJobs > s.ProcessedJobs {
				t.Errorf("status is %+v, with %d to %d jobs accepted", s, before, after)
				return
			}
			select {
			case <-done:
				return
			default:
			}
		}
	}()
	for i := range jobs {
		j := &job{}
		if i%7 == 0 {
			j.process = fails
		}
		submit(t, p, j)
		accepted.Add(1)
	}
	stop(t, p)
	close(done)
	<-looking
	wantStatus(t, p, worker.PoolStatus{ProcessedJobs: jobs, FailedJobs: (jobs + 6) / 7})
}

func TestAPlainSubmitAllocatesNothing(t *testing.T) {
	p := newPool(t, worker.Options{Workers: 1, Resource: resource.NewController(worker.ResourceLimits{})})
	ran := make(chan struct{}, 1)
	j := &job{process: func() error { ran <- struct{}{}; return nil }}
	ctx := t.Context()
	if n := testing.AllocsPerRun(1000, func() {
		_ = p.Submit(ctx, j)
		<-ran
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	stop(t, p)
}

func TestAQueueThatFailsIsLeftAloneForASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := &failing{Queue: queue.New(1)}
		q.errors.Store(3)
		p := newPool(t, worker.Options{Workers: 1, Queue: q, Logger: slog.New(slog.DiscardHandler)})
		start := time.Now()
		wantErr(t, result(t, p, &job{}), nil)
		if waited := time.Since(start); waited != 3*time.Second {
			t.Errorf("the job ran after %v, want 3 s", waited)
		}
		stop(t, p)
	})
}

// failing is a queue whose Pop fails at first.
type failing struct {
	worker.Queue
	errors atomic.Int32
}

func (q *failing) Pop() (worker.Job, error) {
	if q.errors.Add(-1) >= 0 {
		return nil, errJob
	}
	return q.Queue.Pop()
}
