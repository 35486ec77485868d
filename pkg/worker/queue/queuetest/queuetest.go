// Package queuetest checks that an implementation keeps the contract of worker.Queue, and those of
// worker.QueueContext and worker.Requeuer if it has the methods.
package queuetest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/workerpool-dev/workerpool/pkg/worker"
)

// New makes an empty queue with room for so many jobs.
type New func(t *testing.T, capacity int) worker.Queue

// Run runs the suite. The queue must give jobs of the same priority in the order in which they came,
// and serve the calls that wait likewise. Most tests run in a bubble of testing/synctest, and newQueue
// is called in it.
func Run(t *testing.T, newQueue New) {
	t.Run("jobs come out once, in the order in which they came", func(t *testing.T) { testOrder(t, newQueue) })
	t.Run("Len counts the jobs that are queued", func(t *testing.T) { testLen(t, newQueue) })
	t.Run("Push to a full queue returns ErrFull until a Pop", func(t *testing.T) { testFull(t, newQueue) })
	t.Run("Close refuses new jobs and lets the others drain", func(t *testing.T) { testClose(t, newQueue) })
	t.Run("Pop waits for a job", func(t *testing.T) { testPopWaits(t, newQueue) })
	t.Run("Close ends a Pop that waits", func(t *testing.T) { testCloseEndsPop(t, newQueue) })
	t.Run("calls of Pop are served in the order in which they came", func(t *testing.T) { testPopOrder(t, newQueue) })
	t.Run("a nil job is invalid", func(t *testing.T) { testNil(t, newQueue) })
	t.Run("many at once lose and double no job", func(t *testing.T) { testConcurrent(t, newQueue) })
	t.Run("a Close at some moment loses and doubles no job", func(t *testing.T) { testRandom(t, newQueue) })
	if _, ok := newQueue(t, 1).(worker.QueueContext); ok {
		runContext(t, newQueue)
	}
	if _, ok := newQueue(t, 1).(worker.Requeuer); ok {
		runRequeue(t, newQueue)
	}
}

type (
	newContextQueue func(t *testing.T, capacity int) worker.QueueContext
	newRequeuer     func(t *testing.T, capacity int) worker.Requeuer
)

// job does nothing. It has a field because pointers to empty structs may be equal.
type job struct{ id int }

func (*job) Process() error  { return nil }
func (*job) OnFailure(error) {}
func (*job) MaxRetries() int { return 0 }

func jobs(n int) []*job {
	list := make([]*job, n)
	for i := range list {
		list[i] = &job{id: i}
	}
	return list
}

func testOrder(t *testing.T, newQueue New) {
	q := newQueue(t, 20)
	list := jobs(20)
	for _, j := range list {
		mustPush(t, q, j)
	}
	for _, j := range list {
		wantPop(t, q, j)
	}
}

func testLen(t *testing.T, newQueue New) {
	q := newQueue(t, 2)
	list := jobs(2)
	wantLen(t, q, 0)
	mustPush(t, q, list[0])
	mustPush(t, q, list[1])
	wantLen(t, q, 2)
	wantPop(t, q, list[0])
	wantLen(t, q, 1)
}

func testFull(t *testing.T, newQueue New) {
	q := newQueue(t, 2)
	list := jobs(3)
	mustPush(t, q, list[0])
	mustPush(t, q, list[1])
	wantErr(t, q.Push(list[2]), worker.ErrFull)
	wantLen(t, q, 2)
	wantPop(t, q, list[0])
	mustPush(t, q, list[2])
	wantPop(t, q, list[1])
	wantPop(t, q, list[2])
}

func testClose(t *testing.T, newQueue New) {
	q := newQueue(t, 3)
	list := jobs(3)
	mustPush(t, q, list[0])
	mustPush(t, q, list[1])
	mustClose(t, q)
	mustClose(t, q)
	wantErr(t, q.Push(list[2]), worker.ErrClosed)
	wantPop(t, q, list[0])
	wantPop(t, q, list[1])
	for range 2 {
		_, err := q.Pop()
		wantErr(t, err, worker.ErrClosed)
	}
}

func testPopWaits(t *testing.T, newQueue New) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t, 1)
		j := &job{}
		waits := start(q.Pop)
		waits.wantWaiting(t)
		mustPush(t, q, j)
		waits.wantJob(t, j)
		wantLen(t, q, 0)
	})
}

func testCloseEndsPop(t *testing.T, newQueue New) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t, 1)
		waiters := []*call{start(q.Pop), start(q.Pop), start(q.Pop)}
		mustClose(t, q)
		for _, w := range waiters {
			w.wantErr(t, worker.ErrClosed)
		}
	})
}

