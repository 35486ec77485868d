package feed_test

import (
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/internal/feed"
)

func mustRequeue(t *testing.T, q worker.Requeuer, j worker.Job, delay time.Duration) {
	t.Helper()
	if err := q.Requeue(j, delay); err != nil {
		t.Fatalf("Requeue: %v", err)
	}
}

func TestPopsAndTakersAreServedInTheOrderInWhichTheyCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := feed.NewFIFO[worker.Job](1)
		ctx, cancel := context.WithCancel(t.Context())
		stopped := q.NewTaker()
		waiters := []*call{
			goPop(t.Context(), q), goNext(q.NewTaker()), goPop(ctx, q), goNext(stopped),
			goPop(t.Context(), q), goNext(q.NewTaker()), goNext(q.NewTaker()),
		}
		cancel()
		stopped.Stop()
		waiters[2].wantErr(t, context.Canceled)
		waiters[3].wantErr(t, worker.ErrStopped)
		for i, j := range jobs(len(waiters)) {
			if i == 2 || i == 3 {
				continue
			}
			waiters[i].wantWaiting(t)
			mustPush(t, q, j)
			waiters[i].wantJob(t, j)
		}
		wantBooks(t, q, feed.Books{Taken: 3})
	})
}

func TestTheOrderStaysAsTheQueueGrows(t *testing.T) {
	for offset := range 40 {
		q := feed.NewFIFO[worker.Job](200)
		list := jobs(150)
		mustPush(t, q, list[:offset+3]...)
		for i, j := range list {
			if got, err := q.Pop(); got != j || err != nil {
				t.Fatalf("popped %v, %v; want %v", got, err, j)
			}
			next := offset + 3 + 3*i // it grows by two
			mustPush(t, q, list[min(next, len(list)):min(next+3, len(list))]...)
			if broken := q.Broken(); broken != "" {
				t.Fatal(broken)
			}
		}
		if q.Len() != 0 {
			t.Fatalf("Len is %d in the end", q.Len())
		}
	}
}

func TestAQueueIsAFeedOnlyForItself(t *testing.T) {
	q := feed.NewFIFO[worker.Job](1)
	if f := q.Feed(q); f != feed.Feed[worker.Job](q) {
		t.Fatalf("its feed is %v", f)
	}
	if f := q.Feed(&struct{ worker.Queue }{q}); f != nil {
		t.Fatalf("the feed of a type that embeds it is %v", f)
	}
}

func TestPushesThatWaitAreServedInTheOrderInWhichTheyCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := feed.NewFIFO[worker.Job](1)
		list := jobs(4)
		mustPush(t, q, list[0])
		ctx, cancel := context.WithCancelCause(t.Context())
		first, leaves, last := goPush(t.Context(), q, list[1]), goPush(ctx, q, list[2]), goPush(t.Context(), q, list[3])
		cancel(errCause)
		leaves.wantErr(t, errCause)
		taker := q.NewTaker()
		for i, waits := range []*call{first, last} {
			waits.wantWaiting(t)
			mustNext(t, taker, feed.Succeeded)
			waits.wantErr(t, nil)
			wantErr(t, q.Push(list[2]), worker.ErrFull)
			wantBooks(t, q, feed.Books{Ready: 1, Taken: 1, Ended: uint64(i)})
		}
		if j := mustNext(t, taker, feed.None); j != list[3] {
			t.Fatalf("took %v, want %v", j, list[3])
		}
	})
}

// full returns a queue that is full of a job that comes back after the delay.
func full(t *testing.T, delay time.Duration) (*feed.FIFO[worker.Job], worker.Job) {
	t.Helper()
	q := feed.NewFIFO[worker.Job](1)
	j := &job{id: 100}
	mustRequeue(t, q, j, delay)
	wantErr(t, q.Push(&job{}), worker.ErrFull)
	return q, j
}

// A job that waits for its time takes room, but who waits for a job need not wait for it.
func TestAPopGetsTheJobOfAPushThatWaitsForRoom(t *testing.T) {
	for name, pop := range map[string]func(q *feed.FIFO[worker.Job]) (worker.Job, error){
		"Pop":  func(q *feed.FIFO[worker.Job]) (worker.Job, error) { return q.Pop() },
		"Next": func(q *feed.FIFO[worker.Job]) (worker.Job, error) { return q.NewTaker().Next(feed.None) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q, delayed := full(t, time.Hour)
				list := jobs(2)
				first, second := goPush(t.Context(), q, list[0]), goPush(t.Context(), q, list[1])
				if j, err := pop(q); j != list[0] || err != nil {
					t.Fatalf("got %v, %v; want %v", j, err, list[0])
				}
				first.wantErr(t, nil)
				second.wantWaiting(t)
				if j, err := pop(q); j != list[1] || err != nil {
					t.Fatalf("got %v, %v; want %v", j, err, list[1])
				}
				second.wantErr(t, nil)
				waits := start(func() (worker.Job, error) { return pop(q) })
				time.Sleep(time.Hour)
				waits.wantJob(t, delayed)
				mustPush(t, q, list[0])
			})
		})
	}
}

func TestAPushGoesPastAFullQueueToAPopThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, delayed := full(t, time.Hour)
		list := jobs(2)
		first, second, third := goPop(t.Context(), q), goNext(q.NewTaker()), goPop(t.Context(), q)
		mustPush(t, q, list[0])
		first.wantJob(t, list[0])
		goPush(t.Context(), q, list[1]).wantErr(t, nil)
		second.wantJob(t, list[1])
		time.Sleep(time.Hour)
		third.wantJob(t, delayed)
	})
}

