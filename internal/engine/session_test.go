package engine

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// lone makes a world with one connected worker and no Job.
func lone(t *testing.T) (*world, *simPod) {
	t.Helper()
	w := newWorld(t, 1)
	for _, p := range w.pods[1:] {
		p.gone = true
	}
	w.listPods()
	w.connect(w.pods[0])
	return w, w.pods[0]
}

func TestAResultOfAnEarlierLeadersAttemptDoesNotReplaceTheOneThatRuns(t *testing.T) {
	w, p := lone(t)
	w.epoch.LeaseCreated++ // a leader whose epoch is higher
	w.lead()
	w.connect(p)
	w.createJob()
	w.receive(p)
	uid := w.jobUIDs()[0]
	p.results = append(p.results, Result{
		Token: Token{Job: uid, Try: 7}, JobName: w.jobs[uid].job.Name, Outcome: Exited, ExitCode: 1,
	})
	w.report(p)
	if s := w.pool().Snapshot(); s.Active != 1 {
		t.Errorf("%d Jobs run, want 1: the result of another attempt has ended it", s.Active)
	}
	if write := w.writes[uid]; write.Status.State.Finished() {
		t.Errorf("stored as %s, though its attempt runs", write.Status.State)
	}
}

func TestASecondSessionOfAPodIsRefused(t *testing.T) {
	w, p := lone(t)
	err := w.engine.Connect(&simSession{}, Hello{Pool: poolKey, PoolUID: "pool", Pod: p.uid, PodName: string(p.uid), Instance: "other"})
	if !errors.Is(err, ErrConnected) {
		t.Errorf("error %v, want %v", err, ErrConnected)
	}
}

func TestAWorkerOfAnotherPoolOfTheSameNameIsRefused(t *testing.T) {
	w := newWorld(t, 1)
	err := w.engine.Connect(&simSession{}, Hello{Pool: poolKey, PoolUID: "an earlier one", Pod: "pod"})
	if !errors.Is(err, ErrUnknownPool) {
		t.Errorf("error %v, want %v", err, ErrUnknownPool)
	}
}

// What an agent runs of a Job that is not known may only be not known yet.
func TestAnUnknownJobIsKilledOnlyOnceItIsLookedAt(t *testing.T) {
	w, p := lone(t)
	stray := Token{Job: "stray", Try: 1, Epoch: w.epoch}
	w.issued[issue{p.uid, stray}] = true
	p.running[stray] = &simProcess{job: "stray", started: w.now}
	w.report(p)
	if len(p.session.inbox) != 0 {
		t.Fatalf("was told %+v before anybody has looked", p.session.inbox)
	}
	if len(w.looks) != 1 || w.looks[0].UID != "stray" || w.looks[0].Name != "stray" {
		t.Fatalf("asked to look at %v, want the stray", w.looks)
	}
	w.look() // there is no such Job
	w.receive(p)
	if p.running[stray] != nil {
		t.Error("it runs on")
	}
}

// A worker tells of a result before the Job is known, and is out of touch then, or gone. Found by the simulation.
func TestAResultCountsThoughTheWorkerThatToldOfItIsAway(t *testing.T) {
	for name, leave := range map[string]func(*world, *simPod){
		"its session has ended": func(w *world, p *simPod) { w.drop(p) },
		"its pod is gone": func(w *world, p *simPod) {
			w.drop(p)
			p.gone = true
			w.listPods()
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1)
			told, idle := w.pods[0], w.pods[1]
			w.connect(told)
			w.connect(idle)
			job := fmt.Sprintf("job-%03d", w.names+1)
			token := Token{Job: types.UID("uid-" + job), Try: 1, Epoch: w.epoch}
			w.issued[issue{told.uid, token}] = true
			told.results = append(told.results, Result{Token: token, JobName: job, Outcome: Exited})
			w.report(told)
			leave(w, told)
			w.createJob()
			if len(idle.session.inbox) != 0 {
				t.Errorf("another worker was told %+v, though the Job has ended", idle.session.inbox)
			}
			if write := w.writes[token.Job]; write.Status.State != v1alpha1.JobSucceeded {
				t.Errorf("stored as %q, want Succeeded", write.Status.State)
			}
			if len(w.engine.claims) != 0 {
				t.Errorf("%v is kept", w.engine.claims)
			}
		})
	}
}

