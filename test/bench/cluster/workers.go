package main

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// manyWorkers compares an operator with 2,000 workers, which are simulated, and with one: from before the POST of a Job
// until an agent begins it, and what the operator takes while there is nothing to do.
func manyWorkers(ctx context.Context, s *suite) ([]measurement, error) {
	var environment []string
	for variable, target := range map[string]string{"KUBEBUILDER_ASSETS": "envtest-assets", "KWOK": "kwok"} {
		var path strings.Builder
		if err := output(exec.CommandContext(ctx, "make", "-s", "-C", "../..", target), &path); err != nil {
			return nil, err
		}
		environment = append(environment, variable+"="+strings.TrimSpace(path.String()))
	}
	found, err := s.benchmark(ctx, "./test/scale", "^BenchmarkWorkers$", environment,
		fmt.Sprintf("-benchtime=%dx", s.size(1000, 100)), "-timeout=60m")
	if err != nil {
		return nil, err
	}
	var measured []measurement
	for _, f := range []struct{ name, unit, shown string }{
		{"create_to_start_p50", "p50-ms", "ms"}, {"create_to_start_p99", "p99-ms", "ms"},
		{"processors_idle", "processors", "1"}, {"resident_bytes", "resident-B", "B"},
	} {
		took, err := found.two("Workers/2000", "Workers/1", f.unit, 1)
		if err != nil {
			return nil, err
		}
		measured = append(measured, atMost("many_workers_"+f.name, f.shown, 0, median(took.Ours), median(took.Theirs), took))
	}
	return measured, nil
}
