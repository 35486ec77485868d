package simulation

import (
	"time"

	"github.com/workerpool-dev/workerpool/internal/engine"
)

// transit is how long a message may be under way after the sender has gone.
const transit = 1500 * time.Millisecond

// stream is one session's stream, with what is under way on it. Each direction is in order.
type stream struct {
	w   *world
	op  *operator
	pod *pod
	// agent is the run of the agent's process that has dialled.
	agent *agent

	up   []message
	down []order
	// hello was read and its sender reviewed; it is to be handed to the engine.
	hello *engine.Hello
	// connected: the engine has accepted it.
	connected bool
	// opEnded and agentEnded are who has ended it, and endedAt when the operator has.
	opEnded, agentEnded bool
	endedAt             time.Time
	// disowned: the operator has said that the agent is nobody.
	disowned bool
	// heard is when the operator has last heard of the agent.
	heard time.Time
	// slow is until when nothing gets through.
	slow time.Time
}

// message goes from an agent to an operator.
type message struct {
	hello  *engine.Hello
	report *engine.Report
}

// order goes from an operator to an agent.
type order struct {
	welcome *engine.Epoch
	command engine.Command
}

// Send is engine.Session's.
func (s *stream) Send(cmd engine.Command) {
	for _, a := range cmd.Assignments {
		s.w.checkSent(s, a)
	}
	for _, k := range cmd.Kills {
		s.w.checkKill(s, k)
	}
	for _, token := range cmd.Settled {
		s.w.checkSettled(s, token)
	}
	for _, token := range cmd.Recorded {
		s.w.checkRecorded(s, token)
	}
	if !s.opEnded {
		s.down = append(s.down, order{command: cmd})
	}
}

// Close is engine.Session's.
func (s *stream) Close(string) { s.endByOperator() }

func (s *stream) endByOperator() {
	if !s.opEnded {
		s.opEnded, s.endedAt = true, s.w.now
	}
}

// open tells whether neither end has ended it.
func (s *stream) open() bool { return !s.opEnded && !s.agentEnded }

// linked tells whether messages get through.
func (s *stream) linked() bool { return !s.pod.isCut() && !s.w.now.Before(s.slow) }

// hang has the operator see that the agent has ended the stream, or end it for another reason.
func (s *stream) hang() {
	s.endByOperator()
	s.hello = nil
	if s.connected && !s.op.dead {
		s.connected = false
		s.op.left[s.pod.uid] = s.w.now
		s.op.engine.Disconnect(s)
	}
}

// deliverUp lets the operator read the next message, or go on with the Hello that it has read.
func (s *stream) deliverUp() {
	switch {
	case s.op.dead || s.op.paused:
		return
	case s.hello != nil:
		s.connect()
		return
	case s.opEnded || len(s.up) == 0 || !s.linked():
		return
	}
	if !s.op.held() {
		s.w.count(answered, unheld)
		s.hang()
		return
	}
	m := s.up[0]
	s.up = s.up[1:]
	s.heard = s.w.now
	if !m.readable() {
		s.w.count(answered, unreadable)
		s.hang()
		return
	}
	s.prove(&m)
	if m.hello != nil {
		s.review(m.hello)
		return
	}
	s.hear(m.report.Results)
	s.tell(m.report.Results)
	s.believe(m.report.Results)
	s.op.engine.Report(s, *m.report)
}

// prove checks the proofs: an agent keeps that of each attempt that it was sent, unless it is one of the version before.
func (s *stream) prove(m *message) {
	running, results := m.said()
	for i := range running {
		running[i].Proven = !s.pod.old && s.w.issuedTo(running[i].Token, s.pod)
	}
	for i := range results {
		results[i].Proven = !s.pod.old && s.w.issuedTo(results[i].Token, s.pod)
	}
}

// review asks the API server who the agent is.
func (s *stream) review(hello *engine.Hello) {
	object := s.w.api.pods.live[s.pod.name]
	switch {
	case s.op.phase != leading:
		s.endByOperator()
	case s.op.cut || s.w.faulty(reviewFails):
		s.w.count(broken, review)
		s.endByOperator()
	case object == nil || object.uid != s.pod.uid:
		s.w.count(answered, disowning)
		s.disowned = true
		s.endByOperator()
	default:
		s.w.count(answered, review)
		s.hello = hello
	}
}

