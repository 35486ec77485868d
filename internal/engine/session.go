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
// that the agent is who it says. ErrConnected is returned while another session of the pod lasts, and
// ErrTooManyClaims for an agent that can't be a correct one.
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
	w.refuses, w.unavailable, w.proves = hello.Draining, hello.Unavailable, hello.Proves
	e.sessions[s] = w
	e.dropClaims(w)
	w.setResets(hello.Resets)

	known := w.hear(hello.Running, hello.Results)
	for _, t := range w.sorted() {
		switch a := t.attempt; {
		case a == nil: // its job has failed meanwhile
		case a.unsent:
			t.prepare()
		case !known[a.token]:
			a.sequence = 0
			if restarted && !a.started.IsZero() {
				w.orphan(t)
				continue
			}
			t.miss(restarted)
		default:
			a.sequence = 0
		}
	}
	w.bury()
	if w.overclaims {
		w.disconnect()
		return ErrTooManyClaims
	}
	delete(p.awaited, w.uid)
	if err := w.start(); err == nil {
		p.match()
	}
	e.out.PoolChanged(p.config.Key)
	return nil
}

// hear takes in what an agent says of attempts, and returns which these are.
func (w *podWorker) hear(running []Running, results []Result) map[Token]bool {
	said := make(map[Token]bool, len(running)+len(results))
	for _, r := range results {
		said[r.Token] = true
		w.handleResult(r)
	}
	for _, r := range running {
		said[r.Token] = true
		w.handleRunning(r)
	}
	return said
}

