package main

import (
	"math"
	"time"
)

// spin is work that keeps a processor busy, by the given number of steps.
func spin(steps int) {
	x := uint64(88172645463325252)
	for range steps {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	if x == 0 { // it never is, but the compiler does not know that, and so has to compute it
		panic("xorshift came to zero")
	}
}

// calibrate returns the number of steps that take a microsecond when nothing disturbs them.
func calibrate() int {
	const tries, steps = 50, 100_000
	best := int64(math.MaxInt64)
	for range tries {
		start := time.Now()
		spin(steps)
		best = min(best, time.Since(start).Nanoseconds())
	}
	return max(1, int(steps*time.Microsecond.Nanoseconds()/max(1, best)))
}