func TestAfterCloseTheLastJobSendsTheOthersHome(t *testing.T) {
	for name, comesBack := range map[string]func(t *testing.T, q *feed.FIFO[worker.Job]){
		"when its delay is over": func(t *testing.T, q *feed.FIFO[worker.Job]) {
			mustRequeue(t, q, &job{}, time.Minute)
			mustClose(t, q)
		},
		"when a worker puts it back": func(t *testing.T, q *feed.FIFO[worker.Job]) {
			mustPush(t, q, &job{})
			taker := q.NewTaker()
			j := mustNext(t, taker, feed.None)
			mustClose(t, q)
			time.AfterFunc(time.Minute, func() { _ = taker.Requeue(j, 0) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := feed.NewFIFO[worker.Job](2)
				comesBack(t, q)
				gets, second, third := goPop(t.Context(), q), goPop(t.Context(), q), goNext(q.NewTaker())
				gets.wantWaiting(t)
				time.Sleep(time.Minute)
				gets.wantErr(t, nil)
				second.wantErr(t, worker.ErrClosed)
				third.wantErr(t, worker.ErrClosed)
			})
		})
	}
}

func TestAfterCloseAWorkerThatGotTheLastJobKeepsTheOthersWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := feed.NewFIFO[worker.Job](2)
		j := &job{}
		mustRequeue(t, q, j, time.Minute)
		mustClose(t, q)
		taker := q.NewTaker()
		gets, waits := goNext(taker), goPop(t.Context(), q)
		time.Sleep(time.Minute)
		gets.wantJob(t, j)
		waits.wantWaiting(t)
		requeue(t, taker, j, time.Minute)
		time.Sleep(time.Minute)
		waits.wantJob(t, j)
	})
}

func TestJobsThatAreDueAtOnceComeInTheOrderInWhichTheyWereRequeued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := feed.NewFIFO[worker.Job](1)
		list := jobs(20)
		for i, j := range list {
			mustRequeue(t, q, j, time.Minute-time.Duration(i%2)*time.Second)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		for _, odd := range []int{1, 0} {
			for i := odd; i < len(list); i += 2 {
				if j, err := q.Pop(); j != list[i] || err != nil {
					t.Fatalf("popped %v, %v; want %v", j, err, list[i])
				}
			}
		}
	})
}

func TestTheLongestDelayIsNotTheShortest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := feed.NewFIFO[worker.Job](2)
		never, soon := &job{id: 1}, &job{id: 2}
		mustRequeue(t, q, never, math.MaxInt64)
		mustRequeue(t, q, soon, time.Second)
		waits := goPop(t.Context(), q)
		time.Sleep(time.Hour)
		waits.wantJob(t, soon)
		wantBooks(t, q, feed.Books{Delayed: 1})
	})
}

func TestAPushCutOffWhileItIsServedSaysWhetherItsJobIsQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 1000 {
			q := feed.NewFIFO[worker.Job](1)
			list := jobs(2)
			mustPush(t, q, list[0])
			ctx, cancel := context.WithCancel(t.Context())
			push := goPush(ctx, q, list[1])
			cancel()
			_, _ = q.Pop() // at the moment at which the call leaves
			if !push.returned() {
				t.Fatal("still waits")
			}
			if queued := q.Len() == 1; queued != (push.err == nil) {
				t.Fatalf("queued: %v, but returned %v", queued, push.err)
			}
		}
	})
}

func TestAPopCutOffWhileItIsServedLosesNoJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 1000 {
			q := feed.NewFIFO[worker.Job](1)
			ctx, cancel := context.WithCancel(t.Context())
			pop := goPop(ctx, q)
			cancel()
			mustPush(t, q, &job{}) // at the moment at which the call leaves
			if !pop.returned() {
				t.Fatal("still waits")
			}
			if queued := q.Len() == 1; queued != (pop.job == nil) {
				t.Fatalf("queued: %v, but returned %v, %v", queued, pop.job, pop.err)
			}
		}
	})
}

func TestANextStoppedWhileItIsServedLosesNoJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 1000 {
			q := feed.NewFIFO[worker.Job](1)
			taker := q.NewTaker()
			next := goNext(taker)
			go taker.Stop()
			mustPush(t, q, &job{})
			if !next.returned() {
				t.Fatal("still waits")
			}
			b := q.Books()
			if got := next.job != nil; got != (next.err == nil) || b.Taken+b.Ready != 1 || got != (b.Taken == 1) {
				t.Fatalf("returned %v, %v; the books are %+v", next.job, next.err, b)
			}
		}
	})
}

func TestDrainOfAnOpenQueueLetsPushesIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := feed.NewFIFO[worker.Job](2)
		list := jobs(6)
		mustRequeue(t, q, list[0], time.Hour)
		mustPush(t, q, list[1])
		first, second := goPush(t.Context(), q, list[2]), goPush(t.Context(), q, list[3])
		third := goPush(t.Context(), q, list[4])
		wantSame(t, list[:2], q.Drain())
		first.wantErr(t, nil)
		second.wantErr(t, nil)
		third.wantWaiting(t)
		wantSame(t, list[2:4], q.Drain())
		third.wantErr(t, nil)
		mustRequeue(t, q, list[5], time.Minute) // what was drained leaves no alarm in the way
		time.Sleep(time.Minute)
		synctest.Wait()
		wantBooks(t, q, feed.Books{Ready: 2})
	})
}

func TestAnEndedContextComesBeforeAllElse(t *testing.T) {
	q := feed.NewFIFO[worker.Job](1)
	mustPush(t, q, &job{})
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errCause)
	wantErr(t, q.PushContext(ctx, nil), errCause)
	_, err := q.PopContext(ctx)
	wantErr(t, err, errCause)
	if q.Len() != 1 {
		t.Fatalf("Len is %d, want 1", q.Len())
	}
}
