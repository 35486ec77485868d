package main

import (
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

func TestEveryPoolRunsEachJobOnceAndNoMoreThanItsWorkersAtATime(t *testing.T) {
	const workers, producers, jobs = 4, 10, 2000
	for _, s := range poolSubjects {
		t.Run(s.name, func(t *testing.T) {
			var ran, running, most atomic.Int64
			b := poolBenchmark{producers: producers, work: func() {
				raise(&most, running.Add(1))
				runtime.Gosched()
				running.Add(-1)
				ran.Add(1)
			}}
			p := s.open(workers)
			b.submit(p, jobs)
			p.stop()
			if got := ran.Load(); got != jobs {
				t.Errorf("%d jobs ran, want %d", got, jobs)
			}
			if got := most.Load(); got > workers && s.name != "goroutines" {
				t.Errorf("%d jobs ran at a time on %d workers", got, workers)
			}
		})
	}
}

func raise(most *atomic.Int64, to int64) {
	for old := most.Load(); to > old && !most.CompareAndSwap(old, to); old = most.Load() {
	}
}

func TestAPoolMakesTheSubmitterWaitIfItIsCalledBounded(t *testing.T) {
	for _, s := range poolSubjects {
		t.Run(s.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const jobs = 3 * queueSize
				hold := make(chan struct{})
				p := s.open(4)
				submit := p.bind(func() { <-hold })
				checkWaits(t, s.bounded, jobs, submit, func() { close(hold) })
				if strings.HasPrefix(s.name, "pond") {
					// Its stop uses a pool that belongs to the process, not to this bubble. Its workers
					// end by themselves when they run out of jobs.
					return
				}
				p.stop()
			})
		})
	}
}

func TestAQueueMakesThePusherWaitIfItIsCalledBounded(t *testing.T) {
	for _, s := range queueSubjects {
		t.Run(s.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				items := make([]item, 3*queueSize)
				next := 0
				q := s.open()
				push := func() {
					q.push(&items[next])
					next++
				}
				checkWaits(t, s.bounded, len(items), push, func() {
					for range items {
						q.pop()
					}
				})
				q.close()
			})
		})
	}
}

// checkWaits calls put n times on a goroutine, and checks whether that ends before relief was called.
func checkWaits(t *testing.T, bounded bool, n int, put, relief func()) {
	t.Helper()
	var done atomic.Int64
	go func() {
		for range n {
			put()
			done.Add(1)
		}
	}()
	synctest.Wait()
	if waits := done.Load() < int64(n); waits != bounded {
		t.Errorf("%d of %d were taken at once, but bounded is %v", done.Load(), n, bounded)
	}
	relief()
	synctest.Wait()
	if got := done.Load(); got != int64(n) {
		t.Errorf("%d of %d were taken in the end", got, n)
	}
}

func TestAnItemCanPassAQueueTwice(t *testing.T) {
	for _, s := range queueSubjects {
		t.Run(s.name, func(t *testing.T) {
			synctest.Test(t, func(*testing.T) { // fails if a pop waits for ever
				items := make([]item, 4*queueSize)
				q := s.open()
				pass(q, items, 4)
				pass(q, items, 4)
				q.close()
			})
		})
	}
}

func TestNoMoreSharesAreHeldThanThereAre(t *testing.T) {
	const capacity = 2
	for _, s := range resourceSubjects {
		t.Run(s.name, func(t *testing.T) {
			var held, most atomic.Int64
			b := resourceBenchmark{goroutines: 8, operations: 4000, hold: func() {
				raise(&most, held.Add(1))
				runtime.Gosched()
				held.Add(-1)
			}}
			synctest.Test(t, func(*testing.T) { // fails if an acquire waits for ever
				b.measure(s.open(capacity))
			})
			if got := most.Load(); got != capacity {
				t.Errorf("%d shares were held at a time, want %d", got, capacity)
			}
		})
	}
}
