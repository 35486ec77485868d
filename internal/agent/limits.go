package agent

import (
	"time"

	pb "github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
)

// Timeout and deadline are kept here, not by the operator: they hold while none is there. Both are by the
// monotonic clock.

// deadlineLocked has an attempt that was just accepted end when its deadline comes.
func (a *Agent) deadlineLocked(at *attempt) {
	if d := at.assignment.GetDeadline(); d != nil {
		at.deadline = a.now().Add(d.AsDuration())
		a.expireLocked(at, d.AsDuration(), pb.Outcome_OUTCOME_DEADLINE_EXCEEDED)
	}
}

// timeoutLocked has an attempt that was just started end when its timeout comes.
func (a *Agent) timeoutLocked(at *attempt) {
	if d := at.assignment.GetTimeout(); d != nil {
		a.expireLocked(at, d.AsDuration(), pb.Outcome_OUTCOME_TIMEOUT)
	}
}

// expireLocked ends an attempt after some time, unless it has ended then.
func (a *Agent) expireLocked(at *attempt, after time.Duration, outcome pb.Outcome) {
	at.timers = append(at.timers, time.AfterFunc(after, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.endLocked(at, at.assignment.GetGrace().AsDuration(), outcome)
	}))
}

// stopTimersLocked is for an attempt that has ended.
func (at *attempt) stopTimersLocked() {
	for _, timer := range at.timers {
		timer.Stop()
	}
}
