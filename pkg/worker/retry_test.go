package worker_test

import (
	"errors"
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/queue"
)

func TestAJobThatSucceedsIsTriedOnce(t *testing.T) {
	p := newPool(t, worker.Options{Workers: 1})
	j := &job{retries: 3}
	wantErr(t, result(t, p, j), nil)
	wantTries(t, j, 1, 0)
	wantStatus(t, p, worker.PoolStatus{Workers: 1, ProcessedJobs: 1})
	stop(t, p)
}

// queues are those that a pool may have: each must serve retries.
var queues = map[string]func() worker.Queue{
	"the pool's own": func() worker.Queue { return nil },
	"FIFO":           func() worker.Queue { return queue.New(10) },
	"Priority": func() worker.Queue {
		q, err := queue.NewPriority(queue.Options{Capacity: 10})
		if err != nil {
			panic(err)
		}
		return q
	},
	"a plain one": func() worker.Queue { return plain{queue.New(10)} },
}

// plain hides what a queue can do beyond worker.Queue.
type plain struct{ worker.Queue }

func TestAJobThatFailsIsTriedAgainAndOnFailureIsCalledOnce(t *testing.T) {
	for name, newQueue := range queues {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPool(t, worker.Options{Workers: 2, Queue: newQueue()})
				j := &job{process: fails, retries: 3}
				wantErr(t, result(t, p, j), errJob)
				wantTries(t, j, 4, 1)
				wantErr(t, j.failed()[0], errJob)
				wantStatus(t, p, worker.PoolStatus{Workers: 2, ProcessedJobs: 1, FailedJobs: 1})
				stop(t, p)
			})
		})
	}
}

func TestARetryThatSucceedsIsASuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, worker.Options{Workers: 1})
		j := &job{retries: 5}
		j.process = func() error {
			if j.tries.Load() < 3 {
				return errJob
			}
			return nil
		}
		wantErr(t, result(t, p, j), nil)
		wantTries(t, j, 3, 0)
		wantStatus(t, p, worker.PoolStatus{Workers: 1, ProcessedJobs: 1})
		stop(t, p)
	})
}

func TestBetweenTriesAJobWaitsInTheQueueAndNotInAWorker(t *testing.T) {
	for name, newQueue := range queues {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPool(t, worker.Options{Workers: 1, Queue: newQueue()})
				submit(t, p, &job{process: fails, retries: 1})
				synctest.Wait()
				wantStatus(t, p, worker.PoolStatus{Workers: 1, QueueSize: 1})
				start := time.Now()
				wantErr(t, result(t, p, &job{}), nil)
				if waited := time.Since(start); waited != 0 {
					t.Fatalf("another job had to wait for %v", waited)
				}
				stop(t, p)
				wantStatus(t, p, worker.PoolStatus{ProcessedJobs: 2, FailedJobs: 1})
			})
		})
	}
}

func TestTheWaitBeforeARetryGrowsAndHasJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		backoff := worker.Backoff{Initial: 4 * time.Second, Factor: 3, Max: 20 * time.Second}
		p := newPool(t, worker.Options{Workers: 1, Backoff: backoff})
		var tries []time.Time
		j := &job{retries: 4, process: func() error { tries = append(tries, time.Now()); return errJob }}
		wantErr(t, result(t, p, j), errJob)
		different := map[time.Duration]bool{}
		for i, full := range []time.Duration{4 * time.Second, 12 * time.Second, 20 * time.Second, 20 * time.Second} {
			wait := tries[i+1].Sub(tries[i])
			if wait < full/2 || wait > full {
				t.Errorf("the wait before retry %d is %v, want between a half and all of %v", i+1, wait, full)
			}
			different[wait/(full/1000)] = true
		}
		if len(different) < 2 {
			t.Errorf("four waits are the same part of the whole: there is no jitter")
		}
		stop(t, p)
	})
}

