package metrics

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestRefusalsAreCountedByTheirReason(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	r, err := NewRefusals(registry)
	if err != nil {
		t.Fatal(err)
	}
	r.Count(RefusedMoved)
	r.Count(RefusedMoved)
	if got := testutil.ToFloat64(r.counters[RefusedMoved]); got != 2 {
		t.Errorf("%v were counted, want 2", got)
	}
	if n, err := testutil.GatherAndCount(registry); n != len(refusals) || err != nil {
		t.Errorf("there are %d series (%v), want %d", n, err, len(refusals))
	}
	if problems, err := testutil.GatherAndLint(registry); len(problems) > 0 || err != nil {
		t.Errorf("promlint: %v %v", problems, err)
	}
	for refusal, reason := range refusals {
		if reason == "" {
			t.Errorf("refusal %d has no reason", refusal)
		}
	}
}
