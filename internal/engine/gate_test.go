package engine

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// forger is a worker of which a stranger says what it likes, beside an honest one.
type forger struct {
	*world
	honest  *simPod
	pod     *simPod
	session *simSession
}

// newForger makes the forger join the world's pool, or another.
func newForger(t *testing.T, old, elsewhere bool) *forger {
	w, honest := lone(t)
	f := &forger{world: w, honest: honest, session: &simSession{pod: "forger", sent: w.sent, world: w}}
	hello := Hello{Pool: poolKey, PoolUID: w.config.UID, Pod: "forger", PodName: "forger", Instance: "f", Proves: !old}
	if elsewhere {
		other := w.config
		other.Key.Name, other.UID = "other", "other"
		hello.Pool, hello.PoolUID = other.Key, other.UID
		w.engine.SetPool(other)
	}
	w.addPod()
	f.pod = w.pods[len(w.pods)-1]
	f.pod.uid, f.pod.slots = "forger", 0 // it is sent nothing
	f.pod.terminating = true
	if !elsewhere {
		w.listPods()
	} else {
		w.engine.SetWorkers(hello.Pool, []WorkerPod{w.podOf(f.pod)})
		w.pods = w.pods[:len(w.pods)-1]
	}
	if err := w.engine.Connect(f.session, hello); err != nil {
		t.Fatal(err)
	}
	f.session.inbox = nil
	return f
}

// told is what the forger was told since: the kills, and what it may forget.
func (f *forger) told() (kills int, settled int) {
	for _, cmd := range f.session.inbox {
		kills, settled = kills+len(cmd.Kills), settled+len(cmd.Settled)
	}
	f.session.inbox = nil
	return kills, settled
}

// wantRefused has the forger say that an attempt runs, and that it has ended, and wants that to change nothing.
func (f *forger) wantRefused(token Token, proven bool) {
	f.t.Helper()
	uid := token.Job
	name := f.jobs[uid].job.Name
	before := func() string {
		p := f.engine.pools[poolKey]
		j := f.engine.jobs[uid]
		return fmt.Sprintf("%d writes, %s, %d run, %d active, %d waits, load %d, %d sent, version %d",
			f.jobs[uid].writes, describeStatus(&j.object.Status), p.running, p.active(), p.backlog, p.load.running, len(f.honest.kills), j.version)
	}
	was := before()
	f.engine.Report(f.session, Report{Running: []Running{{Token: token, JobName: name, Proven: proven}}})
	if kills, _ := f.told(); kills != 1 {
		f.t.Errorf("what is said to run of %v is not killed", token)
	}
	f.engine.Report(f.session, Report{Results: []Result{{Token: token, JobName: name, Outcome: Exited, Output: "forged", Proven: proven}}})
	if _, settled := f.told(); settled != 1 {
		f.t.Errorf("the agent is not let forget the result of %v", token)
	}
	if now := before(); now != was {
		f.t.Errorf("it has changed the Job:\n%s\n%s", was, now)
	}
	for key, p := range f.engine.pools {
		if p.running < 0 || p.active() < 0 || p.backlog < 0 || key != poolKey && p.running != 0 {
			f.t.Errorf("pool %v counts %d running, %d active, %d waiting", key, p.running, p.active(), p.backlog)
		}
	}
}

func TestWhatAnotherPoolsWorkerSaysOfAJobIsRefused(t *testing.T) {
	for _, old := range []bool{false, true} {
		f := newForger(t, old, true)
		uid := f.runJob()
		_, token := f.running(uid, 0)
		for _, forged := range []Token{token, {Job: uid, Try: 2, Epoch: f.epoch}, {Job: uid, Try: 2, Epoch: Epoch{Transitions: 9}}, {Job: uid, Try: 1}} {
			f.wantRefused(forged, false)
			f.wantRefused(forged, true) // even then
		}
		waiting := f.create(command(suspended))
		f.wantRefused(Token{Job: waiting, Try: 1}, false)
		f.exit(uid, 0, 0)
		f.turn()
		f.wantState(uid, v1alpha1.JobSucceeded, "")
	}
}