func testConcurrent(t *testing.T, newQueue New) {
	const pushers, poppers, each = 4, 4, 500
	q := newQueue(t, pushers*each)
	var pushing, popping sync.WaitGroup
	in, out := make([][]worker.Job, pushers), make([][]worker.Job, poppers)
	for i := range pushers {
		pushing.Go(func() {
			for _, j := range jobs(each) {
				if err := q.Push(j); err != nil {
					t.Errorf("Push: %v", err)
				}
				in[i] = append(in[i], j)
			}
		})
	}
	for i := range poppers {
		popping.Go(func() { out[i] = drain(t, q) })
	}
	pushing.Wait()
	mustClose(t, q)
	popping.Wait()
	wantSame(t, slices.Concat(in...), slices.Concat(out...))
}

// drain pops until the queue is closed and empty.
func drain(t *testing.T, q worker.Queue) []worker.Job {
	var popped []worker.Job
	for {
		j, err := q.Pop()
		if err != nil {
			if !errors.Is(err, worker.ErrClosed) {
				t.Errorf("Pop: %v", err)
			}
			return popped
		}
		popped = append(popped, j)
	}
}

func testPopOrder(t *testing.T, newQueue New) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t, 3)
		list := jobs(3)
		first, second := start(q.Pop), start(q.Pop)
		for _, j := range list {
			mustPush(t, q, j)
		}
		wantPop(t, q, list[2]) // the others are of those who wait, though they may not have woken
		first.wantJob(t, list[0])
		second.wantJob(t, list[1])
	})
}

func testNil(t *testing.T, newQueue New) {
	q := newQueue(t, 1)
	wantErr(t, q.Push(nil), worker.ErrInvalid)
	if c, ok := q.(worker.QueueContext); ok {
		wantErr(t, c.PushContext(t.Context(), nil), worker.ErrInvalid)
	}
	if r, ok := q.(worker.Requeuer); ok {
		wantErr(t, r.Requeue(nil, 0), worker.ErrInvalid)
	}
	wantLen(t, q, 0)
}

// call is a Push or Pop that may wait.
type call struct {
	done chan struct{}
	job  worker.Job // this and err are for reading once done is closed
	err  error
}

// start runs a call beside the test, until it has returned or waits.
func start(f func() (worker.Job, error)) *call {
	c := &call{done: make(chan struct{})}
	go func() {
		defer close(c.done)
		c.job, c.err = f()
	}()
	synctest.Wait()
	return c
}

func goPop(ctx context.Context, q worker.QueueContext) *call {
	return start(func() (worker.Job, error) { return q.PopContext(ctx) })
}

func goPush(ctx context.Context, q worker.QueueContext, j worker.Job) *call {
	return start(func() (worker.Job, error) { return nil, q.PushContext(ctx, j) })
}

func (c *call) wantReturned(t *testing.T, want bool) {
	t.Helper()
	synctest.Wait()
	returned := false
	select {
	case <-c.done:
		returned = true
	default:
	}
	if returned != want {
		t.Fatalf("returned: %v, want %v", returned, want)
	}
}

func (c *call) wantWaiting(t *testing.T) {
	t.Helper()
	c.wantReturned(t, false)
}

func (c *call) wantErr(t *testing.T, want error) {
	t.Helper()
	c.wantReturned(t, true)
	wantErr(t, c.err, want)
}

func (c *call) wantJob(t *testing.T, want worker.Job) {
	t.Helper()
	c.wantErr(t, nil)
	if c.job != want {
		t.Fatalf("returned %v, want %v", c.job, want)
	}
}

// popped returns jobs that were accepted and popped.
func popped(t *testing.T, q worker.Queue, n int) []*job {
	t.Helper()
	list := jobs(n)
	for _, j := range list {
		mustPush(t, q, j)
		wantPop(t, q, j)
	}
	return list
}

func mustClose(t *testing.T, q worker.Queue) {
	t.Helper()
	wantErr(t, q.Close(), nil)
}

func mustPush(t *testing.T, q worker.Queue, j worker.Job) {
	t.Helper()
	wantErr(t, q.Push(j), nil)
}

func wantPop(t *testing.T, q worker.Queue, want worker.Job) {
	t.Helper()
	if got, err := q.Pop(); got != want || err != nil {
		t.Fatalf("Pop returned %v, %v; want %v", got, err, want)
	}
}

func wantLen(t *testing.T, q worker.Queue, want int) {
	t.Helper()
	if got := q.Len(); got != want {
		t.Fatalf("Len is %d, want %d", got, want)
	}
}

func wantErr(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Fatalf("error is %v, want %v", got, want)
	}
}
