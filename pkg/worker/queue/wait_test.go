package queue_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/queue"
)

// result is what a call that waits returns. The fields are for reading once done is closed.
type result struct {
	done chan struct{}
	job  worker.Job
	err  error
	at   time.Time
}

// start runs a call beside the test, until it has returned or waits.
func start(call func(r *result)) *result {
	r := &result{done: make(chan struct{})}
	go func() {
		defer close(r.done)
		call(r)
		r.at = time.Now()
	}()
	synctest.Wait()
	return r
}

func goPop(ctx context.Context, q worker.QueueContext) *result {
	return start(func(r *result) { r.job, r.err = q.PopContext(ctx) })
}

func goPush(ctx context.Context, q worker.QueueContext, j worker.Job) *result {
	return start(func(r *result) { r.err = q.PushContext(ctx, j) })
}

func (r *result) returned() bool {
	synctest.Wait()
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

func (r *result) wantJob(t *testing.T, want worker.Job) {
	t.Helper()
	if !r.returned() {
		t.Fatalf("still waits, want %v", want)
	}
	if r.job != want || r.err != nil {
		t.Fatalf("returned %v, %v; want %v", r.job, r.err, want)
	}
}

func (r *result) wantErr(t *testing.T, want error) {
	t.Helper()
	if !r.returned() {
		t.Fatalf("still waits, want the error %v", want)
	}
	if !errors.Is(r.err, want) {
		t.Fatalf("error is %v, want %v", r.err, want)
	}
}

func (r *result) wantWaiting(t *testing.T) {
	t.Helper()
	if r.returned() {
		t.Fatalf("should wait, returned %v, %v", r.job, r.err)
	}
}

func delay(t *testing.T, q *queue.Priority, d time.Duration) *job {
	t.Helper()
	j := &job{name: "delayed by " + d.String()}
	now := time.Now()
	if err := q.TryPush(now, queue.Item{Job: j, Created: now, NotBefore: now.Add(d)}); err != nil {
		t.Fatalf("TryPush: %v", err)
	}
	return j
}

func mustPush(t testing.TB, q worker.Queue, j worker.Job) {
	t.Helper()
	if err := q.Push(j); err != nil {
		t.Fatalf("Push: %v", err)
	}
}

func mustRequeue(t *testing.T, q worker.Requeuer, j worker.Job, delay time.Duration) {
	t.Helper()
	if err := q.Requeue(j, delay); err != nil {
		t.Fatalf("Requeue: %v", err)
	}
}

func mustClose(t *testing.T, q worker.Queue) {
	t.Helper()
	if err := q.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

func TestPopWakesAtTheMomentADelayedJobIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newPriority(t, 1, 0)
		begin := time.Now()
		first := goPop(t.Context(), q)
		second := goPop(t.Context(), q)
		late := delay(t, q, time.Hour)
		early := delay(t, q, time.Minute) // the alarm must move forward
		gone := delay(t, q, time.Second)
		q.Remove(gone) // and back

		time.Sleep(time.Minute - time.Nanosecond)
		first.wantWaiting(t)
		time.Sleep(time.Nanosecond)
		first.wantJob(t, early)
		second.wantWaiting(t)
		time.Sleep(2 * time.Hour)
		second.wantJob(t, late) // the alarm went on to the next one
		if !first.at.Equal(begin.Add(time.Minute)) || !second.at.Equal(begin.Add(time.Hour)) {
			t.Fatalf("popped after %v and %v", first.at.Sub(begin), second.at.Sub(begin))
		}
	})
}

func TestTheAlarmGoesOnWhenTheOneWhoHasItLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newPriority(t, 1, 0)
		ctx, cancel := context.WithCancel(t.Context())
		leaves := goPop(ctx, q)
		stays := goPop(t.Context(), q)
		j := delay(t, q, time.Minute)
		cancel()
		leaves.wantErr(t, context.Canceled)
		time.Sleep(time.Minute)
		stays.wantJob(t, j)
	})
}

func TestPopGetsADelayedJobThatOthersSawBecomeReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newPriority(t, 1, 0)
		r := goPop(t.Context(), q)
		j := delay(t, q, time.Minute)
		if _, ok := q.TryPop(time.Now().Add(time.Minute), nil); ok {
			t.Fatal("the job should go to the call that waits")
		}
		r.wantJob(t, j)
	})
}

func TestPopIsServedInTheOrderOfTheCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newPriority(t, 1, 0)
		ctx, cancel := context.WithCancel(t.Context())
		first, leaves, third := goPop(t.Context(), q), goPop(ctx, q), goPop(t.Context(), q)
		cancel()
		leaves.wantErr(t, context.Canceled)
		a, b := &job{name: "a"}, &job{name: "b"}
		mustPush(t, q, a)
		third.wantWaiting(t)
		if err := q.Return(time.Now(), queue.Item{Job: b}); err != nil {
			t.Fatalf("Return: %v", err)
		}
		first.wantJob(t, a)
		third.wantJob(t, b)
	})
}

func TestPushContextIsServedInTheOrderOfTheCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newPriority(t, 1, 0)
		mustPush(t, q, &job{name: "full"})
		ctx, cancel := context.WithCancel(t.Context())
		first := goPush(t.Context(), q, &job{name: "first"})
		leaves := goPush(ctx, q, &job{name: "leaves"})
		urgent := goPush(t.Context(), q, &job{name: "urgent", priority: 9})
		last := goPush(t.Context(), q, &job{name: "last"})
		cancel()
		leaves.wantErr(t, context.Canceled)

		q.TryPop(time.Now(), nil)
		first.wantErr(t, nil)
		urgent.wantWaiting(t)
		if err := q.SetCapacity(2); err != nil {
			t.Fatalf("SetCapacity: %v", err)
		}
		urgent.wantErr(t, nil)
		last.wantWaiting(t)
		wantNames(t, all(q, 0), "urgent", "first")
		q.TryPop(time.Now(), nil)
		last.wantErr(t, nil)
		wantErr(t, q.Push(&job{}), worker.ErrFull)
	})
}

func TestAPopThatGotAJobBeforeItsContextEndedReturnsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		q := newPriority(t, 1, 0)
		r := goPop(ctx, q)
		j := &job{name: "j"}
		mustPush(t, q, j)
		cancel()
		r.wantJob(t, j)
	})
}

func TestAPushCutOffWhileItIsServedSaysWhetherItsJobIsQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for range 1000 {
			ctx, cancel := context.WithCancel(t.Context())
			q := newPriority(t, 1, 0)
			full, waits := &job{name: "full"}, &job{name: "waits"}
			mustPush(t, q, full)
			r := goPush(ctx, q, waits)
			cancel()
			q.Remove(full) // at the moment at which the call leaves
			if !r.returned() {
				t.Fatal("still waits")
			}
			if queued := q.Remove(waits); queued != (r.err == nil) {
				t.Fatalf("queued: %v, but returned %v", queued, r.err)
			}
		}
	})
}

func TestRemoveMakesRoomForAPushThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newPriority(t, 1, 0)
		j := &job{name: "full"}
		mustPush(t, q, j)
		r := goPush(t.Context(), q, &job{name: "waits"})
		q.Remove(j)
		r.wantErr(t, nil)
		wantNames(t, all(q, 0), "waits")
	})
}

func TestADueJobGoesBeforeAPushThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newPriority(t, 1, 0)
		full := &job{name: "full"}
		mustPush(t, q, full)
		due := delay(t, q, time.Minute)
		r := goPush(t.Context(), q, &job{name: "waits"})
		time.Sleep(time.Minute)
		if j, ok := q.TryPop(time.Now(), nil); !ok || j != worker.Job(full) {
			t.Fatalf("popped %v", j)
		}
		r.wantWaiting(t) // the due job filled the place
		if j, err := q.Pop(); j != worker.Job(due) || err != nil {
			t.Fatalf("popped %v, %v", j, err)
		}
		r.wantErr(t, nil)
	})
}

func TestAJobPushedTwiceWhileWaitingIsQueuedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newPriority(t, 1, 0)
		mustPush(t, q, &job{name: "full"})
		twice, other := &job{name: "twice"}, &job{name: "other"}
		first, second := goPush(t.Context(), q, twice), goPush(t.Context(), q, twice)
		third := goPush(t.Context(), q, other)
		if err := q.SetCapacity(3); err != nil {
			t.Fatalf("SetCapacity: %v", err)
		}
		first.wantErr(t, nil)
		second.wantErr(t, worker.ErrDuplicate)
		third.wantErr(t, nil)
	})
}

func TestAfterClosePopWaitsForDelayedJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newPriority(t, 1, 0)
		early, late := delay(t, q, time.Minute), delay(t, q, time.Hour)
		first, second, third := goPop(t.Context(), q), goPop(t.Context(), q), goPop(t.Context(), q)
		if err := q.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
		second.wantWaiting(t)
		time.Sleep(time.Minute)
		first.wantJob(t, early)
		second.wantWaiting(t)
		q.Remove(late) // nothing is left to wait for
		second.wantErr(t, worker.ErrClosed)
		third.wantErr(t, worker.ErrClosed)
		_, err := q.Pop()
		wantErr(t, err, worker.ErrClosed)
	})
}

