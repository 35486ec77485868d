package feed_test

import (
	"context"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/internal/feed"
)

// inBubbles runs a test for each kind of feed, with a queue of that size and fake time.
func inBubbles(t *testing.T, size int, test func(t *testing.T, k kind, q worker.Queue, f feed.Feed[worker.Job])) {
	t.Helper()
	forAll(t, func(t *testing.T, k kind) {
		synctest.Test(t, func(t *testing.T) {
			q, f := k.make(t, size)
			ended := &ending{Feed: f}
			t.Cleanup(ended.end)
			test(t, k, q, ended)
		})
	})
}

// ending is a feed whose calls can be ended when a test is over, or has failed.
type ending struct {
	feed.Feed[worker.Job]
	takers []feed.Taker[worker.Job]
}

func (e *ending) NewTaker() feed.Taker[worker.Job] {
	t := e.Feed.NewTaker()
	e.takers = append(e.takers, t)
	return t
}

func (e *ending) end() {
	_ = e.Close()
	for _, t := range e.takers {
		t.Stop()
	}
}

func TestTheBooksFollowAJob(t *testing.T) {
	inBubbles(t, 2, func(t *testing.T, _ kind, q worker.Queue, f feed.Feed[worker.Job]) {
		list := jobs(5)
		taker, other := f.NewTaker(), f.NewTaker()
		mustPush(t, q, list[:2]...)
		wantBooks(t, f, feed.Books{Ready: 2})
		if j := mustNext(t, taker, feed.None); j != list[0] {
			t.Fatalf("took %v, want %v", j, list[0])
		}
		wantBooks(t, f, feed.Books{Ready: 1, Taken: 1})
		wantView(t, taker, feed.View[worker.Job]{Holds: true, Item: list[0]})
		mustNext(t, taker, feed.Succeeded)
		wantBooks(t, f, feed.Books{Taken: 1, Ended: 1})
		taker.Settle(feed.Failed)
		wantBooks(t, f, feed.Books{Ended: 2, Failed: 1})
		wantView(t, taker, feed.View[worker.Job]{Ended: 2, Failed: 1})
		taker.Settle(feed.Failed) // there is nothing to settle
		wantBooks(t, f, feed.Books{Ended: 2, Failed: 1})

		mustPush(t, q, list[2:4]...)
		mustNext(t, other, feed.Failed) // none is held: the outcome is of nothing
		other.Settle(feed.None)         // handed back
		mustNext(t, other, feed.None)
		requeue(t, other, list[3], time.Minute)
		wantBooks(t, f, feed.Books{Delayed: 1, Ended: 2, Failed: 1})
		wantView(t, other, feed.View[worker.Job]{})
		time.Sleep(time.Minute)
		mustNext(t, taker, feed.None)
		wantBooks(t, f, feed.Books{Taken: 1, Ended: 2, Failed: 1})
	})
}

func wantView(t *testing.T, taker feed.Taker[worker.Job], want feed.View[worker.Job]) {
	t.Helper()
	if got := taker.View(); got != want {
		t.Fatalf("view is %+v, want %+v", got, want)
	}
}

func requeue(t *testing.T, taker feed.Taker[worker.Job], j worker.Job, delay time.Duration) {
	t.Helper()
	if err := taker.Requeue(j, delay); err != nil {
		t.Fatalf("Requeue: %v", err)
	}
}

func TestNextWaitsForAJob(t *testing.T) {
	inBubbles(t, 2, func(t *testing.T, _ kind, q worker.Queue, f feed.Feed[worker.Job]) {
		list := jobs(2)
		first, second := goNext(f.NewTaker()), goNext(f.NewTaker())
		first.wantWaiting(t)
		second.wantWaiting(t)
		wantBooks(t, f, feed.Books{})
		mustPush(t, q, list...)
		if !first.returned() || !second.returned() {
			t.Fatal("Next waits for jobs that are there")
		}
		wantSame(t, list, []worker.Job{first.job, second.job})
		wantBooks(t, f, feed.Books{Taken: 2})
	})
}

