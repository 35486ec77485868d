package agent

import (
	"time"

	pb "github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
)

// run sees an accepted attempt to its end.
func (a *Agent) run(at *attempt) {
	if at.previous != nil {
		<-at.previous.done
		at.previous = nil
	}
	r := &result{token: at.token, jobName: at.assignment.GetJobName(), started: a.now()}
	if outcome := a.endingOf(at); outcome != pb.Outcome_OUTCOME_UNSPECIFIED {
		a.finish(at, r.endedBy(outcome, "", r.started))
		return
	}
	tmp, err := a.tmp.get()
	if err != nil {
		a.setDiskFull(true)
		a.finish(at, r.endedBy(pb.Outcome_OUTCOME_INTERRUPTED, err.Error(), a.now()))
		return
	}
	a.execute(at, r, tmp)
	a.finish(at, r)
	if err := a.tmp.put(tmp); err != nil {
		a.log.Error("Cannot remove an attempt's TMPDIR", "folder", tmp, "error", err)
	}
}

// execute fills in the result. It returns when nothing of the attempt runs.
func (a *Agent) execute(at *attempt, r *result, tmp string) {
	mark := a.reaper.newMark()
	env := a.environment.with(mark, tmp, at.assignment.GetEnv())
	c, err := newCommand(at.assignment, env, mark)
	if err != nil {
		r.endedBy(pb.Outcome_OUTCOME_CANNOT_START, err.Error(), a.now())
		return
	}
	p, err := a.reaper.start(c)
	if err != nil {
		r.endedBy(pb.Outcome_OUTCOME_CANNOT_START, err.Error(), a.now())
		return
	}
	a.started(at, p)
	out := readOutput(p, at.assignment, a.lines)
	e := <-p.exited
	r.exitCode, r.cpuTime, r.maxMemoryBytes = int32(e.code), e.cpuTime, e.maxMemoryBytes
	r.endedBy(a.ended(at), "", e.at)
	if err := a.reaper.clean(p, e, a.timing.clean); err != nil {
		a.log.Error("An attempt has left processes that do not end", "job", at.assignment.GetJobName(), "error", err)
	}
	r.output = out.finish(a.timing.drain)
}

func (r *result) endedBy(outcome pb.Outcome, message string, at time.Time) *result {
	r.outcome, r.message, r.ended = outcome, clip(message), at
	return r
}

// endingOf is unspecified for an attempt that is to be started.
func (a *Agent) endingOf(at *attempt) pb.Outcome {
	a.mu.Lock()
	defer a.mu.Unlock()
	return at.ending
}

// started makes the process known, and ends it if that was wanted meanwhile.
func (a *Agent) started(at *attempt, p *process) {
	a.mu.Lock()
	now := a.now()
	at.started, at.process = now, p
	if at.ending != pb.Outcome_OUTCOME_UNSPECIFIED {
		p.end(at.grace, now)
	}
	a.mu.Unlock()
	notify(a.begun)
}

// ended returns the outcome of an attempt whose process has ended.
func (a *Agent) ended(at *attempt) pb.Outcome {
	a.mu.Lock()
	defer a.mu.Unlock()
	at.process = nil
	if at.ending == pb.Outcome_OUTCOME_UNSPECIFIED {
		at.ending = pb.Outcome_OUTCOME_EXITED
	}
	return at.ending
}

// endLocked ends an attempt for the reason that the outcome tells. One that has ended by itself keeps its
// outcome, and the first reason stays.
func (a *Agent) endLocked(at *attempt, grace time.Duration, outcome pb.Outcome) {
	if at.process != nil {
		if at.process.end(grace, a.now()) && at.ending == pb.Outcome_OUTCOME_UNSPECIFIED {
			at.ending = outcome
		}
		return
	}
	switch at.ending {
	case pb.Outcome_OUTCOME_UNSPECIFIED:
		at.ending, at.grace = outcome, grace
	case pb.Outcome_OUTCOME_KILLED, pb.Outcome_OUTCOME_INTERRUPTED:
		at.grace = min(at.grace, grace)
	}
}

// finish spools the result of an attempt of which nothing runs, and reports it.
func (a *Agent) finish(at *attempt, r *result) {
	err := a.spool.write(r)
	if err != nil {
		// It is reported from memory: else a full disk would hold up what is done already.
		a.log.Error("Cannot keep a result on disk", "error", err)
	}
	a.mu.Lock()
	r.spooled = err == nil
	a.table.diskFull = a.table.diskFull || err != nil
	wanted := a.table.finish(at, r)
	a.closeIfDrainedLocked()
	a.mu.Unlock()
	close(at.done)
	a.wake()
	if !wanted {
		a.forget(r)
	}
}

// forget drops results that are settled from the disk.
func (a *Agent) forget(results ...*result) {
	if err := a.spool.forget(results); err != nil {
		a.log.Error("Cannot remove results from the disk", "error", err)
	}
}