func TestTheDefaultBackoffStartsAtASecondAndEndsAtFiveMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, worker.Options{Workers: 1})
		var tries []time.Time
		j := &job{retries: 12, process: func() error { tries = append(tries, time.Now()); return errJob }}
		wantErr(t, result(t, p, j), errJob)
		for i := range 12 {
			full := min(time.Second<<i, 5*time.Minute)
			if wait := tries[i+1].Sub(tries[i]); wait < full/2 || wait > full {
				t.Errorf("the wait before retry %d is %v, want between a half and all of %v", i+1, wait, full)
			}
		}
		stop(t, p)
	})
}

func TestAJobMaySayWhenToTryItAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPool(t, worker.Options{Workers: 1})
		j := &patient{job: job{process: fails, retries: 3}}
		var asked []string
		j.delay = func(retry int, err error) time.Duration {
			asked = append(asked, fmt.Sprint(retry, errors.Is(err, errJob)))
			return time.Duration(retry) * time.Minute
		}
		start := time.Now()
		wantErr(t, result(t, p, j), errJob)
		if took := time.Since(start); took != 6*time.Minute {
			t.Errorf("all tries took %v, want 1 + 2 + 3 minutes", took)
		}
		if got := fmt.Sprint(asked); got != "[1 true 2 true 3 true]" {
			t.Errorf("RetryDelay was asked for %v", got)
		}
		wantTries(t, j, 4, 1)
		stop(t, p)
	})
}

func TestANegativeRetryDelayEndsTheTries(t *testing.T) {
	p := newPool(t, worker.Options{Workers: 1})
	j := &patient{job: job{process: fails, retries: 3}, delay: func(int, error) time.Duration { return -1 }}
	wantErr(t, result(t, p, j), errJob)
	wantTries(t, j, 1, 1)
	stop(t, p)
}

func TestARetryKeepsItsPriority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, err := queue.NewPriority(queue.Options{Capacity: 10})
		wantErr(t, err, nil)
		p := newPool(t, worker.Options{Workers: 1, Queue: q})
		var order []string
		note := func(name string) func() error {
			return func() error { order = append(order, name); return nil }
		}
		first := true
		urgent := &prioritized{priority: 1, patient: patient{delay: func(int, error) time.Duration { return time.Second }}}
		urgent.retries = 1
		urgent.process = func() error {
			if first {
				first = false
				return errJob
			}
			return note("urgent")()
		}
		submit(t, p, urgent)
		synctest.Wait()
		submit(t, p, sleep(2*time.Second)) // keeps the worker until the retry is due
		synctest.Wait()
		submit(t, p, &job{process: note("other")})
		stop(t, p)
		if got := fmt.Sprint(order); got != "[urgent other]" {
			t.Errorf("order is %v", got)
		}
	})
}

type prioritized struct {
	patient
	priority int
}

func (j *prioritized) Priority() int { return j.priority }

func TestARetryIsNotRefusedByAFullQueue(t *testing.T) {
	for name, newQueue := range map[string]func() worker.Queue{
		"FIFO":  func() worker.Queue { return queue.New(1) },
		"plain": func() worker.Queue { return plain{queue.New(1)} },
		"with PushContext": func() worker.Queue {
			return struct{ worker.QueueContext }{queue.New(1)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPool(t, worker.Options{Workers: 1, Queue: newQueue()})
				j := &job{process: fails, retries: 1}
				submit(t, p, j)
				synctest.Wait()
				submit2 := func() {
					for p.Queue().Push(sleep(time.Second)) == nil { // until it is full
						synctest.Wait()
					}
				}
				submit2()
				time.Sleep(700 * time.Millisecond) // the retry may be due, the queue is full
				submit2()
				time.Sleep(time.Hour)
				wantTries(t, j, 2, 1)
				stop(t, p)
			})
		})
	}
}

func TestBackoffWithoutSenseIsRefused(t *testing.T) {
	for _, b := range []worker.Backoff{
		{Initial: -1}, {Max: -1}, {Factor: 0.5}, {Factor: -1}, {Factor: math.NaN()}, {Factor: math.Inf(1)},
	} {
		_, err := worker.NewPool(worker.Options{Backoff: b})
		wantErr(t, err, worker.ErrInvalid)
	}
}