// connect welcomes the agent and hands its Hello to the engine.
func (s *stream) connect() {
	hello := s.hello
	s.hello = nil
	if s.opEnded || !s.op.held() {
		s.endByOperator()
		return
	}
	epoch := s.op.epoch
	s.down = append(s.down, order{welcome: &epoch})
	s.connected = true
	s.believe(hello.Results)
	s.hear(hello.Results)
	if err := s.op.engine.Connect(s, *hello); err != nil {
		s.w.note("operator %d refuses %s: %v", s.op.id, s.pod.uid, err)
		s.w.count(answered, secondSession)
		s.connected = false
		s.endByOperator()
		return
	}
	s.tell(hello.Results)
	s.w.note("%s connected to operator %d: runs %d, results %d", s.pod.uid, s.op.id, len(hello.Running), len(hello.Results))
}

// hear notes which ends the operator may have heard of from now on.
func (s *stream) hear(results []engine.Result) {
	if s.pod.hostile {
		return
	}
	for _, r := range results {
		s.op.heard[r.Token] = true
	}
}

// tell notes what the operator knows from now on. What an agent of the version before says it need not believe.
func (s *stream) tell(results []engine.Result) {
	if s.pod.hostile || s.pod.old {
		return
	}
	for _, r := range results {
		if s.w.record(r.Token).sent == r.Token && r.Outcome == engine.Exited && r.ExitCode == 0 {
			s.op.told[r.Token] = true
		}
	}
}

// deliverDown lets the agent read what comes next, or several that were sent as one.
func (s *stream) deliverDown() {
	if !s.linked() || s.agent.dead || s.opEnded && s.w.now.Sub(s.endedAt) > transit {
		return
	}
	if len(s.down) == 0 {
		if s.opEnded {
			s.agent.seeEnd(s)
		}
		return
	}
	o := s.down[0]
	s.down = s.down[1:]
	for o.welcome == nil && len(s.down) > 0 && s.w.chance(3) {
		o.command = merge(o.command, s.down[0].command)
		s.down = s.down[1:]
	}
	if s.agent.stream != s {
		s.w.count(oldStream, streamOrder)
	}
	s.agent.read(s, o)
}

func merge(a, b engine.Command) engine.Command {
	return engine.Command{
		Sequence:    b.Sequence,
		Assignments: append(append([]engine.Assignment(nil), a.Assignments...), b.Assignments...),
		Kills:       append(append([]engine.Kill(nil), a.Kills...), b.Kills...),
		Recorded:    append(append([]engine.Token(nil), a.Recorded...), b.Recorded...),
		Settled:     append(append([]engine.Token(nil), a.Settled...), b.Settled...),
	}
}

// breakStream ends a stream in the middle: one end sees it, and the other does later.
func (w *world) breakStream(s *stream) {
	if !s.open() {
		return
	}
	w.note("the stream of %s with operator %d breaks", s.pod.uid, s.op.id)
	w.count(streamBreaks, objectOfStream(s))
	if w.chance(2) {
		s.agent.seeEnd(s)
	} else {
		s.hang()
	}
}

// heartbeats has both ends of each stream hear of each other, unless something is in the way, and those
// end it that have not for too long.
func (w *world) heartbeats() {
	kept := w.streams[:0]
	for _, s := range w.streams {
		if s.linked() && !s.op.paused && !s.op.dead && s.open() && s.connected {
			if len(s.up) == 0 {
				s.heard = w.now
			}
			if len(s.down) == 0 && s.agent.stream == s && s.agent.welcomed {
				s.agent.heard, s.agent.last = w.now, w.now
			}
		}
		if !s.opEnded && !s.op.paused && w.now.Sub(s.heard) >= engine.SilenceTimeout {
			w.count(silence, operatorSide)
			s.hang()
		}
		if !s.agentEnded && !s.agent.dead && w.now.Sub(s.agent.last) >= engine.SilenceTimeout {
			w.count(silence, agentSide)
			s.agent.seeEnd(s)
		}
		if s.agentEnded && !s.opEnded && s.linked() && s.op.acts() {
			s.hang()
		}
		if over := (s.agentEnded || s.agent.dead) && s.opEnded && !s.connected; !over || w.now.Sub(s.endedAt) < transit {
			kept = append(kept, s)
		}
	}
	clear(w.streams[len(kept):])
	w.streams = kept
}