func TestAnAttemptThatWasNotGivenToItsWorkerIsRefused(t *testing.T) {
	later := Epoch{Transitions: math.MaxInt64}
	for name, c := range map[string]struct {
		old   bool
		forge func(Token) Token
	}{
		"its very token, of another worker":         {false, func(t Token) Token { return t }},
		"its very token, of another old worker":     {true, func(t Token) Token { return t }},
		"a higher try of ours":                      {true, func(t Token) Token { t.Try++; return t }},
		"the epoch of a leader to come":             {true, func(t Token) Token { t.Epoch = later; return t }},
		"an index that the Job does not have":       {true, func(t Token) Token { return Token{Job: t.Job, Index: 5, Try: 1} }},
		"the highest try, of an earlier leader":     {true, func(t Token) Token { return Token{Job: t.Job, Try: math.MaxInt32} }},
		"an earlier leader's, without its proof":    {false, func(t Token) Token { return Token{Job: t.Job, Try: 7} }},
		"a leader's to come, without its proof":     {false, func(t Token) Token { t.Epoch = later; return t }},
		"an earlier leader's, of one that is known": {true, func(t Token) Token { return Token{Job: t.Job, Try: 1} }},
	} {
		t.Run(name, func(t *testing.T) {
			f := newForger(t, c.old, false)
			uid := f.runJob()
			_, token := f.running(uid, 0)
			f.wantRefused(c.forge(token), false)
			f.exit(uid, 0, 0)
			f.turn()
			f.wantState(uid, v1alpha1.JobSucceeded, "")
			if r := f.status(uid).Result; r == nil || r.Output != "" {
				t.Errorf("the result is %+v", r)
			}
		})
	}
}

func TestAnAttemptThatIsStoredAsAnotherPodsIsRefused(t *testing.T) {
	for name, change := range map[string]func(*v1alpha1.JobSpec){"plain": unchanged, "indexed": completions(1)} {
		t.Run(name, func(t *testing.T) {
			f := newForger(t, true, false)
			uid := f.runJob(change)
			f.live(2 * time.Second) // it is recorded
			_, token := f.running(uid, 0)
			f.drop(f.honest)
			f.lead()
			f.session = &simSession{pod: "forger", sent: f.sent, world: f.world}
			if err := f.engine.Connect(f.session, Hello{Pool: poolKey, PoolUID: f.config.UID, Pod: "forger", PodName: "forger"}); err != nil {
				t.Fatal(err)
			}
			for _, try := range []int32{token.Try, token.Try + 1} {
				f.told()
				f.wantRefused(Token{Job: uid, Try: try, Epoch: token.Epoch}, false)
			}
			f.connect(f.honest)
			f.exit(uid, 0, 0)
			f.live(2 * time.Second)
			f.wantState(uid, v1alpha1.JobSucceeded, "")
		})
	}
}

func unchanged(*v1alpha1.JobSpec) {}

// An agent of the version before has no proofs, and what it runs is not stored yet.
func TestAnOldAgentsAttemptOfAnEarlierLeaderGoesOn(t *testing.T) {
	w, p := lone(t)
	p.old = true
	uid := w.runJob()
	_, token := w.running(uid, 0)
	w.lead()
	w.connect(p)
	w.turn()
	if _, now := w.running(uid, 0); now != token {
		t.Errorf("%v runs, want %v", now, token)
	}
	w.exit(uid, 0, 0)
	w.turn()
	w.wantState(uid, v1alpha1.JobSucceeded, "")
}

// Where nobody can prove it, another worker may have said first that it runs the attempt.
func TestTheResultOfAnAttemptThatAnotherSaysItRunsIsNotKeptForEver(t *testing.T) {
	f := newForger(t, true, false)
	f.honest.old = true
	uid := f.runJob()
	_, token := f.running(uid, 0)
	f.drop(f.honest)
	f.lead()
	f.session = &simSession{pod: "forger", sent: f.sent, world: f.world}
	running := []Running{{Token: token, JobName: f.jobs[uid].job.Name}}
	if err := f.engine.Connect(f.session, Hello{Pool: poolKey, PoolUID: f.config.UID, Pod: "forger", PodName: "forger", Running: running}); err != nil {
		t.Fatal(err)
	}
	f.exit(uid, 0, 0)
	f.connect(f.honest)
	f.live(2 * time.Second)
	f.wantState(uid, v1alpha1.JobSucceeded, "")
	if n := len(f.honest.results); n != 0 {
		t.Errorf("the worker keeps %d results", n)
	}
}

