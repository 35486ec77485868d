package engine

import (
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

func retries(n int32) func(*v1alpha1.JobSpec) {
	return func(s *v1alpha1.JobSpec) { s.MaxRetries = new(n) }
}

func backoff(initial, factor, most int32) func(*v1alpha1.JobSpec) {
	return func(s *v1alpha1.JobSpec) {
		s.Backoff = &v1alpha1.Backoff{InitialSeconds: new(initial), Factor: new(factor), MaxSeconds: new(most)}
	}
}

func completions(n int32) func(*v1alpha1.JobSpec) {
	return func(s *v1alpha1.JobSpec) { s.Completions = new(n) }
}

func TestTheBackoffGrowsUpToItsMostAndIsShortenedByChance(t *testing.T) {
	own := func(initial, factor, most int32) *v1alpha1.Backoff {
		return &v1alpha1.Backoff{InitialSeconds: new(initial), Factor: new(factor), MaxSeconds: new(most)}
	}
	for _, c := range []struct {
		name          string
		own, defaults *v1alpha1.Backoff
		most          map[int32]time.Duration // by the number of failures
	}{
		{"of its own", own(2, 3, 50), own(1, 1, 1), map[int32]time.Duration{
			1: 2 * time.Second, 2: 6 * time.Second, 3: 18 * time.Second, 4: 50 * time.Second, 10000: 50 * time.Second}},
		{"of the pool", nil, own(5, 2, 12), map[int32]time.Duration{1: 5 * time.Second, 2: 10 * time.Second, 3: 12 * time.Second}},
		{"unset", nil, nil, map[int32]time.Duration{1: time.Second, 2: 2 * time.Second, 9: 256 * time.Second, 10: 300 * time.Second, 2000000000: 300 * time.Second}},
		{"set in part", &v1alpha1.Backoff{MaxSeconds: new(int32(3))}, own(9, 9, 9), map[int32]time.Duration{1: time.Second, 3: 3 * time.Second}},
		{"none", own(0, 2, 300), nil, map[int32]time.Duration{1: 0, 7: 0}},
		{"steady", own(4, 1, 300), nil, map[int32]time.Duration{1: 4 * time.Second, 1000000000: 4 * time.Second}},
		{"more than its most", own(100, 10, 7), nil, map[int32]time.Duration{1: 7 * time.Second}},
		{"as large as can be", own(86400, 10, 86400), nil, map[int32]time.Duration{1: 86400 * time.Second, 10000: 86400 * time.Second}},
	} {
		w, _ := lone(t)
		w.config.Defaults.Backoff = c.defaults
		w.engine.SetPool(w.config)
		uid := w.create(command(func(s *v1alpha1.JobSpec) { s.Backoff = c.own }))
		for failures, want := range c.most {
			for chance, part := range map[float64]float64{0: 0.5, 0.5: 0.75, 1: 1} {
				w.engine.chance = func() float64 { return chance }
				if got := w.engine.jobs[uid].backoff(failures); got != time.Duration(part*float64(want)) {
					t.Errorf("%s: %s after %d failures with chance %g, want %g of %s", c.name, got, failures, chance, part, want)
				}
			}
		}
	}
}

// failing makes a Job whose first try has just failed, and nothing of that is stored.
func failing(t *testing.T, change ...func(*v1alpha1.JobSpec)) (*world, *simPod, types.UID) {
	t.Helper()
	w, p := lone(t)
	w.engine.chance = func() float64 { return 1 }
	uid := w.runJob(append([]func(*v1alpha1.JobSpec){retries(2), backoff(10, 2, 300)}, change...)...)
	w.exit(uid, 0, 3)
	return w, p, uid
}

func TestAFailedTryIsStoredAtOnce(t *testing.T) {
	w, p, uid := failing(t)
	write, ok := w.writes[uid]
	if s := write.Status; !ok || write.Due.After(w.now) || s.State != v1alpha1.JobPending || s.Reason != v1alpha1.ReasonRetrying ||
		s.Message != "The command ended with exit code 3. The Job is tried again." {
		t.Errorf("to be stored at %s: %s %s %q", write.Due, s.State, s.Reason, s.Message)
	}
	w.agents()
	if len(p.results) != 1 {
		t.Error("the agent was told to forget the result before it is stored")
	}
	w.turn()
	w.wantState(uid, v1alpha1.JobPending, v1alpha1.ReasonRetrying)
	s := w.status(uid)
	if deref(s.Retries) != 1 || deref(s.Attempts) != 1 || s.Attempt != nil || deref(s.Result.ExitCode) != 3 ||
		len(s.EndedAttempts) != 1 || s.EndedAttempts[0].Reason != v1alpha1.ReasonExitCode || deref(s.EndedAttempts[0].ExitCode) != 3 {
		t.Errorf("stored: %s", describeStatus(s))
	}
	if len(p.results) != 0 {
		t.Error("the agent keeps the result, though it is stored")
	}
}

func TestAJobThatWaitsForItsNextTryTakesNoRoom(t *testing.T) {
	w, p, uid := failing(t)
	w.turn()
	if s := w.pool().Snapshot(); s.Queued != 0 || s.Active != 0 || s.Waiting != 0 || s.Pods[p.uid].Busy {
		t.Errorf("snapshot %+v, want nothing queued and nothing active", s)
	}
	for range simSlots + simCapacity {
		w.create(command())
	}
	if s := w.pool().Snapshot(); s.Queued != simCapacity || s.Waiting != 0 {
		t.Errorf("snapshot %+v, want a full queue and none beyond it", s)
	}
	w.live(11*time.Second + waitingDue)
	w.wantState(uid, v1alpha1.JobQueued, v1alpha1.ReasonRetrying)
	if s := w.pool().Snapshot(); s.Queued != simCapacity+1 {
		t.Errorf("%d queued, want one more than the capacity: it had a place before", s.Queued)
	}
}

func TestTheNextTryStartsOnceTheBackoffIsOver(t *testing.T) {
	w, _, uid := failing(t)
	w.live(10*time.Second - TickInterval)
	w.wantRuns(uid)
	w.live(2 * TickInterval)
	w.wantRuns(uid, 0)
	w.exit(uid, 0, 4)
	w.live(20*time.Second - TickInterval)
	w.wantRuns(uid)
	w.live(2 * TickInterval)
	w.wantRuns(uid, 0)
	if a := w.assignment(uid, 0); a.Token.Try != 3 {
		t.Errorf("try %d, want 3", a.Token.Try)
	}
}

func TestTheNextTryStartsOnceTheFailureIsStored(t *testing.T) {
	w, p, uid := failing(t)
	w.idle(time.Minute) // the API server is away
	w.agents()
	w.wantRuns(uid)
	if s := w.pool().Snapshot(); s.Queued != 0 || s.Active != 0 || !s.Pods[p.uid].Busy {
		t.Errorf("snapshot %+v, want a busy worker and nothing queued", s)
	}
	w.turn()
	w.live(TickInterval)
	w.wantRuns(uid, 0)
}

// Whatever else wakes the Job meanwhile.
func TestTheNextTryOfATaskStartsOnceItsFailureIsStored(t *testing.T) {
	w, _ := lone(t)
	uid := w.runJob(completions(2), retries(1), backoff(0, 1, 0))
	w.live(5 * time.Second)
	w.exit(uid, 0, 1)
	w.idle(5 * time.Second)
	w.agents()
	w.wantRuns(uid, 1)
	w.live(2 * TickInterval)
	w.wantRuns(uid, 0, 1)
}

// One task's write must not hold up another's.
func TestATaskOfWhichTheFailureIsStoredDoesNotWaitForAnother(t *testing.T) {
	w, _ := lone(t)
	w.engine.chance = func() float64 { return 1 }
	uid := w.runJob(completions(2), retries(5), backoff(3, 1, 3))
	w.exit(uid, 0, 1)
	w.live(2 * time.Second)
	w.exit(uid, 1, 1)
	w.live(2 * time.Second)
	w.wantRuns(uid, 0)
	w.live(2 * time.Second)
	w.wantRuns(uid, 0, 1)
}

func TestAJobFailsAfterItsLastTryWithTheLastResult(t *testing.T) {
	w, p, uid := failing(t)
	for code := int32(4); code <= 5; code++ {
		w.live(30 * time.Second)
		w.exit(uid, 0, code)
	}
	if s := w.writes[uid].Status; s.State != v1alpha1.JobFailed || s.Reason != v1alpha1.ReasonExitCode {
		t.Errorf("to be stored as %s %s", s.State, s.Reason)
	}
	w.turn()
	w.wantState(uid, v1alpha1.JobFailed, v1alpha1.ReasonExitCode)
	s := w.status(uid)
	if deref(s.Retries) != 2 || deref(s.Attempts) != 3 || deref(s.Result.ExitCode) != 5 || len(s.EndedAttempts) != 3 ||
		s.Message != "The command ended with exit code 5." {
		t.Errorf("stored: %s", describeStatus(s))
	}
	if len(p.results) != 0 || w.pool().Snapshot().Failed != 1 {
		t.Errorf("%d results left, snapshot %+v", len(p.results), w.pool().Snapshot())
	}
}

func TestOnlyTheLastThreeTriesAreKept(t *testing.T) {
	w, _ := lone(t)
	uid := w.runJob(retries(9), backoff(0, 1, 0))
	for code := int32(1); code <= 5; code++ {
		w.exit(uid, 0, code)
		w.live(time.Second)
	}
	ended := w.status(uid).EndedAttempts
	if len(ended) != 3 || *ended[0].ExitCode != 3 || *ended[2].ExitCode != 5 {
		t.Errorf("ended attempts %+v, want those with the exit codes 3, 4, 5", ended)
	}
}

func TestTheUsageIsThatOfTheLastTry(t *testing.T) {
	w, _ := lone(t)
	uid := w.runJob(retries(1), backoff(0, 1, 0))
	w.finish(uid, 0, Result{Outcome: Exited, ExitCode: 1, CPUTime: 3 * time.Second, MaxMemoryBytes: 300})
	w.live(time.Second)
	w.finish(uid, 0, Result{Outcome: Exited, CPUTime: 2 * time.Second, MaxMemoryBytes: 200})
	w.turn()
	if u := w.status(uid).Usage; *u.CPUMilliseconds != 2000 || *u.MaxMemoryBytes != 200 {
		t.Errorf("usage %d ms, %d bytes; want 2000 ms, 200 bytes", *u.CPUMilliseconds, *u.MaxMemoryBytes)
	}
}

func TestMemoryThatIsNotKnownIsLeftOut(t *testing.T) {
	w, _ := lone(t)
	uid := w.runJob()
	w.finish(uid, 0, Result{Outcome: Exited, CPUTime: time.Second})
	w.turn()
	if u := w.status(uid).Usage; *u.CPUMilliseconds != 1000 || u.MaxMemoryBytes != nil {
		t.Errorf("usage %+v", u)
	}
}

func TestASuccessAfterAFailureIsASuccess(t *testing.T) {
	w, _, uid := failing(t)
	w.live(11 * time.Second)
	w.exit(uid, 0, 0)
	w.turn()
	w.wantState(uid, v1alpha1.JobSucceeded, "")
	if s := w.status(uid); deref(s.Result.ExitCode) != 0 || s.Result.Reason != "" || deref(s.Retries) != 1 || s.Message != "" {
		t.Errorf("stored: %s", describeStatus(s))
	}
}

// An agent tells a result again until it has been told that it is stored.
func TestAResultThatIsToldAgainCountsOnce(t *testing.T) {
	for name, change := range map[string]func(*v1alpha1.JobSpec){"plain": func(*v1alpha1.JobSpec) {}, "indexed": completions(1)} {
		t.Run(name, func(t *testing.T) {
			w, p, uid := failing(t, change)
			told := p.results[0]
			again := func(when string, retries int32) {
				t.Helper()
				w.drop(p)
				p.results = []Result{told}
				w.connect(p)
				if j := w.engine.jobs[uid]; deref(j.object.Status.Retries) != retries {
					t.Errorf("%s: %d retries, want %d", when, deref(j.object.Status.Retries), retries)
				}
			}
			again("before it is stored", 1)
			w.live(2 * time.Second)
			w.wantState(uid, v1alpha1.JobPending, v1alpha1.ReasonRetrying)
			again("when it is stored", 1)
			w.turn()
			if len(p.results) != 0 {
				t.Error("the agent is not told to forget it")
			}
			w.live(10 * time.Second)
			w.wantRuns(uid, 0)
			again("while the next try runs", 1)
			w.turn()
			w.wantRuns(uid, 0)

			w.lead()
			again("by the next leader", 1)
			w.turn()
			w.wantRuns(uid, 0)
			if len(p.results) != 0 {
				t.Error("the agent is not told to forget it by the next leader")
			}
		})
	}
}

// A write that is under way when the next is asked for holds what it holds.
func TestAResultIsForgottenWhenTheFirstWriteThatHasItIsStored(t *testing.T) {
	w, p, uid := failing(t)
	first := w.writes[uid]
	w.suspend(uid, true)
	if w.writes[uid].Version == first.Version {
		t.Fatal("no second write was asked for")
	}
	w.jobs[uid].job.Status = first.Status
	w.engine.Written(first, "9")
	w.agents()
	if len(p.results) != 0 {
		t.Error("the agent still has it")
	}
}

// The next leader has only what is stored.
func TestTheNextLeaderGoesOnWithTheRetriesThatAreStored(t *testing.T) {
	for name, change := range map[string]func(*v1alpha1.JobSpec){"plain": func(*v1alpha1.JobSpec) {}, "indexed": completions(1)} {
		t.Run(name, func(t *testing.T) {
			w, p, uid := failing(t, change)
			told := p.results[0]
			w.live(2 * time.Second)
			w.drop(p)
			w.lead()
			p.results = []Result{told}
			w.connect(p)
			w.live(time.Second) // it does not know when the last try ended
			w.wantRuns(uid, 0)
			if a := w.assignment(uid, 0); a.Token.Try != 2 {
				t.Errorf("try %d, want 2", a.Token.Try)
			}
			w.engine.chance = func() float64 { return 1 }
			w.exit(uid, 0, 1)
			w.live(19 * time.Second)
			w.wantRuns(uid) // it is the second failure
			w.live(2 * time.Second)
			w.exit(uid, 0, 1)
			w.live(2 * time.Second)
			want := v1alpha1.ReasonExitCode
			if name == "indexed" {
				want = v1alpha1.ReasonIndexesFailed
			}
			w.wantState(uid, v1alpha1.JobFailed, want)
			if n := deref(w.status(uid).Retries); n != 2 {
				t.Errorf("%d retries, want 2", n)
			}
		})
	}
}

func TestRetriedTasksAreStoredWithTheirRetriesAndTheirLastTry(t *testing.T) {
	w, _ := lone(t)
	uid := w.runJob(completions(2), retries(5), backoff(0, 1, 0))
	for n := range 3 {
		w.exit(uid, 1, 1)
		w.live(2 * time.Second)
		if got, want := w.status(uid).RetriedIndexes, fmt.Sprintf("1:%d:%d", n+1, n+1); got != want {
			t.Errorf("retried %q, want %q", got, want)
		}
		w.wantRuns(uid, 0, 1)
	}
	w.exit(uid, 0, 7)
	w.live(2 * time.Second)
	if got, want := w.status(uid).RetriedIndexes, "0:1:1,1:3:3"; got != want {
		t.Errorf("retried %q, want %q", got, want)
	}
	w.exit(uid, 1, 0)
	w.exit(uid, 0, 0)
	w.turn()
	if s := w.status(uid); s.RetriedIndexes != "" || deref(s.Retries) != 4 || s.State != v1alpha1.JobSucceeded {
		t.Errorf("stored: %s", describeStatus(s))
	}
}

// What is passing may have to wait for other Jobs' ends to be stored; what somebody waits for may not.
func TestWritesThatSomethingWaitsForSaySo(t *testing.T) {
	w, p := lone(t)
	queued := w.create(command(func(s *v1alpha1.JobSpec) { s.StartAfter = &metav1.Time{Time: w.now.Add(time.Hour)} }))
	once := w.create(command(func(s *v1alpha1.JobSpec) { s.Execution = v1alpha1.AtMostOnce }))
	if w.writes[queued].Awaited || !w.writes[once].Awaited {
		t.Errorf("awaited are: waiting %t, to be started %t; want only the start", w.writes[queued].Awaited, w.writes[once].Awaited)
	}
	retried := w.create(command(func(s *v1alpha1.JobSpec) { s.MaxRetries = new(int32(1)) }))
	w.receive(p)
	w.report(p)
	if w.writes[retried].Awaited {
		t.Error("a write that it runs is awaited")
	}
	w.end(p, sortedTokens(p.running)[0], Exited, 1)
	w.report(p)
	if !w.writes[retried].Awaited {
		t.Error("the failure before a retry is not awaited")
	}
}
