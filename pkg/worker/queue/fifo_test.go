package queue_test

import (
	"context"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/internal/feed"
	"github.com/workerpool-dev/workerpool/pkg/worker/queue"
	"github.com/workerpool-dev/workerpool/pkg/worker/queue/queuetest"
)

func TestFIFOKeepsTheContractOfQueue(t *testing.T) {
	queuetest.Run(t, func(_ *testing.T, capacity int) worker.Queue { return queue.New(capacity) })
}

func TestASizeWithoutSensePanics(t *testing.T) {
	for _, size := range []int{0, -1} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("New(%d) did not panic", size)
				}
			}()
			queue.New(size)
		}()
	}
}

func TestCapStaysAsItWas(t *testing.T) {
	q := queue.New(2)
	for range 2 {
		mustRequeue(t, q, &job{}, 0)
		mustRequeue(t, q, &job{}, time.Hour)
	}
	if q.Cap() != 2 || q.Len() != 2 || q.Delayed() != 2 {
		t.Fatalf("Cap %d, Len %d, Delayed %d; want 2 each", q.Cap(), q.Len(), q.Delayed())
	}
	q.Drain()
}

func TestAFIFOTakesTheSameJobSeveralTimes(t *testing.T) {
	q := queue.New(3)
	j := &job{name: "j"}
	for range 2 {
		mustPush(t, q, j)
	}
	mustRequeue(t, q, j, 0)
	mustClose(t, q)
	for range 3 {
		if got, err := q.Pop(); got != worker.Job(j) || err != nil {
			t.Fatalf("popped %v, %v", got, err)
		}
	}
	_, err := q.Pop()
	wantErr(t, err, worker.ErrClosed)
}

func TestDelayedJobsTakeRoomButKeepNoJobFromAPopThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queue.New(1)
		late, pushed, waits := &job{name: "late"}, &job{name: "pushed"}, &job{name: "waits"}
		mustRequeue(t, q, late, time.Hour)
		wantErr(t, q.Push(pushed), worker.ErrFull)
		push := goPush(t.Context(), q, waits)
		push.wantWaiting(t)
		goPop(t.Context(), q).wantJob(t, waits)
		push.wantErr(t, nil)
		pop, last := goPop(t.Context(), q), goPop(t.Context(), q)
		mustPush(t, q, pushed)
		pop.wantJob(t, pushed)
		last.wantWaiting(t)
		time.Sleep(time.Hour)
		last.wantJob(t, late)
		mustPush(t, q, pushed) // there is room again
	})
}

func TestDrainOfAFIFOReturnsDelayedJobsLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := queue.New(5)
		for _, delayed := range []time.Duration{time.Hour, time.Minute} {
			mustRequeue(t, q, &job{name: delayed.String()}, delayed)
		}
		mustPush(t, q, &job{name: "first"})
		mustPush(t, q, &job{name: "second"})
		mustClose(t, q)
		wantJobs(t, q.Drain(), "first", "second", "1m0s", "1h0m0s")
		goPop(t.Context(), q).wantErr(t, worker.ErrClosed)
		wantJobs(t, q.Drain())
	})
}

func TestOneWhoPushesAndOneWhoPopsKeepTheOrder(t *testing.T) {
	const n = 5000
	q := queue.New(4)
	list := make([]worker.Job, n)
	for i := range list {
		list[i] = &job{}
	}
	go func() {
		for _, j := range list {
			if err := q.PushContext(context.Background(), j); err != nil {
				t.Errorf("PushContext: %v", err)
			}
		}
		_ = q.Close()
	}()
	var popped []worker.Job
	for {
		j, err := q.Pop()
		if err != nil {
			wantErr(t, err, worker.ErrClosed)
			break
		}
		popped = append(popped, j)
	}
	if !slices.Equal(popped, list) {
		t.Fatalf("%d jobs were popped, not the %d that were pushed in their order", len(popped), n)
	}
}

