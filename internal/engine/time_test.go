package engine

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

func memory(n int64) *v1alpha1.JobResources {
	return &v1alpha1.JobResources{Memory: resource.NewQuantity(n, resource.BinarySI)}
}

func deadline(seconds int32) func(*v1alpha1.JobSpec) {
	return func(s *v1alpha1.JobSpec) { s.ActiveDeadlineSeconds = new(seconds) }
}

// startAfter is so long after the beginning of the world.
func startAfter(d time.Duration) func(*v1alpha1.JobSpec) {
	return func(s *v1alpha1.JobSpec) {
		s.StartAfter = &metav1.Time{Time: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(d)}
	}
}

func suspended(s *v1alpha1.JobSpec) { s.Suspend = new(true) }

func TestAnAssignmentHasTheTimesOfItsJob(t *testing.T) {
	w, _ := lone(t)
	unset := w.runJob()
	if a := w.assignment(unset, 0); a.Timeout != 0 || a.Deadline != 0 || a.Grace != killGrace {
		t.Errorf("timeout %s, deadline %s, grace %s; want none, none and %s", a.Timeout, a.Deadline, a.Grace, killGrace)
	}
	set := w.runJob(deadline(60), func(s *v1alpha1.JobSpec) {
		s.TimeoutSeconds, s.TerminationGracePeriodSeconds = new(int32(7)), new(int32(0))
	})
	if a := w.assignment(set, 0); a.Timeout != 7*time.Second || a.Deadline != time.Minute || a.Grace != 0 {
		t.Errorf("timeout %s, deadline %s, grace %s; want 7 s, 60 s, and none", a.Timeout, a.Deadline, a.Grace)
	}
}

func TestAnAssignmentHasWhatIsLeftOfTheDeadline(t *testing.T) {
	w, p := lone(t)
	w.drop(p)
	w.live(500 * time.Millisecond) // a Job's time of creation is in whole seconds
	uid := w.create(command(deadline(60)))
	w.live(20 * time.Second)
	w.connect(p)
	w.turn()
	if a := w.assignment(uid, 0); a.Deadline != 39500*time.Millisecond {
		t.Errorf("deadline %s, want what is left of it, 39.5 s", a.Deadline)
	}
}

// A deadline of 0 would be none.
func TestADeadlineThatHasJustPassedIsStillOne(t *testing.T) {
	w, p := lone(t)
	w.drop(p)
	uid := w.create(command(deadline(10)))
	w.now = w.now.Add(11 * time.Second) // and nobody has told the engine
	w.connect(p)
	w.agents()
	if a := w.assignment(uid, 0); a.Deadline != time.Millisecond {
		t.Errorf("deadline %s, want the shortest", a.Deadline)
	}
}

func TestTheNextLeaderKnowsTheDeadline(t *testing.T) {
	w, p := lone(t)
	uid := w.runJob(deadline(60))
	w.live(20 * time.Second)
	w.drop(p)
	w.lead()
	w.connect(p)
	w.live(39 * time.Second)
	w.wantRuns(uid, 0)
	w.live(2 * time.Second)
	w.wantState(uid, v1alpha1.JobFailed, v1alpha1.ReasonDeadlineExceeded)
}

func TestAJobIsNotStartedBeforeItsTime(t *testing.T) {
	w, p := lone(t)
	uid := w.runJob(startAfter(time.Minute))
	if j := w.engine.jobs[uid]; !j.isShed() || j.place != parked {
		t.Errorf("place %d, shed %t; want it parked, without its spec", j.place, j.isShed())
	}
	if s := w.pool().Snapshot(); s.Queued != 0 || s.Waiting != 0 || s.Active != 0 {
		t.Errorf("snapshot %+v, want no room taken", s)
	}
	w.live(time.Minute - TickInterval)
	w.wantState(uid, v1alpha1.JobPending, v1alpha1.ReasonNotYet)
	w.wantRuns(uid)
	w.looks = nil
	w.pass(TickInterval)
	if len(w.looks) != 1 || w.looks[0].UID != uid {
		t.Errorf("asked to look at %v, want %s", w.looks, uid)
	}
	w.turn()
	w.wantRuns(uid, 0)
	w.drop(p)
}