func TestCloseEndsANextThatWaits(t *testing.T) {
	inBubbles(t, 2, func(t *testing.T, _ kind, _ worker.Queue, f feed.Feed[worker.Job]) {
		taker := f.NewTaker()
		first, second := goNext(taker), goNext(f.NewTaker())
		mustClose(t, f)
		mustClose(t, f)
		first.wantErr(t, worker.ErrClosed)
		second.wantErr(t, worker.ErrClosed)
		goNext(taker).wantErr(t, worker.ErrClosed)
	})
}

func mustClose(t *testing.T, f feed.Feed[worker.Job]) {
	t.Helper()
	if err := f.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

func TestAfterCloseTheOthersWaitUntilTheLastJobIsSettled(t *testing.T) {
	for name, settle := range map[string]func(taker feed.Taker[worker.Job]){
		"Next":                func(taker feed.Taker[worker.Job]) { _, _ = taker.Next(feed.Failed) },
		"Next after Stop":     func(taker feed.Taker[worker.Job]) { taker.Stop(); _, _ = taker.Next(feed.Succeeded) },
		"Settle":              func(taker feed.Taker[worker.Job]) { taker.Settle(feed.Succeeded) },
		"Settle with no more": func(taker feed.Taker[worker.Job]) { taker.Settle(feed.None) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubbles(t, 2, func(t *testing.T, _ kind, q worker.Queue, f feed.Feed[worker.Job]) {
				mustPush(t, q, jobs(1)...)
				holder := f.NewTaker()
				mustNext(t, holder, feed.None)
				before := goNext(f.NewTaker())
				mustClose(t, f)
				after := goNext(f.NewTaker())
				time.Sleep(time.Hour)
				before.wantWaiting(t)
				after.wantWaiting(t)
				go settle(holder)
				before.wantErr(t, worker.ErrClosed)
				after.wantErr(t, worker.ErrClosed)
				_, err := holder.Next(feed.None)
				if err == nil {
					t.Fatal("Next returned a job after the end")
				}
			})
		})
	}
}

func TestAfterCloseARetryGoesToOneOfThoseWhoWait(t *testing.T) {
	for _, delay := range []time.Duration{0, time.Minute} {
		t.Run("after "+delay.String(), func(t *testing.T) {
			inBubbles(t, 2, func(t *testing.T, _ kind, q worker.Queue, f feed.Feed[worker.Job]) {
				j := jobs(1)[0]
				mustPush(t, q, j)
				holder, second, third := f.NewTaker(), f.NewTaker(), f.NewTaker()
				mustNext(t, holder, feed.None)
				mustClose(t, f)
				first, other := goNext(second), goNext(third)
				begin := time.Now()
				requeue(t, holder, j, delay)
				holder.Stop()
				_, err := holder.Next(feed.None)
				wantErr(t, err, worker.ErrStopped)
				time.Sleep(2 * time.Minute)
				got, waits := first, other
				if other.returned() {
					got, waits = other, first
				}
				got.wantJob(t, j)
				if waited := got.at.Sub(begin); waited != delay {
					t.Errorf("retried after %v, want %v", waited, delay)
				}
				waits.wantWaiting(t)
				second.Settle(feed.Succeeded)
				third.Settle(feed.Succeeded)
				waits.wantErr(t, worker.ErrClosed)
				wantBooks(t, f, feed.Books{Ended: 1})
			})
		})
	}
}

