package engine

import (
	"math"
	"testing"
	"time"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/pkg/worker"
)

func (w *world) wantDemand(waiting, running float64) {
	w.t.Helper()
	if d := w.pool().Snapshot().Demand; math.Abs(d.Waiting-waiting) > 1e-5 || math.Abs(d.Running-running) > 1e-5 {
		w.t.Errorf("%g workers' worth of tasks wait and %g run, want %g and %g", d.Waiting, d.Running, waiting, running)
	}
}

func TestTheDemandIsWhatCouldBeStarted(t *testing.T) {
	w, _ := sized(t, 4, worker.ResourceLimits{CPU: 2, Memory: 4 * gi})
	w.configure(func(c *PoolConfig) { c.Capacity = 3 })
	w.wantDemand(0, 0)
	running := w.runJob(takes("", "4Gi", 0)) // all of the worker
	w.wantDemand(0, 1)
	w.runJob()
	w.wantDemand(0.25, 1)
	w.runJob(takes("1", "", 0))
	w.wantDemand(0.75, 1)
	many := w.runJob(completions(100), parallelism(10))
	w.wantDemand(0.75+2.5, 1)
	w.runJob(completions(6)) // beyond the capacity
	w.wantDemand(0.75+2.5+1.5, 1)
	w.runJob(suspended)
	w.runJob(startAfter(time.Hour))
	w.runJob(takes("3", "", 0)) // fits no worker
	w.wantDemand(0.75+2.5+1.5, 1)
	w.jobs[many].gone = true
	w.engine.Cancel(many)
	w.turn()
	w.wantDemand(0.75+1.5, 1)
	w.exit(running, 0, 0)
	w.turn()
	w.wantDemand(5*0.25, 1) // a small one, one of half a worker and a task of the last run
	w.configure(func(c *PoolConfig) { c.Suspend = true })
	if w.pool().Snapshot().Demand.Known {
		t.Error("what a suspended pool has says what it wants")
	}
}

func TestAJobThatWaitsForItsNextTryWantsNoWorker(t *testing.T) {
	w, _, _ := failing(t, retries(1), backoff(10, 1, 10))
	w.wantDemand(0, 0)
	for range simSlots {
		w.runJob()
	}
	w.live(10 * time.Second)
	w.wantDemand(1.0/simSlots, 1) // it waits for room by now
}

// There may be no worker, so that nothing else tells the controller.
func TestItIsToldWhenTimeBringsTheFirstTaskThatCouldBeStarted(t *testing.T) {
	w, p, _ := failing(t, retries(1), backoff(10, 1, 10))
	w.turn()
	w.drop(p)
	before := w.changes
	w.idle(10 * time.Second)
	w.wantDemand(1.0/simSlots, 0)
	if w.changes == before {
		t.Error("nobody is told")
	}
}

func TestTheTimeOfATaskIsThatOfTheLastMinutes(t *testing.T) {
	w, _ := room(t, 1)
	taskTime := func() time.Duration { return w.pool().Snapshot().Demand.TaskTime }
	want := func(low, high time.Duration) {
		t.Helper()
		if got := taskTime(); got < low || got > high {
			t.Errorf("a task takes %v, want %v to %v", got, low, high)
		}
	}
	run := func(d time.Duration) {
		uid := w.runJob()
		w.live(d)
		w.exit(uid, 0, 0)
		w.turn()
	}
	want(longest, longest)
	run(4 * time.Second)
	want(3900*time.Millisecond, 4100*time.Millisecond)
	w.live(time.Hour) // an idle hour changes nothing
	want(3900*time.Millisecond, 4100*time.Millisecond)
	for range 50 {
		run(time.Second)
	}
	want(950*time.Millisecond, 1050*time.Millisecond)
	long := w.runJob() // what runs counts before it has ended
	w.live(10 * time.Minute)
	want(20*time.Second, 2*time.Hour)
	w.exit(long, 0, 0)
	for range 300 {
		run(2 * time.Second)
	}
	want(1900*time.Millisecond, 8*time.Second)
}

func TestACutOffTryIsNoTaskThatHasEnded(t *testing.T) {
	w, _ := room(t, 1)
	uid := w.runJob()
	w.live(time.Second)
	w.finish(uid, 0, Result{Outcome: Interrupted})
	w.live(refusalRest + time.Second) // the worker rests first
	w.wantState(uid, v1alpha1.JobRunning, "")
	if got := w.pool().Snapshot().Demand.TaskTime; got != longest {
		t.Errorf("a task takes %v, and none has ended", got)
	}
}
