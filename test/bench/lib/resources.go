package main

import (
	"context"
	"runtime"

	"golang.org/x/sync/semaphore"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/resource"
)

// resourceSubject gives out shares of something.
type resourceSubject struct {
	name string

	// open returns shares of so many that may be held at once.
	open func(capacity int) shares
}

// shares is a subject that is open. acquire waits for a share.
type shares struct {
	acquire func()
	release func()
}

var resourceSubjects = []resourceSubject{
	{us, openController},
	{"semaphore", openOneSemaphore},
	{"three-semaphores", openThreeSemaphores},
}

func openController(capacity int) shares {
	const memory = 64 << 20
	c := resource.NewController(worker.ResourceLimits{
		Memory: int64(capacity) * memory, CPU: float64(capacity), Files: capacity,
	})
	usage := worker.ResourceUsage{Memory: memory, CPU: 1, Files: 1}
	ctx := context.Background()
	return shares{
		acquire: func() { must(c.AcquireContext(ctx, usage)) },
		release: func() { c.Release(usage) },
	}
}

func openOneSemaphore(capacity int) shares {
	s := semaphore.NewWeighted(int64(capacity))
	ctx := context.Background()
	return shares{
		acquire: func() { must(s.Acquire(ctx, 1)) },
		release: func() { s.Release(1) },
	}
}

// openThreeSemaphores is one semaphore per resource. They are acquired in the same order by all, or
// else two goroutines could wait for each other.
func openThreeSemaphores(capacity int) shares {
	memory, cpu, files := openOneSemaphore(capacity), openOneSemaphore(capacity), openOneSemaphore(capacity)
	return shares{
		acquire: func() { memory.acquire(); cpu.acquire(); files.acquire() },
		release: func() { files.release(); cpu.release(); memory.release() },
	}
}

// resourceBenchmark is a number of goroutines that acquire and release.
type resourceBenchmark struct {
	name       string
	goroutines int
	capacity   int
	operations int

	// hold is what a goroutine does while it has its share.
	hold func()
}

// resourceBenchmarks returns the benchmarks of resources, with a share of the operations.
func resourceBenchmarks(share int) []benchmark {
	processors := runtime.GOMAXPROCS(0)
	nothing := func() {}
	var all []benchmark
	for _, b := range []resourceBenchmark{
		{"g1", 1, 1, 1_000_000, nothing},
		{"gomaxprocs", processors, processors, 1_000_000, nothing},
		{"contended", 8, 2, 200_000, runtime.Gosched},
	} {
		b.operations /= share
		all = append(all, b.benchmark())
	}
	return all
}

func (b resourceBenchmark) benchmark() benchmark {
	result := benchmark{name: "resource/acquire-release/" + b.name}
	for _, s := range resourceSubjects {
		result.contenders = append(result.contenders, contender{s.name, true, func() sample {
			return b.measure(s.open(b.capacity))
		}})
	}
	return result
}

func (b resourceBenchmark) measure(s shares) sample {
	each := b.operations / b.goroutines
	actors := make([]func(), b.goroutines)
	for i := range actors {
		actors[i] = func() {
			for range each {
				s.acquire()
				b.hold()
				s.release()
			}
		}
	}
	return measure(each*b.goroutines, actors...)
}
