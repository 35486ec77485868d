package faults

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
)

// hit is one case: a scenario with a fault at one of its writes. Slow scenarios have more of them, at writes of
// different kinds.
type hit struct {
	scenario scenario
	strikes  []*strike
}

func (c *hit) name() string {
	var strikes []string
	for _, s := range c.strikes {
		strikes = append(strikes, s.String())
	}
	return strings.ReplaceAll(strings.ReplaceAll(c.scenario.name+":"+strings.Join(strikes, ","), "/", "."), " ", "_")
}

// matrix counts how often each fault has met each kind of write.
type matrix struct {
	mu   sync.Mutex
	cell map[string]map[fault]int
}

func (m *matrix) expect(kind string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cell[kind] == nil {
		m.cell[kind] = map[fault]int{}
	}
}

func (m *matrix) met(s *strike) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cell[s.kind][s.fault]++
}

// print shows the counts, and fails the test if one is 0.
func (m *matrix) print(t *testing.T, columns []fault) {
	t.Helper()
	var text strings.Builder
	fmt.Fprintf(&text, "%-46s", "")
	for _, f := range columns {
		fmt.Fprintf(&text, " %14s", f)
	}
	for _, kind := range slices.Sorted(maps.Keys(m.cell)) {
		fmt.Fprintf(&text, "\n%-46s", kind)
		for _, f := range columns {
			fmt.Fprintf(&text, " %14d", m.cell[kind][f])
			if m.cell[kind][f] == 0 {
				t.Errorf("no write %q has met the fault %s", kind, f)
			}
		}
	}
	t.Logf("how often each kind of write has met each fault:\n%s", &text)
}

// quietRuns runs each scenario without a fault, and returns what the operator writes then.
func quietRuns(t *testing.T, h *harness) map[string]map[string]int {
	t.Helper()
	var mu sync.Mutex
	written := map[string]map[string]int{}
	t.Run("quiet", func(t *testing.T) {
		for _, sc := range scenarios {
			if sc.kinds != nil || *only != "" && !strings.HasPrefix(*only, sc.name+":") {
				continue
			}
			t.Run(sc.name, func(t *testing.T) {
				t.Parallel()
				writes := h.play(t, sc, nil)
				for _, kind := range slices.Sorted(maps.Keys(writes)) {
					t.Logf("%4d %s", writes[kind], kind)
				}
				mu.Lock()
				defer mu.Unlock()
				written[sc.name] = writes
			})
		}
	})
	return written
}

// checkKinds fails the test if the operator makes a write that is not known here.
func checkKinds(t *testing.T, written map[string]map[string]int) {
	t.Helper()
	for scenario, writes := range written {
		for kind := range writes {
			if !slices.Contains(kinds, kind) && !passing(kind) {
				t.Errorf("a write %q in scenario %s is not among the kinds to be hit", kind, scenario)
			}
		}
	}
}

// choose makes the cases: each kind of write with each fault, at the first or at a further one, in one of the
// scenarios that have it. With all, it is each of the scenarios, and both the first and a further one.
func choose(written map[string]map[string]int, chance *rand.Rand) []*hit {
	homes := map[string][]scenario{}
	var cases []*hit
	for _, sc := range scenarios {
		for _, kind := range append(slices.Collect(maps.Keys(written[sc.name])), sc.kinds...) {
			homes[kind] = append(homes[kind], sc)
		}
	}
	slow := map[string]*hit{}
	for _, kind := range kinds {
		if len(homes[kind]) == 0 {
			continue // another scenario has it, and only one is run
		}
		for _, f := range faults {
			chosen := homes[kind]
			if !*all {
				chosen = []scenario{chosen[chance.IntN(len(chosen))]}
			}
			for _, sc := range chosen {
				nth := []int{1}
				if n := written[sc.name][kind]; n > 1 {
					nth = append(nth, 2+chance.IntN(n-1))
				}
				if !*all {
					nth = []int{nth[chance.IntN(len(nth))]}
				}
				for _, n := range nth {
					s := &strike{kind: kind, nth: n, fault: f}
					id := fmt.Sprint(sc.name, f, n)
					if c := slow[id]; c != nil {
						c.strikes = append(c.strikes, s)
						continue
					}
					c := &hit{scenario: sc, strikes: []*strike{s}}
					cases = append(cases, c)
					if sc.slow() {
						slow[id] = c
					}
				}
			}
		}
	}
	return cases
}

func TestTheWorldConvergesAfterAnyFault(t *testing.T) {
	h := setup(t)
	h.lead(t)
	written := quietRuns(t, h)
	if t.Failed() {
		return
	}
	checkKinds(t, written)
	cases := choose(written, rand.New(rand.NewPCG(*seed, 0)))
	met := &matrix{cell: map[string]map[fault]int{}}
	// A kill hits all that goes on, so these have a group of their own; a slow scenario would begin anew with each.
	for _, group := range []string{"errors", "kills"} {
		t.Run(group, func(t *testing.T) {
			for _, c := range cases {
				kills := c.strikes[0].fault.kills() && !c.scenario.slow()
				if kills != (group == "kills") || *only != "" && c.name() != *only {
					continue
				}
				t.Run(c.name(), func(t *testing.T) {
					t.Parallel()
					h.strikeAndPlay(t, c, written[c.scenario.name], met)
				})
			}
		})
	}
	t.Run("watches", func(t *testing.T) { h.playWithWatchFaults(t, written) })
	if *only == "" {
		for _, kind := range kinds {
			met.expect(kind)
		}
		met.print(t, faults)
	}
}

// strikeAndPlay runs a case. Where the write did not come, because the run went another way, it is run once more with
// the first of its kind.
func (h *harness) strikeAndPlay(t *testing.T, c *hit, quiet map[string]int, met *matrix) {
	t.Helper()
	name := c.name()
	h.play(t, c.scenario, quiet, c.strikes...)
	missed := false
	h.proxy.look(func() {
		for _, s := range c.strikes {
			missed = missed || !s.struck
			s.nth = 1
		}
	})
	if missed && !t.Failed() {
		h.play(t, c.scenario, quiet, c.strikes...)
	}
	h.proxy.look(func() {
		for _, s := range c.strikes {
			met.expect(s.kind)
			if s.struck {
				met.met(s)
			}
		}
	})
	if t.Failed() {
		t.Log(alone(name))
	}
}
