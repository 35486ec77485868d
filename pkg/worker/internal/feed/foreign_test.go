package feed_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/internal/feed"
	"github.com/workerpool-dev/workerpool/pkg/worker/queue"
)

// While a worker has popped the last job and not yet taken it, there is one that may come back.
func TestAJobOnItsWayToAWorkerKeepsTheOthersWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newPlain(1)
		arrive := make(chan struct{})
		q.popped = func(worker.Job) { <-arrive }
		f := feed.NewForeign[worker.Job](q)
		j := &job{}
		mustPush(t, q, j)
		holder := f.NewTaker()
		gets := goNext(holder)
		mustClose(t, f)
		waits := goNext(f.NewTaker())
		waits.wantWaiting(t)
		close(arrive)
		gets.wantJob(t, j)
		waits.wantWaiting(t)
		requeue(t, holder, j, time.Minute)
		time.Sleep(time.Minute)
		waits.wantJob(t, j)
	})
}

func TestAnErrorOfTheQueueLeavesTheTakerUsable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := true
		q := newPlain(2)
		f := feed.NewForeign[worker.Job](popping{q, func(context.Context) (worker.Job, error) {
			if down {
				return nil, errCause
			}
			return q.Pop()
		}})
		list := jobs(2)
		mustPush(t, q, list...)
		taker := f.NewTaker()
		_, err := taker.Next(feed.None)
		wantErr(t, err, errCause)
		wantBooks(t, f, feed.Books{Ready: 2})
		down = false
		mustNext(t, taker, feed.None)
		down = true
		_, err = taker.Next(feed.Succeeded) // the outcome counts nevertheless
		wantErr(t, err, errCause)
		wantBooks(t, f, feed.Books{Ready: 1, Ended: 1})
		down = false
		mustNext(t, taker, feed.None)
		mustClose(t, f)
		taker.Settle(feed.Failed)
		_, err = taker.Next(feed.None)
		wantErr(t, err, worker.ErrClosed)
	})
}

func TestAnErrorOfTheQueueSendsThoseHomeWhoWaitAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fails := make(chan error)
		q := newPlain(1)
		slow := false
		f := feed.NewForeign[worker.Job](popping{q, func(context.Context) (worker.Job, error) {
			if slow {
				return nil, <-fails
			}
			return q.Pop()
		}})
		mustClose(t, f)
		slow = true
		first := goNext(f.NewTaker())
		slow = false
		second := goNext(f.NewTaker())
		second.wantWaiting(t) // the first may get a job
		fails <- errCause
		first.wantErr(t, errCause)
		second.wantErr(t, worker.ErrClosed)
	})
}

// A queue that has an error of its own for a moment, or for one job, must not keep the retries.
func TestRetriesComeBackThoughTheQueueRefusedOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newPlain(5)
		f := feed.NewForeign[worker.Job](q)
		list := jobs(3)
		mustPush(t, q, list...)
		taker := f.NewTaker()
		refused := errors.New("the disk is full")
		begin := time.Now()
		q.refuses = func(j worker.Job) error {
			if j == list[1] && time.Since(begin) < time.Minute {
				return refused
			}
			return nil
		}
		for _, j := range list {
			mustNext(t, taker, feed.None)
			requeue(t, taker, j, time.Second)
		}
		for _, want := range []worker.Job{list[0], list[2], list[1]} {
			if j := mustNext(t, taker, feed.Succeeded); j != want {
				t.Fatalf("took %v, want %v", j, want)
			}
		}
		if waited := time.Since(begin); waited < time.Minute || waited > 2*time.Minute {
			t.Fatalf("the last one came after %v", waited)
		}
		mustClose(t, f)
	})
}

func TestRetriesComeBackInOrderToAFullQueue(t *testing.T) {
	for name, q := range map[string]func() worker.Queue{
		"that can't say when there is room": func() worker.Queue { return newPlain(1) },
		"that can":                          func() worker.Queue { return waiting{queue.New(1)} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := q()
				f := feed.NewForeign[worker.Job](q)
				list := fullWithRetries(t, q, f)
				late := &job{id: 50}
				taker, other := f.NewTaker(), f.NewTaker()
				mustNext(t, other, feed.None)
				requeue(t, other, late, time.Second)
				var taken []worker.Job
				for range 4 {
					time.Sleep(time.Minute)
					taken = append(taken, mustNext(t, taker, feed.Succeeded))
				}
				if want := append(slices.Clone(list[:3]), late); !slices.Equal(taken, want) {
					t.Fatalf("took %v, want %v", taken, want)
				}
				mustClose(t, f)
			})
		})
	}
}

func TestAFullQueueIsNotAskedForEachRetryAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const retries = 100
		q := newPlain(retries)
		var pushes atomic.Int64
		q.refuses = func(worker.Job) error { pushes.Add(1); return nil }
		f := feed.NewForeign[worker.Job](q)
		list := jobs(retries)
		mustPush(t, q, list...)
		taker := f.NewTaker()
		for _, j := range list {
			mustNext(t, taker, feed.None)
			requeue(t, taker, j, time.Minute)
		}
		mustPush(t, q, jobs(retries)...)
		before := pushes.Load()
		time.Sleep(time.Minute + time.Second)
		synctest.Wait()
		if asked := pushes.Load() - before; asked == 0 || asked > 2*retries {
			t.Fatalf("asked %d times in a second", asked)
		}
		mustClose(t, f)
	})
}

