package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/perf/benchfmt"
)

// benchmarks are the figures of Go benchmarks of the operator's module, by name and unit. Times are in seconds.
type benchmarks map[string]map[string][]float64

// benchmark runs some, as often as the suite has rounds.
func (s *suite) benchmark(ctx context.Context, folder, pattern string, environment []string, flags ...string) (benchmarks, error) {
	var text strings.Builder
	args := append([]string{"test", "-run=^$", "-bench=" + pattern, fmt.Sprint("-count=", s.rounds)}, flags...)
	test := exec.CommandContext(ctx, "go", append(args, folder)...)
	test.Dir, test.Env = "../..", append(os.Environ(), environment...)
	if err := output(test, &text); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, text.String())
	}
	return parseBenchmarks(text.String())
}

func parseBenchmarks(text string) (benchmarks, error) {
	found := benchmarks{}
	lines := benchfmt.NewReader(strings.NewReader(text), "go test")
	for lines.Scan() {
		r, ok := lines.Result().(*benchfmt.Result)
		if !ok {
			continue
		}
		name, _, _ := strings.Cut(r.Name.String(), "-") // of processors there is one number only
		if found[name] == nil {
			found[name] = map[string][]float64{}
		}
		for _, v := range r.Values {
			found[name][v.Unit] = append(found[name][v.Unit], v.Value)
		}
	}
	return found, lines.Err()
}

// get returns all figures of a benchmark in a unit, times a factor.
func (b benchmarks) get(name, unit string, factor float64) ([]float64, error) {
	found := b[name][unit]
	if len(found) == 0 {
		return nil, fmt.Errorf("Benchmark%s tells nothing in %s", name, unit)
	}
	all := make([]float64, len(found))
	for i := range found {
		all[i] = factor * found[i]
	}
	return all, nil
}

// two are the figures of two benchmarks in the same unit: ours, and theirs to compare with.
func (b benchmarks) two(ours, theirs, unit string, factor float64) (samples, error) {
	var s samples
	var err error
	if s.Ours, err = b.get(ours, unit, factor); err != nil {
		return s, err
	}
	s.Theirs, err = b.get(theirs, unit, factor)
	return s, err
}
