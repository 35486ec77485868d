package feed_test

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/internal/feed"
)

func TestPassingAJobOnAllocatesNothing(t *testing.T) {
	j := jobs(1)[0]
	for name, pass := range map[string]func(q *feed.FIFO[worker.Job], taker feed.Taker[worker.Job]){
		"Push and Pop": func(q *feed.FIFO[worker.Job], _ feed.Taker[worker.Job]) {
			_ = q.Push(j)
			_, _ = q.Pop()
		},
		"PushContext and PopContext": func(q *feed.FIFO[worker.Job], _ feed.Taker[worker.Job]) {
			_ = q.PushContext(t.Context(), j)
			_, _ = q.PopContext(t.Context())
		},
		"Push and Next": func(q *feed.FIFO[worker.Job], taker feed.Taker[worker.Job]) {
			_ = q.Push(j)
			_, _ = taker.Next(feed.Succeeded)
		},
		"Push, Next and Requeue": func(q *feed.FIFO[worker.Job], taker feed.Taker[worker.Job]) {
			_ = q.Push(j)
			_, _ = taker.Next(feed.Succeeded)
			_ = taker.Requeue(j, 0)
			_, _ = taker.Next(feed.None)
			taker.Settle(feed.Failed)
		},
		"looks at the books": func(q *feed.FIFO[worker.Job], taker feed.Taker[worker.Job]) {
			q.Books()
			taker.View()
		},
	} {
		t.Run(name, func(t *testing.T) {
			q := feed.NewFIFO[worker.Job](100)
			mustPush(t, q, jobs(99)...)
			taker := q.NewTaker()
			if n := testing.AllocsPerRun(1000, func() { pass(q, taker) }); n != 0 {
				t.Fatalf("%v allocations", n)
			}
		})
	}
}

// Two goroutines pass jobs to and fro, so that each call waits.
func TestWaitersAreUsedAgain(t *testing.T) {
	for name, pop := range map[string]func(q *feed.FIFO[worker.Job]) func() (worker.Job, error){
		"Pop": func(q *feed.FIFO[worker.Job]) func() (worker.Job, error) { return q.Pop },
		"Next": func(q *feed.FIFO[worker.Job]) func() (worker.Job, error) {
			taker := q.NewTaker()
			return func() (worker.Job, error) { return taker.Next(feed.Succeeded) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			there, back := feed.NewFIFO[worker.Job](1), feed.NewFIFO[worker.Job](1)
			var echo sync.WaitGroup
			echo.Go(func() {
				pop := pop(there)
				for {
					j, err := pop()
					if err != nil {
						return
					}
					_ = back.Push(j)
				}
			})
			j := jobs(1)[0]
			get := pop(back)
			n := testing.AllocsPerRun(1000, func() {
				_ = there.Push(j)
				_, _ = get()
			})
			_ = there.Close()
			echo.Wait()
			if n > 1 { // the race detector has the pool of waiters lose some
				t.Fatalf("%v allocations", n)
			}
		})
	}
}

func TestAQueuedJobTakesFewBytes(t *testing.T) {
	const n = 100_000
	for name, c := range map[string]struct {
		add  func(q *feed.FIFO[worker.Job], j worker.Job)
		most float64
	}{
		"ready":   {func(q *feed.FIFO[worker.Job], j worker.Job) { _ = q.Push(j) }, 32},
		"delayed": {func(q *feed.FIFO[worker.Job], j worker.Job) { _ = q.Requeue(j, time.Hour) }, 96},
	} {
		t.Run(name, func(t *testing.T) {
			list := make([]job, n)
			before := heapInUse()
			q := feed.NewFIFO[worker.Job](n)
			for i := range list {
				c.add(q, &list[i])
			}
			each := float64(heapInUse()-before) / n
			t.Logf("%.0f bytes", each)
			if each > c.most {
				t.Fatalf("%.0f bytes, should be at most %v", each, c.most)
			}
			q.Drain()
			runtime.KeepAlive(list)
			runtime.KeepAlive(q)
		})
	}
}

func heapInUse() uint64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// large is a job with memory of its own: small ones share a block, and are collected together.
type large struct {
	job
	_ [8]int
}

