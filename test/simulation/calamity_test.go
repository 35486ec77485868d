package simulation

import "time"

// calamity is trouble for a worker that runs something, for its leader, or for both, that lasts.
func (w *world) calamity() {
	p, op := w.busyPod(), w.leaderNow()
	kind := w.rng.IntN(6)
	if p != nil && kind < 4 {
		w.silencePod(p, []time.Duration{15 * time.Second, 30 * time.Second, 50 * time.Second, 90 * time.Second}[w.rng.IntN(4)])
	}
	if op != nil && !op.paused && !op.cut {
		switch kind {
		case 0, 1:
			w.crash(op, "it was killed")
		case 2:
			w.release(op)
		case 4:
			w.note("operator %d is stopped", op.id)
			w.count(paused, objectOfPhase(op.phase))
			op.paused = true
		case 5:
			w.count(cutOff, objectOfPhase(op.phase))
			op.cut = true
		}
	}
	w.pass(time.Duration(14+w.rng.IntN(16)) * time.Second)
	for _, o := range w.operators {
		o.paused, o.cut = false, false
	}
	if w.chance(4) {
		w.pass(70 * time.Second)
	}
}

// setBack makes the next leader's epoch one before all that there were, as after a restore of etcd, or where the Lease was made
// again by a clock that had been ahead. Tokens have no order then among leaders that do not know of each other's attempts. It meets no agents of
// the version before: what they have of an epoch to come counts for nothing, because they can't prove it.
func (w *world) setBack() {
	op := w.leaderNow()
	if op == nil {
		return
	}
	w.note("the Lease is set back")
	w.count(setBack, objectOfPhase(op.phase))
	w.wentBack = true
	w.api.lease.created = w.api.lease.created.Add(-time.Minute)
	w.crash(op, "the Lease was set back")
}

// busyPod is one that runs something; nil if none does.
func (w *world) busyPod() *pod {
	var busy []*pod
	for _, p := range w.pods {
		if p.agent != nil && len(p.agent.live) > 0 {
			busy = append(busy, p)
		}
	}
	return pick(w.rng, busy)
}

// leaderNow is the operator that leads, or is about to; nil if none does.
func (w *world) leaderNow() *operator {
	for _, op := range w.operators {
		if op.phase != standby && w.api.lease.holder == op {
			return op
		}
	}
	return nil
}