func TestAfterCloseARetryGoesToAWorkerThatComesLater(t *testing.T) {
	inBubbles(t, 2, func(t *testing.T, _ kind, q worker.Queue, f feed.Feed[worker.Job]) {
		list := jobs(2)
		mustPush(t, q, list...)
		holder, other := f.NewTaker(), f.NewTaker()
		mustNext(t, holder, feed.None)
		mustNext(t, other, feed.None)
		mustClose(t, f)
		requeue(t, holder, list[0], time.Minute)
		requeue(t, other, list[1], time.Second)
		holder.Stop()
		last := f.NewTaker()
		begin := time.Now()
		for _, want := range []struct {
			job worker.Job
			at  time.Duration
		}{{list[1], time.Second}, {list[0], time.Minute}} {
			if j := mustNext(t, last, feed.Succeeded); j != want.job || time.Since(begin) != want.at {
				t.Fatalf("took %v after %v, want %v after %v", j, time.Since(begin), want.job, want.at)
			}
		}
		if _, err := last.Next(feed.Failed); err != nil {
			wantErr(t, err, worker.ErrClosed)
		}
		wantBooks(t, f, feed.Books{Ended: 2, Failed: 1})
	})
}

func TestStopEndsANextThatWaits(t *testing.T) {
	inBubbles(t, 2, func(t *testing.T, k kind, q worker.Queue, f feed.Feed[worker.Job]) {
		taker := f.NewTaker()
		waits := goNext(taker)
		taker.Stop()
		taker.Stop()
		if k.stays {
			waits.wantWaiting(t)
			mustPush(t, q, jobs(1)...)
			waits.wantErr(t, nil)
			wantBooks(t, f, feed.Books{Taken: 1})
			taker.Settle(feed.None)
		} else {
			waits.wantErr(t, worker.ErrStopped)
		}
		mustPush(t, q, jobs(1)...)
		_, err := taker.Next(feed.None)
		wantErr(t, err, worker.ErrStopped)
		wantBooks(t, f, feed.Books{Ready: 1})
		mustNext(t, f.NewTaker(), feed.None)
	})
}

func TestStopEndsANextThatWaitsForWhatMayComeBack(t *testing.T) {
	inBubbles(t, 2, func(t *testing.T, _ kind, q worker.Queue, f feed.Feed[worker.Job]) {
		j := jobs(1)[0]
		mustPush(t, q, j)
		holder, taker := f.NewTaker(), f.NewTaker()
		mustNext(t, holder, feed.None)
		mustClose(t, f)
		waits := goNext(taker)
		taker.Stop()
		waits.wantErr(t, worker.ErrStopped)
		requeue(t, holder, j, 0)
		if got := mustNext(t, holder, feed.None); got != j {
			t.Fatalf("took %v, want %v", got, j)
		}
	})
}

func TestAfterAStopTheNextOneGetsTheRetry(t *testing.T) {
	inBubbles(t, 2, func(t *testing.T, k kind, q worker.Queue, f feed.Feed[worker.Job]) {
		if k.stays {
			return // the one that is stopped waits on
		}
		j := jobs(1)[0]
		mustPush(t, q, j)
		holder, stopped := f.NewTaker(), f.NewTaker()
		mustNext(t, holder, feed.None)
		first, second := goNext(stopped), goNext(f.NewTaker())
		requeue(t, holder, j, time.Minute)
		stopped.Stop()
		first.wantErr(t, worker.ErrStopped)
		time.Sleep(time.Minute)
		second.wantJob(t, j)
	})
}

func TestAStoppedTakerSettlesAndRequeuesWhatItHolds(t *testing.T) {
	inBubbles(t, 2, func(t *testing.T, _ kind, q worker.Queue, f feed.Feed[worker.Job]) {
		list := jobs(2)
		mustPush(t, q, list...)
		first, second := f.NewTaker(), f.NewTaker()
		mustNext(t, first, feed.None)
		mustNext(t, second, feed.None)
		first.Stop()
		second.Stop()
		_, err := first.Next(feed.Failed)
		wantErr(t, err, worker.ErrStopped)
		requeue(t, second, list[1], 0)
		other := f.NewTaker()
		if j := mustNext(t, other, feed.None); j != list[1] {
			t.Fatalf("took %v, want %v", j, list[1])
		}
		wantBooks(t, f, feed.Books{Taken: 1, Ended: 1, Failed: 1})
	})
}