func TestATimeToStartThatIsPastIsNone(t *testing.T) {
	w, _ := lone(t)
	w.wantRuns(w.runJob(startAfter(-time.Hour)), 0)
}

func TestTheDeadlineHoldsForJobsThatWait(t *testing.T) {
	for name, c := range map[string]struct {
		place  place
		change func(*v1alpha1.JobSpec)
	}{
		"in the queue":    {queued, func(*v1alpha1.JobSpec) {}},
		"beyond it":       {overflow, func(s *v1alpha1.JobSpec) { s.Priority = new(int32(-1)) }},
		"suspended":       {parked, suspended},
		"before its time": {parked, startAfter(time.Hour)},
		"unfit":           {parked, func(s *v1alpha1.JobSpec) { s.Resources = memory(4 << 30) }},
	} {
		t.Run(name, func(t *testing.T) {
			w, _ := lone(t)
			fill := simSlots
			if c.place == overflow {
				fill += simCapacity
			}
			for range fill {
				w.runJob()
			}
			uid := w.runJob(deadline(10), c.change)
			if got := w.engine.jobs[uid].place; got != c.place {
				t.Fatalf("place %d, want %d", got, c.place)
			}
			w.live(10*time.Second - TickInterval)
			if w.writes[uid].Status.State.Finished() || w.status(uid).State.Finished() {
				t.Fatal("it has ended before its time")
			}
			w.pass(TickInterval)
			write := w.writes[uid]
			if write.Status.State != v1alpha1.JobFailed || write.Status.Reason != v1alpha1.ReasonDeadlineExceeded || !write.Confirm || write.Due.After(w.now) {
				t.Errorf("to be stored at %s, confirmed %t: %s", write.Due, write.Confirm, describeStatus(&write.Status))
			}
			w.turn()
			w.wantState(uid, v1alpha1.JobFailed, v1alpha1.ReasonDeadlineExceeded)
			if w.engine.jobs[uid] != nil || w.jobs[uid].starts[0] != 0 {
				t.Error("the engine still has it, or it was started")
			}
			if n := len(w.engine.pools[poolKey].parked); n != 0 {
				t.Errorf("%d are parked", n)
			}
		})
	}
}

func TestTheDeadlineEndsWhatRuns(t *testing.T) {
	w, p := lone(t)
	uid := w.runJob(deadline(10), retries(5), func(s *v1alpha1.JobSpec) { s.TerminationGracePeriodSeconds = new(int32(30)) })
	w.live(10*time.Second - TickInterval)
	w.pass(TickInterval)
	if w.writes[uid].Status.State.Finished() {
		t.Fatal("it is to be stored as failed while it runs")
	}
	w.receive(p)
	if len(p.kills) != 1 || p.kills[0].Grace != 30*time.Second {
		t.Fatalf("kills %+v, want one with 30 s of grace", p.kills)
	}
	w.report(p) // killed
	if write := w.writes[uid]; write.Status.Reason != v1alpha1.ReasonDeadlineExceeded || !write.Confirm {
		t.Errorf("confirmed %t: %s", write.Confirm, describeStatus(&write.Status))
	}
	w.turn()
	w.wantState(uid, v1alpha1.JobFailed, v1alpha1.ReasonDeadlineExceeded)
	if s := w.status(uid); deref(s.Attempts) != 1 || deref(s.Retries) != 0 || len(s.EndedAttempts) != 1 ||
		s.EndedAttempts[0].Reason != v1alpha1.ReasonDeadlineExceeded || s.Attempt != nil {
		t.Errorf("stored: %s", describeStatus(s))
	}
}

