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
	"time"

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

// testRandom makes calls of all kinds that the queue has, cut off at random moments, and closes the
// queue under them: what was accepted comes out once, and nothing else does.
func testRandom(t *testing.T, newQueue New) {
	const pushers, poppers, each = 4, 4, 300
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t, 3)
		in, out := make([][]worker.Job, pushers), make([][]worker.Job, poppers)
		var pushing, calls sync.WaitGroup
		for i := range pushers {
			pushing.Go(func() { in[i] = pushAll(t, q, jobs(each*3/4), dice(i)) })
			calls.Go(func() {
				pushing.Wait()
				in[i] = append(in[i], pushAll(t, q, jobs(each/4), dice(i))...)
			})
		}
		for i := range poppers {
			calls.Go(func() { out[i] = popAll(t, q, dice(pushers+i)) })
		}
		pushing.Wait()
		mustClose(t, q)
		calls.Wait()
		wantSame(t, slices.Concat(in...), slices.Concat(out...))
		wantLen(t, q, 0)
	})
}

// pushAll returns the jobs that were accepted.
func pushAll(t *testing.T, q worker.Queue, list []*job, random dice) []worker.Job {
	var accepted []worker.Job
	for _, j := range list {
		if pushSomehow(t, q, j, &random) {
			accepted = append(accepted, j)
		}
	}
	return accepted
}

// popAll returns the jobs that were popped until the queue was closed and empty.
func popAll(t *testing.T, q worker.Queue, random dice) []worker.Job {
	var popped []worker.Job
	for open := true; open; {
		var j worker.Job
		if j, open = popSomehow(t, q, &random); j != nil {
			popped = append(popped, j)
		}
	}
	return popped
}

// pushSomehow reports whether the job was accepted.
func pushSomehow(t *testing.T, q worker.Queue, j worker.Job, random *dice) bool {
	var err error
	if c, ok := q.(worker.QueueContext); ok && random.roll(4) > 0 {
		ctx, cancel := cutOff(t, random)
		defer cancel()
		err = c.PushContext(ctx, j)
	} else {
		err = q.Push(j)
	}
	wantExpected(t, err, worker.ErrFull)
	return err == nil
}

// popSomehow returns a job or nil, and false when the queue is closed and empty. It may put a job back.
func popSomehow(t *testing.T, q worker.Queue, random *dice) (j worker.Job, open bool) {
	var err error
	if c, ok := q.(worker.QueueContext); ok && random.roll(4) > 0 {
		ctx, cancel := cutOff(t, random)
		defer cancel()
		j, err = c.PopContext(ctx)
	} else {
		j, err = q.Pop()
	}
	if r, ok := q.(worker.Requeuer); ok && j != nil && random.roll(4) == 0 {
		err = r.Requeue(j, time.Duration(random.roll(5))*time.Microsecond)
		j = nil
	}
	wantExpected(t, err, nil)
	return j, !errors.Is(err, worker.ErrClosed)
}

// cutOff makes a context that ends within some microseconds of the bubble's time, which passes when all
// wait, or at any moment.
func cutOff(t *testing.T, random *dice) (context.Context, context.CancelFunc) {
	if random.roll(2) == 0 {
		return context.WithTimeout(t.Context(), time.Duration(random.roll(5))*time.Microsecond)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go cancel()
	return ctx, cancel
}

func wantExpected(t *testing.T, err, also error) {
	t.Helper()
	for _, expected := range []error{nil, also, worker.ErrClosed, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, expected) {
			return
		}
	}
	t.Errorf("error is %v", err)
}

// wantSame wants the same jobs in both, each as often.
func wantSame(t *testing.T, in, out []worker.Job) {
	t.Helper()
	balance := map[worker.Job]int{}
	for _, j := range in {
		balance[j]++
	}
	for _, j := range out {
		balance[j]--
	}
	for _, n := range balance {
		if n != 0 {
			t.Fatalf("%d jobs were accepted and %d popped: one %d times", len(in), len(out), 1-n)
		}
	}
}

// dice are chance that can be had again.
type dice uint64

// roll returns a number from 0 to n−1.
func (d *dice) roll(n int) int {
	*d = *d*6364136223846793005 + 1442695040888963407 // Knuth's MMIX
	return int(*d>>33) % n
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

func mustRequeue(t *testing.T, q worker.Requeuer, j worker.Job, delay time.Duration) {
	t.Helper()
	wantErr(t, q.Requeue(j, delay), nil)
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