// Report takes in what an agent says later in its session. It closes the session of an agent that can't be a correct
// one.
func (e *Engine) Report(s Session, report Report) {
	e.enter()
	defer e.leave()
	w := e.sessions[s]
	if w == nil {
		return // closed meanwhile
	}
	w.setResets(report.Resets)
	w.setRefuses(report.Draining, report.Unavailable)
	known := w.hear(report.Running, report.Results)
	for _, t := range w.sorted() {
		if a := t.attempt; a != nil && !a.unsent && !a.orphaned && a.sequence <= report.Seen && !known[a.token] && !e.hasClaim(a.token) {
			t.miss(false)
		}
	}
	if w.overclaims {
		w.disconnect()
		s.Close(ErrTooManyClaims.Error())
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
	w.disconnect()
}

// disconnect forgets the worker's session.
func (w *podWorker) disconnect() {
	e := w.pool.engine
	delete(e.sessions, w.session)
	w.session, w.since = nil, e.now
	e.out.PoolChanged(w.pool.config.Key)
}

// handleRunning compares what a worker says it runs with what the engine knows. The highest token
// of a task counts; all others are ended.
func (w *podWorker) handleRunning(r Running) {
	e := w.pool.engine
	j := e.jobs[r.Token.Job]
	switch {
	case j == nil && (e.settled[r.Token.Job] || w.baseless(r.Proven)):
		w.kill(r.Token, 0)
		return
	case j == nil, j.leaving, w.undecided(j, r.Token, r.Proven):
		e.claim(claim{worker: w, token: r.Token, running: &r})
		return
	case !w.issued(j, r.Token, r.Proven), !j.wants(r.Token):
		w.kill(r.Token, 0)
		return
	}
	if j.isShed() { // its result can be judged only with the spec
		e.out.Look(j.object.JobRef)
	}
	t := j.task(r.Token.Index)
	if t.attempt == nil || t.attempt.token != r.Token || t.attempt.worker.uid != w.uid { // another may have said that it runs it
		t.replaceAttempt(w, r.Token)
	}
	t.attempt.memory = measure(r.Memory)
	if !r.Pending {
		ago, _ := j.clampAgo(r.Token, r.StartedAgo, 0)
		t.noteStarted(ago)
	}
	if j.stopping(t) {
		t.stop()
	}
}

// stopping tells whether what runs of a task is to be ended.
func (j *job) stopping(t *task) bool {
	return j.cancelled || !t.isHandler() && (j.suspend || j.failing != nil)
}

// wants tells whether an attempt may be the one that counts of its task.
func (j *job) wants(token Token) bool {
	t := j.tasks[token.Index]
	switch {
	case j.settling, token.Index < 0, token.Index > j.size:
		return false
	case t != nil && (t.outranks(token) || t.hasSettled(token)):
		return false
	case j.cancelled, t != nil && t.attempt != nil:
		return true
	case token.Index == j.size:
		return j.handling()
	case j.failing != nil:
		return false
	}
	return j.plain() || !j.indexed.has(token.Index)
}

// handleResult takes in the end of an attempt, or lets the agent forget one that does not count.
func (w *podWorker) handleResult(r Result) {
	e := w.pool.engine
	j := e.jobs[r.Token.Job]
	switch {
	case j == nil && (e.settled[r.Token.Job] || w.baseless(r.Proven)):
		w.acknowledge(r.Token)
		return
	case j != nil && j.owesTo(w, r.Token):
		return // its write is under way, and the agent is told when that is done
	case j == nil, j.leaving:
		e.claim(claim{worker: w, token: r.Token, result: &r})
		return
	case !w.issued(j, r.Token, r.Proven):
		w.acknowledge(r.Token)
		return
	case j.isShed():
		e.claim(claim{worker: w, token: r.Token, result: &r})
		return
	case !j.wants(r.Token):
		w.acknowledge(r.Token)
		return
	}
	r = j.clamp(r)
	t := j.task(r.Token.Index)
	if t.attempt == nil || t.attempt.token != r.Token || t.attempt.worker.uid != w.uid { // another may have said that it runs it
		if t.attempt != nil && r.Outcome.cutOff() {
			w.acknowledge(r.Token) // the one that runs goes on
			return
		}
		t.replaceAttempt(w, r.Token)
	}
	t.settle(r)
}

// replaceAttempt makes an attempt that an earlier leader has started the one that counts.
func (t *task) replaceAttempt(w *podWorker, token Token) {
	t.abandon()
	t.unstored = false
	t.know(token)
	w.take(t, &attempt{token: token, worker: w})
	t.job.takePlace()
}

// claim is what a worker says of a Job that the engine does not know, or the result of one of which it has
// only the name.
type claim struct {
	worker *podWorker
	token  Token
	// ref is where the Job is looked for.
	ref     JobRef
	running *Running
	result  *Result
}

// bytes is about what the claim holds of what its worker has sent.
func (c claim) bytes() int {
	if c.result == nil {
		return 0
	}
	return len(c.result.Output) + len(c.result.Message)
}

// refuse ends what is claimed: the Job is not there, or has ended.
func (c claim) refuse(grace time.Duration) {
	if c.running != nil {
		c.worker.kill(c.token, grace)
		return
	}
	c.worker.acknowledge(c.token)
}

// claim keeps a claim until the Job has been looked at, once for all claims that name it so. To kill what is only not
// known yet would be to lose work.
func (e *Engine) claim(c claim) {
	uid := c.token.Job
	c.ref = JobRef{UID: uid}
	c.ref.Namespace = c.worker.pool.config.Key.Namespace
	if c.running != nil {
		c.ref.Name = c.running.JobName
	} else {
		c.ref.Name = c.result.JobName
	}
	if j := e.jobs[uid]; j != nil {
		c.ref = j.object.JobRef
	}
	looked := slices.ContainsFunc(e.claims[uid], func(o claim) bool { return o.ref == c.ref })
	e.dropClaimsOf(uid, func(o claim) bool { return o.worker == c.worker && o.token == c.token })
	if !c.worker.mayClaim() {
		return
	}
	if c.result != nil && c.worker.pool.claimedBytes+c.bytes() > claimedBytes { // the worker's log has it
		c.result.Output, c.result.Message = "", ""
	}
	e.claims[uid] = append(e.claims[uid], c)
	c.count(1)
	if !looked {
		e.out.Look(c.ref)
	}
}

// hasClaim tells whether a claim of this attempt waits.
func (e *Engine) hasClaim(token Token) bool {
	return slices.ContainsFunc(e.claims[token.Job], func(c claim) bool { return c.token == token })
}

// count keeps the worker busy by the claim, and the slot of what runs.
func (c claim) count(n int) {
	c.worker.claims += n
	c.worker.pool.claimedBytes += n * c.bytes()
	if c.running != nil {
		c.worker.claimed += n
	}
}

// takeClaims takes those of a Job's claims that it is asked for.
func (e *Engine) takeClaims(job types.UID, take func(claim) bool) []claim {
	var taken []claim
	e.dropClaimsOf(job, func(c claim) bool {
		if !take(c) {
			return false
		}
		taken = append(taken, c)
		return true
	})
	for _, c := range taken {
		c.worker.offer()
		e.out.PoolChanged(c.worker.pool.config.Key)
	}
	return taken
}

func anyClaim(claim) bool { return true }

// answerClaims treats what was claimed of a Job as said now.
func (e *Engine) answerClaims(j *job) {
	for _, c := range e.takeClaims(j.object.UID, anyClaim) {
		if c.running != nil {
			c.worker.handleRunning(*c.running)
			continue
		}
		c.worker.handleResult(*c.result)
	}
}

// dropClaims forgets what a worker has claimed, because it says it again.
func (e *Engine) dropClaims(w *podWorker) {
	w.overclaims = false
	e.deleteClaims(func(c claim) bool { return c.worker == w })
}

// dropRunning forgets what a worker has claimed to run, because it is gone. The results that it has told of count: else
// what has ended there would be started again.
func (e *Engine) dropRunning(w *podWorker) {
	e.deleteClaims(func(c claim) bool { return c.worker == w && c.running != nil })
}

func (e *Engine) deleteClaims(drop func(claim) bool) {
	for uid := range e.claims {
		e.dropClaimsOf(uid, drop)
	}
}

func (e *Engine) dropClaimsOf(job types.UID, drop func(claim) bool) {
	kept := slices.DeleteFunc(e.claims[job], func(c claim) bool {
		dropped := drop(c)
		if dropped {
			c.count(-1)
		}
		return dropped
	})
	if e.claims[job] = kept; len(kept) == 0 {
		delete(e.claims, job)
	}
}
