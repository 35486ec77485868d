package resource

import (
	"fmt"
	"math"

	"github.com/workerpool-dev/workerpool/pkg/worker"
)

// amounts is a number of bytes, of billionths of a core, and of files: whole numbers, so that what
// was added and taken away again leaves nothing behind. It is a struct and not an array because the
// compiler keeps one in registers.
type amounts struct{ memory, cpu, files int64 }

func (a amounts) add(b amounts) amounts {
	return amounts{a.memory + b.memory, a.cpu + b.cpu, a.files + b.files}
}

func (a amounts) sub(b amounts) amounts {
	return amounts{a.memory - b.memory, a.cpu - b.cpu, a.files - b.files}
}

// within reports whether a is covered by b in all that it uses. What it does not use does not matter,
// even where b is negative.
func (a amounts) within(b amounts) bool {
	return covered(a.memory, b.memory) && covered(a.cpu, b.cpu) && covered(a.files, b.files)
}

func covered(want, have int64) bool { return want <= have || want == 0 }

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
	return amounts{limit(l.Memory), limit(billionths(l.CPU)), limit(int64(l.Files))}
}

func limit(n int64) int64 {
	if n == 0 {
		return math.MaxInt64
	}
	return n
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
	return worker.ResourceUsage{Memory: a.memory, CPU: float64(a.cpu) / billion, Files: int(a.files)}
}