// What runs AtMostOnce is stored before it is sent, so that nobody can have been given what is not.
func TestAnOldAgentCantClaimAJobThatRunsAtMostOnce(t *testing.T) {
	for name, change := range map[string][]func(*v1alpha1.JobSpec){"queued": {atMostOnce}, "without its spec": {atMostOnce, suspended}} {
		t.Run(name, func(t *testing.T) {
			f := newForger(t, true, false)
			f.drop(f.honest)
			uid := f.create(command(change...))
			token := Token{Job: uid, Try: 1}
			f.engine.Report(f.session, Report{Results: []Result{{Token: token, JobName: f.jobs[uid].job.Name, Outcome: Exited}}})
			f.engine.Report(f.session, Report{Running: []Running{{Token: token, JobName: f.jobs[uid].job.Name}}})
			f.lookAll()
			if kills, settled := f.told(); kills == 0 || settled > 1 {
				t.Errorf("%d kills, %d forgotten", kills, settled)
			}
			f.suspend(uid, false)
			f.connect(f.honest)
			f.turn()
			f.wantRuns(uid, 0)
		})
	}
}

// An agent that keeps proofs has one of all that an earlier leader has given it.
func TestAWaitingJobCantBeClaimedWithoutAProof(t *testing.T) {
	f := newForger(t, false, false)
	f.drop(f.honest)
	uid := f.create(command())
	f.wantRefused(Token{Job: uid, Try: 1}, false)
	f.connect(f.honest)
	f.turn()
	f.wantRuns(uid, 0)
}

func TestSumsStopAtTheirBounds(t *testing.T) {
	for _, c := range [][3]int64{
		{1, 2, 3}, {maxMeasure, 1, maxMeasure}, {math.MaxInt64, math.MaxInt64, maxMeasure}, {math.MinInt64, 5, 5}, {maxMeasure - 1, 1, maxMeasure},
	} {
		if got := sum(c[0], c[1]); got != c[2] {
			t.Errorf("sum of %d and %d is %d, want %d", c[0], c[1], got, c[2])
		}
	}
	if next(math.MaxInt32) != math.MaxInt32 || next(-1) != 0 || next(1) != 2 {
		t.Error("next is not one more, up to the most")
	}
}

// The Lease was edited, or etcd restored from a backup.
func TestWhenTheEpochGoesBackWhatRunsGoesOnAndOneMoreTryCounts(t *testing.T) {
	w, p := lone(t)
	w.epoch.Transitions = 50
	w.lead()
	w.connect(p)
	uid := w.runJob()
	_, token := w.running(uid, 0)
	p.epoch = Epoch{} // as after a minute
	w.epoch.Transitions = 3
	w.lead()
	w.connect(p)
	w.turn()
	if _, now := w.running(uid, 0); now != token {
		t.Fatalf("%v runs, want %v", now, token)
	}
	w.suspend(uid, true) // it is cut off
	w.turn()
	w.suspend(uid, false)
	w.live(10 * time.Second)
	w.wantRuns(uid, 0)
	_, next := w.running(uid, 0)
	if next.Compare(token) <= 0 {
		t.Errorf("%v does not outrank %v", next, token)
	}
	w.live(time.Minute)
	if _, now := w.running(uid, 0); now != next || w.jobs[uid].starts[0] != 2 {
		t.Errorf("%v runs after %d starts, want %v after 2", now, w.jobs[uid].starts[0], next)
	}
	w.exit(uid, 0, 0)
	w.turn()
	w.wantState(uid, v1alpha1.JobSucceeded, "")
}