func TestAnAgentThatHasSeenTheDeadlineFirstIsBelieved(t *testing.T) {
	for name, change := range map[string]func(*v1alpha1.JobSpec){"plain": func(*v1alpha1.JobSpec) {}, "indexed": completions(2)} {
		t.Run(name, func(t *testing.T) {
			w, p := lone(t)
			uid := w.runJob(deadline(10), retries(5), change)
			w.live(9900 * time.Millisecond)
			w.finish(uid, 0, Result{Outcome: DeadlineExceeded})
			w.live(time.Second)
			w.wantState(uid, v1alpha1.JobFailed, v1alpha1.ReasonDeadlineExceeded)
			if len(p.results) != 0 || len(p.running) != 0 {
				t.Errorf("%d results are left, %d run", len(p.results), len(p.running))
			}
		})
	}
}

func TestAJobHasNotEndedInTheFutureThoughItsAgentSaysSo(t *testing.T) {
	w, _ := lone(t)
	uid := w.runJob(deadline(60))
	w.finish(uid, 0, Result{Outcome: DeadlineExceeded})
	w.live(time.Second)
	w.wantState(uid, v1alpha1.JobFailed, v1alpha1.ReasonDeadlineExceeded)
	if end := w.status(uid).CompletionTime; end.After(w.now) {
		t.Errorf("completion at %s, now it is %s", end, w.now)
	}
}

// An attempt that succeeds at the last moment, before it was killed, is still a failure: the Job's time
// was over, and another leader might have said so.
func TestTheDeadlineStandsOnceItHasPassed(t *testing.T) {
	w, p := lone(t)
	uid := w.runJob(deadline(10))
	w.live(10*time.Second - TickInterval)
	w.pass(TickInterval)
	w.exit(uid, 0, 0)
	w.turn()
	if s := w.status(uid); !s.State.Finished() || len(p.results) != 0 {
		t.Errorf("stored: %s, %d results left", describeStatus(s), len(p.results))
	}
}

// Suspension.

func TestAQueuedJobThatIsSuspendedLeavesTheQueue(t *testing.T) {
	w, _ := lone(t)
	for range simSlots {
		w.runJob()
	}
	uid := w.runJob()
	w.suspend(uid, true)
	if s := w.pool().Snapshot(); s.Queued != 0 {
		t.Errorf("%d are queued", s.Queued)
	}
	w.live(3 * time.Second)
	w.wantState(uid, v1alpha1.JobPending, v1alpha1.ReasonSuspended)
	w.wantSuspended(uid, metav1.ConditionTrue)
	w.suspend(uid, false)
	if s := w.pool().Snapshot(); s.Queued != 1 {
		t.Errorf("%d are queued, want 1", s.Queued)
	}
	w.live(3 * time.Second)
	w.wantState(uid, v1alpha1.JobQueued, "")
	w.wantSuspended(uid, metav1.ConditionFalse)
}

func (w *world) wantSuspended(uid types.UID, want metav1.ConditionStatus) {
	w.t.Helper()
	if c := meta.FindStatusCondition(w.status(uid).Conditions, v1alpha1.JobSuspended); c == nil || c.Status != want {
		w.t.Errorf("condition %+v, want Suspended %s", c, want)
	}
}

