package main

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
)

// engineOps compares what the engine takes for an operation with a long queue and with a short one.
func engineOps(ctx context.Context, s *suite) ([]measurement, error) {
	var text strings.Builder
	test := exec.CommandContext(ctx, "go", "test", "-run=^$", "-bench=^Benchmark(Submit|Job|Task)$", fmt.Sprint("-count=", s.rounds), "./internal/engine")
	test.Dir = "../.."
	if err := output(test, &text); err != nil {
		return nil, err
	}
	found := parseBenchmarks(text.String())
	var measured []measurement
	for _, name := range []string{"Submit", "Job", "Task"} {
		short, long := found[name+"/10"], found[name+"/100000"]
		if len(short) != s.rounds || len(long) != s.rounds {
			return nil, fmt.Errorf("no results of Benchmark%s in: %s", name, text.String())
		}
		measured = append(measured, atMost("engine_ops_"+strings.ToLower(name), "ns", 2, median(long), median(short), samples{long, short}))
	}
	return measured, nil
}

var benchmarkLine = regexp.MustCompile(`(?m)^Benchmark(\w+/\d+)-\d+\s+\d+\s+([\d.]+) ns/op`)

// parseBenchmarks returns the times of each benchmark, in nanoseconds.
func parseBenchmarks(text string) map[string][]float64 {
	found := map[string][]float64{}
	for _, match := range benchmarkLine.FindAllStringSubmatch(text, -1) {
		if ns, err := strconv.ParseFloat(match[2], 64); err == nil {
			found[match[1]] = append(found[match[1]], ns)
		}
	}
	return found
}
