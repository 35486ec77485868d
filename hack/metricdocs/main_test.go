package main

import (
	"strings"
	"testing"
)

func TestTheTableGoesBetweenTheComments(t *testing.T) {
	in := "# Title\n\n" + begin + "old\n" + end + "\nThe rest.\n"
	out, err := replace([]byte(in), []byte("new\n"))
	if want := strings.Replace(in, "old", "new", 1); err != nil || string(out) != want {
		t.Errorf("replace: %q, %v, want %q", out, err, want)
	}
}

func TestAFileWithoutTheCommentsIsRefused(t *testing.T) {
	for _, in := range []string{"", begin, end, end + begin} {
		if out, err := replace([]byte(in), nil); err == nil {
			t.Errorf("%q has become %q, want an error", in, out)
		}
	}
}

func TestTheTableHasALineForEachMetricWithItsLabels(t *testing.T) {
	families, err := gather()
	if err != nil {
		t.Fatal(err)
	}
	out := string(table(families))
	for _, want := range []string{
		"| `workerpool_queue_jobs` | gauge | | Jobs in the queue. |\n",
		"| `workerpool_jobs_total` | counter | `result`: `failed`, `succeeded` | ",
		"| `workerpool_task_run_seconds` | histogram | | ",
		"| `workerpool_limit` | gauge | `resource`: `cpu`, `files`, `memory` | ",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("the table does not have %q:\n%s", want, out)
		}
	}
	if lines := strings.Count(out, "| `workerpool_"); lines != len(families) {
		t.Errorf("the table has %d lines for %d metrics", lines, len(families))
	}
}