func TestARunningJobThatIsSuspendedIsStoppedAndNotCounted(t *testing.T) {
	for name, change := range map[string]func(*v1alpha1.JobSpec){"plain": func(*v1alpha1.JobSpec) {}, "indexed": completions(1)} {
		t.Run(name, func(t *testing.T) {
			w, p := lone(t)
			uid := w.runJob(change, rules(onReasons("Fail", "Interrupted")), func(s *v1alpha1.JobSpec) {
				s.TerminationGracePeriodSeconds = new(int32(5))
			})
			w.live(time.Second)
			w.suspend(uid, true)
			w.receive(p)
			if len(p.kills) != 1 || p.kills[0].Grace != 5*time.Second {
				t.Fatalf("kills %+v, want one with 5 s of grace", p.kills)
			}
			w.live(3 * time.Second)
			w.wantState(uid, v1alpha1.JobPending, v1alpha1.ReasonSuspended)
			w.wantSuspended(uid, metav1.ConditionTrue)
			if s := w.status(uid); deref(s.Retries) != 0 || s.Attempt != nil || s.RunningIndexes != nil {
				t.Errorf("stored: %s", describeStatus(s))
			}
			w.wantRuns(uid)
			w.suspend(uid, false)
			w.live(time.Second)
			w.wantRuns(uid, 0)
			w.wantState(uid, v1alpha1.JobRunning, "")
			w.exit(uid, 0, 0)
			w.turn()
			w.wantState(uid, v1alpha1.JobSucceeded, "")
			w.wantSuspended(uid, metav1.ConditionFalse)
		})
	}
}

func TestASuspendedJobGivesItsPlaceAway(t *testing.T) {
	w, _ := lone(t)
	for range simSlots {
		w.runJob()
	}
	uid := w.runJob()
	for range simCapacity {
		w.runJob()
	}
	w.suspend(uid, true)
	w.turn()
	if s := w.pool().Snapshot(); s.Queued != simCapacity || s.Waiting != 0 {
		t.Errorf("snapshot %+v, want another in its place", s)
	}
	w.suspend(uid, false)
	w.turn()
	if s := w.pool().Snapshot(); s.Queued != simCapacity || s.Waiting != 1 {
		t.Errorf("snapshot %+v, want it to wait for a place", s)
	}
}

func TestASuspendedJobIsNotTriedAgain(t *testing.T) {
	w, _, uid := failing(t)
	w.turn()
	w.suspend(uid, true)
	w.live(time.Minute)
	w.wantState(uid, v1alpha1.JobPending, v1alpha1.ReasonSuspended)
	w.suspend(uid, false)
	w.live(time.Second)
	w.wantRuns(uid, 0)
	if n := deref(w.engine.jobs[uid].object.Status.Retries); n != 1 {
		t.Errorf("%d retries, want 1", n)
	}
}

// A worker without a session can't be told, until it is back.
func TestAJobThatIsSuspendedMeanwhileIsStoppedWhenItsWorkerIsBack(t *testing.T) {
	w, p := lone(t)
	uid := w.runJob()
	w.live(time.Second)
	w.drop(p)
	w.suspend(uid, true)
	w.live(3 * time.Second)
	w.wantRuns(uid, 0)
	w.connect(p)
	w.live(3 * time.Second)
	w.wantRuns(uid)
	w.wantState(uid, v1alpha1.JobPending, v1alpha1.ReasonSuspended)
}

// Deletion, wherever the Job is.

