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
