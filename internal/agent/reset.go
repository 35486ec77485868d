package agent

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	pb "github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
)

// maxResetFailure bounds Report.reset_failure, in bytes: it is to fit into an event.
const maxResetFailure = 200

// reset brings the worker back to a clean state after an attempt.
type reset struct {
	// hasSlot: it keeps the slot of its attempt. Where a higher attempt of the same task waits for its end,
	// that one has the slot.
	hasSlot bool

	// The table's owner guards the rest.

	// process is nil before its start and after its end.
	process *process
	// ending is why the agent ends it, notEnding if it does not.
	ending resetEnding
}

// resetEnding is why the agent ends a reset.
type resetEnding int

const (
	notEnding resetEnding = iota
	// timedOut: it has taken too long.
	timedOut
	// abandoned: the agent is to end, and nobody needs a clean worker any more.
	abandoned
)

// reset runs what an attempt has to leave the worker clean, if that is anything, and then lets its slot go.
func (a *Agent) reset(at *attempt) {
	if at.reset == nil {
		return
	}
	err := a.runReset(at)
	failure := ""
	if err != nil && !errors.Is(err, errResetAbandoned) {
		a.log.Error("A reset has failed", "job", at.assignment.GetJobName(), "error", err)
		failure = clipTo(err.Error(), maxResetFailure)
	}
	a.mu.Lock()
	at.unclean = err != nil
	a.table.endReset(at.reset, failure)
	a.closeIfDrainedLocked()
	a.mu.Unlock()
	close(at.done)
	a.wake()
}

var errResetAbandoned = errors.New("the worker is to end")

// runReset returns when nothing of the reset runs any more. The errors but errResetAbandoned are its failures.
func (a *Agent) runReset(at *attempt) error {
	tmp, err := a.tmp.get()
	if err != nil {
		return cannotReset(err)
	}
	defer a.putTmp(tmp)
	mark := a.reaper.newMark()
	// In the log it has the names of the attempt that it comes after.
	own := &pb.Assignment{
		Token: at.assignment.GetToken(), JobName: at.assignment.GetJobName(), Argv: at.assignment.GetResetCommand().GetArgv(),
	}
	c, err := newCommand(own, a.environment.with(mark, tmp, nil), mark)
	if err != nil {
		return cannotReset(err)
	}
	p, err := a.reaper.start(c)
	if err != nil {
		return cannotReset(err)
	}
	timeout := at.assignment.GetResetCommand().GetTimeout().AsDuration()
	a.resetStarted(at.reset, p)
	timer := time.AfterFunc(timeout, func() { a.endReset(at.reset, timedOut) })
	out := readOutput(p, own, true, a.lines)
	e := <-p.exited
	timer.Stop()
	ending, outOfMemory := a.resetExited(at.reset, e)
	if err := a.reaper.clean(p, e, a.timing.clean); err != nil {
		a.log.Error("A reset has left processes that do not end", "job", own.GetJobName(), "error", err)
	}
	output := out.finish(a.timing.drain)
	switch {
	case ending == abandoned:
		return errResetAbandoned
	case ending == timedOut:
		return withLastLine(fmt.Sprintf("not over within %v", timeout), output)
	case outOfMemory:
		return errors.New("the worker ran out of memory")
	case e.code != 0:
		return withLastLine(fmt.Sprintf("exit code %d", e.code), output)
	}
	return nil
}

func cannotReset(err error) error { return fmt.Errorf("cannot start: %w", err) }

// withLastLine is a failure with the last line of the output, if there is text in it.
func withLastLine(failure string, output []byte) error {
	output = bytes.TrimSpace(output)
	if len(output) == 0 {
		return errors.New(failure)
	}
	return errors.New(failure + ": " + string(bytes.TrimSpace(output[bytes.LastIndexByte(output, '\n')+1:])))
}

// resetStarted makes the process known, and ends it if that was wanted meanwhile.
func (a *Agent) resetStarted(r *reset, p *process) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r.process = p
	if r.ending != notEnding {
		p.end(0, a.now())
	}
}

// resetExited returns why the agent has ended the process, and whether the kernel has, for lack of memory.
func (a *Agent) resetExited(r *reset, e exit) (ending resetEnding, outOfMemory bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r.process = nil
	return r.ending, r.ending == notEnding && e.killed && a.oom.claim(e.at)
}

func (a *Agent) endReset(r *reset, ending resetEnding) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.endResetLocked(r, ending)
}

// endResetLocked kills a reset at once. One that has ended by itself stays as it is; of several reasons the
// last counts, which is that the agent is to end.
func (a *Agent) endResetLocked(r *reset, ending resetEnding) {
	if r.process == nil || r.process.end(0, a.now()) {
		r.ending = ending
	}
}

// abandonResetsLocked ends all resets, and lets none begin.
func (a *Agent) abandonResetsLocked() {
	a.table.abandonsResets = true
	for r := range a.table.resets {
		a.endResetLocked(r, abandoned)
	}
}