func TestADeletedJobLeavesNothingBehind(t *testing.T) {
	fill := func(w *world, n int) {
		for range n {
			w.runJob()
		}
	}
	for name, prepare := range map[string]func(*world, *simPod) types.UID{
		"parked":   func(w *world, _ *simPod) types.UID { return w.runJob(suspended, deadline(5)) },
		"not yet":  func(w *world, _ *simPod) types.UID { return w.runJob(startAfter(time.Hour)) },
		"overflow": func(w *world, _ *simPod) types.UID { fill(w, simSlots+simCapacity); return w.runJob(deadline(5)) },
		"invited": func(w *world, _ *simPod) types.UID {
			fill(w, simSlots+simCapacity)
			uid := w.runJob()
			w.exit(w.jobUIDs()[0], 0, 0)
			return uid
		},
		"queued":   func(w *world, _ *simPod) types.UID { fill(w, simSlots); return w.runJob() },
		"assigned": func(w *world, _ *simPod) types.UID { return w.create(command()) },
		"running":  func(w *world, _ *simPod) types.UID { return w.runJob() },
		"indexed": func(w *world, _ *simPod) types.UID {
			uid := w.runJob(completions(5))
			w.exit(uid, 0, 1)
			w.turn()
			return uid
		},
		"retrying": func(w *world, _ *simPod) types.UID {
			uid := w.runJob(retries(1))
			w.exit(uid, 0, 1)
			return uid
		},
		"retrying, stored": func(w *world, _ *simPod) types.UID {
			uid := w.runJob(retries(1))
			w.exit(uid, 0, 1)
			w.turn()
			return uid
		},
		"unsent": func(w *world, _ *simPod) types.UID { return w.create(command(atMostOnce)) },
		"settling": func(w *world, _ *simPod) types.UID {
			uid := w.runJob()
			w.exit(uid, 0, 0)
			return uid
		},
		"onFailure": func(w *world, _ *simPod) types.UID {
			uid := w.runJob(onFailure)
			w.exit(uid, 0, 1)
			w.turn()
			return uid
		},
		"killed": func(w *world, _ *simPod) types.UID {
			uid := w.runJob(deadline(5))
			w.pass(6 * time.Second)
			return uid
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, p := lone(t)
			uid := prepare(w, p)
			w.jobs[uid].gone = true
			w.engine.Cancel(uid)
			if _, ok := w.writes[uid]; ok {
				t.Error("a write of it is left")
			}
			w.live(3 * time.Second)
			w.wantRuns(uid)
			if w.engine.jobs[uid] != nil {
				t.Error("the engine still has it")
			}
			for _, other := range w.jobUIDs() {
				for !w.jobs[other].gone && !w.status(other).State.Finished() {
					w.exit(other, 0, 0)
					w.turn()
				}
			}
			if s := w.pool().Snapshot(); s.Active != 0 || s.Queued != 0 || s.Waiting != 0 || s.Pods[p.uid].Busy || len(p.results) != 0 || len(w.engine.timers) != 0 {
				t.Errorf("snapshot %+v, results %v, %d timers", s, p.results, len(w.engine.timers))
			}
			if used := w.engine.pools[poolKey].workers[p.uid].resources.Status().Used; used.Memory != 0 || used.CPU != 0 {
				t.Errorf("%+v are still taken", used)
			}
		})
	}
}

// Its worker had no connection when the Job's time was over.
func TestAResultOfBeforeTheDeadlineDoesNotDateTheFailureBack(t *testing.T) {
	w, _ := lone(t)
	uid := w.runJob(deadline(10))
	w.live(10*time.Second - TickInterval)
	w.pass(TickInterval)
	w.finish(uid, 0, Result{Outcome: Exited, ExitCode: 1, EndedAgo: 8 * time.Second})
	w.turn()
	s := w.status(uid)
	over := w.jobs[uid].job.Created.Add(10 * time.Second)
	if s.Reason != v1alpha1.ReasonDeadlineExceeded || s.CompletionTime.Time.Before(over) {
		t.Errorf("%s at %s, want %s not before %s", s.Reason, s.CompletionTime, v1alpha1.ReasonDeadlineExceeded, over)
	}
	if ended := s.EndedAttempts[0].EndTime.Time; !ended.Before(over) {
		t.Errorf("the attempt has ended at %s, want that to be as its agent said", ended)
	}
}

// A Duration has at most 292 years.
func TestATimeToStartInManyCenturiesIsToldAsWritten(t *testing.T) {
	w, _ := lone(t)
	uid := w.runJob(func(s *v1alpha1.JobSpec) {
		s.StartAfter = &metav1.Time{Time: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)}
	})
	w.live(3 * time.Second)
	w.wantState(uid, v1alpha1.JobPending, v1alpha1.ReasonNotYet)
	if got := w.status(uid).Message; got != "The Job is not started before 9999-12-31T23:59:59Z." {
		t.Errorf("message %q", got)
	}
	w.pass(150 * 365 * 24 * time.Hour)
	w.pass(150 * 365 * 24 * time.Hour)
	w.turn()
	w.wantState(uid, v1alpha1.JobPending, v1alpha1.ReasonNotYet)
}

