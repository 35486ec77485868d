package queue_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/queue"
)

// fill pushes n jobs, created in a mixed order within n seconds, of three priorities.
func fill(t testing.TB, q *queue.Priority, n int) []*job {
	t.Helper()
	jobs := make([]*job, n)
	for i := range jobs {
		jobs[i] = &job{}
		push(t, q, n, queue.Item{Job: jobs[i], Priority: i % 3, Created: at(i * 7919 % n)})
	}
	return jobs
}

func TestAPushAndAPopAllocateNothing(t *testing.T) {
	q := newPriority(t, 1000, time.Minute)
	fill(t, q, 999)
	third := func() func(worker.Job) queue.Choice {
		seen := 0
		return func(worker.Job) queue.Choice {
			if seen++; seen%3 == 0 {
				return queue.Take
			}
			return queue.Skip
		}
	}()
	now := at(1000)
	j, _ := q.TryPop(now, nil)
	allocations := testing.AllocsPerRun(1000, func() {
		if err := q.TryPush(now, queue.Item{Job: j, Created: now}); err != nil {
			t.Fatalf("TryPush: %v", err)
		}
		j, _ = q.TryPop(now, third)
		if err := q.TryPush(now, queue.Item{Job: j, Created: now, NotBefore: now.Add(1)}); err != nil {
			t.Fatalf("TryPush of a delayed job: %v", err)
		}
		if !q.Remove(j) {
			t.Fatal("the delayed job is not there")
		}
	})
	if allocations != 0 {
		t.Fatalf("%v allocations", allocations)
	}
}

func TestToPassOverAKindCostsOneLook(t *testing.T) {
	q := newPriority(t, 20_001, time.Minute)
	for i := range 20_000 {
		push(t, q, 0, queue.Item{Job: &job{}, Created: at(i), Kind: i % 2})
	}
	last := &job{name: "last"}
	push(t, q, 0, queue.Item{Job: last, Created: at(20_000)})
	looks := 0
	got, ok := q.TryPop(at(0), func(j worker.Job) queue.Choice {
		if looks++; j == worker.Job(last) {
			return queue.Take
		}
		return queue.SkipKind
	})
	if !ok || got != worker.Job(last) || looks != 3 {
		t.Fatalf("got %v, %v after %d looks, want the last job after 3", got, ok, looks)
	}
}

func TestEachKindHasItsTurn(t *testing.T) {
	const n, looks = 1000, 10
	q := newPriority(t, 2*n, time.Minute)
	for i := range n {
		push(t, q, 0, queue.Item{Job: &job{name: fmt.Sprint(i)}, Created: at(i), Kind: i})
	}
	seen := map[worker.Job]bool{}
	look := func() (first worker.Job) {
		left := looks
		q.TryPopInTurn(at(0), func(j worker.Job) queue.Choice {
			if first == nil {
				first = j
			}
			seen[j] = true
			if left--; left == 0 {
				return queue.Stop
			}
			return queue.Skip
		})
		return first
	}
	for i := range n / looks {
		late := &job{name: "late"}
		push(t, q, 0, queue.Item{Job: late, Created: at(n + i), Kind: n + i})
		if got := look(); got != worker.Job(late) {
			t.Fatalf("%v is shown first, not the job of a kind that is new", got)
		}
	}
	for range n/looks/looks + 1 {
		look() // for those that have come between
	}
	if len(seen) != n+n/looks {
		t.Fatalf("%d jobs were shown of %d", len(seen), n+n/looks)
	}
}

func TestWhatKindsTakeIsGivenBack(t *testing.T) {
	const kinds, n = 50, 10_000
	q := newPriority(t, n+kinds, time.Minute)
	before := heapInUse()
	jobs := make([]job, n)
	for kind := range kinds { // one of each stays
		for i := range jobs {
			push(t, q, 0, queue.Item{Job: &jobs[i], Kind: kind})
		}
		push(t, q, 0, queue.Item{Job: &job{name: "stays"}, Kind: kind})
		for i := range jobs {
			q.Remove(&jobs[i])
		}
	}
	each := float64(heapInUse()-before) / (n + kinds)
	t.Logf("%.0f bytes for each of the most jobs that were queued at once", each)
	if each > 320 { // the jobs themselves are among them
		t.Fatalf("%.0f bytes", each)
	}
	runtime.KeepAlive(q)
}

func TestAQueuedJobTakesFewBytes(t *testing.T) {
	const n, most = 100_000, 160
	jobs := make([]job, n)
	before := heapInUse()
	q := newPriority(t, n, time.Minute)
	for i := range jobs {
		push(t, q, 0, queue.Item{Job: &jobs[i], Created: at(i * 7919 % n)})
	}
	each := float64(heapInUse()-before) / n
	t.Logf("%.0f bytes per queued job", each)
	if each > most {
		t.Fatalf("%.0f bytes per queued job, should be at most %d", each, most)
	}
	runtime.KeepAlive(jobs)
	runtime.KeepAlive(q)
}

func heapInUse() uint64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

func TestAPoppedJobCanBeCollected(t *testing.T) {
	q := newPriority(t, 1, 0)
	collected := make(chan struct{})
	func() {
		j := &job{name: "popped"}
		runtime.AddCleanup(j, func(done chan struct{}) { close(done) }, collected)
		push(t, q, 0, queue.Item{Job: j})
		q.TryPop(at(0), nil)
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

func BenchmarkTryPushTryPop(b *testing.B) {
	for _, n := range []int{10, 1000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			q := newPriority(b, n+1, time.Minute)
			fill(b, q, n)
			now := at(n)
			var j worker.Job = &job{}
			created := 0
			b.ReportAllocs()
			for b.Loop() {
				created = (created + 7919) % n
				_ = q.TryPush(now, queue.Item{Job: j, Created: at(created)})
				j, _ = q.TryPop(now, nil)
			}
		})
	}
}

func BenchmarkTryPopSkips(b *testing.B) {
	for _, skips := range []int{10, 1000} {
		b.Run(fmt.Sprint(skips), func(b *testing.B) {
			q := newPriority(b, 100_000, time.Minute)
			fill(b, q, 100_000)
			now := at(100_000)
			b.ReportAllocs()
			for b.Loop() {
				seen := 0
				q.TryPop(now, func(worker.Job) queue.Choice {
					if seen++; seen > skips {
						return queue.Stop
					}
					return queue.Skip
				})
			}
		})
	}
}

func BenchmarkPushPop(b *testing.B) {
	q := newPriority(b, 64, time.Minute)
	j := &job{}
	b.ReportAllocs()
	for b.Loop() {
		_ = q.Push(j)
		_, _ = q.Pop()
	}
}
