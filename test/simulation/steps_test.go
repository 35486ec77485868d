package simulation

import (
	"time"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// What can happen next. Each of these is one step, of whom chance says.

// actor is an operator that does something; nil if none can.
func (w *world) actor() *operator {
	op := pick(w.rng, w.operators)
	if op == nil || op.paused {
		return nil
	}
	return op
}

// operatorStep lets an operator do one thing.
func (w *world) operatorStep() {
	op := w.actor()
	if op == nil {
		return
	}
	// The one that leads has more to do.
	if op.phase == standby && len(w.operators) > 1 && !w.chance(4) {
		op = w.operators[0]
		if op.paused {
			return
		}
	}
	switch n := w.rng.IntN(100); {
	case n < 18:
		op.watchJobs()
	case n < 26:
		op.watchPods()
	case n < 27:
		op.relist()
	case n < 40:
		op.reconcileJob()
	case n < 55:
		op.writeStatuses()
	case n < 85:
		op.answerOne()
	case n < 95:
		if op.poolChanged || w.chance(4) {
			op.reconcilePools()
		}
	default:
		if op.phase == leading {
			op.engine.Tick()
		}
	}
}

// watchJobs delivers the next events about Jobs, unless the watch lags.
func (op *operator) watchJobs() {
	w := op.w
	if op.cut || w.faulty(watchLags) {
		if op.jobs.lag() > 0 {
			w.count(lagging, jobWatch)
		}
		return
	}
	several := w.chance(3)
	if several && op.jobs.lag() > 1 {
		w.count(coalesced, jobWatch)
	}
	for more := true; more && op.jobs.lag() > 0; more = several {
		op.jobs.deliver(op.seeJob)
	}
}

// watchPods is the same for pods. What is told is that the pool has changed.
func (op *operator) watchPods() {
	w := op.w
	if op.cut || w.faulty(watchLags) {
		if op.pods.lag() > 0 {
			w.count(lagging, podWatch)
		}
		return
	}
	several := w.chance(3)
	if several && op.pods.lag() > 1 {
		w.count(coalesced, podWatch)
	}
	for more := true; more && op.pods.lag() > 0; more = several {
		op.pods.deliver(func(*podObject, *podObject, bool) { op.poolChanged = true })
	}
}

// relist has the watches end and begin again.
func (op *operator) relist() {
	if op.cut {
		return
	}
	if op.jobs.lag() > 0 {
		op.w.count(relisted, jobWatch)
	}
	if op.pods.lag() > 0 {
		op.w.count(relisted, podWatch)
	}
	op.jobs.relist(op.seeJob)
	op.pods.relist(func(*podObject, *podObject, bool) { op.poolChanged = true })
	clear(op.created)
}

// answerOne lets one of the operator's requests be answered, well or badly.
func (op *operator) answerOne() {
	if c := pick(op.w.rng, op.calls); c != nil && c.request != nil {
		op.w.answer(c, op.w.fate(c))
	}
}

// fate is how a request ends.
func (w *world) fate(c *call) fault {
	r := c.request
	switch {
	case r.object == pause:
		return answered
	case c.op.cut:
		return timeoutBefore
	case !w.faulty(requestFails):
		return answered
	case r.write:
		return []fault{conflict, throttled, broken, timeoutBefore, timeoutAfter, timeoutLate}[w.rng.IntN(6)]
	}
	return []fault{throttled, broken, timeoutBefore}[w.rng.IntN(3)]
}

// haunt lets a write take effect that its sender has given up.
func (w *world) haunt() {
	if len(w.api.ghosts) > 0 {
		i := w.rng.IntN(len(w.api.ghosts))
		ghost := w.api.ghosts[i]
		w.api.ghosts = append(w.api.ghosts[:i], w.api.ghosts[i+1:]...)
		_ = ghost()
	}
}

// streamStep lets a message arrive.
func (w *world) streamStep() {
	if s := pick(w.rng, w.streams); s != nil {
		if w.chance(2) {
			s.deliverUp()
		} else {
			s.deliverDown()
		}
	}
}

// somePod is one with something of it left; nil if there is none.
func (w *world) somePod() *pod { return pick(w.rng, w.pods) }

// victim is one that something is done to: rather one that runs something.
func (w *world) victim() *pod {
	if p := w.busyPod(); p != nil && !w.chance(3) {
		return p
	}
	return w.somePod()
}

// agentStep lets an agent do one thing.
func (w *world) agentStep() {
	p := w.somePod()
	if p == nil || p.agent == nil {
		return
	}
	switch n := w.rng.IntN(10); {
	case n < 3:
		w.dialSome(p)
	case n < 6:
		p.agent.begin()
	case n < 7:
		p.agent.exit([]int32{0, 0, 0, 0, 1, 2}[w.rng.IntN(6)])
	default:
		p.agent.report()
	}
}

// dialSome has an agent without a session dial the leader, or one that is none any more.
func (w *world) dialSome(p *pod) {
	a := p.agent
	if a.stream != nil && a.stream.open() || p.isCut() || len(w.published) == 0 {
		return
	}
	op := w.published[len(w.published)-1]
	if !w.healing && len(w.published) > 1 && w.chance(4) {
		op = pick(w.rng, w.published)
		w.count(staleEndpoint, phaseLeading)
	}
	if op.acts() {
		a.dial(op)
	}
}

func (w *world) kubeletStep() {
	if p := w.somePod(); p != nil {
		w.kubelet(p)
	}
}

func (w *world) timeStep() {
	w.pass([]time.Duration{10 * time.Millisecond, 100 * time.Millisecond, 300 * time.Millisecond, time.Second, time.Second, 3 * time.Second, 8 * time.Second}[w.rng.IntN(7)])
}

// moment is the longest time that passes before something else happens.
const moment = time.Second

// pass lets time go by, and what happens by itself in the meantime.
func (w *world) pass(d time.Duration) {
	for end := w.now.Add(d); w.now.Before(end) && w.violation == ""; {
		w.now = w.now.Add(min(moment, end.Sub(w.now)))
		w.heartbeats()
		for _, p := range w.pods {
			if p.agent != nil {
				p.agent.pass()
			}
		}
		w.renew()
		for _, op := range w.operators {
			if op.phase == leading && !op.paused {
				op.engine.Tick()
			}
		}
		if d >= time.Second {
			w.meanwhile()
		}
	}
}

// meanwhile lets some of what is under way arrive.
func (w *world) meanwhile() {
	for _, s := range append([]*stream(nil), w.streams...) {
		if !w.chance(8) {
			s.deliverUp()
			s.deliverDown()
		}
	}
	for range 8 {
		w.operatorStep()
	}
	for range 3 {
		w.agentStep()
	}
	w.kubeletStep()
	w.electSome()
	w.bury()
}

func (w *world) electSome() {
	if op := pick(w.rng, w.operators); op != nil {
		w.elect(op)
	}
}

// someLeader is an operator that leads or is about to, or thinks so.
func (w *world) someLeader() *operator {
	op := pick(w.rng, w.operators)
	if op == nil || op.phase == standby && !w.chance(8) {
		return nil
	}
	return op
}

func (w *world) crashSome() {
	if op := w.someLeader(); op != nil && !op.paused {
		w.crash(op, "it was killed")
	}
}

func (w *world) releaseSome() {
	if op := w.someLeader(); op != nil && !op.paused {
		w.release(op)
	}
}

// pauseSome stops a process, or lets one go on.
func (w *world) pauseSome() {
	for _, op := range w.operators {
		if op.paused && w.chance(2) {
			w.note("operator %d goes on", op.id)
			op.paused = false
			return
		}
	}
	if op := w.someLeader(); op != nil && !op.paused {
		w.note("operator %d is stopped", op.id)
		w.count(paused, objectOfPhase(op.phase))
		op.paused = true
	}
}

// cutSome keeps an operator from the API server, or lets it reach that again.
func (w *world) cutSome() {
	for _, op := range w.operators {
		if op.cut && w.chance(2) {
			op.cut = false
			return
		}
	}
	if op := w.someLeader(); op != nil && !op.cut {
		w.note("operator %d does not reach the API server", op.id)
		w.count(cutOff, objectOfPhase(op.phase))
		op.cut = true
	}
}

func (w *world) breakSome() {
	if s := pick(w.rng, w.streams); s != nil {
		w.breakStream(s)
	}
}

func (w *world) slowSome() {
	if s := pick(w.rng, w.streams); s != nil && s.open() {
		w.count(slowStream, objectOfStream(s))
		s.slow = w.now.Add(time.Duration(w.rng.IntN(5000)) * time.Millisecond)
	}
}

func (w *world) partitionSome() {
	if p := w.victim(); p != nil {
		w.silencePod(p, []time.Duration{3 * time.Second, 15 * time.Second, 30 * time.Second, 90 * time.Second}[w.rng.IntN(4)])
	}
}

func (w *world) loseSome() {
	p := w.victim()
	switch {
	case p == nil:
	case p.isLost():
		w.forceDelete(p)
	default:
		w.losePod(p, []time.Duration{20 * time.Second, 90 * time.Second, 10 * time.Minute}[w.rng.IntN(3)])
	}
}

func (w *world) endSomePod() {
	if p := w.victim(); p != nil {
		if w.chance(2) {
			w.evict(p)
		} else {
			w.crashPod(p)
		}
	}
}

func (w *world) restartSome() {
	if p := w.victim(); p != nil {
		w.restartAgent(p)
	}
}

func (w *world) scale() {
	t := w.someTenant()
	t.replicas = 1 + w.rng.IntN(4)
	t.explained = []string{"", "", v1alpha1.ReasonUnschedulable, v1alpha1.ReasonNoWorkers}[w.rng.IntN(4)]
	for _, op := range w.operators {
		op.poolChanged = true
	}
}