// poolless makes a world whose pool does not exist.
func poolless(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, 1)
	w.pods, w.opened = nil, false
	w.engine = New(func() time.Time { return w.now }, w.rng.Float64, w)
	w.engine.Measure(newStrictMeter(t))
	w.engine.Begin(w.epoch)
	return w
}

func TestTheDeadlineHoldsForJobsWithoutAPool(t *testing.T) {
	for name, change := range map[string]func(*v1alpha1.JobSpec){
		"waits": func(*v1alpha1.JobSpec) {}, "suspended": suspended, "before its time": startAfter(time.Hour), "indexed": completions(3),
	} {
		t.Run(name, func(t *testing.T) {
			w := poolless(t)
			uid := w.runJob(deadline(10), change)
			w.live(10*time.Second - TickInterval)
			w.wantState(uid, v1alpha1.JobPending, v1alpha1.ReasonPoolNotFound)
			w.pass(TickInterval)
			w.lookAll()
			if write := w.writes[uid]; !write.Confirm || write.Due.After(w.now) {
				t.Errorf("confirmed %t, to be stored at %s; want a look at the Lease, and at once", write.Confirm, write.Due)
			}
			w.turn()
			w.wantState(uid, v1alpha1.JobFailed, v1alpha1.ReasonDeadlineExceeded)
			s := w.status(uid)
			if !meta.IsStatusConditionTrue(s.Conditions, v1alpha1.JobFailedCondition) || s.CompletionTime == nil || !s.CompletionTime.Equal(microTime(w.now)) {
				t.Errorf("stored: %s", describeStatus(s))
			}
			if len(w.engine.deadlines)+len(w.engine.deadlineOf) != 0 {
				t.Error("the engine waits for it yet")
			}
		})
	}
}

func TestTheDeadlineHoldsWhenThePoolWasDeletedMeanwhile(t *testing.T) {
	w, p := lone(t)
	w.drop(p)
	waits := w.runJob(deadline(10))
	w.live(3 * time.Second)
	w.replacePool()
	p.gone = true
	w.listPods()
	w.live(6 * time.Second)
	w.wantState(waits, v1alpha1.JobPending, v1alpha1.ReasonPoolNotFound)
	w.live(time.Second)
	w.wantState(waits, v1alpha1.JobFailed, v1alpha1.ReasonDeadlineExceeded)
}

func TestADeletedJobWithoutAPoolIsWaitedForNoMore(t *testing.T) {
	w := poolless(t)
	uid := w.runJob(deadline(10))
	w.jobs[uid].gone = true
	w.submit(uid)
	if len(w.engine.deadlines)+len(w.engine.deadlineOf) != 0 {
		t.Error("the engine waits for its deadline")
	}
}

// onFailure needs a worker. That the Job fails is stored, and a pool runs it when there is one.
func TestOnFailureOfAJobWithoutAPoolWaitsForOne(t *testing.T) {
	w := poolless(t)
	uid := w.runJob(deadline(10), func(s *v1alpha1.JobSpec) { s.OnFailure = &v1alpha1.FailureHandler{Command: []string{"notify"}} })
	w.live(12 * time.Second)
	w.wantState(uid, v1alpha1.JobPending, v1alpha1.ReasonPoolNotFound)
	if c := meta.FindStatusCondition(w.status(uid).Conditions, v1alpha1.JobFailureTarget); c == nil || c.Reason != v1alpha1.ReasonDeadlineExceeded {
		t.Fatalf("stored: %s", describeStatus(w.status(uid)))
	}
	writes := w.jobs[uid].writes
	w.live(5 * time.Second)
	if w.jobs[uid].writes != writes || len(w.looks) != 0 {
		t.Error("it is looked at, or stored, again and again")
	}

	w.openPool()
	w.connect(w.join())
	w.turn()
	if p, token := w.running(uid, 1); p == nil {
		t.Error("its onFailure does not run")
	} else {
		w.end(p, token, Exited, 0)
	}
	w.turn()
	w.wantState(uid, v1alpha1.JobFailed, v1alpha1.ReasonDeadlineExceeded)
	if w.jobs[uid].starts[0] != 0 {
		t.Error("the Job itself has run")
	}
}