// Somebody may have edited the status, up to what the schema allows.
func TestNumbersOfAnEditedStatusDoNotOverflow(t *testing.T) {
	for _, token := range []string{"2147483647.0.1", fmt.Sprintf("%d.0.0", maxTry)} {
		w, p := lone(t)
		most := int32(math.MaxInt32)
		uid := w.create(command(suspended, retries(1)))
		w.jobs[uid].job.Status = v1alpha1.JobStatus{
			State: v1alpha1.JobQueued, Attempts: &most, Retries: new(int32(0)), LostWorkers: new(int32(1)),
			Usage:         &v1alpha1.JobUsage{CPUMilliseconds: new(int64(math.MaxInt64)), MaxMemoryBytes: new(int64(math.MaxInt64))},
			EndedAttempts: []v1alpha1.Attempt{{Token: token, PodUID: p.uid}},
		}
		w.drop(p)
		w.lead()
		w.connect(p)
		w.suspend(uid, false)
		w.turn()
		w.wantRuns(uid, 0)
		w.exit(uid, 0, 1)
		w.live(10 * time.Second)
		w.wantRuns(uid, 0)
		w.exit(uid, 0, 0)
		w.live(time.Second)
		w.wantState(uid, v1alpha1.JobSucceeded, "")
		if s := w.status(uid); *s.Attempts != most || *s.Usage.CPUMilliseconds < 0 {
			t.Errorf("stored: %s", describeStatus(s))
		}
	}
}

// An indexed Job adds up what its tasks took, over all leaders.
func TestTheUsageOfTasksStopsAtItsBound(t *testing.T) {
	for _, stored := range []int64{0, maxMeasure - 1, math.MaxInt64} {
		w, p := lone(t)
		uid := w.create(command(suspended, completions(3)))
		w.jobs[uid].job.Status = v1alpha1.JobStatus{
			State: v1alpha1.JobQueued, Usage: &v1alpha1.JobUsage{CPUMilliseconds: &stored, MaxMemoryBytes: new(int64(1))},
		}
		w.drop(p)
		w.lead()
		w.connect(p)
		w.suspend(uid, false)
		w.turn()
		for index := range int32(3) {
			w.live(time.Second)
			w.finish(uid, index, Result{Outcome: Exited, CPUTime: math.MaxInt64, MaxMemoryBytes: 1})
		}
		w.live(2 * time.Second)
		w.wantState(uid, v1alpha1.JobSucceeded, "")
		most := 3 * time.Duration(math.MaxInt64).Milliseconds()
		if got, want := *w.status(uid).Usage.CPUMilliseconds, sum(stored, most); got != want {
			t.Errorf("%d ms with %d before, want %d", got, stored, want)
		}
	}
}

func TestWhatAnAgentMeasuresIsBounded(t *testing.T) {
	century := 876000 * time.Hour
	for name, r := range map[string]Result{
		"ended before it started, long ago": {StartedAgo: time.Minute, EndedAgo: century},
		"started long ago":                  {StartedAgo: century, EndedAgo: century},
		"is yet to start":                   {StartedAgo: -century, EndedAgo: -century},
		"takes all":                         {CPUTime: math.MaxInt64, MaxMemoryBytes: math.MaxInt64},
		"gives back":                        {CPUTime: math.MinInt64, MaxMemoryBytes: math.MinInt64},
	} {
		for kind, change := range map[string]func(*v1alpha1.JobSpec){"plain": unchanged, "indexed": completions(3)} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				w, p := room(t, 3)
				uid := w.create(command(change))
				created := w.jobs[uid].job.Created
				w.agents()
				w.pass(time.Second)
				for _, token := range sortedTokens(p.running) {
					r.Token, r.JobName, r.Outcome = token, p.running[token].job, Exited
					delete(p.running, token)
					p.results = append(p.results, r)
				}
				w.report(p)
				w.live(2 * time.Second)
				w.wantState(uid, v1alpha1.JobSucceeded, "")
				s := w.status(uid)
				if s.StartTime.Time.Before(created) || s.CompletionTime.Time.Before(s.StartTime.Time) || s.CompletionTime.After(w.now) {
					t.Errorf("started %s, completed %s, of a Job of %s", s.StartTime, s.CompletionTime, created)
				}
				if cpu, memory := *s.Usage.CPUMilliseconds, deref(s.Usage.MaxMemoryBytes); cpu < 0 || memory < 0 || cpu > maxMeasure || memory > maxMeasure {
					t.Errorf("usage %d, %d", cpu, memory)
				}
			})
		}
	}
}

