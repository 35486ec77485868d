package process

import (
	"testing"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

// The operator is upgraded and rolled back, with Jobs that run all the while: in the end agents of both versions have
// worked for operators of both.
func TestJobsOutliveAnUpgradeAndARollback(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, o := range w.operators {
		w.startOperator(o, previous)
	}
	w.leader(w.operators...)
	// There is room beside the four Jobs that are held, should one worker have them all.
	w.create(testutil.MakePool(w.namespace, poolName).Replicas(1).Slots(5).Capacity(1000).Retain(0).Obj())
	w.startWorkers(1, previous)
	w.ready(1)
	w.hold("held-before")

	w.replaceOperators(built)
	w.hold("held-upgraded")
	w.use("upgraded", poolName+"-0")
	w.scale(2)
	w.startWorkers(2, built)
	w.ready(2)
	w.hold("held-beside")
	w.use("beside", poolName+"-0", poolName+"-1")

	w.replaceOperators(previous)
	w.hold("held-back")
	w.use("back", poolName+"-0", poolName+"-1")

	w.release()
	for _, prefix := range []string{"held-before", "held-upgraded", "held-beside", "held-back"} {
		w.awaitSucceeded(prefix, 1)
		w.expectOnce(prefix, 1)
	}
}

// replaceOperators does what a rollout does: the one that waits first.
func (w *world) replaceOperators(of programs) {
	w.t.Helper()
	leader := w.leader(w.operators...)
	next := w.other(leader)
	next.stop()
	w.startOperator(next, of)
	w.awaitFollowing(next)
	leader.stop()
	w.leader(next)
	w.startOperator(leader, of)
}

// hold starts a Job that runs until the release.
func (w *world) hold(prefix string) {
	w.t.Helper()
	w.submit(prefix, held, 1)
	w.awaitRecorded(prefix, 1)
}

// use has all of these workers run Jobs.
func (w *world) use(prefix string, workers ...string) {
	w.t.Helper()
	const jobs = 100
	w.submit(prefix, short, jobs)
	w.awaitSucceeded(prefix, jobs)
	w.expectOnce(prefix, jobs)
	used := map[string]int{}
	for _, job := range w.jobs(prefix, v1alpha1.JobSucceeded) {
		used[job.Status.Worker]++
	}
	for _, worker := range workers {
		if used[worker] == 0 {
			w.t.Errorf("worker %s has run no Job %s, others have run %v", worker, prefix, used)
		}
	}
}
