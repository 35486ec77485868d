package main

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

const serverPort = 8080

// httpTasksPerSecond compares the tasks of an HTTP Job with a client in the same pod that does the same without
// us: the server itself has it, at /load. It uses its connections again, or makes one for each request, as agents do.
func httpTasksPerSecond(ctx context.Context, s *suite) ([]measurement, error) {
	n := s.size(20000, 1000)
	if err := s.poolsOf(ctx, "http-", serves); err != nil {
		return nil, err
	}
	var ours, kept, fresh best
	for round := range s.rounds {
		for _, p := range atOnce {
			pool := fmt.Sprint("http-", p)
			job := testutil.MakeJob(s.namespace, fmt.Sprintf("http-%d-%d", p, round), pool).
				HTTP(v1alpha1.HTTPRequest{Path: "/"}).Completions(int32(n))
			took, err := s.run(ctx, job.Obj())
			if err != nil {
				return nil, err
			}
			ours.add(p, float64(n)/took.Seconds())
			for closed, theirs := range map[bool]*best{false: &kept, true: &fresh} {
				load := testutil.MakeJob(s.namespace, fmt.Sprintf("load-%t-%d-%d", closed, p, round), pool).
					HTTP(v1alpha1.HTTPRequest{Path: fmt.Sprintf("/load?n=%d&c=%d&close=%t", n, p, closed)})
				if took, err = s.run(ctx, load.Obj()); err != nil {
					return nil, err
				}
				theirs.add(p, float64(n)/took.Seconds())
			}
		}
	}
	return []measurement{
		atLeast("http_tasks_per_second", "1/s", 0, ours.median(), kept.median(), samplesOf(ours, kept)),
		atLeast("http_tasks_per_second_new_connections", "1/s", 0, ours.median(), fresh.median(), samplesOf(ours, fresh)),
	}, s.removePoolsOf(ctx, "http-")
}

// serves makes the workers serve HTTP.
func serves(b *testutil.PoolBuilder) {
	b.HTTP(serverPort).Template(func(t *corev1.PodTemplateSpec) {
		t.Spec.Containers[0].Command = []string{"/bin/server", fmt.Sprint("-port=", serverPort)}
	})
}