func TestRetriesWaitTheirDelayAndComeToWhoTakesNext(t *testing.T) {
	inBubbles(t, 2, func(t *testing.T, _ kind, q worker.Queue, f feed.Feed[worker.Job]) {
		list := jobs(2)
		mustPush(t, q, list...)
		first, second := f.NewTaker(), f.NewTaker()
		mustNext(t, first, feed.None)
		mustNext(t, second, feed.None)
		begin := time.Now()
		requeue(t, first, list[0], time.Hour)
		requeue(t, second, list[1], time.Minute)
		late, early := goNext(first), goNext(second)
		time.Sleep(time.Minute - 1)
		late.wantWaiting(t)
		early.wantWaiting(t)
		time.Sleep(2 * time.Hour)
		late.wantErr(t, nil)
		early.wantErr(t, nil)
		if late.at.Before(early.at) { // which of the two takes first is not said
			late, early = early, late
		}
		if early.job != list[1] || late.job != list[0] {
			t.Fatalf("took %v and then %v, want %v and %v", early.job, late.job, list[1], list[0])
		}
		if a, b := early.at.Sub(begin), late.at.Sub(begin); a != time.Minute || b != time.Hour {
			t.Fatalf("retried after %v and %v", a, b)
		}
	})
}

func TestARetryWithoutDelayComesBehindWhatIsQueued(t *testing.T) {
	inBubbles(t, 3, func(t *testing.T, _ kind, q worker.Queue, f feed.Feed[worker.Job]) {
		list := jobs(2)
		mustPush(t, q, list...)
		taker := f.NewTaker()
		mustNext(t, taker, feed.None)
		time.Sleep(time.Nanosecond) // Priority goes by the time
		requeue(t, taker, list[0], 0)
		synctest.Wait()
		if q.Len() != 2 {
			t.Fatalf("Len is %d, want 2: the retry is in the queue", q.Len())
		}
		for _, want := range []worker.Job{list[1], list[0]} {
			if j := mustNext(t, taker, feed.Succeeded); j != want {
				t.Fatalf("took %v, want %v", j, want)
			}
		}
	})
}

// fullWithRetries fills a queue of size 1 whose retries are due and find no room. It returns all that
// was accepted.
func fullWithRetries(t *testing.T, q worker.Queue, f feed.Feed[worker.Job]) []worker.Job {
	t.Helper()
	list := jobs(3)
	var takers []feed.Taker[worker.Job]
	for _, j := range list {
		takers = append(takers, f.NewTaker())
		mustPush(t, q, j)
		mustNext(t, takers[len(takers)-1], feed.None)
	}
	for i, taker := range takers {
		requeue(t, taker, list[i], time.Minute)
	}
	for {
		j := &job{id: len(list)}
		if q.Push(j) != nil {
			break
		}
		list = append(list, j)
	}
	time.Sleep(2 * time.Minute)
	synctest.Wait()
	return list
}

func TestRetriesSurviveAFullQueue(t *testing.T) {
	inBubbles(t, 1, func(t *testing.T, _ kind, q worker.Queue, f feed.Feed[worker.Job]) {
		list := fullWithRetries(t, q, f)
		if b := f.Books(); b.Taken != 0 || b.Ready+b.Delayed != len(list) {
			t.Fatalf("%d jobs are queued, but the books are %+v", len(list), b)
		}
		taker := f.NewTaker()
		var taken []worker.Job
		for range list {
			taken = append(taken, mustNext(t, taker, feed.Succeeded))
		}
		taker.Settle(feed.Succeeded)
		wantSame(t, list, taken)
		wantBooks(t, f, feed.Books{Ended: uint64(len(list))})
	})
}

