package engine

import (
	"reflect"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// part is something that a status says.
type part func(*v1alpha1.JobStatus)

func status(parts ...part) v1alpha1.JobStatus {
	s := v1alpha1.JobStatus{Leader: "1.1"}
	for _, p := range parts {
		p(&s)
	}
	return s
}

func by(leader string) part { return func(s *v1alpha1.JobStatus) { s.Leader = leader } }

func counts(attempts, retries, lost int32) part {
	return func(s *v1alpha1.JobStatus) {
		s.Attempts, s.Retries, s.LostWorkers = counted(attempts), counted(retries), counted(lost)
	}
}

// ended is an attempt that has ended after so many seconds. Its result is called as it is.
func ended(token string, second int64, reason string) part {
	return func(s *v1alpha1.JobStatus) {
		end := metav1.NewMicroTime(time.Unix(second, 0))
		s.EndedAttempts = append(s.EndedAttempts, v1alpha1.Attempt{Token: token, EndTime: &end, Reason: reason})
		s.Result = &v1alpha1.JobResult{Output: token}
	}
}

func runs(token string) part {
	return func(s *v1alpha1.JobStatus) { s.Attempt = &v1alpha1.Attempt{Token: token} }
}

func indexesOf(succeeded, failed, retried string) part {
	return func(s *v1alpha1.JobStatus) {
		s.SucceededIndexes, s.FailedIndexes, s.RetriedIndexes = succeeded, failed, retried
	}
}

func fails(reason string) part {
	return func(s *v1alpha1.JobStatus) {
		s.Conditions = []metav1.Condition{{Type: v1alpha1.JobFailureTarget, Status: metav1.ConditionTrue, Reason: reason}}
	}
}

// What is known belongs to leader 2.1, and what is stored is written by 1.1, the leader before, unless it says otherwise.
func TestWhatIsStoredIsMergedWithWhatIsKnown(t *testing.T) {
	ours := by("2.1")
	cases := map[string]struct {
		size                int32
		known, stored, want v1alpha1.JobStatus
	}{
		"nothing": {0, status(ours), status(), status(ours)},
		"all is news": {
			0, status(ours), status(counts(2, 1, 1), ended("1.1.1", 10, "ExitCode"), ended("2.1.1", 20, "WorkerLost")),
			status(ours, counts(2, 1, 1), ended("1.1.1", 10, "ExitCode"), ended("2.1.1", 20, "WorkerLost")),
		},
		"what is stored is older": {
			0, status(ours, counts(2, 1, 1), ended("1.1.1", 10, "ExitCode")), status(counts(1, 0, 0)),
			status(ours, counts(2, 1, 1), ended("1.1.1", 10, "ExitCode")),
		},
		"both know of the same end": {
			0, status(ours, counts(1, 1, 0), ended("1.1.1", 10, "ExitCode")), status(counts(1, 1, 0), ended("1.1.1", 11, "ExitCode")),
			status(ours, counts(1, 1, 0), ended("1.1.1", 10, "ExitCode")),
		},
		"they know of different ends: both count": {
			0, status(ours, counts(1, 1, 0), ended("1.2.1", 20, "ExitCode")), status(counts(1, 1, 0), ended("1.1.1", 10, "ExitCode")),
			status(ours, counts(2, 2, 0), ended("1.1.1", 10, "ExitCode"), ended("1.2.1", 20, "ExitCode")),
		},
		"one that was cut off is no retry": {
			0, status(ours, counts(1, 1, 0), ended("1.2.1", 20, "ExitCode")), status(counts(1, 0, 0), ended("1.1.1", 10, "Interrupted")),
			status(ours, counts(2, 1, 0), ended("1.1.1", 10, "Interrupted"), ended("1.2.1", 20, "ExitCode")),
		},
		"what is known to run has ended: it is counted already": {
			0, status(ours, counts(1, 0, 0), runs("1.1.1")), status(counts(1, 1, 0), ended("1.1.1", 10, "ExitCode")),
			status(ours, counts(1, 1, 0), runs("1.1.1"), ended("1.1.1", 10, "ExitCode")),
		},
		"that it runs is no fact": {0, status(ours), status(runs("1.1.1")), status(ours)},
		"the last three are kept": {
			0, status(ours, counts(2, 0, 0), ended("2.2.1", 30, "Interrupted"), ended("3.2.1", 40, "Interrupted")),
			status(counts(2, 0, 0), ended("1.1.1", 10, "Interrupted"), ended("2.1.1", 20, "Interrupted")),
			status(ours, counts(4, 0, 0), ended("2.1.1", 20, "Interrupted"), ended("2.2.1", 30, "Interrupted"), ended("3.2.1", 40, "Interrupted")),
		},
		"what had to make room does not come back": {
			0, status(ours, counts(4, 3, 0), ended("2.1.1", 20, "ExitCode"), ended("3.1.1", 30, "ExitCode"), ended("4.1.1", 40, "ExitCode")),
			status(counts(3, 3, 0), ended("1.1.1", 10, "ExitCode"), ended("2.1.1", 20, "ExitCode"), ended("3.1.1", 30, "ExitCode")),
			status(ours, counts(4, 3, 0), ended("2.1.1", 20, "ExitCode"), ended("3.1.1", 30, "ExitCode"), ended("4.1.1", 40, "ExitCode")),
		},
		"an attempt of onFailure may have the token of one of the task": {
			0, status(ours, ended("1.1.1", 10, "ExitCode")), status(ended("1.1.1", 10, "ExitCode"), ended("1.1.1", 20, "WorkerLost")),
			status(ours, ended("1.1.1", 10, "ExitCode"), ended("1.1.1", 20, "WorkerLost")),
		},
		"an attempt of this leader was taken back": {
			0, status(ours, counts(1, 0, 0)), status(ours, counts(2, 0, 0)), status(ours, counts(1, 0, 0)),
		},
		"an end that this leader has stored before does not come back": {
			0, status(ours, counts(4, 3, 0), ended("2.2.1", 20, "ExitCode"), ended("3.2.1", 10, "ExitCode"), ended("4.2.1", 40, "ExitCode")),
			status(ours, counts(3, 3, 0), ended("1.2.1", 30, "ExitCode"), ended("2.2.1", 20, "ExitCode"), ended("3.2.1", 10, "ExitCode")),
			status(ours, counts(4, 3, 0), ended("2.2.1", 20, "ExitCode"), ended("3.2.1", 10, "ExitCode"), ended("4.2.1", 40, "ExitCode")),
		},
		"it fails":                         {0, status(ours), status(fails("ExitCode")), status(ours, fails("ExitCode"))},
		"it fails, as is known":            {0, status(ours, fails("Timeout")), status(fails("ExitCode")), status(ours, fails("Timeout"))},
		"it fails, which is not stored":    {0, status(ours, fails("Timeout")), status(), status(ours, fails("Timeout"))},
		"tasks have ended":                 {9, status(ours, indexesOf("0-1", "5", "")), status(indexesOf("1-3", "7", "")), status(ours, indexesOf("0-3", "5,7", ""))},
		"the end that is known stands":     {9, status(ours, indexesOf("1", "2", "")), status(indexesOf("2", "1", "")), status(ours, indexesOf("1", "2", ""))},
		"a task was tried":                 {9, status(ours), status(counts(1, 1, 0), indexesOf("", "", "3:1:1")), status(ours, counts(1, 1, 0), indexesOf("", "", "3:1:1"))},
		"a task that was tried is done":    {9, status(ours, counts(1, 1, 0), indexesOf("", "", "3:1:1")), status(counts(2, 1, 0), indexesOf("3", "", "")), status(ours, counts(2, 1, 0), indexesOf("3", "", ""))},
		"a task that is done was tried":    {9, status(ours, counts(2, 1, 0), indexesOf("3", "", "")), status(counts(1, 1, 0), indexesOf("", "", "3:1:1")), status(ours, counts(2, 1, 0), indexesOf("3", "", ""))},
		"a task was tried more often":      {9, status(ours, counts(1, 1, 0), indexesOf("", "", "3:1:1")), status(counts(2, 2, 0), indexesOf("", "", "3:2:4")), status(ours, counts(2, 2, 0), indexesOf("", "", "3:2:4"))},
		"a task was tried less often":      {9, status(ours, counts(2, 2, 0), indexesOf("", "", "3:2:4")), status(counts(1, 1, 0), indexesOf("", "", "3:1:1")), status(ours, counts(2, 2, 0), indexesOf("", "", "3:2:4"))},
		"different tasks were tried":       {9, status(ours, counts(1, 1, 0), indexesOf("", "", "3:1:1")), status(counts(1, 1, 0), indexesOf("", "", "4:1:1")), status(ours, counts(1, 2, 0), indexesOf("", "", "3:1:1,4:1:1"))},
		"this leader's counts are its own": {9, status(ours, counts(2, 2, 0), indexesOf("", "", "3:1:1")), status(ours, counts(1, 1, 0), indexesOf("", "", "4:1:1")), status(ours, counts(2, 2, 0), indexesOf("", "", "3:1:1,4:1:1"))},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			known, stored, want := factsOf(&c.known, c.size), factsOf(&c.stored, c.size), factsOf(&c.want, c.size)
			got := known.merge(stored)
			if len(got.tries) == 0 {
				got.tries = nil
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
			if again := got.merge(stored); !reflect.DeepEqual(again, want) {
				t.Errorf("merged twice: %+v, want %+v", again, want)
			}
			if !reflect.DeepEqual(known, factsOf(&c.known, c.size)) || !reflect.DeepEqual(stored, factsOf(&c.stored, c.size)) {
				t.Error("what was merged has changed")
			}
		})
	}
}

