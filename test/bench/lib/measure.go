package main

import (
	"math"
	"runtime"
	"slices"
	"sync"
	"time"
)

// benchmark is one thing to do, and the subjects that do it.
type benchmark struct {
	name       string
	contenders []contender
	budgets    []budget
}

// contender is a subject in a benchmark. Its measure sets the subject up, measures once, and leaves
// nothing of it behind.
type contender struct {
	subject string
	bounded bool
	measure func() sample
}

// sample is what one operation took in one measurement.
type sample struct {
	ns     float64
	allocs float64
}

// run measures all contenders in each round and returns their medians, the fastest first.
func (b benchmark) run(rounds int) standings {
	samples := make([][]sample, len(b.contenders))
	for round := range rounds {
		for _, i := range order(round, len(b.contenders)) {
			runtime.GC()
			samples[i] = append(samples[i], b.contenders[i].measure())
		}
	}
	var s standings
	for i, c := range b.contenders {
		s = append(s, newResult(b.name, c, samples[i]))
	}
	return s.sorted()
}

// order returns the order in which n contenders take their turns. Each round begins with another one
// and turns round, so that nobody always comes after the same one and inherits what it left behind.
func order(round, n int) []int {
	turns := make([]int, n)
	for i := range turns {
		turns[i] = (round + i) % n
	}
	if round%2 == 1 {
		slices.Reverse(turns)
	}
	return turns
}

// measure runs all actors at once, each on a goroutine of its own, until the last has returned. Together
// they do the given number of operations.
func measure(operations int, actors ...func()) sample {
	var ended sync.WaitGroup
	gate := make(chan struct{})
	for _, act := range actors {
		ended.Go(func() {
			<-gate
			act()
		})
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	close(gate)
	ended.Wait()
	elapsed := time.Since(start)
	runtime.ReadMemStats(&after)
	return sample{
		ns:     float64(elapsed.Nanoseconds()) / float64(operations),
		allocs: float64(after.Mallocs-before.Mallocs) / float64(operations),
	}
}

// median returns the middle value, or the mean of the middle two. There must be one.
func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// hundredths rounds to two decimals.
func hundredths(x float64) float64 {
	return math.Round(x*100) / 100
}

// must panics for an error of a subject: figures of one that refuses its work would be worthless.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

func got[T any](value T, err error) T {
	must(err)
	return value
}
