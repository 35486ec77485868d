package queuetest

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/workerpool-dev/workerpool/pkg/worker"
)

func runRequeue(t *testing.T, newQueue New) {
	newRequeuer := func(t *testing.T, capacity int) worker.Requeuer {
		return newQueue(t, capacity).(worker.Requeuer)
	}
	t.Run("a requeued job comes after its delay and not before", func(t *testing.T) { testRequeue(t, newRequeuer) })
	t.Run("a job requeued without delay comes at once", func(t *testing.T) { testRequeueNow(t, newRequeuer) })
	t.Run("a full queue takes a job back", func(t *testing.T) { testRequeueFull(t, newRequeuer) })
	t.Run("a closed queue takes a job back", func(t *testing.T) { testRequeueClosed(t, newRequeuer) })
	t.Run("after Close Pop waits for a delayed job", func(t *testing.T) { testCloseDelayed(t, newRequeuer) })
}

func testRequeue(t *testing.T, newQueue newRequeuer) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t, 3)
		list := popped(t, q, 3)
		mustRequeue(t, q, list[0], time.Hour)
		first, second := start(q.Pop), start(q.Pop)
		mustRequeue(t, q, list[1], time.Minute) // it comes before the one that is there
		wantLen(t, q, 0)

		<-time.After(time.Minute - time.Nanosecond)
		first.wantWaiting(t)
		<-time.After(time.Nanosecond)
		first.wantJob(t, list[1])
		mustRequeue(t, q, list[2], 2*time.Hour)
		<-time.After(59*time.Minute - time.Nanosecond)
		second.wantWaiting(t)
		<-time.After(time.Nanosecond)
		second.wantJob(t, list[0])

		<-time.After(2 * time.Hour)
		wantPop(t, q, list[2]) // nobody waited for it
	})
}

func testRequeueNow(t *testing.T, newQueue newRequeuer) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t, 1)
		j := popped(t, q, 1)[0]
		for _, delay := range []time.Duration{0, -time.Second} {
			mustRequeue(t, q, j, delay)
			wantLen(t, q, 1)
			wantPop(t, q, j)
			waits := start(q.Pop)
			mustRequeue(t, q, j, delay)
			waits.wantJob(t, j)
		}
	})
}

func testRequeueFull(t *testing.T, newQueue newRequeuer) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t, 2)
		back := popped(t, q, 2)
		list := jobs(3)
		mustPush(t, q, list[0])
		mustPush(t, q, list[1])
		mustRequeue(t, q, back[0], 0)
		mustRequeue(t, q, back[1], time.Minute)
		wantLen(t, q, 3)
		<-time.After(time.Minute)
		for range 3 {
			wantErr(t, q.Push(list[2]), worker.ErrFull)
			start(q.Pop).wantErr(t, nil)
		}
		mustPush(t, q, list[2])
		start(q.Pop).wantErr(t, nil)
		start(q.Pop).wantErr(t, nil)
		wantLen(t, q, 0)
	})
}

func testRequeueClosed(t *testing.T, newQueue newRequeuer) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t, 2)
		list := popped(t, q, 2)
		mustClose(t, q)
		mustRequeue(t, q, list[0], 0)
		mustRequeue(t, q, list[1], time.Minute)
		wantPop(t, q, list[0])
		last, none := start(q.Pop), start(q.Pop)
		last.wantWaiting(t)
		none.wantWaiting(t)
		<-time.After(time.Minute)
		last.wantJob(t, list[1])
		none.wantErr(t, worker.ErrClosed)
		mustRequeue(t, q, list[1], time.Minute) // again: it may fail more often
		wantPop(t, q, list[1])
		start(q.Pop).wantErr(t, worker.ErrClosed)
	})
}

func testCloseDelayed(t *testing.T, newQueue newRequeuer) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t, 2)
		delayed := popped(t, q, 1)[0]
		ready := &job{}
		mustRequeue(t, q, delayed, time.Minute)
		mustPush(t, q, ready)
		mustClose(t, q)
		wantPop(t, q, ready)
		last, none := start(q.Pop), start(q.Pop)
		<-time.After(time.Minute - time.Nanosecond)
		last.wantWaiting(t)
		none.wantWaiting(t)
		<-time.After(time.Nanosecond)
		last.wantJob(t, delayed)
		none.wantErr(t, worker.ErrClosed)
		start(q.Pop).wantErr(t, worker.ErrClosed)
	})
}

func mustRequeue(t *testing.T, q worker.Requeuer, j worker.Job, delay time.Duration) {
	t.Helper()
	wantErr(t, q.Requeue(j, delay), nil)
}
