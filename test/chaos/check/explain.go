package check

import (
	"slices"

	"github.com/workerpool-dev/workerpool/test/chaos/ledger"
)

// hits tells whether the fault was done to this very pod.
func (f Fault) hits(podUID string) bool { return slices.Contains(f.Pods, podUID) }

// killsContainer tells whether it ends all processes of a pod's container, and leaves the pod.
func (f Fault) killsContainer() bool { return f.Kind == KillAgent || f.Kind == KillContainer }

// silences tells whether no leader, or none that can write, hears the pod meanwhile.
func (f Fault) silences(podUID string) bool {
	switch f.Kind {
	case PartitionLong, PartitionShort:
		return f.hits(podUID)
	default:
		return f.changesLeader()
	}
}

// changesLeader tells whether another process may lead afterwards. One that cannot reach the API server stops leading.
func (f Fault) changesLeader() bool {
	switch f.Kind {
	case KillLeader, StopLeader, RestartAPI, KillEtcd, KillAPIAndEtcd, OperatorAbsence:
		return true
	default:
		return false
	}
}

// isolates tells whether a pod could not be reached through it though others could.
func (f Fault) isolates(podUID string) bool {
	return f.hits(podUID) && (f.killsContainer() || f.Kind == PartitionLong || f.Kind == PartitionShort)
}

func (h *history) anyFault(is func(Fault) bool) bool { return slices.ContainsFunc(h.Faults, is) }

// removal is when the pod's processes were killed with it; false if it was not deleted.
func (h *history) removal(podUID string) (Time, bool) {
	at, removed := Time(0), false
	if pod, ok := h.pods[podUID]; ok && pod.Deadline != 0 {
		at, removed = pod.Deadline-secondLag, true
	}
	for _, f := range h.Faults {
		if f.Kind == ForceDeletePod && f.hits(podUID) && (!removed || f.From < at) {
			at, removed = f.From, true
		}
	}
	return at, removed
}

// cutOff tells whether something explains that the process did not end by itself.
func (h *history) cutOff(j *Job, p ledger.Process) bool {
	died := p.Closed
	if at, removed := h.removal(p.PodUID); removed && died >= at {
		return true
	}
	return h.anyFault(func(f Fault) bool {
		if f.killsContainer() && f.hits(p.PodUID) {
			return f.From <= died && died <= f.To+deathLag
		}
		return f.silences(p.PodUID) && h.fenced(j, p, f)
	})
}

// fenced tells whether the agent may have killed the process because no leader was heard. It spares what it was told is
// recorded.
func (h *history) fenced(j *Job, p ledger.Process, f Fault) bool {
	if p.Closed < f.From+fenceLag || p.Closed > f.To+healLag {
		return false
	}
	return !slices.ContainsFunc(j.Changes, func(c Change) bool {
		return c.State == "Running" && c.PodUID == p.PodUID && c.At > p.Begun && c.At < f.From-reportLag
	})
}

// resultLost tells whether something explains that the end of the process was not stored, though it ended by itself. If
// next is not nil, it is the one that ran in its place.
func (h *history) resultLost(p ledger.Process, next *ledger.Process) bool {
	ended := p.Alive
	if at, removed := h.removal(p.PodUID); removed && h.lostByRemoval(p, at) {
		return true
	}
	if h.anyFault(func(f Fault) bool {
		// The agent had no time to keep the result.
		return f.killsContainer() && f.hits(p.PodUID) && ended <= f.To && f.From <= ended+reportLag
	}) {
		return true
	}
	return h.silentThroughTakeover(p, next)
}

// lostByRemoval tells whether the pod went before the result could be stored.
func (h *history) lostByRemoval(p ledger.Process, removal Time) bool {
	ended := p.Alive
	return removal <= ended+reportLag || h.anyFault(func(f Fault) bool {
		return f.silences(p.PodUID) && f.From <= ended+reportLag && ended <= f.To+healLag && f.From <= removal && removal <= f.To+restartLag
	})
}

// silentThroughTakeover tells whether a new leader did not hear from the pod for as long as it waits, and so ran again
// what the pod may have done: promise 2 allows that.
func (h *history) silentThroughTakeover(p ledger.Process, next *ledger.Process) bool {
	ended := p.Alive
	return h.anyFault(func(leader Fault) bool {
		if !leader.changesLeader() || next != nil && next.Begun < leader.From {
			return false
		}
		return h.anyFault(func(f Fault) bool {
			return f.isolates(p.PodUID) && f.From <= leader.To+healLag && leader.From <= f.To+restartLag && ended >= min(f.From, leader.From)-reportLag
		})
	})
}

// unreachable says why it could not be known that a process had ended when another began: the one overlap that promise 3
// allows. It is empty if nothing does.
func (h *history) unreachable(j *Job, p ledger.Process, by Time) string {
	if j.HTTP {
		return "What an HTTP server still does with a request that was cut off cannot be known."
	}
	for _, f := range h.Faults {
		switch {
		case f.From > by:
		case f.Kind == ForceDeletePod && f.hits(p.PodUID):
			return "Its pod had been force-deleted: " + f.Detail
		case f.Kind == NodeNotReady && by <= f.To+healLag:
			return "Its node was not ready."
		}
	}
	return ""
}