// hold begins to delete a Job that a finalizer holds.
func (w *world) hold(uid types.UID) {
	w.jobs[uid].job.Deleted = true
	w.jobs[uid].version++
	w.submit(uid)
}

func TestAJobThatAFinalizerHoldsEnds(t *testing.T) {
	notified := func(s *v1alpha1.JobSpec) { s.OnFailure = &v1alpha1.FailureHandler{Command: []string{"notify"}} }
	for name, c := range map[string]struct {
		change func(*v1alpha1.JobSpec)
		runs   bool
	}{
		"runs":          {notified, true},
		"indexed":       {completions(2), true},
		"at most once":  {func(s *v1alpha1.JobSpec) { s.Execution = v1alpha1.AtMostOnce }, true},
		"suspended":     {suspended, false},
		"not yet begun": {startAfter(time.Hour), false},
	} {
		t.Run(name, func(t *testing.T) {
			w, p := lone(t)
			uid := w.runJob(retries(3), c.change)
			w.live(time.Second)
			if got := len(w.runs(uid)) > 0; got != c.runs {
				t.Fatalf("it runs: %t", got)
			}
			w.hold(uid)
			if c.runs && w.writes[uid].Status.State.Finished() {
				t.Error("it is to be stored as ended while it runs")
			}
			w.live(3 * time.Second)
			w.wantRuns(uid)
			w.wantState(uid, v1alpha1.JobFailed, v1alpha1.ReasonDeleted)
			if s := w.status(uid); s.Attempt != nil || len(s.RunningIndexes) != 0 || deref(s.Active) != 0 || s.CompletionTime == nil {
				t.Errorf("stored: %s", describeStatus(s))
			}
			if c.runs && (len(p.kills) == 0 || p.kills[0].Grace != killGrace) {
				t.Errorf("kills %+v, want the grace of the Job", p.kills)
			}
			if len(p.assigned) > 2 {
				t.Errorf("%d were assigned: more of it was begun", len(p.assigned))
			}
		})
	}
}

// Its onFailure is not run, whenever it is deleted.
func TestAnOnFailureThatRunsIsEndedWithItsJob(t *testing.T) {
	w, _ := lone(t)
	uid := w.runJob(func(s *v1alpha1.JobSpec) { s.OnFailure = &v1alpha1.FailureHandler{Command: []string{"notify"}} })
	w.exit(uid, 0, 3)
	w.live(time.Second)
	w.wantRuns(uid, 1)
	w.hold(uid)
	w.live(3 * time.Second)
	w.wantRuns(uid)
	w.wantState(uid, v1alpha1.JobFailed, v1alpha1.ReasonExitCode)
}

func TestAJobWithoutAPoolThatAFinalizerHoldsEnds(t *testing.T) {
	w := poolless(t)
	uid := w.runJob(deadline(10))
	w.hold(uid)
	w.turn()
	w.wantState(uid, v1alpha1.JobFailed, v1alpha1.ReasonDeleted)
	if len(w.engine.deadlines) != 0 {
		t.Error("its deadline is waited for")
	}
}

func TestAJobThatADrainHasCutOffIsToldWhatToDo(t *testing.T) {
	w, p := lone(t)
	uid := w.runJob()
	w.live(time.Second)
	p.terminating = true
	w.listPods()
	w.finish(uid, 0, Result{Outcome: Interrupted})
	w.live(3 * time.Second)
	w.wantState(uid, v1alpha1.JobQueued, v1alpha1.ReasonRetrying)
	if m := w.status(uid).Message; !strings.Contains(m, "was removed and the time for that was over") || !strings.Contains(m, "spec.drainTimeoutSeconds") {
		t.Errorf("message %q", m)
	}
}