func TestADeletedJobIsKilledWithGrace(t *testing.T) {
	w, p := lone(t)
	w.createJob()
	w.receive(p)
	w.engine.Cancel(w.jobUIDs()[0])
	if len(p.session.inbox) != 1 || len(p.session.inbox[0].Kills) != 1 || p.session.inbox[0].Kills[0].Grace != killGrace {
		t.Errorf("was told %+v, want a kill with %s of grace", p.session.inbox, killGrace)
	}
}

func TestAJobThatLosesItsWorkersFailsAfterFive(t *testing.T) {
	w, _ := lone(t)
	w.createJob()
	uid := w.jobUIDs()[0]
	for n := 1; n <= maxLostWorkers; n++ {
		p := w.pods[len(w.pods)-1]
		if n == 1 {
			p = w.pods[0]
		}
		w.connect(p)
		w.receive(p)
		if len(p.running) != 1 {
			t.Fatalf("try %d does not run", n)
		}
		w.report(p)
		if final := w.writes[uid].Status.State.Finished(); final {
			t.Fatalf("failed after %d lost workers", n-1)
		}
		w.drop(p)
		p.gone, p.running = true, nil
		w.addPod()
		w.listPods()
	}
	write := w.writes[uid]
	if write.Status.State != v1alpha1.JobFailed || write.Status.Reason != v1alpha1.ReasonWorkerLost || !write.Confirm {
		t.Errorf("%s %s, confirmed %t; want Failed WorkerLost, by a live look at the Lease", write.Status.State, write.Status.Reason, write.Confirm)
	}
}

func TestAWorkerWithoutASessionIsGivenUpAfterAMinute(t *testing.T) {
	w, p := lone(t)
	w.drop(p)
	for range int(workerLost/time.Second) - 1 {
		w.now = w.now.Add(time.Second)
		w.engine.Tick()
	}
	if w.pool().Snapshot().Pods[p.uid].Lost {
		t.Fatal("lost too early")
	}
	w.now = w.now.Add(time.Second)
	w.engine.Tick()
	if !w.pool().Snapshot().Pods[p.uid].Lost {
		t.Error("not given up")
	}
}

