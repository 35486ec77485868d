package resource

import (
	"fmt"
	"math"

	"github.com/workerpool-dev/workerpool/pkg/worker"
)

// The dimensions of amounts.
const (
	memory = iota
	cpu
	files
	dimensions
)

// amounts is a number of bytes, of billionths of a core, and of files: whole numbers, so that what
// was added and taken away again leaves nothing behind.
type amounts [dimensions]int64

func (a amounts) add(b amounts) amounts {
	for d := range a {
		a[d] += b[d]
	}
	return a
}

func (a amounts) sub(b amounts) amounts {
	for d := range a {
		a[d] -= b[d]
	}
	return a
}

// within reports whether a is covered by b in all that it uses. What it does not use does not matter,
// even where b is negative.
func (a amounts) within(b amounts) bool {
	for d := range a {
		if a[d] > 0 && a[d] > b[d] {
			return false
		}
	}
	return true
}

// fromUsage returns ErrInvalid for negative amounts and for what is not a finite number.
func fromUsage(u worker.ResourceUsage) (amounts, error) {
	if u.Memory < 0 || u.Files < 0 || !finite(u.CPU) {
		return amounts{}, fmt.Errorf("%w: usage of memory %d, cpu %v, files %d", worker.ErrInvalid, u.Memory, u.CPU, u.Files)
	}
	return amounts{u.Memory, billionths(u.CPU), int64(u.Files)}, nil
}

// fromLimits makes of no limit the highest there is.
func fromLimits(l worker.ResourceLimits) amounts {
	if l.Memory < 0 || l.Files < 0 || !finite(l.CPU) {
		panic(fmt.Sprintf("resource: limits of memory %d, cpu %v, files %d make no sense", l.Memory, l.CPU, l.Files))
	}
	limits := amounts{l.Memory, billionths(l.CPU), int64(l.Files)}
	for d := range limits {
		if limits[d] == 0 {
			limits[d] = math.MaxInt64
		}
	}
	return limits
}

func finite(cores float64) bool {
	return cores >= 0 && !math.IsInf(cores, 1)
}

const billion = 1e9

// billionths rounds up, but not what is a whole number of billionths as closely as a float64 can
// say: 0.1 cores are 100,000,000 and not one more. (Beyond 2^51 billionths, two million cores, a float64
// can't say it so closely.) It stops at the highest int64.
func billionths(cores float64) int64 {
	exact := cores * billion
	if exact >= math.MaxInt64 {
		return math.MaxInt64
	}
	const twoRoundings = 0x1p-52 // one made cores of a decimal fraction, one made exact
	if whole := math.Round(exact); math.Abs(exact-whole) <= exact*twoRoundings {
		return int64(whole)
	}
	return int64(math.Ceil(exact))
}

func (a amounts) usage() worker.ResourceUsage {
	return worker.ResourceUsage{Memory: a[memory], CPU: float64(a[cpu]) / billion, Files: int(a[files])}
}
