package engine

import (
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// A Job of which some tasks run and others are queued when its pool is deleted: the ones end, the others wait
// for another pool of the name, and none runs twice.
func TestTheTasksOfADeletedPoolsJobGoOnInTheNextPool(t *testing.T) {
	w, _ := lone(t)
	uid := w.runJob(completions(6), parallelism(2))
	w.exit(uid, 0, 0)
	w.turn()
	w.wantRuns(uid, 1, 2)

	w.replacePool()
	w.live(time.Second)
	w.wantRuns(uid, 1, 2)
	w.exit(uid, 1, 0)
	w.turn()
	w.exit(uid, 2, 0)
	w.live(time.Second)
	w.wantRuns(uid)
	w.wantState(uid, v1alpha1.JobPending, v1alpha1.ReasonPoolNotFound)
	if s := w.status(uid); s.SucceededIndexes != "0-2" || len(s.RunningIndexes) != 0 || deref(s.Active) != 0 {
		t.Fatalf("stored: %s", describeStatus(s))
	}
	for _, p := range w.pods {
		if len(p.results) != 0 {
			t.Errorf("%s still keeps %v", p.uid, p.results)
		}
	}

	w.replacePool()
	for _, p := range w.pods {
		w.connect(p)
	}
	for index := int32(3); index < 6; index++ {
		w.turn()
		w.exit(uid, index, 0)
	}
	w.turn()
	w.wantState(uid, v1alpha1.JobSucceeded, "")
	for index, n := range w.jobs[uid].starts {
		if n != 1 {
			t.Errorf("task %d has run %d times", index, n)
		}
	}
}

// letGo makes a Job whose tasks run on two workers when another leader comes and its pool is deleted. The first
// worker has ended its tasks and says so; the Job is let go, and that is not stored yet. The second has done
// something else, and is not back.
func letGo(t *testing.T, does func(w *world, second *simPod)) (w *world, uid types.UID, first, second *simPod) {
	t.Helper()
	w, first = lone(t)
	second = w.join()
	uid = w.runJob(completions(3))
	w.turn()
	w.wantRuns(uid, 0, 1, 2)
	w.drop(first)
	w.drop(second)
	w.endAll(first)
	does(w, second)
	w.lead()
	w.replacePool()
	w.connect(first)
	w.agents()
	w.looks = nil
	return w, uid, first, second
}

// endAll has the processes of a pod end well.
func (w *world) endAll(p *simPod) {
	for _, token := range sortedTokens(p.running) {
		w.end(p, token, Exited, 0)
	}
}

// What an agent tells while the end of its pool is being stored, of a Job that was let go already, is stored too.
func TestResultsThatComeLateFromADeletedPoolAreKept(t *testing.T) {
	w, uid, first, second := letGo(t, func(w *world, second *simPod) { w.endAll(second) })
	w.connect(second)
	w.live(time.Second)
	w.wantState(uid, v1alpha1.JobSucceeded, "")
	if s := w.status(uid); s.SucceededIndexes != "0-2" || len(first.results)+len(second.results) != 0 {
		t.Errorf("the agents keep %v and %v; stored: %s", first.results, second.results, describeStatus(s))
	}
}

// So is what an agent tells that runs on.
func TestWhatRunsInADeletedPoolGoesOnThoughItsJobWasLetGo(t *testing.T) {
	w, uid, _, second := letGo(t, func(*world, *simPod) {})
	w.connect(second)
	w.looks = nil
	w.live(5 * time.Second)
	w.wantState(uid, v1alpha1.JobRunning, "")
	if len(second.running) != 1 {
		t.Fatalf("%d run on", len(second.running))
	}
	w.exit(uid, w.runs(uid)[0], 0)
	w.turn()
	w.wantState(uid, v1alpha1.JobSucceeded, "")
	if s := w.pool().Snapshot(); s.Active != 0 {
		t.Errorf("snapshot %+v, want nothing left", s)
	}
}

// A write that was under way says nothing of what the Job has done since.
func TestAJobIsLetGoByTheWriteThatSaysSoAlone(t *testing.T) {
	w, _ := lone(t)
	uid := w.runJob(completions(2), parallelism(1))
	w.idle(time.Second)
	w.agents()
	w.idle(time.Second)
	early := w.writes[uid]
	w.replacePool()
	w.finish(uid, 0, Result{Outcome: Interrupted})
	w.engine.Written(early, "2")
	if w.engine.jobs[uid] == nil {
		t.Error("it is let go before what it has done is stored")
	}
	w.live(waitingDue)
	w.wantState(uid, v1alpha1.JobPending, v1alpha1.ReasonPoolNotFound)
	if len(w.engine.jobs) != 0 {
		t.Error("it is never let go")
	}
}

// Another pool may have opened, and the watch may have told of the write, before the write is answered.
func TestAJobThatWasLetGoIsLookedAtOnceThatIsStored(t *testing.T) {
	w, _ := lone(t)
	uid := w.runJob(completions(2), parallelism(1))
	w.replacePool()
	w.exit(uid, 0, 0)
	write := w.writes[uid]
	delete(w.writes, uid)
	w.replacePool()
	w.lookAll()
	w.jobs[uid].job.Status = write.Status
	w.jobs[uid].version++
	w.submit(uid)
	w.engine.Written(write, fmt.Sprint(w.jobs[uid].version))
	w.lookAll()
	if s := w.pool().Snapshot(); s.Queued != 1 {
		t.Errorf("snapshot %+v, want it queued", s)
	}
}

// Jobs may be read before their pool: what runs must not be shown as without a pool for long.
func TestAJobThatRunsIsShownSoThoughItsPoolIsReadLater(t *testing.T) {
	for name, underWay := range map[string]bool{"asked for": false, "under way": true} {
		t.Run(name, func(t *testing.T) {
			w, p := lone(t)
			uid := w.runJob()
			w.live(time.Second)
			w.wantState(uid, v1alpha1.JobRunning, "")
			w.drop(p)

			w.epoch.Transitions++
			w.engine = New(func() time.Time { return w.now }, half, w)
			w.engine.Begin(w.epoch)
			w.submit(uid)
			write, writes := w.writes[uid], w.jobs[uid].writes
			if underWay {
				delete(w.writes, uid)
			}
			w.openPool()
			w.lookAll()
			w.connect(p)
			if underWay {
				w.jobs[uid].job.Status = write.Status
				w.jobs[uid].version++
				w.engine.Written(write, fmt.Sprint(w.jobs[uid].version))
			}
			w.live(waitingDue + time.Second)
			w.wantState(uid, v1alpha1.JobRunning, "")
			if n := w.jobs[uid].writes - writes; n > 0 && !underWay {
				t.Errorf("stored %d times more", n)
			}
		})
	}
}

// The cache may show a Job as it was before its pool was deleted, when there is another already.
func TestWhatHasRunInADeletedPoolIsNotForgottenWhileTheCacheIsLate(t *testing.T) {
	w, _ := lone(t)
	uid := w.runJob(completions(2), parallelism(1))
	stale := w.jobs[uid].job
	stale.ResourceVersion = fmt.Sprint(w.jobs[uid].version)
	w.replacePool()
	w.exit(uid, 0, 0)
	w.live(waitingDue)
	w.storeDue()
	w.wantState(uid, v1alpha1.JobPending, v1alpha1.ReasonPoolNotFound)

	w.engine.left[uid] = fmt.Sprint(w.jobs[uid].version) // as it is before the watch tells
	w.replacePool()
	w.looks, w.opened = nil, false
	w.engine.Submit(stale)
	if w.engine.jobs[uid] != nil {
		t.Error("it is taken in as it was")
	}
	w.submit(uid)
	if j := w.engine.jobs[uid]; j == nil || !j.indexed.has(0) {
		t.Error("it is not taken in as it is stored")
	}
}

// A pool may be gone, by force, with the operator that knew what ran in it.
func TestAJobThatRanInAPoolThatIsGoneIsNotRunTwiceIfItMayNot(t *testing.T) {
	w, p := lone(t)
	once, again := w.runJob(atMostOnce), w.runJob()
	w.live(time.Second)
	w.wantState(once, v1alpha1.JobRunning, "")
	w.wantState(again, v1alpha1.JobRunning, "")
	p.gone, p.running = true, nil

	w.epoch.Transitions++
	w.engine = New(func() time.Time { return w.now }, half, w)
	w.engine.Begin(w.epoch)
	for _, uid := range w.jobUIDs() {
		w.submit(uid)
	}
	w.now = w.now.Add(waitingDue)
	w.storeDue()
	w.wantState(once, v1alpha1.JobPending, v1alpha1.ReasonPoolNotFound)
	w.wantState(again, v1alpha1.JobPending, v1alpha1.ReasonPoolNotFound)

	w.config.UID = "another"
	w.openPool()
	w.join()
	w.live(time.Second)
	w.wantState(once, v1alpha1.JobFailed, v1alpha1.ReasonInterrupted)
	w.wantRuns(once)
	w.wantRuns(again, 0)
}