// Statuses are lazy: what passes quickly is not written for itself.
func TestStatesAreDueOnceTheyHaveLasted(t *testing.T) {
	w, p := lone(t)
	w.createJob()
	uid := w.jobUIDs()[0]
	due := func() string { return fmt.Sprint(w.writes[uid].Status.State, w.writes[uid].Due.Sub(w.now)) }
	if got, want := due(), fmt.Sprint(v1alpha1.JobQueued, waitingDue); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	w.receive(p)
	w.report(p)
	if got, want := due(), fmt.Sprint(v1alpha1.JobRunning, runningDue); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	w.end(p, sortedTokens(p.running)[0], Exited, 0)
	w.report(p)
	if got, want := due(), fmt.Sprint(v1alpha1.JobSucceeded, time.Duration(0)); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// Whoever runs an index that the Job does not have is no agent of this Job.
func TestWhatIsNoTaskOfItsJobIsEndedAndForgotten(t *testing.T) {
	for _, index := range []int32{-1, 2, 3, 1 << 30} { // 2 is onFailure's, and it is not its time
		w, p := room(t, 3)
		uid := w.create(command(items("a", "b")))
		stray := Token{Job: uid, Index: index, Try: 9, Epoch: w.epoch}
		w.issued[issue{p.uid, stray}] = true
		p.running[stray] = &simProcess{job: w.jobs[uid].job.Name, started: w.now}
		p.results = append(p.results, Result{Token: stray, JobName: w.jobs[uid].job.Name, Outcome: TimedOut})
		w.report(p)
		w.turn()
		if p.running[stray] != nil || len(p.results) != 0 {
			t.Errorf("index %d runs on, or its result is kept", index)
		}
		w.wantRuns(uid, 0, 1)
	}
}

// The next leader may hear of Jobs before it hears of pods.
func TestAJobWhoseWorkerTurnsOutToBeGoneRunsAgain(t *testing.T) {
	w, p := lone(t)
	uid := w.runJob()
	w.live(time.Second)
	p.gone, p.running, p.session = true, nil, nil
	w.epoch.Transitions++
	w.engine = New(func() time.Time { return w.now }, w.rng.Float64, w)
	w.engine.Begin(w.epoch)
	w.engine.SetPool(w.config)
	if err := w.pool().Start(); err != nil {
		t.Fatalf("start: %v", err)
	}
	w.submit(uid)
	if s := w.pool().Snapshot(); s.Active != 1 || !s.Pods[p.uid].Busy {
		t.Errorf("snapshot %+v, want it to run as far as is known", s)
	}
	w.join()
	w.turn()
	w.wantRuns(uid, 0)
	if n := deref(w.engine.jobs[uid].object.Status.LostWorkers); n != 1 {
		t.Errorf("%d lost workers, want 1", n)
	}
}

// Somebody may have written nonsense to the status, by hand.
func TestAStoredStatusThatMakesNoSenseCostsNoTask(t *testing.T) {
	w, _ := lone(t)
	uid := w.create(command(completions(3), suspended))
	w.jobs[uid].job.Status = v1alpha1.JobStatus{
		State: v1alpha1.JobRunning, SucceededIndexes: "2,5-9,x,-1", FailedIndexes: "7", RetriedIndexes: "9:1:1,1:2,1:2:3",
		RunningIndexes: []v1alpha1.WorkerIndexes{{Worker: "gone", PodUID: "gone", Indexes: "4-8"}, {Worker: "gone too", PodUID: "gone too", Indexes: "2"}},
		Attempt:        &v1alpha1.Attempt{Token: "nonsense", PodUID: "gone"},
	}
	w.drop(w.pods[0])
	w.lead()
	w.connect(w.pods[0])
	w.suspend(uid, false)
	w.turn()
	w.wantRuns(uid, 0, 1)
	if a := w.assignment(uid, 1); a.Token.Try != 4 {
		t.Errorf("try %d of the retried task, want 4", a.Token.Try)
	}
	w.exit(uid, 0, 0)
	w.exit(uid, 1, 0)
	w.turn()
	w.wantState(uid, v1alpha1.JobSucceeded, "")
	if w.jobs[uid].starts[2] != 0 || deref(w.status(uid).LostWorkers) != 0 {
		t.Errorf("started %v, stored: %s", w.jobs[uid].starts, describeStatus(w.status(uid)))
	}
}

// Its Job has no place in the queue, and is read again first.
func TestAWorkerIsBusyWithTheResultOfAJobThatIsNotLookedAtYet(t *testing.T) {
	w, p := lone(t)
	uid := w.runJob()
	w.suspend(uid, true)
	w.finish(uid, 0, Result{Outcome: Exited})
	w.lead()
	w.connect(p)
	if !w.pool().Snapshot().Pods[p.uid].Busy {
		t.Error("the worker is idle, though its result is not stored")
	}
	w.turn()
	if len(p.results) != 0 || w.pool().Snapshot().Pods[p.uid].Busy {
		t.Errorf("%d results are left, busy %t", len(p.results), w.pool().Snapshot().Pods[p.uid].Busy)
	}
	w.wantState(uid, v1alpha1.JobSucceeded, "")
}

// It would be sent its job again at once, hundreds of times a second.
func TestAWorkerThatInterruptsWhatItIsSentRests(t *testing.T) {
	w, p := room(t, 1)
	uid := w.runJob()
	w.wantRuns(uid, 0)
	for n := 1; n <= 3; n++ {
		w.finish(uid, 0, Result{Outcome: Interrupted})
		w.turn()
		w.turn()
		if got := p.starts(uid); got != n {
			t.Fatalf("after %d interruptions it was sent %d times", n, got)
		}
		w.live(refusalRest + time.Second)
		if got := p.starts(uid); got != n+1 {
			t.Fatalf("a second after %d interruptions it was sent %d times", n, got)
		}
	}
}

func TestTheTroubleOfAWorkerIsTold(t *testing.T) {
	w, p := lone(t)
	for _, trouble := range []string{"full", "read-only", ""} {
		before := w.changes
		p.trouble = trouble
		w.report(p)
		if got := w.snapshot(p); got.Unavailable != trouble || got.Draining != (trouble != "") || w.changes == before {
			t.Errorf("the worker is %+v, want it in trouble: %q, and its pool told", got, trouble)
		}
	}
	p.trouble = "full"
	w.lead()
	w.connect(p)
	if got := w.snapshot(p); got.Unavailable != "full" {
		t.Errorf("the next leader sees %+v", got)
	}
}