func TestAQueueThatTheUserClosedGivesRetriesToTheWorkers(t *testing.T) {
	inBubbles(t, 2, func(t *testing.T, k kind, q worker.Queue, f feed.Feed[worker.Job]) {
		if k.name == "FIFO" || k.name == "Priority" {
			return // they know
		}
		list := jobs(2)
		mustPush(t, q, list...)
		first, second := f.NewTaker(), f.NewTaker()
		mustNext(t, first, feed.None)
		mustNext(t, second, feed.None)
		requeue(t, first, list[0], time.Minute)
		if err := q.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
		waits := goNext(first)
		begin := time.Now()
		requeue(t, second, list[1], time.Second)
		second.Stop()
		time.Sleep(time.Second)
		waits.wantJob(t, list[1])
		if j := mustNext(t, first, feed.Succeeded); j != list[0] || time.Since(begin) != time.Minute {
			t.Fatalf("took %v after %v, want %v after a minute", j, time.Since(begin), list[0])
		}
		mustClose(t, f)
		_, err := first.Next(feed.Succeeded)
		wantErr(t, err, worker.ErrClosed)
	})
}

func TestAQueueThatRefusesAJobBackLeavesItToTheTaker(t *testing.T) {
	q := newPriority(t, 5)
	f := feed.NewForeign[worker.Job](q)
	j := &job{}
	mustPush(t, q, j)
	taker := f.NewTaker()
	mustNext(t, taker, feed.None)
	mustPush(t, q, j) // the same once more, while it runs
	wantErr(t, taker.Requeue(j, 0), worker.ErrDuplicate)
	if b := f.Books(); b != (feed.Books{Ready: 1, Taken: 1}) {
		t.Fatalf("books are %+v", b)
	}
	mustNext(t, taker, feed.Failed)
	if b := f.Books(); b != (feed.Books{Taken: 1, Ended: 1, Failed: 1}) {
		t.Fatalf("books are %+v", b)
	}
}

type unclosable struct{ *plain }

func (q unclosable) Close() error { return errors.Join(q.plain.Close(), errCause) }

func TestCloseReturnsTheErrorOfTheQueueAndClosesAllElse(t *testing.T) {
	f := feed.NewForeign[worker.Job](unclosable{newPlain(1)})
	wantErr(t, f.Close(), errCause)
	_, err := f.NewTaker().Next(feed.None)
	wantErr(t, err, worker.ErrClosed)
}

// hooked is a queue that takes jobs back, and whose Pop is a test's.
type hooked struct {
	worker.Requeuer
	pop func(context.Context) (worker.Job, error)
}

func (q hooked) PopContext(ctx context.Context) (worker.Job, error) { return q.pop(ctx) }

func TestAJobThatComesBackWhenTheQueueWasJustOverIsFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queue.New(2)
		goOn := make(chan struct{})
		f := feed.NewForeign[worker.Job](hooked{q, func(ctx context.Context) (worker.Job, error) {
			j, err := q.PopContext(ctx)
			if err != nil {
				<-goOn
			}
			return j, err
		}})
		j := jobs(1)[0]
		mustPush(t, q, j)
		holder, other := f.NewTaker(), f.NewTaker()
		mustNext(t, holder, feed.None)
		mustClose(t, f)
		waits := goNext(other)
		requeue(t, holder, j, 0)
		holder.Stop()
		waits.wantWaiting(t)
		close(goOn)
		waits.wantJob(t, j)
		other.Settle(feed.Succeeded)
		goNext(other).wantErr(t, worker.ErrClosed)
	})
}

// patient is a queue whose PushContext sees nothing but room and the end of its context.
type patient struct{ *plain }

func (q patient) PushContext(ctx context.Context, j worker.Job) error {
	if err := q.Push(j); !errors.Is(err, worker.ErrFull) {
		return err
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

func TestCloseEndsTheWaitOfARetryForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := patient{newPlain(1)}
		f := feed.NewForeign[worker.Job](q)
		list := fullWithRetries(t, q, f)
		begin := time.Now()
		mustClose(t, f)
		taker := f.NewTaker()
		var taken []worker.Job
		for range list {
			taken = append(taken, mustNext(t, taker, feed.Succeeded))
		}
		wantSame(t, list, taken)
		if waited := time.Since(begin); waited != 0 {
			t.Fatalf("the retries, all due, came after %v", waited)
		}
	})
}

// A queue that can't be drained at once is popped empty, one by one.
func TestRetriesComeBackThroughTheQueueWhileItIsOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newPlain(2)
		f := feed.NewForeign[worker.Job](q)
		list := jobs(2)
		mustPush(t, q, list[0])
		taker := f.NewTaker()
		mustNext(t, taker, feed.None)
		requeue(t, taker, list[0], time.Minute)
		wantBooks(t, f, feed.Books{Delayed: 1})
		mustPush(t, q, list[1])
		time.Sleep(time.Minute)
		wantBooks(t, f, feed.Books{Ready: 2})
		if q.Len() != 2 {
			t.Fatalf("Len is %d, want 2", q.Len())
		}
		mustClose(t, f)
		wantSame(t, list, f.Drain())
	})
}