func TestCloseWhileRetriesFindNoRoomLosesNone(t *testing.T) {
	inBubbles(t, 1, func(t *testing.T, _ kind, q worker.Queue, f feed.Feed[worker.Job]) {
		list := fullWithRetries(t, q, f)
		mustClose(t, f)
		taker := f.NewTaker()
		var taken []worker.Job
		for range list {
			taken = append(taken, mustNext(t, taker, feed.Succeeded))
		}
		_, err := taker.Next(feed.Succeeded)
		wantErr(t, err, worker.ErrClosed)
		wantSame(t, list, taken)
	})
}

func TestDrainReturnsRetriesThatFindNoRoom(t *testing.T) {
	inBubbles(t, 1, func(t *testing.T, _ kind, q worker.Queue, f feed.Feed[worker.Job]) {
		list := fullWithRetries(t, q, f)
		mustClose(t, f)
		wantSame(t, list, f.Drain()) // at once: a retry may be on its way
		wantBooks(t, f, feed.Books{})
	})
}

func TestDrainReturnsAllThatIsQueued(t *testing.T) {
	inBubbles(t, 2, func(t *testing.T, _ kind, q worker.Queue, f feed.Feed[worker.Job]) {
		list := jobs(4)
		mustPush(t, q, list[:2]...)
		first, second := f.NewTaker(), f.NewTaker()
		mustNext(t, first, feed.None)
		mustNext(t, second, feed.None)
		requeue(t, first, list[0], time.Hour)
		mustPush(t, q, list[2])
		mustClose(t, f)
		waits := goNext(first)
		waits.wantJob(t, list[2])
		requeue(t, second, list[1], 0)
		requeue(t, first, list[2], time.Minute)
		wantSame(t, list[:3], f.Drain())
		wantBooks(t, f, feed.Books{})
		_, err := first.Next(feed.None)
		wantErr(t, err, worker.ErrClosed)
		wantSame(t, nil, f.Drain())
	})
}

func TestDrainEndsThoseWhoWait(t *testing.T) {
	inBubbles(t, 2, func(t *testing.T, _ kind, q worker.Queue, f feed.Feed[worker.Job]) {
		j := jobs(1)[0]
		mustPush(t, q, j)
		holder := f.NewTaker()
		mustNext(t, holder, feed.None)
		requeue(t, holder, j, time.Hour)
		mustClose(t, f)
		first, second := goNext(holder), goNext(f.NewTaker())
		first.wantWaiting(t)
		second.wantWaiting(t)
		wantSame(t, []worker.Job{j}, f.Drain())
		first.wantErr(t, worker.ErrClosed)
		second.wantErr(t, worker.ErrClosed)
	})
}

// wantSame wants the same jobs in both, in any order.
func wantSame(t *testing.T, want, got []worker.Job) {
	t.Helper()
	byID := func(a, b worker.Job) int { return a.(*job).id - b.(*job).id }
	got, want = slices.SortedFunc(slices.Values(got), byID), slices.SortedFunc(slices.Values(want), byID)
	if !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func TestOneProducerAndOneWorkerKeepTheOrder(t *testing.T) {
	forAll(t, func(t *testing.T, k kind) {
		const n = 2000
		q, f := k.make(t, 8)
		list := jobs(n)
		go func() {
			for i := 0; i < n; {
				if pushSoon(t.Context(), q, list[i]) == nil {
					i++
				}
			}
			_ = f.Close()
		}()
		taker := f.NewTaker()
		for i := range n {
			if j := mustNext(t, taker, feed.Succeeded); j != list[i] {
				t.Fatalf("job %d is %v", i, j)
			}
		}
		_, err := taker.Next(feed.Succeeded)
		wantErr(t, err, worker.ErrClosed)
		if b := f.Books(); b != (feed.Books{Ended: n}) {
			t.Fatalf("books are %+v", b)
		}
	})
}

// pushSoon waits for room if the queue can.
func pushSoon(ctx context.Context, q worker.Queue, j worker.Job) error {
	if c, ok := q.(worker.QueueContext); ok {
		return c.PushContext(ctx, j)
	}
	err := q.Push(j)
	if err != nil {
		runtime.Gosched()
	}
	return err
}
