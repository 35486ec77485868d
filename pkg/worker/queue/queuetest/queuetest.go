// Package queuetest checks that an implementation keeps the contract of worker.Queue, and that of
// worker.QueueContext if it has the methods.
package queuetest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/workerpool-dev/workerpool/pkg/worker"
)

// New makes an empty queue with room for so many jobs.
type New func(t *testing.T, capacity int) worker.Queue

// Run runs the suite. The queue must give jobs of the same priority in the order in which they came.
func Run(t *testing.T, newQueue New) {
	t.Run("jobs come out once, in the order in which they came", func(t *testing.T) { testOrder(t, newQueue) })
	t.Run("Len counts the jobs that are queued", func(t *testing.T) { testLen(t, newQueue) })
	t.Run("Push to a full queue returns ErrFull until a Pop", func(t *testing.T) { testFull(t, newQueue) })
	t.Run("Close refuses new jobs and lets the others drain", func(t *testing.T) { testClose(t, newQueue) })
	t.Run("Pop waits for a job", func(t *testing.T) { testPopWaits(t, newQueue) })
	t.Run("Close ends a Pop that waits", func(t *testing.T) { testCloseEndsPop(t, newQueue) })
	t.Run("many at once lose and double no job", func(t *testing.T) { testConcurrent(t, newQueue) })
	if _, ok := newQueue(t, 1).(worker.QueueContext); !ok {
		return
	}
	newContext := func(t *testing.T, capacity int) worker.QueueContext {
		return newQueue(t, capacity).(worker.QueueContext)
	}
	t.Run("PushContext waits for room", func(t *testing.T) { testPushWaits(t, newContext) })
	t.Run("Close ends a PushContext that waits", func(t *testing.T) { testCloseEndsPush(t, newContext) })
	t.Run("the end of a context ends a wait with its cause", func(t *testing.T) { testContextEnds(t, newContext) })
	t.Run("an ended context changes nothing", func(t *testing.T) { testEndedContext(t, newContext) })
}

type newContextQueue func(t *testing.T, capacity int) worker.QueueContext

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
	for range 2 {
		if err := q.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
	}
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
		var popped worker.Job
		var err error
		go func() { popped, err = q.Pop() }()
		synctest.Wait()
		if popped != nil || err != nil {
			t.Fatalf("Pop of an empty queue returned %v, %v", popped, err)
		}
		mustPush(t, q, j)
		synctest.Wait()
		if popped != worker.Job(j) || err != nil {
			t.Fatalf("Pop returned %v, %v after the push of %v", popped, err, j)
		}
		wantLen(t, q, 0)
	})
}

func testCloseEndsPop(t *testing.T, newQueue New) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t, 1)
		errs := make([]error, 3)
		for i := range errs {
			go func() { _, errs[i] = q.Pop() }()
		}
		synctest.Wait()
		if err := q.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
		synctest.Wait()
		for _, err := range errs {
			wantErr(t, err, worker.ErrClosed)
		}
	})
}

func testConcurrent(t *testing.T, newQueue New) {
	const pushers, poppers, each = 4, 4, 500
	q := newQueue(t, pushers*each)
	var pushing, popping sync.WaitGroup
	for range pushers {
		pushing.Go(func() {
			for _, j := range jobs(each) {
				if err := q.Push(j); err != nil {
					t.Errorf("Push: %v", err)
				}
			}
		})
	}
	popped := make([][]worker.Job, poppers)
	for i := range popped {
		popping.Go(func() { popped[i] = drain(t, q) })
	}
	pushing.Wait()
	if err := q.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	popping.Wait()
	count := 0
	seen := map[worker.Job]bool{}
	for _, list := range popped {
		for _, j := range list {
			count++
			seen[j] = true
		}
	}
	if count != pushers*each || len(seen) != count {
		t.Fatalf("%d jobs pushed, %d popped, %d of them different", pushers*each, count, len(seen))
	}
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

func testPushWaits(t *testing.T, newQueue newContextQueue) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t, 1)
		list := jobs(2)
		mustPush(t, q, list[0])
		returned := false
		var err error
		go func() {
			err = q.PushContext(t.Context(), list[1])
			returned = true
		}()
		synctest.Wait()
		if returned {
			t.Fatalf("PushContext to a full queue returned: %v", err)
		}
		wantPop(t, q, list[0])
		synctest.Wait()
		if !returned || err != nil {
			t.Fatalf("PushContext after a Pop: returned %v, error %v", returned, err)
		}
		wantPop(t, q, list[1])
	})
}

func testCloseEndsPush(t *testing.T, newQueue newContextQueue) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t, 1)
		list := jobs(2)
		mustPush(t, q, list[0])
		var err error
		go func() { err = q.PushContext(t.Context(), list[1]) }()
		synctest.Wait()
		if err := q.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
		synctest.Wait()
		wantErr(t, err, worker.ErrClosed)
		wantPop(t, q, list[0])
		_, err = q.PopContext(t.Context())
		wantErr(t, err, worker.ErrClosed)
	})
}

var errCause = errors.New("the cause")

func testContextEnds(t *testing.T, newQueue newContextQueue) {
	synctest.Test(t, func(t *testing.T) {
		full, empty := newQueue(t, 1), newQueue(t, 1)
		list := jobs(3)
		mustPush(t, full, list[0])
		ctx, cancel := context.WithCancelCause(t.Context())
		var pushErr, popErr error
		go func() { pushErr = full.PushContext(ctx, list[1]) }()
		go func() { _, popErr = empty.PopContext(ctx) }()
		synctest.Wait()
		cancel(errCause)
		synctest.Wait()
		wantErr(t, pushErr, errCause)
		wantErr(t, popErr, errCause)
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

func mustPush(t *testing.T, q worker.Queue, j worker.Job) {
	t.Helper()
	if err := q.Push(j); err != nil {
		t.Fatalf("Push: %v", err)
	}
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
