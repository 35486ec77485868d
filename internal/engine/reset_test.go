package engine

import (
	"reflect"
	"testing"
	"time"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/pkg/worker"
)

// resetting makes a world whose only worker has so many slots, and is reset after each attempt.
func resetting(t *testing.T, slots int) (*world, *simPod) {
	t.Helper()
	w, p := room(t, slots)
	w.configure(func(c *PoolConfig) {
		c.Reset = &ResetCommand{Argv: []string{"sh", "-c", "clean"}, Timeout: time.Minute}
	})
	return w, p
}

// endResets has the resets of a pod end, and the agent report it.
func (w *world) endResets(p *simPod, failure string) {
	p.resets, p.known, p.failure = 0, 0, failure
	w.report(p)
}

func (w *world) snapshot(p *simPod) PodSnapshot { return w.pool().Snapshot().Pods[p.uid] }

func TestAssignmentsHaveTheResetOfTheirPoolAsItIsWhenTheyAreSent(t *testing.T) {
	w, p := resetting(t, 3)
	handled := w.runJob(onFailure)
	want := &ResetCommand{Argv: []string{"sh", "-c", "clean"}, Timeout: time.Minute}
	if got := w.assignment(handled, 0).Reset; !reflect.DeepEqual(got, want) {
		t.Errorf("reset %+v, want %+v", got, want)
	}
	w.exit(handled, 0, 1)
	w.turn()
	if got := w.assignment(handled, 1).Reset; !reflect.DeepEqual(got, want) {
		t.Errorf("reset %+v after onFailure, want %+v", got, want)
	}
	w.exit(handled, 1, 0)
	w.endResets(p, "")
	w.configure(func(c *PoolConfig) { c.Reset = nil })
	if got := w.assignment(w.runJob(), 0).Reset; got != nil {
		t.Errorf("reset %+v, want none", got)
	}
}

func TestTheResetCountsForTheSizeOfAnAssignment(t *testing.T) {
	a := Assignment{Argv: []string{"1234"}, Reset: &ResetCommand{Argv: []string{"12", "345"}}}
	if a.Size() != 9 {
		t.Errorf("size %d, want 9", a.Size())
	}
}

// The result comes in the same report as the reset that it leads to. Nothing may be given to the slot between.
func TestASlotIsNotFreeBeforeItsResetIsOver(t *testing.T) {
	w, p := resetting(t, 2)
	first, second := w.runJob(), w.runJob()
	third := w.create(command())
	w.exit(first, 0, 0)
	w.turn()
	w.wantState(first, v1alpha1.JobSucceeded, "") // it does not wait for the reset
	w.wantRuns(third)
	w.live(5 * time.Second)
	w.wantRuns(third)
	w.endResets(p, "")
	w.turn()
	w.wantRuns(third, 0)
	w.wantRuns(second, 0)
}

func TestAWorkerThatIsResetIsBusyUntilThatIsOver(t *testing.T) {
	w, p := resetting(t, 1)
	uid := w.runJob()
	w.exit(uid, 0, 0)
	w.turn()
	w.wantState(uid, v1alpha1.JobSucceeded, "")
	view, _ := w.pool().Worker(p.uid)
	if !w.snapshot(p).Busy || view.Status().State != worker.WorkerBusy {
		t.Errorf("the worker is %+v, %v, want it busy", w.snapshot(p), view.Status().State)
	}
	if s := w.pool().Snapshot(); s.Active != 0 {
		t.Errorf("%d Jobs are active, want none: a reset is no Job", s.Active)
	}
	w.endResets(p, "")
	if w.snapshot(p).Busy || view.Status().State != worker.WorkerIdle {
		t.Errorf("the worker is %+v, %v, want it idle", w.snapshot(p), view.Status().State)
	}
}

func TestThePoolIsLookedAtWhenAResetEndsABusyTime(t *testing.T) {
	w, p := resetting(t, 1)
	uid := w.runJob()
	w.exit(uid, 0, 0)
	w.turn()
	before := w.changes
	w.endResets(p, "")
	if w.changes == before {
		t.Error("nobody was told that the worker is idle")
	}
}