func TestAWorkerThatClaimsMoreThanItCanHaveIsSentAway(t *testing.T) {
	w, p := lone(t)
	p.old = true
	w.drop(p)
	w.connect(p)
	var all []Result
	for i := range p.slots + maxSpool {
		all = append(all, Result{Token: Token{Job: types.UID(fmt.Sprint("no-", i)), Try: 1}, JobName: fmt.Sprint("no-", i), Outcome: Exited, Output: strings.Repeat("x", 4096)})
	}
	w.engine.Report(p.session, Report{Results: all})
	if p.session.closed {
		t.Fatal("it was sent away with no more than it can have")
	}
	for range 10 {
		w.engine.Report(p.session, Report{Results: all}) // it is the same
	}
	if len(w.looks) != len(all) || p.session.closed {
		t.Errorf("%d looks, want %d", len(w.looks), len(all))
	}
	one := Result{Token: Token{Job: "one-more", Try: 1}, JobName: "one-more", Outcome: Exited}
	w.engine.Report(p.session, Report{Results: []Result{one}})
	if !p.session.closed {
		t.Error("it was not sent away")
	}
	s := &simSession{pod: p.uid, sent: w.sent, world: w}
	err := w.engine.Connect(s, Hello{Pool: poolKey, PoolUID: w.config.UID, Pod: p.uid, PodName: string(p.uid), Results: append(slices.Clone(all), one)})
	if !errors.Is(err, ErrTooManyClaims) {
		t.Errorf("%v, want ErrTooManyClaims", err)
	}
	if len(w.engine.sessions) != 0 || w.engine.pools[poolKey].claimedBytes > claimedBytes || len(w.engine.claims) != len(all) {
		t.Errorf("%d sessions, %d bytes, %d claims", len(w.engine.sessions), w.engine.pools[poolKey].claimedBytes, len(w.engine.claims))
	}
	p.session = nil
	w.connect(p) // a correct agent again
	if len(w.engine.claims) != 0 || w.engine.pools[poolKey].claimedBytes != 0 {
		t.Errorf("%d claims, %d bytes are left", len(w.engine.claims), w.engine.pools[poolKey].claimedBytes)
	}
}

func TestClaimsHoldABoundedAmountOfOutput(t *testing.T) {
	w, _ := lone(t)
	for n := range 8 {
		p := w.join()
		p.old = true
		w.drop(p)
		w.connect(p)
		var all []Result
		for i := range maxSpool {
			name := fmt.Sprintf("no-%d-%d", n, i)
			all = append(all, Result{Token: Token{Job: types.UID(name), Try: 1}, JobName: name, Outcome: Exited, Output: strings.Repeat("x", 4096)})
		}
		w.engine.Report(p.session, Report{Results: all})
	}
	held := 0
	for _, claims := range w.engine.claims {
		for _, c := range claims {
			held += c.bytes()
		}
	}
	if held > claimedBytes || held != w.engine.pools[poolKey].claimedBytes || len(w.engine.claims) != 8*maxSpool {
		t.Errorf("%d claims hold %d bytes, counted as %d", len(w.engine.claims), held, w.engine.pools[poolKey].claimedBytes)
	}
}

func TestManyClaimsOfOneJobAreLookedAtOnce(t *testing.T) {
	w, p := lone(t)
	p.old = true
	w.drop(p)
	w.connect(p)
	var all []Result
	for try := range int32(500) {
		all = append(all, Result{Token: Token{Job: "stray", Try: try + 1}, JobName: "stray", Outcome: Exited})
	}
	w.engine.Report(p.session, Report{Results: all})
	if len(w.looks) != 1 {
		t.Errorf("%d looks, want one", len(w.looks))
	}
}

// The name is for the Job to be found by, and may be wrong: nothing can be concluded from that.
func TestAClaimThatNamesAJobWronglyDoesNotEndIt(t *testing.T) {
	f := newForger(t, true, true)
	f.drop(f.honest)
	uid := types.UID(fmt.Sprintf("uid-job-%03d", f.names+1))
	f.engine.Report(f.session, Report{Running: []Running{{Token: Token{Job: uid, Try: 1}, JobName: "wrong"}}})
	looks := f.looks
	f.connect(f.honest)
	f.createJob()
	if len(looks) != 1 {
		t.Fatalf("asked to look at %v", looks)
	}
	f.engine.Absent(looks[0]) // by this name there is none
	if j := f.engine.jobs[uid]; j == nil || j.cancelled {
		t.Error("it is cancelled")
	}
	f.turn()
	f.wantRuns(uid, 0)

	f.engine.Absent(f.jobs[uid].job.JobRef) // but now it is deleted
	if j := f.engine.jobs[uid]; j != nil && !j.cancelled {
		t.Error("it goes on, though it is deleted")
	}
}

