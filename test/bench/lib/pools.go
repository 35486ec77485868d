package main

import (
	"fmt"
	"sync"
	"time"
)

// poolBenchmark is a number of jobs, from some producers to some workers.
type poolBenchmark struct {
	kind      string
	work      func()
	workers   int
	producers int
	jobs      int
	budgets   []budget

	// slow means that to run one job after the other would take minutes.
	slow bool
}

// poolBenchmarks returns the benchmarks of pools, with a share of the jobs. The loop takes 1 µs.
func poolBenchmarks(loop, share int) []benchmark {
	idle := []budget{aheadOfBoundedPeers, atMostTwiceTheFloor, allocatesNothing}
	busy := []budget{tiesWithBestBounded}
	none := poolBenchmark{kind: "noop", work: func() {}, jobs: 200_000, budgets: idle}
	short := poolBenchmark{kind: "cpu-1us", work: func() { spin(loop) }, jobs: 100_000, budgets: busy}
	long := poolBenchmark{kind: "cpu-20us", work: func() { spin(20 * loop) }, jobs: 10_000, budgets: busy}
	sleep := poolBenchmark{kind: "sleep-10ms", work: func() { time.Sleep(10 * time.Millisecond) }, jobs: 10_000, budgets: busy}

	var all []benchmark
	for _, b := range []poolBenchmark{
		none.with(4, 1), none.with(4, 100), none.with(64, 1), none.with(64, 100),
		short.with(4, 1), short.with(4, 100),
		long.with(4, 1), long.with(4, 100),
		sleep.with(1000, 1).asSlow(), sleep.with(1000, 100),
	} {
		b.jobs /= share
		all = append(all, b.benchmark())
	}
	return all
}

func (b poolBenchmark) with(workers, producers int) poolBenchmark {
	b.workers, b.producers = workers, producers
	return b
}

func (b poolBenchmark) asSlow() poolBenchmark {
	b.slow = true
	return b
}

func (b poolBenchmark) benchmark() benchmark {
	result := benchmark{
		name:    fmt.Sprintf("pool/%s/w%d/p%d", b.kind, b.workers, b.producers),
		budgets: b.budgets,
	}
	for _, s := range poolSubjects {
		if b.slow && s.synchronous {
			continue
		}
		result.contenders = append(result.contenders, contender{s.name, s.bounded, func() sample {
			return b.measure(s)
		}})
	}
	return result
}

func (b poolBenchmark) measure(s poolSubject) sample {
	p := s.open(b.workers)
	defer p.stop()
	b.submit(p, b.jobs/10) // workers that a pool starts on demand are there from now on
	return b.submit(p, b.jobs)
}

// submit submits the jobs, at least one per producer, and measures until they are done.
func (b poolBenchmark) submit(p pool, jobs int) sample {
	each := max(1, jobs/b.producers)
	var undone sync.WaitGroup
	undone.Add(each * b.producers)
	job := func() {
		b.work()
		undone.Done()
	}
	actors := []func(){undone.Wait}
	for range b.producers {
		submit := p.bind(job)
		actors = append(actors, func() {
			for range each {
				submit()
			}
		})
	}
	return measure(each*b.producers, actors...)
}
