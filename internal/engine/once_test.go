package engine

import (
	"testing"
	"time"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

func TestAnAttemptThatMayHappenOnlyOnceIsStoredBeforeItIsSent(t *testing.T) {
	w, p := lone(t)
	uid := w.create(command(atMostOnce))
	write := w.writes[uid]
	if write.Due.After(w.now) || write.Status.State != v1alpha1.JobRunning || write.Status.Attempt == nil {
		t.Errorf("to be stored at %s: %s", write.Due, describeStatus(&write.Status))
	}
	if len(p.session.inbox) != 0 {
		t.Errorf("sent before it is stored: %+v", p.session.inbox)
	}
	w.idle(time.Minute)
	if len(p.session.inbox) != 0 {
		t.Errorf("sent before it is stored: %+v", p.session.inbox)
	}
	if s := w.pool().Snapshot(); s.Active != 1 || s.Queued != 0 {
		t.Errorf("snapshot %+v, want its room kept", s)
	}
	w.storeDue()
	w.agents()
	w.wantRuns(uid, 0)
	if !p.running[w.assignment(uid, 0).Token].recorded {
		t.Error("the agent is not told that it is recorded")
	}
	if got := w.status(uid).Attempt.Token; got != w.assignment(uid, 0).Token.String() {
		t.Errorf("stored is the attempt %s, sent was %s", got, w.assignment(uid, 0).Token)
	}
}

func TestAnAttemptThatIsStoredAndNotSentIsSentWhenItsWorkerIsBack(t *testing.T) {
	w, p := lone(t)
	uid := w.create(command(atMostOnce))
	w.drop(p)
	w.storeDue()
	w.connect(p)
	w.turn()
	w.wantRuns(uid, 0)
	if w.jobs[uid].starts[0] != 1 {
		t.Errorf("started %d times", w.jobs[uid].starts[0])
	}
}

// Nothing of it has run as long as it was not sent.
func TestAnAttemptThatWasNotSentIsTakenBack(t *testing.T) {
	for name, c := range map[string]struct{ cut, mend func(*world, *simPod) }{
		"its worker is lost": {func(w *world, p *simPod) { w.lose(p) }, func(*world, *simPod) {}},
		"suspended": {
			func(w *world, _ *simPod) { w.suspend(w.jobUIDs()[0], true) },
			func(w *world, _ *simPod) { w.suspend(w.jobUIDs()[0], false) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, p := lone(t)
			uid := w.create(command(atMostOnce))
			c.cut(w, p)
			w.live(time.Second)
			c.mend(w, p)
			w.live(time.Second)
			w.wantRuns(uid, 0)
			if s := w.status(uid); deref(s.Attempts) != 1 || s.State != v1alpha1.JobRunning {
				t.Errorf("stored: %s", describeStatus(s))
			}
		})
	}
}

func TestAnAttemptThatWasCutOffIsNotRepeated(t *testing.T) {
	for name, cut := range map[string]func(*world, *simPod){
		"its worker is lost":    func(w *world, p *simPod) { w.lose(p) },
		"its worker is removed": func(w *world, p *simPod) { p.terminating = true; w.listPods(); w.lose(p) },
		"its agent restarts":    func(w *world, p *simPod) { w.restartAgent(p); w.connect(p) },
		"its agent ends it":     func(w *world, _ *simPod) { w.finish(w.jobUIDs()[0], 0, Result{Outcome: Interrupted}) },
		"suspended":             func(w *world, _ *simPod) { w.suspend(w.jobUIDs()[0], true) },
		"the operator dies too": func(w *world, p *simPod) { w.drop(p); w.lead(); w.restartAgent(p); w.connect(p) },
		"the operator dies, its worker is gone": func(w *world, p *simPod) {
			w.drop(p)
			p.gone, p.running = true, nil
			w.lead()
			w.join()
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, p := lone(t)
			w.configure(func(c *PoolConfig) { c.Defaults.MaxRetries = new(int32(3)) })
			uid := w.runJob(atMostOnce)
			w.live(time.Second)
			cut(w, p)
			w.live(deathNews + time.Second)
			w.wantState(uid, v1alpha1.JobFailed, v1alpha1.ReasonInterrupted)
			if m := w.status(uid).Message; m == "" || m[len(m)-len("is not run again."):] != "is not run again." {
				t.Errorf("message %q", m)
			}
			w.suspend(uid, false)
			w.live(time.Minute)
			if w.jobs[uid].starts[0] != 1 {
				t.Errorf("started %d times", w.jobs[uid].starts[0])
			}
		})
	}
}

// The operator dies between the write and its answer: the next one can't know whether it was sent.
func TestAnAttemptThatWasStoredByAnEarlierLeaderIsNotSentAgain(t *testing.T) {
	w, p := lone(t)
	uid := w.create(command(atMostOnce))
	w.carryOut(uid, 2)
	w.drop(p)
	w.lead()
	w.connect(p)
	w.live(deathNews + time.Second)
	w.wantState(uid, v1alpha1.JobFailed, v1alpha1.ReasonInterrupted)
	if w.jobs[uid].starts[0] != 0 {
		t.Error("it was started")
	}
}

// The agent's word that it did not start what it was sent is proof that nothing has run.
func TestAnAttemptThatItsWorkerRefusedIsTakenBack(t *testing.T) {
	w, p := lone(t)
	uid := w.create(command(atMostOnce))
	w.storeDue()
	p.seen = p.session.inbox[len(p.session.inbox)-1].Sequence
	p.session.inbox = nil
	w.report(p) // has seen it and does not run it
	w.storeDue()
	if s := w.status(uid); s.Attempt != nil || deref(s.Attempts) != 0 || s.State.Finished() {
		t.Errorf("stored: %s", describeStatus(s))
	}
	w.live(refusalRest + sweepInterval)
	w.wantRuns(uid, 0)
	if s := w.status(uid); deref(s.Attempts) != 1 {
		t.Errorf("stored: %s", describeStatus(s))
	}
}