// edit changes what is stored of a Job, as a write does that was sent long ago.
func (w *world) edit(uid types.UID, change func(*v1alpha1.JobStatus)) {
	change(&w.jobs[uid].job.Status)
	w.jobs[uid].version++
}

// followed is a world with a Job whose leader has gone, and whose pods the next leader has met.
func followed(t *testing.T, slots int, change ...func(*v1alpha1.JobSpec)) (*world, *simPod, types.UID) {
	t.Helper()
	w, p := room(t, slots)
	w.drop(p)
	uid := w.create(command(change...))
	w.lead()
	w.lookAll()
	w.connect(p)
	w.agents()
	return w, p, uid
}

func TestTasksOfAnEarlierLeadersJobWaitUntilAWriteOfThisOneIsStored(t *testing.T) {
	w, _, uid := followed(t, 2, completions(3))
	w.wantRuns(uid)
	w.turn()
	w.wantRuns(uid, 0, 1)
	if n := w.jobs[uid].writes; n != 1 {
		t.Errorf("stored %d times, want once", n)
	}
	if s := w.status(uid); s.Leader != w.epoch.String() {
		t.Errorf("the stored leader is %q, want %s", s.Leader, w.epoch)
	}
	later := w.create(command(completions(1)))
	w.exit(uid, 0, 0)
	w.exit(uid, 1, 0)
	w.agents()
	w.agents()
	w.wantRuns(uid, 2)
	w.wantRuns(later, 0) // no other can have begun it
	if n := w.jobs[later].writes; n != 0 {
		t.Errorf("the later Job is stored %d times before it starts", n)
	}
}

