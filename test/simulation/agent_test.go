package simulation

import (
	"fmt"
	"slices"
	"time"

	"github.com/workerpool-dev/workerpool/internal/engine"
)

// agent is one run of an agent's process, by the rules that internal/agent keeps.
type agent struct {
	w    *world
	pod  *pod
	run  int
	dead bool

	// epoch is the highest that was accepted; zero if none was.
	epoch engine.Epoch
	// heard is when a leader was heard last, and last when anything was heard on the stream.
	heard, last time.Time
	stream      *stream
	welcomed    bool
	seen        uint64
	draining    bool
	// disowned: an operator has said that it is nobody.
	disowned bool

	// live are the attempts that are accepted and have not ended, in the order in which they came.
	live []*process
	// results are those that it was not told to forget. They outlive the agent's process.
	results []*held
}

// process is an attempt on an agent.
type process struct {
	token   engine.Token
	jobName string
	// accepted is when it was assigned, and started when its process was, or zero.
	accepted, started time.Time
	deadline          time.Time
	recorded          bool
	// ending is how it ends because the agent wants it to, by endBy at the latest.
	ending engine.Outcome
	endBy  time.Time
	// unwanted: it leaves no result.
	unwanted bool
	// previous attempt of the task, which must have ended before.
	previous *process
	ended    bool
	// listed: the history has its start, and not its end.
	listed bool
}

// held is a result that an agent keeps.
type held struct {
	engine.Result
	ended time.Time
	// sent is the stream that has carried it.
	sent *stream
}

// dial begins a session with an operator.
func (a *agent) dial(op *operator) {
	a.w.note("%s dials operator %d", a.pod.uid, op.id)
	s := &stream{w: a.w, op: op, pod: a.pod, agent: a, heard: a.w.now}
	if a.stream != nil {
		a.stream.agentEnded = true
	}
	a.stream, a.welcomed, a.seen, a.last = s, false, 0, a.w.now
	hello := &engine.Hello{
		Pool: a.pod.tenant.config.Key, PoolUID: a.pod.tenant.config.UID, Pod: a.pod.uid, PodName: a.pod.name, Instance: fmt.Sprint(a.run),
		Running: a.running(), Results: a.unsent(), Draining: a.draining, Proves: !a.pod.old,
	}
	s.up = []message{{hello: hello}}
	a.w.streams = append(a.w.streams, s)
}

func (a *agent) running() []engine.Running {
	var all []engine.Running
	for _, p := range a.live {
		r := engine.Running{Token: p.token, JobName: p.jobName, Pending: p.started.IsZero()}
		if !r.Pending {
			r.StartedAgo = a.w.now.Sub(p.started)
		}
		all = append(all, r)
	}
	return all
}

// unsent are the results that this stream has not carried.
func (a *agent) unsent() []engine.Result {
	var all []engine.Result
	for _, h := range a.results {
		if h.sent != a.stream {
			h.sent = a.stream
			r := h.Result
			r.EndedAgo = a.w.now.Sub(h.ended)
			all = append(all, r)
		}
	}
	return all
}

// report says how things are.
func (a *agent) report() {
	if a.stream == nil || !a.welcomed || a.pod.hostile && a.w.now.Before(a.w.villain.quiet) {
		return
	}
	a.stream.up = append(a.stream.up, message{report: &engine.Report{
		Seen: a.seen, Running: a.running(), Results: a.unsent(), Draining: a.draining,
	}})
}

// seeEnd is that the stream has ended.
func (a *agent) seeEnd(s *stream) {
	s.agentEnded = true
	if a.stream != s {
		return
	}
	a.stream, a.welcomed = nil, false
	if s.disowned {
		a.disowned = true
		for _, p := range a.live {
			a.end(p, engine.Interrupted, 0)
		}
	}
}

// read acts on what the operator says. An old stream's messages are thrown away before the next Hello.
func (a *agent) read(s *stream, o order) {
	if s != a.stream {
		return
	}
	now := a.w.now
	if now.Sub(a.last) > engine.SilenceTimeout {
		a.seeEnd(s)
		return
	}
	if o.welcome != nil {
		if o.welcome.Compare(a.known()) < 0 {
			a.w.count(answered, oldLeader)
			a.seeEnd(s)
			return
		}
		a.epoch, a.welcomed = *o.welcome, true
		a.heard, a.last = now, now
		return
	}
	a.heard, a.last = now, now
	a.act(o.command)
}

// forgets is after how long without a leader an agent forgets its epoch.
const forgets = time.Minute

func (a *agent) known() engine.Epoch {
	if a.w.now.Sub(a.heard) >= forgets {
		a.epoch = engine.Epoch{}
	}
	return a.epoch
}