func TestARequeuedJobGoesBehindThoseThatWereThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newPriority(t, 5, 0)
		a, b, urgent := &job{name: "a"}, &job{name: "b"}, &job{name: "urgent", priority: 1}
		mustPush(t, q, a)
		mustPush(t, q, urgent)
		goPop(t.Context(), q).wantJob(t, urgent)
		goPop(t.Context(), q).wantJob(t, a)
		mustPush(t, q, b)
		time.Sleep(time.Nanosecond)
		mustRequeue(t, q, a, 0) // it counts as created now
		urgent.priority = -1
		mustRequeue(t, q, urgent, -time.Hour) // the queue asks again
		for _, j := range []*job{b, a, urgent} {
			goPop(t.Context(), q).wantJob(t, j)
		}
		urgent.priority = 1
		mustRequeue(t, q, a, time.Second)
		mustRequeue(t, q, urgent, time.Second)
		first, second := goPop(t.Context(), q), goPop(t.Context(), q)
		first.wantWaiting(t)
		time.Sleep(time.Second)
		first.wantJob(t, urgent)
		second.wantJob(t, a)
	})
}

func TestRequeueRefusesOnlyWhatTheQueueCannotHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newPriority(t, 1, 0)
		j := &job{name: "j"}
		mustPush(t, q, j)
		wantErr(t, q.Requeue(j, 0), worker.ErrDuplicate)
		wantErr(t, q.Requeue(j, time.Minute), worker.ErrDuplicate)
		wantErr(t, q.Requeue(nil, 0), worker.ErrInvalid)
		wantErr(t, q.Requeue(uncomparable{args: []int{1}}, 0), worker.ErrInvalid)
		mustClose(t, q)
		mustRequeue(t, q, &job{name: "more than the capacity"}, 0)
		mustRequeue(t, q, &job{name: "later"}, time.Minute)
		if q.Len() != 2 || q.Delayed() != 1 {
			t.Fatalf("Len %d, Delayed %d; want 2, 1", q.Len(), q.Delayed())
		}
	})
}

func TestAfterCloseAJobThatWasPutBackGoesToAPopThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newPriority(t, 1, 0)
		late, now := delay(t, q, time.Hour), &job{name: "now"}
		mustClose(t, q)
		first, second, third := goPop(t.Context(), q), goPop(t.Context(), q), goPop(t.Context(), q)
		if err := q.Return(time.Now(), queue.Item{Job: now}); err != nil {
			t.Fatalf("Return: %v", err)
		}
		first.wantJob(t, now)
		mustRequeue(t, q, now, time.Minute) // it comes before the one that is there
		time.Sleep(time.Minute)
		second.wantJob(t, now)
		third.wantWaiting(t)
		time.Sleep(time.Hour)
		third.wantJob(t, late)
		goPop(t.Context(), q).wantErr(t, worker.ErrClosed)
		mustRequeue(t, q, late, 0) // all went home: it is for whoever comes
		goPop(t.Context(), q).wantJob(t, late)
	})
}

func TestDrainLetsAPushInAndSendsPopsHome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newPriority(t, 1, 0)
		mustPush(t, q, &job{name: "ready"})
		waits, next := &job{name: "waits"}, &job{name: "next"}
		first, second := goPush(t.Context(), q, waits), goPush(t.Context(), q, next)
		delay(t, q, time.Minute)
		wantJobs(t, q.Drain(), "ready", "delayed by 1m0s")
		first.wantErr(t, nil)
		second.wantWaiting(t)
		wantJobs(t, q.Drain(), "waits")
		second.wantErr(t, nil)
		goPop(t.Context(), q).wantJob(t, next)

		delay(t, q, time.Hour)
		pop, other := goPop(t.Context(), q), goPop(t.Context(), q)
		mustClose(t, q)
		pop.wantWaiting(t)
		wantJobs(t, q.Drain(), "delayed by 1h0m0s")
		pop.wantErr(t, worker.ErrClosed)
		other.wantErr(t, worker.ErrClosed)
		wantJobs(t, q.Drain())
	})
}

func wantJobs(t *testing.T, got []worker.Job, want ...string) {
	t.Helper()
	var names []string
	for _, j := range got {
		names = append(names, name(j))
	}
	wantNames(t, names, want...)
}
