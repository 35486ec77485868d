package main

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

func TestALossIsFound(t *testing.T) {
	recorded := filepath.Join(t.TempDir(), "recorded.json")
	before := &report{}
	before.add(
		atMost("latency", "ms", 0, 10, 10, samples{}),
		atLeast("throughput", "/s", 0, 10, 10, samples{}),
		atMost("alone", "MB", 0, 10, 0, samples{}),
		atMost("gone", "ms", 0, 10, 10, samples{}),
	)
	if err := before.save(options{out: recorded}); err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		now  measurement
		want string
	}{
		"as before":                    {now: atMost("latency", "ms", 0, 10, 10, samples{})},
		"slower, on a slower machine":  {now: atMost("latency", "ms", 0, 20, 20, samples{})},
		"somewhat slower":              {now: atMost("latency", "ms", 0, 12, 10, samples{})},
		"faster":                       {now: atMost("latency", "ms", 0, 1, 10, samples{})},
		"slower":                       {now: atMost("latency", "ms", 0, 13, 10, samples{}), want: "30 % worse"},
		"more":                         {now: atLeast("throughput", "/s", 0, 20, 10, samples{})},
		"less":                         {now: atLeast("throughput", "/s", 0, 5, 10, samples{}), want: "100 % worse"},
		"compared with nothing":        {now: atMost("alone", "MB", 0, 100, 0, samples{})},
		"what was not measured before": {now: atMost("new", "ms", 0, 10, 1, samples{})},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			now := &report{}
			now.add(c.now)
			switch err := now.judge(options{recorded: recorded}); {
			case c.want == "" && err != nil:
				t.Errorf("it is a loss: %v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("the error is %v, want one that says %q", err, c.want)
			}
		})
	}
}

func TestABudgetThatIsMissedIsAnErrorIfAskedFor(t *testing.T) {
	for name, c := range map[string]struct {
		measured measurement
		met      bool
	}{
		"less than the most":  {atMost("latency", "ms", 1.5, 14, 10, samples{}), true},
		"more than the most":  {atMost("latency", "ms", 1.5, 16, 10, samples{}), false},
		"more than the least": {atLeast("throughput", "/s", 0.8, 9, 10, samples{}), true},
		"less than the least": {atLeast("throughput", "/s", 0.8, 7, 10, samples{}), false},
		"without a budget":    {atLeast("throughput", "/s", 0, 1, 10, samples{}), true},
	} {
		t.Run(name, func(t *testing.T) {
			r := &report{}
			r.add(c.measured)
			if err := r.judge(options{check: true}); errors.Is(err, errBudget) == c.met {
				t.Errorf("the budget is met: %v, the error is %v", c.met, err)
			}
			if err := r.judge(options{}); err != nil {
				t.Errorf("unasked, the error is %v", err)
			}
		})
	}
}
