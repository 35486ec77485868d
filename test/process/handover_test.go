package process

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/workerpool-dev/workerpool/internal/testutil"
)

const (
	// handoverBudget bounds the pause in dispatch while the operator is restarted in order. The median handover has to
	// keep it, and none may take more than twice as long. It is made of three: the successor looks at the Lease, looks at
	// what is stored, and the agents try again. Without the order it would take as long as a Lease holds.
	handoverBudget = 2 * time.Second
	handovers      = 6
	// steadyJobs are more than run while all that lasts; each takes a moment.
	steadyJobs = 3000
	steady     = `echo "start $0" >>"$LEDGER"; sleep 0.05; echo "end $0" >>"$LEDGER"`
)

// As `kubectl rollout restart` does: a leader is told to end while another replica waits, and then replaced.
func TestDispatchPausesShortlyWhenTheLeaderIsStopped(t *testing.T) {
	w := newWorld(t)
	for _, o := range w.operators {
		w.startOperator(o, built)
	}
	leader := w.leader(w.operators...)
	w.create(testutil.MakePool(w.namespace, poolName).Replicas(2).Slots(2).Capacity(steadyJobs).Retain(0).Obj())
	w.startWorkers(2, built)
	w.ready(2)
	begun := time.Now()
	w.submit("steady", steady, steadyJobs)
	for range handovers {
		w.awaitFollowing(w.other(leader))
		leader.stop()
		next := w.leader(w.other(leader))
		w.startOperator(leader, built)
		leader = next
		w.awaitStarted("steady", w.started("steady")+50)
	}
	if w.started("steady") >= steadyJobs {
		t.Fatal("there were too few Jobs for a steady load")
	}
	w.suspend(true)
	w.await("all ended", func() bool { return len(w.entries())%2 == 0 })

	starts := w.starts("steady", begun)
	pauses := make([]time.Duration, len(starts)-1)
	for i := range pauses {
		pauses[i] = starts[i+1] - starts[i]
	}
	slices.Sort(pauses)
	pauses = pauses[len(pauses)-handovers:]
	median, longest := pauses[handovers/2], pauses[handovers-1]
	t.Logf("%d Jobs in %.1f s with %d handovers: the longest pauses were %v", len(starts), starts[len(starts)-1].Seconds(), handovers, pauses)
	if median > handoverBudget || longest > 2*handoverBudget {
		t.Errorf("the budget is %v in the median, and twice that for each", handoverBudget)
	}
	w.expectNoneTwice()
}

// awaitFollowing waits until a replica is ready to take over.
func (w *world) awaitFollowing(o *operator) {
	w.t.Helper()
	w.await("replica that waits for the Lease", func() bool { return strings.Contains(o.said(), "Attempting to acquire leader lease") })
}
