package process

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

const (
	// failoverBudget is from the new leader's Lease to its first dispatch, and to dispatch at full rate.
	failoverBudget = 5 * time.Second
	// queuedJobs wait and heldJobs run when the leader is killed. freeSlots are beside those of the held ones.
	queuedJobs, heldJobs, freeSlots = 10000, 100, 4
	// rateWindow is what the rate of dispatch is taken over.
	rateWindow = 500 * time.Millisecond
)

// The pool is suspended until the leader is dead, so that the queue is as long as can be.
func TestALeaderThatIsKilledWithALongQueueIsSucceededInTime(t *testing.T) {
	w := newWorld(t)
	for _, o := range w.operators {
		w.startOperator(o, built)
	}
	leader := w.leader(w.operators...)
	const workers = 4
	w.create(testutil.MakePool(w.namespace, poolName).Replicas(workers).Slots((heldJobs + freeSlots) / workers).
		Capacity(queuedJobs).Retain(0).Obj())
	w.startWorkers(workers, built)
	w.ready(workers)
	w.submit("held", held, heldJobs)
	w.awaitStarted("held", heldJobs)
	w.awaitRecorded("held", heldJobs)
	w.suspend(true)
	began := time.Now()
	w.submit("queued", short, queuedJobs)
	t.Logf("created %d Jobs in %.1f s", queuedJobs, time.Since(began).Seconds())
	w.awaitQueued(queuedJobs)

	leader.kill()
	w.suspend(false)
	killed := time.Now()
	w.leader(w.other(leader))
	acquired := w.lease().Spec.AcquireTime.Time
	some := queuedJobs / 5
	if soak() {
		some = queuedJobs
	}
	w.awaitStarted("queued", some)

	starts := w.starts("queued", acquired)
	first, full := starts[0], fullRate(starts)
	t.Logf("%d queued, %d running: the Lease was acquired %.1f s after the kill; from then the first dispatch took %.2f s, full rate %.2f s (%d a second)",
		queuedJobs, heldJobs, acquired.Sub(killed).Seconds(), first.Seconds(), full.at.Seconds(), full.perSecond)
	if first > failoverBudget || full.at > failoverBudget {
		t.Errorf("the budget for both is %v", failoverBudget)
	}
	w.release()
	w.awaitSucceeded("held", heldJobs)
	w.expectOnce("held", heldJobs)
	w.expectNoneTwice()
}

// awaitQueued waits until the pool says that so many Jobs are in its queue.
func (w *world) awaitQueued(n int64) {
	w.t.Helper()
	w.await("full queue", func() bool {
		pool := &v1alpha1.WorkerPool{}
		return w.get(w.namespace, poolName, pool) == nil && pool.Status.QueueSize != nil && *pool.Status.QueueSize == n
	})
}

// starts are when the Jobs of a prefix were started that have ended, in order, from a time on.
func (w *world) starts(prefix string, from time.Time) []time.Duration {
	w.t.Helper()
	var starts []time.Duration
	for _, job := range w.jobs(prefix, v1alpha1.JobSucceeded) {
		starts = append(starts, job.Status.StartTime.Sub(from))
	}
	slices.Sort(starts)
	if len(starts) == 0 {
		w.t.Fatalf("no Job %s has been recorded", prefix)
	}
	return starts
}

type rate struct {
	at        time.Duration
	perSecond int
}

// fullRate is when the first window begins in which at least half as many Jobs were started as in the median one, and
// the median.
func fullRate(starts []time.Duration) rate {
	counts := make([]int, starts[len(starts)-1]/rateWindow+1)
	for _, start := range starts {
		counts[max(0, start/rateWindow)]++
	}
	counts = counts[:len(counts)-1] // the last is cut short
	begun := slices.IndexFunc(counts, func(n int) bool { return n > 0 })
	if begun < 0 {
		return rate{starts[0], len(starts)}
	}
	sorted := slices.Sorted(slices.Values(counts[begun:]))
	median := sorted[len(sorted)/2]
	i := slices.IndexFunc(counts, func(n int) bool { return 2*n >= median && n > 0 })
	return rate{time.Duration(i) * rateWindow, int(time.Duration(median) * time.Second / rateWindow)}
}

// expectNoneTwice checks that the ledger has no start and no end twice.
func (w *world) expectNoneTwice() {
	w.t.Helper()
	lines := w.entries()
	slices.Sort(lines)
	if once := len(slices.Compact(slices.Clone(lines))); once != len(lines) {
		w.t.Errorf("the ledger has %d entries, of which %d differ:\n%s", len(lines), once, strings.Join(twice(lines), "\n"))
	}
}

// twice are the entries of sorted ones that are there again, at most ten.
func twice(sorted []string) []string {
	var again []string
	for i := 1; i < len(sorted) && len(again) < 10; i++ {
		if sorted[i] == sorted[i-1] {
			again = append(again, sorted[i])
		}
	}
	return again
}
