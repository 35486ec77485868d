package main

import (
	"math"
	"slices"
	"time"
)

// median of some figures, which it leaves as they are.
func median(of []float64) float64 { return quantile(of, 0.5) }

// quantile is the smallest of some figures that such a share of all does not exceed. It leaves them as they are.
func quantile(of []float64, share float64) float64 {
	if len(of) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(of))
	return sorted[max(0, int(math.Ceil(share*float64(len(sorted))))-1)]
}

// milliseconds as a figure.
func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
