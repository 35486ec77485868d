package faults

import (
	"fmt"
	"strings"
	"testing"
)

// playWithWatchFaults runs scenarios at once while the watches fail, in as many rounds as there are kinds of faults:
// each round has another one for each resource.
func (h *harness) playWithWatchFaults(t *testing.T, written map[string]map[string]int) {
	t.Helper()
	met := map[string]map[watchFault]int{}
	for round := range watchFaults {
		faults, name := map[string]watchFault{}, ""
		for i, resource := range watched {
			faults[resource] = watchFaults[(round+i)%len(watchFaults)]
			name += fmt.Sprintf("%s=%s,", resource, faults[resource])
		}
		name = strings.TrimSuffix(name, ",")
		if *only != "" && !strings.HasSuffix(*only, ":"+name) {
			continue
		}
		h.proxy.watches.set(faults)
		t.Run(name, func(t *testing.T) { h.playRound(t, round, name, written) })
		for resource, counts := range h.proxy.watches.counts() {
			if met[resource] == nil {
				met[resource] = map[watchFault]int{}
			}
			met[resource][faults[resource]] += counts[faults[resource]]
		}
	}
	h.proxy.watches.set(nil)
	if *only == "" {
		printWatches(t, met)
	}
}

// playRound runs each second scenario; with all, each.
func (h *harness) playRound(t *testing.T, round int, what string, written map[string]map[string]int) {
	t.Helper()
	for i, sc := range scenarios {
		name := sc.name + ":" + what
		if !*all && *only == "" && (i+round+int(*seed))%2 == 0 {
			continue
		}
		if sc.slow() || *only != "" && name != *only {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h.play(t, sc, written[sc.name])
			if t.Failed() {
				t.Log(alone(name))
			}
		})
	}
}

// printWatches shows how often each fault has met each watch, and fails the test if one has not. A watch that is late
// is so from its beginning, and counts once.
func printWatches(t *testing.T, met map[string]map[watchFault]int) {
	t.Helper()
	var text strings.Builder
	fmt.Fprintf(&text, "%-14s", "")
	for _, f := range watchFaults {
		fmt.Fprintf(&text, " %8s", f)
	}
	for _, resource := range watched {
		fmt.Fprintf(&text, "\n    %-10s", resource)
		for _, f := range watchFaults {
			fmt.Fprintf(&text, " %8d", met[resource][f])
			if met[resource][f] == 0 {
				t.Errorf("no watch of %s has met the fault %s", resource, f)
			}
		}
	}
	t.Logf("how often each watch has met each fault:\n%s", &text)
}

// alone is the command that runs a case and no other.
func alone(name string) string {
	return fmt.Sprintf("alone: make test-faults FAULTS='-run=TestTheWorldConverges -v -faults.seed=%d -faults.only=%s'", *seed, name)
}