func TestAJobThatHasLeftCanBeCollected(t *testing.T) {
	for name, leave := range map[string]func(q *feed.FIFO[worker.Job], taker feed.Taker[worker.Job], j worker.Job){
		"popped": func(q *feed.FIFO[worker.Job], _ feed.Taker[worker.Job], j worker.Job) {
			_ = q.Push(j)
			_, _ = q.Pop()
		},
		"settled": func(q *feed.FIFO[worker.Job], taker feed.Taker[worker.Job], j worker.Job) {
			_ = q.Push(j)
			_, _ = taker.Next(feed.None)
			taker.Settle(feed.Succeeded)
		},
		"popped after its delay": func(q *feed.FIFO[worker.Job], _ feed.Taker[worker.Job], j worker.Job) {
			_ = q.Requeue(j, time.Nanosecond)
			_, _ = q.Pop()
		},
		"handed to a call that waited": func(q *feed.FIFO[worker.Job], taker feed.Taker[worker.Job], j worker.Job) {
			got := begin(func() (worker.Job, error) { return taker.Next(feed.None) })
			_ = q.Push(j)
			<-got.done
			taker.Settle(feed.Failed)
		},
		"refused after a wait": func(q *feed.FIFO[worker.Job], _ feed.Taker[worker.Job], j worker.Job) {
			_ = q.Push(&job{})
			_ = q.Push(&job{})
			pushed := begin(func() (worker.Job, error) { return nil, q.PushContext(contextThatEnds(), j) })
			<-pushed.done
		},
		"drained": func(q *feed.FIFO[worker.Job], _ feed.Taker[worker.Job], j worker.Job) {
			_ = q.Push(j)
			q.Drain()
		},
		"drained before its delay is over": func(q *feed.FIFO[worker.Job], _ feed.Taker[worker.Job], j worker.Job) {
			_ = q.Requeue(j, time.Hour)
			q.Drain()
		},
	} {
		t.Run(name, func(t *testing.T) {
			q := feed.NewFIFO[worker.Job](2)
			taker := q.NewTaker()
			collected := make(chan struct{})
			func() {
				j := &large{}
				runtime.AddCleanup(j, func(done chan struct{}) { close(done) }, collected)
				leave(q, taker, j)
			}()
			wantCollected(t, collected)
			runtime.KeepAlive(q)
			runtime.KeepAlive(taker)
		})
	}
}

// A worker runs for as long as its pool: it must not remember the jobs of before.
func TestAJobThatAWorkerHadCanBeCollected(t *testing.T) {
	forAll(t, func(t *testing.T, k kind) {
		q, f := k.make(t, 4)
		taker := f.NewTaker()
		collected := make(chan struct{})
		func() {
			j := &large{}
			runtime.AddCleanup(j, func(done chan struct{}) { close(done) }, collected)
			got := begin(func() (worker.Job, error) { return taker.Next(feed.None) })
			mustPush(t, q, j)
			<-got.done
			mustPush(t, q, &job{id: 2})
			mustNext(t, taker, feed.Succeeded)
		}()
		wantCollected(t, collected)
		runtime.KeepAlive(taker)
		runtime.KeepAlive(f)
	})
}

func wantCollected(t *testing.T, collected chan struct{}) {
	t.Helper()
	for range 1000 { // cleanups run beside the collector: one round is seldom enough
		runtime.GC()
		select {
		case <-collected:
			return
		default:
		}
	}
	t.Fatal("it is held")
}

func TestADrainedQueueCanBeCollected(t *testing.T) {
	collected := make(chan struct{})
	func() {
		q := feed.NewFIFO[worker.Job](2)
		runtime.AddCleanup(q, func(done chan struct{}) { close(done) }, collected)
		_ = q.Requeue(&job{}, time.Hour)
		_ = q.Close()
		q.Drain()
	}()
	wantCollected(t, collected)
}

// The same work over a channel, for comparison, can neither be closed under those who send nor say what
// it holds.
func BenchmarkFIFO(b *testing.B) {
	const size = 128
	j := jobs(1)[0]
	b.Run("push and pop", func(b *testing.B) {
		q := feed.NewFIFO[worker.Job](size)
		b.ReportAllocs()
		for b.Loop() {
			_ = q.Push(j)
			_, _ = q.Pop()
		}
	})
	b.Run("push and next", func(b *testing.B) {
		q := feed.NewFIFO[worker.Job](size)
		taker := q.NewTaker()
		b.ReportAllocs()
		for b.Loop() {
			_ = q.Push(j)
			_, _ = taker.Next(feed.Succeeded)
		}
	})
	b.Run("channel", func(b *testing.B) {
		c := make(chan worker.Job, size)
		b.ReportAllocs()
		for b.Loop() {
			c <- j
			<-c
		}
	})
	b.Run("requeue with a delay", func(b *testing.B) {
		q := feed.NewFIFO[worker.Job](size)
		b.ReportAllocs()
		for b.Loop() {
			_ = q.Requeue(j, time.Nanosecond)
			_, _ = q.Pop()
		}
	})
}

func BenchmarkProducersAndConsumers(b *testing.B) {
	const size = 128
	j := jobs(1)[0]
	for _, n := range []int{1, 4, 64} {
		b.Run(fmt.Sprintf("FIFO/%d", n), func(b *testing.B) {
			q := feed.NewFIFO[worker.Job](size)
			produce(b, n, func() { _ = q.PushContext(b.Context(), j) }, func() { _ = q.Close() }, func() {
				taker := q.NewTaker()
				for {
					if _, err := taker.Next(feed.Succeeded); err != nil {
						return
					}
				}
			})
		})
		b.Run(fmt.Sprintf("channel/%d", n), func(b *testing.B) {
			c := make(chan worker.Job, size)
			produce(b, n, func() {
				select {
				case c <- j:
				case <-b.Context().Done():
				}
			}, func() { close(c) }, func() {
				for range c {
				}
			})
		})
	}
}

// produce has n goroutines push b.N jobs, and n others pop them.
func produce(b *testing.B, n int, push, end, consume func()) {
	b.Helper()
	b.ReportAllocs()
	var pushing, popping sync.WaitGroup
	for range n {
		popping.Go(consume)
	}
	for i := range n {
		pushing.Go(func() {
			for range (b.N + i) / n {
				push()
			}
		})
	}
	pushing.Wait()
	end()
	popping.Wait()
}