// act does what a command says, in the order in which agents do.
func (a *agent) act(cmd engine.Command) {
	for _, token := range cmd.Settled {
		a.settle(token)
	}
	for i := range cmd.Assignments {
		a.assign(&cmd.Assignments[i])
	}
	for _, k := range cmd.Kills {
		if p := a.find(k.Token); p != nil {
			a.end(p, engine.Killed, k.Grace)
		}
	}
	for _, token := range cmd.Recorded {
		if p := a.find(token); p != nil {
			p.recorded = true
		}
	}
	a.seen = cmd.Sequence
}

func (a *agent) find(token engine.Token) *process {
	for _, p := range a.live {
		if p.token == token {
			return p
		}
	}
	return nil
}

func (a *agent) settle(token engine.Token) {
	if p := a.find(token); p != nil {
		p.unwanted = true
		return
	}
	a.results = slices.DeleteFunc(a.results, func(h *held) bool { return h.Token == token })
}

// current is the latest attempt of a task that has not ended.
func (a *agent) current(token engine.Token) *process {
	var latest *process
	for _, p := range a.live {
		if keyOf(p.token) == keyOf(token) && (latest == nil || p.token.Compare(latest.token) > 0) {
			latest = p
		}
	}
	return latest
}

func (a *agent) assign(as *engine.Assignment) {
	current := a.current(as.Token)
	if a.refuses(as.Token, current) {
		return
	}
	p := &process{token: as.Token, jobName: as.JobName, accepted: a.w.now, previous: current}
	if as.Deadline > 0 {
		p.deadline = a.w.now.Add(as.Deadline)
	}
	a.live = append(a.live, p)
	if current != nil {
		a.end(current, engine.Killed, 0)
	}
}

func (a *agent) refuses(token engine.Token, current *process) bool {
	slots := map[key]bool{}
	for _, p := range a.live {
		slots[keyOf(p.token)] = true
	}
	known := slices.ContainsFunc(a.results, func(h *held) bool { return keyOf(h.Token) == keyOf(token) && token.Compare(h.Token) <= 0 })
	return known || a.draining || current != nil && token.Compare(current.token) <= 0 || current == nil && len(slots) >= a.pod.slots
}

// begin starts the first process that waits for it.
func (a *agent) begin() {
	for _, p := range a.live {
		if p.started.IsZero() && p.ending == 0 && (p.previous == nil || p.previous.ended) {
			a.w.checkStart(a.pod, p)
			p.started = a.w.now
			a.w.note("%s starts %s on %s", p.token.Job, describe(p.token), a.pod.uid)
			return
		}
	}
}

// end has an attempt end within its grace, at once if that is 0.
func (a *agent) end(p *process, why engine.Outcome, grace time.Duration) {
	if p.ended {
		return
	}
	if p.ending == 0 {
		p.ending, p.endBy = why, a.w.now.Add(grace)
	}
	p.endBy = earlier(p.endBy, a.w.now.Add(grace))
	if p.started.IsZero() {
		a.finish(p, p.ending, 0)
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// exit has one of the processes end: by itself, or as it was told to.
func (a *agent) exit(code int32) {
	var some []*process
	for _, p := range a.live {
		if !p.started.IsZero() {
			some = append(some, p)
		}
	}
	if p := pick(a.w.rng, some); p != nil && p.ending == 0 {
		a.finish(p, engine.Exited, code)
	} else if p != nil {
		a.finish(p, p.ending, 137)
	}
}

// finish ends an attempt, and keeps its result.
func (a *agent) finish(p *process, outcome engine.Outcome, code int32) {
	p.ended = true
	a.live = slices.DeleteFunc(a.live, func(o *process) bool { return o == p })
	a.w.noteEnd(a.pod, p, outcome, code)
	if p.unwanted {
		return
	}
	h := &held{ended: a.w.now, Result: engine.Result{Token: p.token, JobName: p.jobName, Outcome: outcome, ExitCode: code}}
	if !p.started.IsZero() {
		h.StartedAgo = a.w.now.Sub(p.started)
	}
	a.results = append(a.results, h)
}

// pass is what time does: what is not recorded is ended by the fence, hard, and what was told to end is.
func (a *agent) pass() {
	now := a.w.now
	for _, p := range slices.Clone(a.live) {
		switch {
		case p.ended:
		case p.ending != 0 && !now.Before(p.endBy):
			a.finish(p, p.ending, 137)
		case !p.recorded && now.Sub(a.heard) >= engine.FenceTimeout:
			a.w.note("%s of %s is fenced on %s", describe(p.token), p.token.Job, a.pod.uid)
			a.w.count(silence, fenced)
			a.finish(p, engine.Interrupted, 137)
		case !p.deadline.IsZero() && !now.Before(p.deadline):
			a.finish(p, engine.DeadlineExceeded, 137)
		}
	}
}

// drained tells whether an agent that was told to end may do so.
func (a *agent) drained() bool { return a.draining && len(a.live) == 0 && len(a.results) == 0 }
