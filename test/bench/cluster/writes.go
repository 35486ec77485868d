package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"k8s.io/apimachinery/pkg/watch"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

// writesPerJob compares the operator's writes of a Job, by the API server's audit log, with what is promised.
func writesPerJob(ctx context.Context, s *suite) ([]measurement, error) {
	if err := s.pool(ctx, "written", 1, 1); err != nil {
		return nil, err
	}
	cases := []struct {
		name     string
		job      *testutil.JobBuilder
		promised float64
	}{
		{"short", s.written("short", "/bin/true"), 1},
		{"long", s.written("long", "/bin/sleep"), 3},
		{"waiting", s.written("waiting", "/bin/true"), 3}, // behind the long one
		{"retried", s.written("retried", "/bin/false").MaxRetries(2).Backoff(1, 1, 1), 1 + 2*2},
		{"indexed", s.written("indexed", "/bin/true").Completions(1000), 1 + 1000/250},
		{"once", s.written("once", "/bin/true").AtMostOnce(), 2},
	}
	w, err := s.watch(ctx, &v1alpha1.JobList{})
	if err != nil {
		return nil, err
	}
	defer w.stop()
	finished := map[string]bool{}
	for i, c := range cases {
		if err := s.client.Create(ctx, c.job.Obj()); err != nil {
			return nil, err
		}
		if c.name == "long" {
			continue // the next waits for it
		}
		_, _, err := next(ctx, w, func(_ watch.EventType, j *v1alpha1.Job) bool {
			finished[j.Name] = finished[j.Name] || j.Status.State.Finished()
			return len(finished) == i+1 && finished[c.name]
		})
		if err != nil {
			return nil, err
		}
	}
	writes, err := s.operatorsWrites(ctx)
	if err != nil {
		return nil, err
	}
	var measured []measurement
	for _, c := range cases {
		n := float64(writes[c.name])
		measured = append(measured, atMost("writes_per_job_"+c.name, "writes", 1, n, c.promised, samples{Ours: []float64{n}}))
	}
	return measured, s.removePool(ctx, "written")
}

func (s *suite) written(name, program string) *testutil.JobBuilder {
	return testutil.MakeJob(s.namespace, name, "written").Command(program)
}

// operatorsWrites counts what the operator has written of each Job of the suite.
func (s *suite) operatorsWrites(ctx context.Context) (map[string]int, error) {
	var path strings.Builder
	if err := output(exec.CommandContext(ctx, clusterScript, "audit-log"), &path); err != nil {
		return nil, err
	}
	log, err := os.Open(strings.TrimSpace(path.String()))
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	writes := map[string]int{}
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var e auditv1.Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("the audit log: %w", err)
		}
		if s.isWriteOfTheOperator(&e) {
			writes[e.ObjectRef.Name]++
		}
	}
	return writes, lines.Err()
}

func (s *suite) isWriteOfTheOperator(e *auditv1.Event) bool {
	if e.ObjectRef == nil || e.ObjectRef.Namespace != s.namespace || e.ObjectRef.APIGroup != v1alpha1.GroupVersion.Group || e.ObjectRef.Resource != "jobs" {
		return false
	}
	writes := e.Verb != "get" && e.Verb != "list" && e.Verb != "watch"
	return writes && strings.HasPrefix(e.User.Username, "system:serviceaccount:"+operatorNamespace+":")
}
