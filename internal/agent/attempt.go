package agent

import (
	"errors"
	"time"

	pb "github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
)

// run sees an accepted attempt to its end.
func (a *Agent) run(at *attempt) {
	if at.previous != nil {
		<-at.previous.done
	}
	r := &result{token: at.token, proof: at.assignment.GetToken().GetProof(), jobName: at.assignment.GetJobName(), started: a.now()}
	if outcome := a.endingOf(at); outcome != pb.Outcome_OUTCOME_UNSPECIFIED {
		a.finish(at, r.endedBy(outcome, "", r.started))
		return
	}
	if at.previous != nil && at.previous.unclean {
		a.drop(at, false)
		return
	}
	at.previous = nil
	if a.HTTPPort != 0 || at.assignment.GetHttp() != nil {
		if a.request(at, r) {
			a.finish(at, r)
		} else {
			a.drop(at, false)
		}
		return
	}
	tmp, err := a.tmp.get()
	if err != nil {
		a.disorder(err)
		a.notRun(at, r, err)
		return
	}
	if err := a.execute(at, r, tmp); err != nil {
		a.putTmp(tmp)
		a.notRun(at, r, err)
		return
	}
	a.finish(at, r)
	a.putTmp(tmp)
	a.reset(at)
}

// notRun drops an attempt that could not be started though nothing is wrong with it, unless it was to be ended anyway.
func (a *Agent) notRun(at *attempt, r *result, err error) {
	a.log.Warn("An attempt was not started", "job", r.jobName, "error", err)
	if outcome := a.endingOf(at); outcome != pb.Outcome_OUTCOME_UNSPECIFIED {
		a.finish(at, r.endedBy(outcome, err.Error(), a.now()))
		return
	}
	a.drop(at, errors.Is(err, errScarce))
}

func (a *Agent) putTmp(tmp string) {
	if err := a.tmp.put(tmp); err != nil {
		a.log.Error("Cannot remove a TMPDIR", "folder", tmp, "error", err)
	}
}

// execute fills in the result. It returns when nothing of the attempt runs. An error means that it has not run, and that
// this is no fault of its own.
func (a *Agent) execute(at *attempt, r *result, tmp string) error {
	mark := a.reaper.newMark()
	env := a.environment.with(mark, tmp, at.assignment.GetEnv())
	c, err := newCommand(at.assignment, env, mark)
	if err != nil {
		r.endedBy(pb.Outcome_OUTCOME_CANNOT_START, err.Error(), a.now())
		return nil
	}
	p, err := a.reaper.start(c)
	if errors.Is(err, errScarce) && !a.alone() {
		return err
	}
	if err != nil {
		r.endedBy(pb.Outcome_OUTCOME_CANNOT_START, err.Error(), a.now())
		return nil
	}
	// The process has it: many of them would be too much for the agent.
	at.assignment.Stdin = nil
	a.started(at, p)
	out := readOutput(p, at.assignment, false, a.lines)
	e := <-p.exited
	a.exited(at, e, r)
	if err := a.reaper.clean(p, e, a.timing.clean); err != nil {
		a.log.Error("An attempt has left processes that do not end", "job", at.assignment.GetJobName(), "error", err)
	}
	r.output = out.finish(a.timing.drain)
	return nil
}

// alone returns whether nothing runs here but one attempt, which could share what a process needs with no other.
func (a *Agent) alone() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.table.live)+len(a.table.resets) <= 1
}

func (r *result) endedBy(outcome pb.Outcome, message string, at time.Time) *result {
	r.outcome, r.message, r.ended = outcome, clip(message), at
	return r
}

// endingOf is unspecified for an attempt that is to be started.
func (a *Agent) endingOf(at *attempt) pb.Outcome {
	a.mu.Lock()
	defer a.mu.Unlock()
	// The deadline's timer may be late.
	if !at.deadline.IsZero() && !a.now().Before(at.deadline) {
		a.endLocked(at, 0, pb.Outcome_OUTCOME_DEADLINE_EXCEEDED)
	}
	return at.ending
}

// started makes the process known, and ends it if that was wanted meanwhile.
func (a *Agent) started(at *attempt, p execution) {
	a.mu.Lock()
	now := a.now()
	at.started, at.process = now, p
	a.timeoutLocked(at)
	if at.ending != pb.Outcome_OUTCOME_UNSPECIFIED {
		p.end(at.grace, now)
	}
	a.mu.Unlock()
	notify(a.begun)
	if at.watched() {
		notify(a.watch)
	}
}

// exited fills in how an attempt's process has ended.
func (a *Agent) exited(at *attempt, e exit, r *result) {
	a.mu.Lock()
	defer a.mu.Unlock()
	at.ran = true
	r.exitCode, r.signal, r.cpuTime, r.maxMemoryBytes = int32(e.code), int32(e.signal), e.cpuTime, max(ownMemory(e), at.peak)
	if at.ending == pb.Outcome_OUTCOME_UNSPECIFIED && e.killed && a.oom.claim(e.at) {
		a.chargeLocked(at, e)
	}
	outcome := a.endedLocked(at)
	r.endedBy(outcome, at.message, e.at)
}

// endedLocked returns the outcome of an attempt whose process or request has ended.
func (a *Agent) endedLocked(at *attempt) pb.Outcome {
	at.process = nil
	if at.ending == pb.Outcome_OUTCOME_UNSPECIFIED {
		at.ending = pb.Outcome_OUTCOME_EXITED
	}
	return at.ending
}

// endLocked ends an attempt for the reason that the outcome tells. One that has ended by itself keeps its
// outcome, and the first reason stays. It returns whether this is the reason.
func (a *Agent) endLocked(at *attempt, grace time.Duration, outcome pb.Outcome) bool {
	first := at.ending == pb.Outcome_OUTCOME_UNSPECIFIED
	switch {
	case at.process != nil:
		first = at.process.end(grace, a.now()) && first
	case first:
		at.grace = grace
	case at.ending != pb.Outcome_OUTCOME_EXITED:
		at.grace = min(at.grace, grace)
	}
	if first {
		at.ending = outcome
	}
	return first
}

// finish spools the result of an attempt of which nothing runs, and reports it. The attempt is done unless a
// reset is left to be run.
func (a *Agent) finish(at *attempt, r *result) {
	err := a.spool.write(r)
	if err != nil {
		// It is reported from memory: else a full disk would hold up what is done already.
		a.log.Error("Cannot keep a result on disk", "error", err)
		a.disorder(err)
	}
	a.mu.Lock()
	at.stopTimersLocked()
	r.spooled = err == nil
	wanted := a.table.finish(at, r)
	a.closeIfDrainedLocked()
	a.mu.Unlock()
	if at.reset == nil {
		close(at.done)
	}
	a.wake()
	if !wanted {
		a.forget(r)
	}
}

// drop leaves no result of an attempt that was not run, which the next report tells. Where processes are scarce, no other is
// taken before one of those that run has ended.
func (a *Agent) drop(at *attempt, scarce bool) {
	a.mu.Lock()
	at.stopTimersLocked()
	a.table.drop(at)
	a.table.scarce = scarce && len(a.table.live) > 0
	a.closeIfDrainedLocked()
	a.mu.Unlock()
	close(at.done)
	a.wake()
}

// forget drops results that are settled from the disk.
func (a *Agent) forget(results ...*result) {
	if err := a.spool.forget(results); err != nil {
		a.log.Error("Cannot remove results from the disk", "error", err)
	}
}
