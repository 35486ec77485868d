package simulation

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-logr/logr"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
)

var (
	simSeed  = flag.Uint64("sim.seed", 0, "run this seed alone, and print what happens")
	simSeeds = flag.Uint64("sim.seeds", 500, "number of seeds")
	simSteps = flag.Int("sim.steps", 500, "number of steps until the world is healed")
)

// enough is how many seeds must meet each fault at least once.
const enough = 5000

func TestMain(m *testing.M) {
	logf.SetLogger(logr.Discard())
	os.Exit(m.Run())
}

// TestSimulation runs the real operator in worlds that go wrong. What must hold is checked after each step; in the
// end, when all works again, each Job must be settled as its processes have ended, and its history must be
// linearizable.
func TestSimulation(t *testing.T) {
	if *simSeed != 0 {
		w := simulate(t, *simSeed, true)
		t.Log("\n" + strings.Join(w.log, "\n"))
		if w.violation != "" {
			t.Errorf("seed %d: %s", w.seed, w.violation)
		}
		return
	}
	met := simulateAll(t)
	t.Logf("how often each fault met what:\n%s", met)
	if missed := met.missed(); *simSeeds >= enough && len(missed) > 0 && !t.Failed() {
		t.Errorf("faults that never met what they should: %s", strings.Join(missed, ", "))
	}
}

// simulateAll runs all seeds, and stops at the first that fails.
func simulateAll(t *testing.T) *tally {
	t.Helper()
	var (
		next   atomic.Uint64
		failed atomic.Bool
		mu     sync.Mutex
		met    tally
		group  sync.WaitGroup
	)
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() {
			for seed := next.Add(1); seed <= *simSeeds && !failed.Load(); seed = next.Add(1) {
				w := simulate(t, seed, false)
				mu.Lock()
				met.add(&w.faults)
				mu.Unlock()
				if w.violation != "" && failed.CompareAndSwap(false, true) {
					report(t, w)
				}
			}
		})
	}
	group.Wait()
	return &met
}

// report tells of a failing seed, with the log of another run of it.
func report(t *testing.T, w *world) {
	t.Helper()
	again := simulate(t, w.seed, true)
	t.Errorf("seed %d: %s\n%s\nreplay: go test ./test/simulation -run TestSimulation -sim.seed=%d -sim.steps=%d -v",
		w.seed, w.violation, strings.Join(last(again.log, 60), "\n"), w.seed, *simSteps)
	if again.violation != w.violation {
		t.Errorf("seed %d does not replay: %s", w.seed, again.violation)
	}
}

func simulate(t *testing.T, seed uint64, verbose bool) *world {
	t.Helper()
	w := newWorld(t.Context(), seed, verbose)
	w.run(*simSteps)
	w.stop()
	return w
}

// stop ends the processes, with what they have under way.
func (w *world) stop() {
	for _, op := range w.operators {
		op.dead = true
		op.cancel()
		for len(op.calls) > 0 {
			c := op.calls[len(op.calls)-1]
			op.calls = op.calls[:len(op.calls)-1]
			c.stop()
		}
	}
}

func last(all []string, n int) []string { return all[max(0, len(all)-n):] }

// TestASeedReplays runs some seeds twice.
func TestASeedReplays(t *testing.T) {
	for seed := uint64(1); seed <= 100; seed++ {
		a, b := simulate(t, seed, true), simulate(t, seed, true)
		if x, y := strings.Join(a.log, "\n"), strings.Join(b.log, "\n"); x != y {
			t.Fatalf("seed %d does not replay: %s", seed, difference(a.log, b.log))
		}
	}
}

func difference(a, b []string) string {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("line %d is %q, and then %q", i, a[i], b[i])
		}
	}
	return fmt.Sprintf("%d lines, and then %d", len(a), len(b))
}
