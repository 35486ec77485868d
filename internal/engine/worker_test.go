package engine

import (
	"testing"
	"time"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// A worker that does not start what it is sent must not be sent it again and again, as fast as the
// wire carries it; and it must not be forgotten either.
func TestAWorkerThatStartsNothingRests(t *testing.T) {
	w := newWorld(t, 1)
	for _, p := range w.pods[1:] {
		p.gone = true
	}
	w.listPods()
	p := w.pods[0]
	w.connect(p)
	w.createJob()
	if sent := len(p.session.inbox); sent != 1 {
		t.Fatalf("%d commands, want the assignment", sent)
	}
	p.seen = p.session.inbox[0].Sequence
	w.report(p) // has seen it and does not run it
	if sent := len(p.session.inbox); sent != 1 {
		t.Errorf("%d commands at once, want no further one", sent-1)
	}
	w.pass(refusalRest)
	if sent := len(p.session.inbox); sent != 2 {
		t.Fatalf("%d commands after the rest, want the assignment again", sent-1)
	}
	w.receive(p)
	w.receive(p)
	if len(p.running) == 0 {
		t.Error("the Job does not run")
	}
}

// Jobs spread over the workers rather than fill one.
func TestJobsSpreadOverTheWorkers(t *testing.T) {
	w := newWorld(t, 1)
	for _, p := range w.pods {
		w.connect(p)
	}
	for range w.pods {
		w.createJob()
	}
	for _, p := range w.pods {
		if len(p.session.inbox) != 1 {
			t.Errorf("%s was sent %d commands, want 1", p.uid, len(p.session.inbox))
		}
	}
}

// An agent may want no work for a while: the server that it runs beside is starting again.
func TestAWorkerIsUsedAgainOnceItsAgentTakesWork(t *testing.T) {
	w, p := lone(t)
	report := func(draining bool) {
		t.Helper()
		w.engine.Report(p.session, Report{Seen: p.seen, Draining: draining})
	}
	report(true)
	w.createJob()
	if len(p.session.inbox) > 0 {
		t.Fatal("a Job was sent to an agent that takes none")
	}
	if s := w.pool().Snapshot(); s.Workers != 0 || !s.Pods[p.uid].Draining {
		t.Errorf("snapshot %+v, want a worker that takes nothing", s)
	}
	report(false)
	if len(p.session.inbox) != 1 {
		t.Errorf("%d commands, want the Job", len(p.session.inbox))
	}
}

// What an agent has accepted and not started can vanish without having run.
func TestAnAttemptThatIsPendingHasNotStarted(t *testing.T) {
	w, p := lone(t)
	w.createJob()
	uid := w.jobUIDs()[0]
	token := p.session.inbox[0].Assignments[0].Token
	p.seen = p.session.inbox[0].Sequence
	w.engine.Report(p.session, Report{Seen: p.seen, Running: []Running{{Token: token, JobName: "job", Pending: true}}})
	w.report(p) // without it
	if status := w.engine.jobs[uid].object.Status; status.Attempts != nil || status.LostWorkers != nil {
		t.Errorf("%d attempts, %d lost workers; want none", deref(status.Attempts), deref(status.LostWorkers))
	}
	w.pass(refusalRest)
	if len(p.session.inbox) != 2 {
		t.Errorf("%d commands, want the Job sent again", len(p.session.inbox))
	}
}

func TestAWorkerThatHasRunEnoughTakesNoMore(t *testing.T) {
	w, p := lone(t)
	w.config.MaxAttempts = 2
	w.engine.SetPool(w.config)
	for range 3 {
		w.createJob()
	}
	if sent := len(p.session.inbox); sent != 2 {
		t.Errorf("%d commands, want 2", sent)
	}
	if s := w.pool().Snapshot(); !s.Pods[p.uid].Spent || !s.Pods[p.uid].Busy || s.Queued != 1 {
		t.Errorf("snapshot %+v, want a worker that is spent and busy, and a Job in the queue", s)
	}
}

func TestAWorkerInWhichAJobHasFailedTakesNoMoreWhereThePoolSaysSo(t *testing.T) {
	for _, says := range []bool{false, true} {
		w, p := lone(t)
		w.config.SpentOnFailure = says
		w.engine.SetPool(w.config)
		for _, code := range []int32{0, 1} {
			w.createJob()
			w.receive(p)
			if w.pool().Snapshot().Pods[p.uid].Spent {
				t.Error("spent without a failure")
			}
			w.end(p, sortedTokens(p.running)[0], Exited, code)
			w.report(p)
		}
		if got := w.pool().Snapshot().Pods[p.uid].Spent; got != says {
			t.Errorf("spent after a failure: %t, want %t", got, says)
		}
	}
}

// Its pod came and went between two looks at the cache, with a task.
func TestAPodThatNoListHasShownIsGoneWhenThatIsSaid(t *testing.T) {
	w, known := lone(t)
	w.drop(known)
	w.createJob()
	uid := w.jobUIDs()[0]
	w.addPod()
	p := w.pods[len(w.pods)-1]
	w.issued[issue{p.uid, Token{Job: uid, Try: 1}}] = true
	p.running[Token{Job: uid, Try: 1}] = &simProcess{job: w.jobs[uid].job.Name, started: w.now} // an earlier leader has sent it
	w.connect(p)
	if on, _ := w.running(uid, 0); on != p {
		t.Fatal("the Job does not run on the new pod")
	}
	w.drop(p)
	w.engine.SetWorkers(poolKey, []WorkerPod{w.podOf(known)})
	w.connect(known)
	w.now = w.now.Add(workerLost)
	w.engine.Tick()
	if s := w.pool().Snapshot().Pods[p.uid]; !s.Lost || s.Name != string(p.uid) {
		t.Fatalf("the pod that no list has shown: %+v, want it to be lost", s)
	}
	p.gone, p.running = true, nil
	w.wantRuns(uid)

	worker, _ := w.pool().Worker(p.uid)
	worker.Gone()
	worker.Gone()
	w.turn()
	if on, _ := w.running(uid, 0); on != known {
		t.Error("the Job does not run on the other pod")
	}
	if _, is := w.pool().Snapshot().Pods[p.uid]; is {
		t.Error("the pod is still known")
	}
}

// A leader that takes over waits for the workers whose pods say that they have run. What another got, as it was cut off right
// then, would be started a second time. Found by the simulation.
func TestNothingIsSentToAWorkerBeforeTheAPIServerKnowsThatItHasStarted(t *testing.T) {
	w, p := lone(t)
	starting := w.podOf(p)
	starting.UID, starting.Name, starting.Started = "early", "early", false
	early := &simSession{pod: "early", sent: w.sent, world: w}
	if err := w.engine.Connect(early, Hello{Pool: poolKey, PoolUID: "pool", Pod: "early", PodName: "early"}); err != nil {
		t.Fatal(err)
	}
	list := func() { w.engine.SetWorkers(poolKey, []WorkerPod{w.podOf(p), starting}) }
	list()
	for range simSlots + 1 {
		w.createJob()
	}
	if len(early.inbox) != 0 {
		t.Fatalf("was sent %+v before its pod has started, as far as is known", early.inbox)
	}
	starting.Started = true
	list()
	if len(early.inbox) != 1 || len(early.inbox[0].Assignments) != 1 {
		t.Errorf("was sent %+v once its pod has started, want one assignment", early.inbox)
	}
}

// Whoever takes a label off a pod takes it out of every list, also while no operator looks. What runs there goes on.
func TestWhatIsRecordedOnAPodThatNoListHasRunsAgainOnlyOnceThePodIsGone(t *testing.T) {
	for name, spec := range map[string]func(*v1alpha1.JobSpec){"at least once": func(*v1alpha1.JobSpec) {}, "at most once": atMostOnce} {
		t.Run(name, func(t *testing.T) {
			w, p := lone(t)
			uid := w.runJob(spec)
			w.live(time.Second)
			w.wantState(uid, v1alpha1.JobRunning, "")
			w.drop(p)
			p.hidden = true
			w.lead()
			w.join()
			w.live(workerLost / 2)
			w.wantState(uid, v1alpha1.JobRunning, "")
			if w.jobs[uid].starts[0] != 1 {
				t.Fatalf("started %d times while its pod is there", w.jobs[uid].starts[0])
			}
			if s := w.pool().Snapshot().Pods[p.uid]; !s.Busy || s.Name != string(p.uid) {
				t.Errorf("the pod is %+v, want it to be known and busy", s)
			}

			p.gone, p.running = true, nil
			w.turn()
			if name == "at most once" {
				w.wantState(uid, v1alpha1.JobFailed, v1alpha1.ReasonInterrupted)
				return
			}
			w.wantRuns(uid, 0)
		})
	}
}

func TestAWorkerSaysWhyItTakesNothing(t *testing.T) {
	w, p := lone(t)
	why := func() string { return w.snapshot(p).Unavailable }
	if why() != "" {
		t.Errorf("it takes nothing, because %s", why())
	}
	w.engine.Report(p.session, Report{Seen: p.seen, Draining: true, Unavailable: "its server does not answer"})
	if why() != "its server does not answer" {
		t.Errorf("it says %q", why())
	}
	w.engine.Report(p.session, Report{Seen: p.seen, Draining: true})
	if why() == "" {
		t.Error("an agent that does not say takes Jobs")
	}
	w.engine.Report(p.session, Report{Seen: p.seen})
	w.drop(p)
	if why() == "" {
		t.Error("a worker without a session takes Jobs")
	}
	w.connect(p)
	if why() != "" {
		t.Errorf("it takes nothing, because %s", why())
	}
	uid := w.create(command())
	for range 5 { // it starts nothing that it is sent
		w.engine.Report(p.session, Report{Seen: w.engine.pools[poolKey].workers[p.uid].sequence})
		if why() == "" {
			t.Fatal("an agent that starts nothing takes Jobs")
		}
		w.idle(refusalRest)
	}
	w.live(2 * refusalRest)
	w.wantRuns(uid, 0)
	if why() != "" {
		t.Errorf("it runs a Job, and takes nothing, because %s", why())
	}
}

// All pools wait while the workers of one are told. The API allows 10,000 of them.
func TestTellingOfWorkersTakesNoLongerPerWorkerWhereThereAreMany(t *testing.T) {
	fastest := func(n int) time.Duration {
		w := newWorld(t, 1)
		w.pods = nil
		for range n {
			w.addPod()
		}
		w.listPods()
		best := time.Hour
		for range 5 {
			began := time.Now()
			w.listPods()
			best = min(best, time.Since(began))
		}
		return best
	}
	const few, many = 1000, 16_000
	short, long := fastest(few), fastest(many)
	if ratio := float64(long) / float64(short); ratio > 7*many/few {
		t.Errorf("%d workers take %v and %d take %v: %.0f times as long", few, short, many, long, ratio)
	}
}

// Of a pool whose namespace goes. What waits for a write or a read was not sent yet.
func TestWhatRunsInAPoolIsKilledAtOnce(t *testing.T) {
	w, p := lone(t)
	uid := w.runJob()
	_, token := w.running(uid, 0)
	w.pool().Close()
	w.pool().Kill()
	w.turn()
	if want := (Kill{Token: token}); len(p.kills) != 1 || p.kills[0] != want {
		t.Fatalf("the agent was told to end %+v, want %+v", p.kills, want)
	}
	if s := w.pool().Snapshot(); s.Active != 0 {
		t.Errorf("%d Jobs are active", s.Active)
	}
}
