package engine

import (
	"errors"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// ErrUnknownPool means that an agent's pool is not known here, or not yet: the agent should try again.
var ErrUnknownPool = errors.New("the worker's pool is not known")

// ErrConnected means that the worker has a session already.
var ErrConnected = errors.New("the worker has a session already")

// Connect begins a session of an agent, which says all that it knows. Whoever calls has checked
// that the agent is who it says. ErrConnected is returned while another session of the pod lasts.
func (e *Engine) Connect(s Session, hello Hello) error {
	e.enter()
	defer e.leave()
	p := e.pools[hello.Pool]
	if p == nil || p.config.UID != hello.PoolUID {
		return ErrUnknownPool
	}
	w := p.worker(hello.Pod, hello.PodName)
	if w.session != nil {
		return ErrConnected
	}
	restarted := w.instance != hello.Instance
	w.session, w.instance, w.sequence, w.since = s, hello.Instance, 0, time.Time{}
	w.draining = w.draining || hello.Draining
	e.sessions[s] = w

	known := make(map[types.UID]Token, len(hello.Running)+len(hello.Results))
	for _, r := range hello.Results {
		known[r.Token.Job] = r.Token
		w.handleResult(r)
	}
	for _, r := range hello.Running {
		known[r.Token.Job] = r.Token
		w.handleRunning(r)
	}
	for uid, t := range w.tasks {
		t.attempt.sequence = 0
		if known[uid] != t.attempt.token {
			t.missing(restarted)
		}
	}
	delete(p.awaited, w.uid)
	if err := w.start(); err == nil {
		p.match()
	}
	e.out.PoolChanged(p.config.Key)
	return nil
}

// Report takes in what an agent says later in its session.
func (e *Engine) Report(s Session, report Report) {
	e.enter()
	defer e.leave()
	w := e.sessions[s]
	if w == nil {
		return // closed meanwhile
	}
	if report.Draining {
		w.drain()
	}
	known := make(map[types.UID]bool, len(report.Running)+len(report.Results))
	for _, r := range report.Results {
		known[r.Token.Job] = true
		w.handleResult(r)
	}
	for _, r := range report.Running {
		known[r.Token.Job] = true
		w.handleRunning(r)
	}
	for uid, t := range w.tasks {
		if t.attempt.sequence <= report.Seen && !known[uid] {
			t.missing(false)
		}
	}
	w.pool.match()
}

// Disconnect ends a session. What the agent runs goes on.
func (e *Engine) Disconnect(s Session) {
	e.enter()
	defer e.leave()
	w := e.sessions[s]
	if w == nil {
		return
	}
	delete(e.sessions, s)
	w.session, w.since = nil, e.now
	e.dropClaims(w)
	e.out.PoolChanged(w.pool.config.Key)
}

// handleRunning compares what a worker says it runs with what the engine knows. The highest token
// of a task counts; all others are ended.
func (w *podWorker) handleRunning(r Running) {
	e := w.pool.engine
	t := e.tasks[r.Token.Job]
	switch {
	case t == nil && e.settled[r.Token.Job]:
		w.kill(r.Token, 0)
	case t == nil:
		e.claim(claim{worker: w, token: r.Token, running: &r})
	case t.cancelled:
		w.kill(r.Token, killGrace)
	case t.state == settling || t.outranks(r.Token):
		w.kill(r.Token, 0)
	case t.state == running && t.attempt.token == r.Token:
		t.noteStarted(r.StartedAgo)
	default:
		t.replaceAttempt(w, r.Token)
		t.noteStarted(r.StartedAgo)
	}
}

// handleResult takes in the end of an attempt, or lets the agent forget one that does not count.
func (w *podWorker) handleResult(r Result) {
	e := w.pool.engine
	t := e.tasks[r.Token.Job]
	switch {
	case t == nil && e.settled[r.Token.Job]:
		w.acknowledge(r.Token)
	case t == nil:
		e.claim(claim{worker: w, token: r.Token, result: &r})
	case t.state == settling && t.attempt.token == r.Token:
		// Its write is under way, and the agent is told when that is done.
	case t.state == settling || t.outranks(r.Token):
		w.acknowledge(r.Token)
	case t.state == running && t.attempt.token != r.Token && r.Outcome.cutOff():
		w.acknowledge(r.Token) // the one that runs goes on
	default:
		if t.state != running || t.attempt.token != r.Token {
			t.replaceAttempt(w, r.Token)
		}
		t.settle(r)
	}
}

// outranks tells whether a later attempt than the token's is known.
func (t *task) outranks(token Token) bool { return token.Compare(t.last) < 0 }

// replaceAttempt makes an attempt that an earlier leader has started the one that counts.
func (t *task) replaceAttempt(w *podWorker, token Token) {
	if t.state == running {
		t.attempt.worker.kill(t.attempt.token, 0)
		t.attempt.worker.give(t)
	} else {
		t.leaveLine()
	}
	t.know(token)
	w.take(t, &attempt{token: token})
}

// claim is what a worker says of a Job that the engine does not know.
type claim struct {
	worker  *podWorker
	token   Token
	running *Running
	result  *Result
}

// refuse ends what is claimed: the Job is not there, or has ended.
func (c claim) refuse(grace time.Duration) {
	if c.running != nil {
		c.worker.kill(c.token, grace)
		return
	}
	c.worker.acknowledge(c.token)
}

// claim keeps a claim until the Job has been looked at. To kill what is only not known yet would be
// to lose work.
func (e *Engine) claim(c claim) {
	uid := c.token.Job
	same := func(o claim) bool { return o.worker == c.worker && o.token == c.token }
	e.claims[uid] = append(slices.DeleteFunc(e.claims[uid], same), c)
	ref := JobRef{UID: uid}
	ref.Namespace = c.worker.pool.config.Key.Namespace
	if c.running != nil {
		ref.Name = c.running.JobName
	} else {
		ref.Name = c.result.JobName
	}
	e.out.Look(ref)
}

func (e *Engine) takeClaims(job types.UID) []claim {
	claims := e.claims[job]
	delete(e.claims, job)
	return claims
}

// answerClaims treats what was claimed of a Job as said now.
func (e *Engine) answerClaims(t *task) {
	for _, c := range e.takeClaims(t.job.UID) {
		if c.running != nil {
			c.worker.handleRunning(*c.running)
			continue
		}
		c.worker.handleResult(*c.result)
	}
}

// dropClaims forgets what a worker has claimed: it says it again in its next session.
func (e *Engine) dropClaims(w *podWorker) {
	for uid, claims := range e.claims {
		claims = slices.DeleteFunc(claims, func(c claim) bool { return c.worker == w })
		if len(claims) == 0 {
			delete(e.claims, uid)
			continue
		}
		e.claims[uid] = claims
	}
}
