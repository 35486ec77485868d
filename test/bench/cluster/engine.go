package main

import (
	"context"
	"strings"
)

const perSecond = 1e9 // nanoseconds

// engineOps compares what the engine takes for an operation with a long queue and with a short one.
func engineOps(ctx context.Context, s *suite) ([]measurement, error) {
	found, err := s.benchmark(ctx, "./internal/engine", "^Benchmark(Submit|Job|Task)$", nil)
	if err != nil {
		return nil, err
	}
	var measured []measurement
	for _, name := range []string{"Submit", "Job", "Task"} {
		took, err := found.two(name+"/100000", name+"/10", "sec/op", perSecond)
		if err != nil {
			return nil, err
		}
		measured = append(measured, atMost("engine_ops_"+strings.ToLower(name), "ns", 2, median(took.Ours), median(took.Theirs), took))
	}
	return measured, nil
}
