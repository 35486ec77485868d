// Package simulation runs the operator's deciding code, which is the real one, among models of all that is around it:
// API server, watches, network, agents, kubelets and users. All chance comes from a seed, and nothing runs at
// once with anything else, so that a seed replays exactly.
package simulation

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/anishathalye/porcupine"
	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// world is all that there is.
type world struct {
	ctx  context.Context //nolint:containedctx // of the test
	rng  *rand.Rand
	seed uint64
	now  time.Time
	// plan is the chance that says what the world has, where rng says what happens in it.
	plan *rand.Rand

	api       server
	operators []*operator
	booted    int
	// published are the operators that agents reach, the latest last. Doomed are those whose process ends.
	published, doomed []*operator
	streams           []*stream
	pods              []*pod
	made              int

	tenants []*tenant
	villain villain
	truths  map[types.UID]*jobTruth
	// uids are the Jobs in the order in which they were made.
	uids []types.UID

	history *history
	faults  tally
	// odds are how likely each kind of trouble is, in this run.
	odds    odds
	healing bool
	// wentBack: the epoch has.
	wentBack bool
	steps    []weighted

	// violation is what should not be, empty as long as all is well.
	violation string
	// verbose worlds keep a log.
	verbose bool
	log     []string
}

// odds are chances of one in so many; 0 is never.
type odds [kinds]int

// kind of trouble.
type kind int

const (
	requestFails kind = iota
	poolWrite
	reviewFails
	watchLags
	kinds
)

// faulty tells whether something goes wrong now.
func (w *world) faulty(k kind) bool { return !w.healing && w.odds[k] > 0 && w.rng.IntN(w.odds[k]) == 0 }

// chance is one in so many.
func (w *world) chance(of int) bool { return w.rng.IntN(of) == 0 }

const slots = 2

func newWorld(ctx context.Context, seed uint64, verbose bool) *world {
	w := &world{
		ctx: ctx, seed: seed, rng: rand.New(rand.NewPCG(seed, 1)), verbose: verbose,
		now:    time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		truths: map[types.UID]*jobTruth{},
	}
	w.populate()
	w.history = &history{w: w, jobs: map[types.UID][]porcupine.Operation{}}
	w.api.jobs.live, w.api.pods.live = map[string]*v1alpha1.Job{}, map[string]*podObject{}
	w.api.lease.created = w.now
	w.api.revision = 1000
	w.choose()
	w.boot()
	w.boot()
	w.elect(w.operators[0])
	for _, t := range w.tenants {
		for ordinal := range t.replicas {
			w.createPod(t, ordinal)
		}
	}
	return w
}

// choose says what kinds of trouble this run has, and how much: a run with all of them at once gets nowhere.
func (w *world) choose() {
	some := func(from, to int) int {
		if w.chance(3) {
			return 0
		}
		return from + w.rng.IntN(to-from)
	}
	w.odds = odds{requestFails: some(3, 12), poolWrite: some(3, 10), reviewFails: some(4, 20), watchLags: some(2, 6)}
	rare := func(weight int) int {
		if w.chance(2) {
			return 0
		}
		return weight
	}
	w.steps = []weighted{
		{60, w.createJob},
		{10, func() { w.changeJob() }},
		{10, func() { w.deleteSome() }},
		{8, w.reuseName},
		{400, w.operatorStep},
		{250, w.streamStep},
		{120, w.agentStep},
		{50, w.kubeletStep},
		{40, w.timeStep},
		{rare(12), w.breakSome},
		{rare(10), w.slowSome},
		{rare(8), w.crashSome},
		{rare(5), w.releaseSome},
		{rare(8), w.pauseSome},
		{rare(6), w.cutSome},
		{rare(8), w.partitionSome},
		{rare(5), w.loseSome},
		{rare(8), w.endSomePod},
		{rare(6), w.restartSome},
		{rare(2), w.scale},
		{rare(12), w.calamity},
		{20, w.electSome},
		{6, w.haunt},
	}
	if w.plan.IntN(8) == 0 && !w.villain.mixed {
		w.steps = append(w.steps, weighted{4, w.setBack})
	}
	if w.villain.exists {
		w.steps = append(w.steps, weighted{10, w.turnSome}, weighted{60, w.forgeSome})
	}
}

type weighted struct {
	weight int
	do     func()
}

func (w *world) step() {
	total := 0
	for _, s := range w.steps {
		total += s.weight
	}
	n := w.rng.IntN(total)
	for _, s := range w.steps {
		if n -= s.weight; n < 0 {
			s.do()
			break
		}
	}
	w.bury()
	w.check()
}

// bury ends the processes that have asked for it.
func (w *world) bury() {
	for _, op := range w.doomed {
		w.crash(op, "it could not take the lead")
	}
	w.doomed = w.doomed[:0]
}

func (w *world) note(format string, args ...any) {
	if w.verbose {
		w.log = append(w.log, w.now.Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
	}
}

// fail notes the first thing that should not be.
func (w *world) fail(format string, args ...any) {
	if w.violation == "" {
		w.violation = fmt.Sprintf(format, args...)
		w.note("VIOLATION: %s", w.violation)
	}
}

func pick[T any](rng *rand.Rand, from []T) T {
	if len(from) == 0 {
		var zero T
		return zero
	}
	return from[rng.IntN(len(from))]
}