func TestADrainWaitsForTheResetAndNoLonger(t *testing.T) {
	for name, end := range map[string]func(*world, *simPod){
		"its end":           func(w *world, p *simPod) { w.endResets(p, "") },
		"its failure":       func(w *world, p *simPod) { w.endResets(p, "exit code 1") },
		"the worker's loss": func(w *world, p *simPod) { w.drop(p); p.gone = true; w.listPods() },
	} {
		t.Run(name, func(t *testing.T) {
			w, p := resetting(t, 1)
			uid := w.runJob()
			w.exit(uid, 0, 0)
			w.turn()
			view, _ := w.pool().Worker(p.uid)
			w.pool().Cordon([]Victim{{Pod: p.uid}})
			if view.Status().State != worker.WorkerStopping {
				t.Fatalf("the worker is %v, want it stopping", view.Status().State)
			}
			end(w, p)
			if view.Status().State != worker.WorkerStopped {
				t.Errorf("the worker is %v, want it stopped", view.Status().State)
			}
		})
	}
}

func TestTheNextLeaderKnowsOfTheReset(t *testing.T) {
	w, p := resetting(t, 1)
	uid := w.runJob()
	w.exit(uid, 0, 0)
	w.turn()
	w.lead()
	w.connect(p)
	next := w.runJob()
	w.wantRuns(next)
	if !w.snapshot(p).Busy {
		t.Error("the worker is idle, want it busy")
	}
	w.endResets(p, "exit code 1")
	w.lead()
	w.connect(p)
	w.turn()
	w.wantRuns(next)
	if s := w.snapshot(p); !s.Spent || s.ResetFailure != "exit code 1" || s.Busy {
		t.Errorf("the worker is %+v, want it spent, for the reset that has failed", s)
	}
}

func TestAWorkerInWhichAResetHasFailedTakesNoMoreAndNoJobIsLost(t *testing.T) {
	w, p := resetting(t, 2)
	first, second := w.runJob(), w.runJob()
	third := w.create(command())
	w.exit(first, 0, 0)
	w.turn()
	before := w.changes
	w.endResets(p, "exit code 1: rm: no")
	if s := w.snapshot(p); !s.Spent || !s.Draining || !s.Busy || s.ResetFailure != "exit code 1: rm: no" {
		t.Errorf("the worker is %+v, want it spent and busy with the other Job", s)
	}
	if w.changes == before {
		t.Error("nobody was told")
	}
	w.live(5 * time.Second)
	w.wantRuns(third)
	w.wantRuns(second, 0)
	w.exit(second, 0, 0)
	w.turn()
	w.wantState(second, v1alpha1.JobSucceeded, "")
	if w.snapshot(p).Busy {
		t.Error("the worker is busy, though it has ended all")
	}
	w.join()
	w.turn()
	w.wantRuns(third, 0)
}

// What is on its way when a reset fails is refused by the agent.
func TestAJobThatIsSentJustBeforeAResetFailsRunsElsewhere(t *testing.T) {
	w, p := resetting(t, 2)
	first := w.runJob()
	w.exit(first, 0, 0)
	w.turn()
	second := w.create(command()) // in the inbox
	w.endResets(p, "exit code 1")
	w.turn()
	w.wantRuns(second)
	w.join()
	w.live(2 * refusalRest)
	w.wantRuns(second, 0)
	w.exit(second, 0, 0)
	w.turn()
	w.wantState(second, v1alpha1.JobSucceeded, "")
	if got := deref(w.status(second).LostWorkers); got != 0 {
		t.Errorf("it counts %d lost workers, want none", got)
	}
}

// A container that starts again has a file system of its own.
func TestARestartedAgentResetsNothing(t *testing.T) {
	w, p := resetting(t, 1)
	uid := w.runJob()
	w.exit(uid, 0, 0)
	w.turn()
	w.restartAgent(p)
	w.connect(p)
	w.runJob()
	if w.snapshot(p).Spent || len(p.running) != 1 {
		t.Errorf("the worker is %+v and runs %d, want the next Job to run", w.snapshot(p), len(p.running))
	}
}