// Who has a queue as a part of a type of his own, with another Push or Pop, wants a pool to call it.
func TestAQueueIsAFeedOnlyForItself(t *testing.T) {
	for name, own := range map[string]feeding{
		"FIFO":     queue.New(1),
		"Priority": newPriority(t, 1, 0),
	} {
		t.Run(name, func(t *testing.T) {
			if f := own.Feed(&struct{ worker.Queue }{own}); f != nil {
				t.Fatalf("it is a feed for a type that embeds it: %T", f)
			}
			f := own.Feed(own)
			if f == nil {
				t.Fatal("it is no feed for itself")
			}
			j := &job{name: "j"}
			mustPush(t, own, j)
			if b := f.Books(); b != (feed.Books{Ready: 1}) {
				t.Fatalf("books are %+v", b)
			}
			if got, err := f.NewTaker().Next(feed.None); got != worker.Job(j) || err != nil {
				t.Fatalf("took %v, %v", got, err)
			}
		})
	}
}

// feeding is a queue that is a feed too.
type feeding interface {
	worker.Requeuer
	worker.QueueContext
	Feed(owner any) feed.Feed[worker.Job]
}

func TestAJobThatAWorkerHoldsKeepsAPopWaiting(t *testing.T) {
	for _, delay := range []time.Duration{0, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			for _, q := range []feeding{queue.New(2), newPriority(t, 2, 0)} {
				a, b := &job{name: "a"}, &job{name: "b"}
				mustPush(t, q, a)
				mustPush(t, q, b)
				first, second := q.Feed(q).NewTaker(), q.Feed(q).NewTaker()
				for _, taker := range []feed.Taker[worker.Job]{first, second} {
					if _, err := taker.Next(feed.None); err != nil {
						t.Fatalf("Next: %v", err)
					}
				}
				mustClose(t, q)
				pop, other := goPop(t.Context(), q), goPop(t.Context(), q)
				first.Settle(feed.Succeeded)
				pop.wantWaiting(t)
				if err := second.Requeue(b, delay); err != nil {
					t.Fatalf("Requeue: %v", err)
				}
				time.Sleep(delay)
				pop.wantJob(t, b)
				other.wantErr(t, worker.ErrClosed)
			}
		})
	}
}

func TestAWorkerTakesADueJobBeforeALessUrgentOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newPriority(t, 2, 0)
		urgent, other := &job{name: "urgent", priority: 1}, &job{name: "other"}
		mustRequeue(t, q, urgent, time.Minute)
		mustPush(t, q, other)
		time.Sleep(time.Minute)
		taker := q.Feed(q).NewTaker()
		for _, want := range []*job{urgent, other} {
			if j, err := taker.Next(feed.Succeeded); j != worker.Job(want) || err != nil {
				t.Fatalf("took %v, %v; want %v", j, err, want)
			}
		}
	})
}

func TestPushAndPopOfAFIFOAllocateNothing(t *testing.T) {
	q := queue.New(100)
	j := &job{}
	for range 50 {
		mustPush(t, q, j)
	}
	if n := testing.AllocsPerRun(1000, func() {
		_ = q.Push(j)
		_, _ = q.Pop()
		_ = q.PushContext(t.Context(), j)
		_, _ = q.PopContext(t.Context())
		_ = q.Requeue(j, 0)
		_, _ = q.Pop()
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

func TestAJobInAFIFOTakesFewBytes(t *testing.T) {
	const n, most = 100_000, 32
	jobs := make([]job, n)
	before := heapInUse()
	q := queue.New(n)
	for i := range jobs {
		mustPush(t, q, &jobs[i])
	}
	each := float64(heapInUse()-before) / n
	t.Logf("%.0f bytes per queued job", each)
	if each > most {
		t.Fatalf("%.0f bytes per queued job, should be at most %d", each, most)
	}
	runtime.KeepAlive(jobs)
	runtime.KeepAlive(q)
}

func TestAJobThatWasPoppedFromAFIFOCanBeCollected(t *testing.T) {
	q := queue.New(1)
	collected := make(chan struct{})
	func() {
		j := &job{name: "popped"}
		runtime.AddCleanup(j, func(done chan struct{}) { close(done) }, collected)
		mustPush(t, q, j)
		_, _ = q.Pop()
	}()
	for range 1000 { // cleanups run beside the collector: one round is seldom enough
		runtime.GC()
		select {
		case <-collected:
			runtime.KeepAlive(q)
			return
		default:
		}
	}
	t.Fatal("the queue holds a job that was popped")
}

func BenchmarkFIFOPushPop(b *testing.B) {
	q := queue.New(64)
	j := &job{}
	b.ReportAllocs()
	for b.Loop() {
		_ = q.Push(j)
		_, _ = q.Pop()
	}
}
