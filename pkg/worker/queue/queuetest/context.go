package queuetest

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/workerpool-dev/workerpool/pkg/worker"
)

func runContext(t *testing.T, newQueue New) {
	newContext := func(t *testing.T, capacity int) worker.QueueContext {
		return newQueue(t, capacity).(worker.QueueContext)
	}
	t.Run("PushContext waits for room", func(t *testing.T) { testPushWaits(t, newContext) })
	t.Run("Close ends a PushContext that waits", func(t *testing.T) { testCloseEndsPush(t, newContext) })
	t.Run("the end of a context ends a wait with its cause", func(t *testing.T) { testContextEnds(t, newContext) })
	t.Run("an ended context changes nothing", func(t *testing.T) { testEndedContext(t, newContext) })
	t.Run("calls of PopContext are served in the order in which they came", func(t *testing.T) { testPopContextOrder(t, newContext) })
	t.Run("calls of PushContext are served in the order in which they came", func(t *testing.T) { testPushOrder(t, newContext) })
	t.Run("Close ends all waits and loses no job", func(t *testing.T) { testCloseEndsAll(t, newContext) })
}

func testPushWaits(t *testing.T, newQueue newContextQueue) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t, 1)
		list := jobs(2)
		mustPush(t, q, list[0])
		waits := goPush(t.Context(), q, list[1])
		waits.wantWaiting(t)
		wantPop(t, q, list[0])
		waits.wantErr(t, nil)
		wantPop(t, q, list[1])
	})
}

func testCloseEndsPush(t *testing.T, newQueue newContextQueue) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t, 1)
		list := jobs(2)
		mustPush(t, q, list[0])
		waits := goPush(t.Context(), q, list[1])
		mustClose(t, q)
		waits.wantErr(t, worker.ErrClosed)
		wantPop(t, q, list[0])
		goPop(t.Context(), q).wantErr(t, worker.ErrClosed)
	})
}

var errCause = errors.New("the cause")

func testContextEnds(t *testing.T, newQueue newContextQueue) {
	synctest.Test(t, func(t *testing.T) {
		full, empty := newQueue(t, 1), newQueue(t, 1)
		list := jobs(3)
		mustPush(t, full, list[0])
		ctx, cancel := context.WithCancelCause(t.Context())
		push, pop := goPush(ctx, full, list[1]), goPop(ctx, empty)
		cancel(errCause)
		push.wantErr(t, errCause)
		pop.wantErr(t, errCause)
		wantPop(t, full, list[0])
		wantLen(t, full, 0) // the job of the ended call did not slip in
		mustPush(t, empty, list[2])
		wantLen(t, empty, 1) // nor was one handed to the call that left
	})
}

func testEndedContext(t *testing.T, newQueue newContextQueue) {
	q := newQueue(t, 2)
	list := jobs(2)
	mustPush(t, q, list[0])
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errCause)
	wantErr(t, q.PushContext(ctx, list[1]), errCause)
	_, err := q.PopContext(ctx)
	wantErr(t, err, errCause)
	wantLen(t, q, 1)
}

func testPopContextOrder(t *testing.T, newQueue newContextQueue) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t, 3)
		list := jobs(4)
		ctx, cancel := context.WithCancelCause(t.Context())
		first, leaves, third, fourth := goPop(t.Context(), q), goPop(ctx, q), start(q.Pop), goPop(t.Context(), q)
		cancel(errCause)
		leaves.wantErr(t, errCause)
		mustPush(t, q, list[0])
		first.wantJob(t, list[0])
		third.wantWaiting(t)
		for _, j := range list[1:] {
			mustPush(t, q, j)
		}
		wantPop(t, q, list[3])
		third.wantJob(t, list[1])
		fourth.wantJob(t, list[2])
	})
}

func testPushOrder(t *testing.T, newQueue newContextQueue) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t, 1)
		list := jobs(5)
		mustPush(t, q, list[0])
		ctx, cancel := context.WithCancelCause(t.Context())
		first, leaves, third := goPush(t.Context(), q, list[1]), goPush(ctx, q, list[2]), goPush(t.Context(), q, list[3])
		cancel(errCause)
		leaves.wantErr(t, errCause)
		wantPop(t, q, list[0])
		wantErr(t, q.Push(list[4]), worker.ErrFull) // the room is of those who wait, though they may not have woken
		first.wantErr(t, nil)
		third.wantWaiting(t)
		wantPop(t, q, list[1])
		wantErr(t, q.Push(list[4]), worker.ErrFull)
		third.wantErr(t, nil)
		wantPop(t, q, list[3])
		mustPush(t, q, list[4])
	})
}

// No call waits for a job while another one waits for room, so there are two queues.
func testCloseEndsAll(t *testing.T, newQueue newContextQueue) {
	synctest.Test(t, func(t *testing.T) {
		full, empty := newQueue(t, 2), newQueue(t, 2)
		list := jobs(6)
		mustPush(t, full, list[0])
		mustPush(t, full, list[1])
		served, second, third := goPush(t.Context(), full, list[2]), goPush(t.Context(), full, list[3]), goPush(t.Context(), full, list[4])
		fed, fifth, sixth := goPop(t.Context(), empty), start(empty.Pop), goPop(t.Context(), empty)
		wantPop(t, full, list[0])
		mustPush(t, empty, list[5])
		mustClose(t, full) // those who were served may not have woken
		mustClose(t, empty)
		served.wantErr(t, nil)
		second.wantErr(t, worker.ErrClosed)
		third.wantErr(t, worker.ErrClosed)
		fed.wantJob(t, list[5])
		fifth.wantErr(t, worker.ErrClosed)
		sixth.wantErr(t, worker.ErrClosed)
		wantPop(t, full, list[1])
		wantPop(t, full, list[2])
		start(full.Pop).wantErr(t, worker.ErrClosed)
		goPush(t.Context(), full, list[3]).wantErr(t, worker.ErrClosed)
	})
}