func TestManyJobsOfAnEarlierLeaderAreNotWrittenBeforeTheirTurn(t *testing.T) {
	w, p := lone(t)
	w.configure(func(c *PoolConfig) { c.Capacity = 100 })
	w.drop(p)
	for range 100 {
		w.create(command(completions(1)))
	}
	w.lead()
	w.connect(p)
	w.agents()
	if n := len(w.writes); n > maxClaims+1 {
		pressing := 0
		for _, write := range w.writes {
			if !write.Passing() {
				pressing++
			}
		}
		if pressing > maxClaims {
			t.Errorf("%d writes are waited for, for one free slot; want %d at most", pressing, maxClaims)
		}
	}
}

// A plain Job of which nothing is stored runs at once: that it may run twice is allowed.
func TestAPlainJobThatHasNotBegunWaitsForNoWrite(t *testing.T) {
	w, _, uid := followed(t, 1)
	w.wantRuns(uid, 0)
	if n := w.jobs[uid].writes; n != 0 {
		t.Errorf("stored %d times, want not at all", n)
	}
}

func TestAWriteThatTakesEffectBeforeTheNextLeadersIsMerged(t *testing.T) {
	late := func(s *v1alpha1.JobStatus) {
		s.SucceededIndexes, s.FailedIndexes, s.RetriedIndexes = "0", "1", "2:1:1"
		s.Attempts, s.Retries = new(int32(3)), new(int32(1))
	}
	for name, shown := range map[string]bool{"a conflict shows it": false, "the cache shows it": true} {
		t.Run(name, func(t *testing.T) {
			w, _, uid := followed(t, 4, completions(5), retries(1))
			w.edit(uid, late)
			if shown {
				w.submit(uid)
			}
			w.live(2 * time.Second)
			w.wantRuns(uid, 2, 3, 4)
			if s := w.status(uid); s.SucceededIndexes != "0" || s.FailedIndexes != "1" || s.RetriedIndexes != "2:1:1" || deref(s.Retries) != 1 {
				t.Errorf("stored: %s", describeStatus(s))
			}
			w.exit(uid, 2, 1) // it has no retry left
			w.exit(uid, 3, 0)
			w.exit(uid, 4, 0)
			w.live(2 * time.Second)
			w.wantState(uid, v1alpha1.JobFailed, v1alpha1.ReasonIndexesFailed)
			if s := w.status(uid); s.FailedIndexes != "1-2" || s.SucceededIndexes != "0,3-4" {
				t.Errorf("stored in the end: %s", describeStatus(s))
			}
		})
	}
}

