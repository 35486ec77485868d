package engine

import (
	"flag"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

var (
	simSeed  = flag.Uint64("sim.seed", 0, "run this seed of the simulation alone, and print what happens")
	simSeeds = flag.Uint64("sim.seeds", 1000, "number of seeds of the simulation")
)

// TestSimulation runs an engine among failing agents, writes, pods and leaders. After every step no
// Job may run twice at once and no final status may change; in the end, when all works again, every
// Job must be settled as one of its processes has ended.
func TestSimulation(t *testing.T) {
	if *simSeed != 0 {
		w := newWorld(t, *simSeed)
		defer func() { t.Log("\n" + strings.Join(w.log, "\n")) }()
		w.run()
		return
	}
	for seed := uint64(1); seed <= *simSeeds; seed++ {
		newWorld(t, seed).run()
		if t.Failed() {
			return
		}
	}
}

func (w *world) run() {
	final := map[types.UID]v1alpha1.JobState{}
	for range 300 {
		w.step()
		w.check(final)
		if w.t.Failed() {
			return
		}
	}
	for range 400 {
		w.heal()
		w.check(final)
	}
	w.checkSettled()
}

func (w *world) step() {
	p := w.livePod()
	switch n := w.rng.IntN(100); {
	case n < 14:
		w.createJob()
	case n < 34:
		w.receive(p)
	case n < 48:
		w.finishProcess(p)
	case n < 62:
		w.report(p)
	case n < 72:
		w.connect(p)
	case n < 84:
		w.store(true)
	case n < 89:
		w.look()
	case n < 93:
		w.pass([]time.Duration{100 * time.Millisecond, time.Second, 5 * time.Second, 30 * time.Second}[w.rng.IntN(4)])
	case n < 95:
		w.note("drop %s", p.uid)
		w.drop(p)
	case n < 96:
		w.restartAgent(p)
	case n < 97:
		w.deleteJob()
	case n < 98:
		w.deletePod()
	case n < 99:
		w.loseWorker()
	default:
		w.note("new leader")
		w.lead()
	}
}

// heal lets all that is outstanding happen.
func (w *world) heal() {
	for _, p := range w.pods {
		if p.gone {
			continue
		}
		if p.terminating && len(p.running) == 0 && len(p.results) == 0 {
			w.drop(p)
			p.gone = true
			w.addPod()
			w.listPods()
			return
		}
		w.connect(p)
		w.receive(p)
		w.finishProcess(p)
		w.report(p)
	}
	w.look()
	for range 5 {
		w.store(false)
	}
	w.pass(time.Second)
}

func (w *world) check(final map[types.UID]v1alpha1.JobState) {
	live := map[types.UID]Token{}
	for _, p := range w.pods {
		for token := range p.running {
			if other, twice := live[token.Job]; twice {
				w.fail("%s runs twice at once: %v and %v", token.Job, other, token)
			}
			live[token.Job] = token
		}
	}
	for uid, stored := range w.jobs {
		state := stored.job.Status.State
		if before := final[uid]; before != "" && before != state {
			w.fail("%s was stored as %s and then as %s", uid, before, state)
		}
		if state.Finished() {
			final[uid] = state
		}
	}
	w.checkCounts()
}

// checkCounts wants each Job that the engine knows to be in one place, and no worker to have too many.
func (w *world) checkCounts() {
	s, pool := w.pool().Snapshot(), w.engine.pools[poolKey]
	if sum := s.Queued + s.Waiting + s.Active; sum != len(w.engine.tasks) {
		w.fail("%d Jobs are counted of %d: %+v", sum, len(w.engine.tasks), s)
	}
	busy := 0
	for _, pod := range s.Pods {
		if pod.Busy {
			busy++
		}
	}
	if pool.running > len(s.Pods)*simSlots || pool.running > 0 && busy == 0 {
		w.fail("%d Jobs run on %d workers, of which %d are busy", pool.running, len(s.Pods), busy)
	}
}

// checkSettling is called when an agent is told to forget a result: of a process that ended by
// itself, the Job must be stored as finished, a later attempt have been sent, or another agent hold
// the result that is being stored.
func (w *world) checkSettling(p *simPod, token Token) {
	stored, known := w.jobs[token.Job], w.engine.tasks[token.Job]
	if stored.gone || stored.job.Status.State.Finished() || known != nil && known.superseded(token) {
		return
	}
	if slices.ContainsFunc(p.results, func(r Result) bool { return r.Token == token && r.Outcome == Exited }) {
		w.fail("the result of %s %v was forgotten before it was stored", token.Job, token)
	}
}

func (t *task) superseded(token Token) bool {
	return t.outranks(token) || t.state == settling && t.attempt.token != token
}

func (w *world) checkSettled() {
	for uid, stored := range w.jobs {
		switch status := stored.job.Status; {
		case stored.gone:
		case !status.State.Finished():
			w.fail("%s is not settled: %s %s", uid, status.State, status.Reason)
		case status.Reason == v1alpha1.ReasonWorkerLost:
			if *status.LostWorkers < maxLostWorkers {
				w.fail("%s was given up after %d lost workers", uid, *status.LostWorkers)
			}
		case status.Result == nil || status.Result.ExitCode == nil || !slices.Contains(stored.exits, *status.Result.ExitCode):
			w.fail("%s was stored with the result %+v, its processes ended with %v", uid, status.Result, stored.exits)
		case (status.State == v1alpha1.JobSucceeded) != (*status.Result.ExitCode == 0):
			w.fail("%s was stored as %s with exit code %d", uid, status.State, *status.Result.ExitCode)
		}
	}
	s := w.pool().Snapshot()
	if s.Active != 0 || s.Queued != 0 || s.Waiting != 0 || len(w.engine.tasks) != 0 || len(w.engine.claims) != 0 || len(w.engine.settled) != 0 {
		w.fail("the engine still holds: %+v, tasks %d, claims %d, settled %d", s, len(w.engine.tasks), len(w.engine.claims), len(w.engine.settled))
	}
	for _, p := range w.pods {
		if len(p.results) > 0 {
			w.fail("%s still holds results: %+v", p.uid, p.results)
		}
	}
}

func (w *world) fail(format string, args ...any) {
	w.t.Helper()
	w.t.Errorf("seed %d: "+format, append([]any{w.seed}, args...)...)
}