// Nobody can ever say what has become of the Job.
func TestClaimsOfAPodThatIsGoneAreNotKeptForEver(t *testing.T) {
	w, p := lone(t)
	p.old = true
	w.drop(p)
	w.connect(p)
	w.engine.Report(p.session, Report{
		Running: []Running{{Token: Token{Job: "runs", Try: 1}, JobName: "runs"}},
		Results: []Result{{Token: Token{Job: "ended", Try: 1}, JobName: "ended", Outcome: Exited}},
	})
	w.drop(p)
	p.gone = true
	w.listPods()
	if len(w.engine.claims) != 1 {
		t.Errorf("%d claims, want that of the result", len(w.engine.claims))
	}
	w.pass(claimLife + time.Second)
	if len(w.engine.claims) != 0 {
		t.Errorf("%v is kept", w.engine.claims)
	}
}

// A pod whose agent has proofs has none of what it was not given: nobody need look for the Job.
func TestWhatAnAgentCantProveOfAnUnknownJobIsNotLookedAt(t *testing.T) {
	w, p := lone(t)
	stray := Token{Job: "stray", Try: 1}
	w.engine.Report(p.session, Report{
		Running: []Running{{Token: stray, JobName: "stray"}}, Results: []Result{{Token: stray, JobName: "stray", Outcome: Exited}},
	})
	if len(w.looks) != 0 || len(w.engine.claims) != 0 {
		t.Errorf("asked to look at %v", w.looks)
	}
	if cmd := p.session.inbox[0]; len(cmd.Kills) != 1 || len(cmd.Settled) != 1 {
		t.Errorf("was told %+v, want it to end and forget it", cmd)
	}
}

// Two attempts of a task are alive in an agent while the lower one is being killed, in any order.
func TestAnAttemptThatItsAgentRunsBesideALowerOneIsNotMissed(t *testing.T) {
	w, p := lone(t)
	uid := w.runJob()
	_, token := w.running(uid, 0)
	lower := token
	lower.Epoch = Epoch{}
	s := &simSession{pod: p.uid, sent: w.sent, world: w}
	w.drop(p)
	running := []Running{{Token: token, JobName: "job", Proven: true}, {Token: lower, JobName: "job", Proven: true}}
	if err := w.engine.Connect(s, Hello{
		Pool: poolKey, PoolUID: w.config.UID, Pod: p.uid, PodName: string(p.uid), Instance: "0", Proves: true, Running: running,
	}); err != nil {
		t.Fatal(err)
	}
	if a := w.engine.jobs[uid].tasks[0].attempt; a == nil || a.token != token {
		t.Errorf("the attempt is %+v, want %v", a, token)
	}
}

// Each of its agents says that it runs more than any has slots.
func TestRunningIndexesFitTheSchemaAndOnlyThoseAreRecorded(t *testing.T) {
	w, p := room(t, 1)
	uid := w.create(command(completions(100000), suspended))
	w.live(time.Second)
	var running []Running
	for i := range int32(1024) {
		token := Token{Job: uid, Index: 10000 + 2*i, Try: 1}
		p.running[token] = &simProcess{job: w.jobs[uid].job.Name, started: w.now}
		w.issued[issue{p.uid, token}] = true
		running = append(running, Running{Token: token, JobName: p.running[token].job, Proven: true})
	}
	w.suspend(uid, false)
	w.engine.Report(p.session, Report{Running: running})
	w.live(5 * time.Second)
	stored, recorded := 0, 0
	for _, on := range w.status(uid).RunningIndexes {
		if len(on.Indexes) > 4096 {
			t.Errorf("%d characters of indexes", len(on.Indexes))
		}
		var set indexSet
		set.parse(on.Indexes, 100000)
		stored += int(set.len())
		for token, process := range p.running {
			if process.recorded {
				recorded++
			}
			if process.recorded != set.has(token.Index) {
				t.Errorf("index %d is recorded: %t, stored: %t", token.Index, process.recorded, set.has(token.Index))
			}
		}
	}
	if stored < 500 || recorded != stored {
		t.Errorf("%d are stored, %d recorded", stored, recorded)
	}
}