// What an earlier leader started goes on under the next one, which then learns that it has ended.
func TestAnAttemptThatIsStoredAsEndedDoesNotGoOn(t *testing.T) {
	w, p := room(t, 2)
	plain, indexed := w.runJob(retries(1), backoff(0, 1, 0)), w.runJob(completions(1))
	w.live(time.Second)
	_, token := w.running(plain, 0)
	w.drop(p)
	w.lead()
	w.connect(p)
	w.edit(plain, func(s *v1alpha1.JobStatus) {
		end := metav1.NewMicroTime(w.now)
		s.EndedAttempts, s.Attempt = []v1alpha1.Attempt{{Token: s.Attempt.Token, EndTime: &end, Reason: v1alpha1.ReasonExitCode}}, nil
		s.Retries = new(int32(1))
	})
	w.edit(indexed, func(s *v1alpha1.JobStatus) { s.SucceededIndexes, s.RunningIndexes = "0", nil })
	w.submit(plain)
	w.submit(indexed)
	w.live(2 * time.Second)
	w.wantState(indexed, v1alpha1.JobSucceeded, "")
	if _, again := w.running(plain, 0); again.Compare(token) <= 0 {
		t.Errorf("%s runs, want a later attempt than %s", again, token)
	}
	w.exit(plain, 0, 1)
	w.live(2 * time.Second)
	w.wantState(plain, v1alpha1.JobFailed, v1alpha1.ReasonExitCode)
	if s := w.status(plain); deref(s.Retries) != 1 || len(s.EndedAttempts) != 2 || deref(s.LostWorkers) != 0 {
		t.Errorf("stored: %s", describeStatus(s))
	}
}

func TestThatAJobFailsIsLearnt(t *testing.T) {
	w, _, uid := followed(t, 1, completions(2), onFailure)
	w.edit(uid, func(s *v1alpha1.JobStatus) {
		fails(v1alpha1.ReasonExitCode)(s)
		s.FailedIndexes = "0"
	})
	w.live(2 * time.Second)
	w.wantRuns(uid, 2) // onFailure
	w.exit(uid, 2, 0)
	w.live(2 * time.Second)
	w.wantState(uid, v1alpha1.JobFailed, v1alpha1.ReasonExitCode)
}

// What is learnt while the end of a Job is being stored is stored with it.
func TestTheEndOfAJobIsStoredWithWhatWasStoredMeanwhile(t *testing.T) {
	w, _ := lone(t)
	uid := w.runJob(retries(3))
	w.edit(uid, func(s *v1alpha1.JobStatus) { s.LostWorkers = new(int32(2)) })
	w.exit(uid, 0, 0)
	w.turn()
	w.wantState(uid, v1alpha1.JobSucceeded, "")
	if s := w.status(uid); deref(s.LostWorkers) != 2 {
		t.Errorf("stored: %s", describeStatus(s))
	}
}

func TestThatAJobHasNoPoolIsSaidOfWhatIsStoredNow(t *testing.T) {
	w, _ := lone(t)
	uid := w.create(command(func(s *v1alpha1.JobSpec) { s.Completions = new(int32(2)) }))
	stored := w.jobs[uid]
	stored.job.Spec.Pool = "none"
	w.lead()
	stored.job.Spec = stored.job.Spec.DeepCopy()
	w.edit(uid, func(s *v1alpha1.JobStatus) { s.SucceededIndexes = "0" })
	w.live(4 * time.Second)
	w.wantState(uid, v1alpha1.JobPending, v1alpha1.ReasonPoolNotFound)
	if s := w.status(uid); s.SucceededIndexes != "0" {
		t.Errorf("stored: %s", describeStatus(s))
	}
}
