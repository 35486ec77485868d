package simulation

import (
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/engine"
)

// history is what was done to each Job, as the parties have seen it: agents start and end attempts, operators
// write and read how the Job has ended.
type history struct {
	w     *world
	clock int64
	jobs  map[types.UID][]porcupine.Operation
}

// tick is the history's clock: no two moments are the same.
func (h *history) tick() int64 {
	h.clock++
	return h.clock
}

// action is what one party does to a Job's register.
type action struct {
	kind  actionKind
	task  int32
	token engine.Token
	// succeeded: the process has ended with exit code 0.
	succeeded bool
	// final is what is written, and size how many tasks the Job has.
	final v1alpha1.JobState
	size  int32
}

type actionKind int

const (
	startAttempt actionKind = iota
	endAttempt
	writeFinal
	readFinal
)

// answer is what the party was told.
type answer struct {
	// unknown: nobody has told it whether the write took effect.
	unknown bool
	final   v1alpha1.JobState
}

// never is later than all that happens.
const never = int64(1) << 60

func (h *history) add(uid types.UID, from, to int64, a action, said answer) {
	h.jobs[uid] = append(h.jobs[uid], porcupine.Operation{Input: a, Output: said, Call: from, Return: to})
}

func (h *history) moment(uid types.UID, a action, said answer) {
	h.add(uid, h.tick(), h.tick(), a, said)
}

// started leaves out the processes of pods that are given up, which are judged elsewhere.
func (h *history) started(p *pod, proc *process) {
	if proc.listed = !h.w.isZombie(p); proc.listed {
		h.moment(proc.token.Job, action{kind: startAttempt, task: proc.token.Index, token: proc.token}, answer{})
	}
}

func (h *history) ended(_ *pod, proc *process) {
	if proc.listed {
		code, exited := h.w.record(proc.token).exitOf(proc.token)
		h.moment(proc.token.Job, action{kind: endAttempt, task: proc.token.Index, token: proc.token, succeeded: exited && code == 0}, answer{})
	}
	proc.listed = false
}

// answered notes what an operator was told about a request.
func (h *history) answered(c *call, r *request, f fault) {
	now := h.tick()
	switch {
	case r.object == liveJob && r.err == nil:
		if job := h.w.api.jobs.live[r.name]; job != nil {
			h.add(job.UID, r.sent, now, action{kind: readFinal}, answer{final: finalOf(job)})
		}
	case r.object != finalWrite:
	case f == answered && r.err == nil:
		h.write(r, now, answer{})
	case f == timeoutBefore, f == timeoutAfter, f == timeoutLate:
		h.abandoned(c, r)
	}
}

// abandoned notes a request whose answer nobody has seen.
func (h *history) abandoned(_ *call, r *request) {
	if r.object == finalWrite {
		h.write(r, never, answer{unknown: true})
	}
}

func (h *history) write(r *request, to int64, said answer) {
	uid := deref(r.patch.uid)
	if j := h.w.truths[uid]; j != nil {
		h.add(uid, r.sent, to, action{kind: writeFinal, final: r.patch.status.State, size: j.size()}, said)
	}
}

func finalOf(job *v1alpha1.Job) v1alpha1.JobState {
	if job.Status.State.Finished() {
		return job.Status.State
	}
	return ""
}

// register is what a Job is at one moment: how it has ended, and of each task which attempt runs, and whether one
// has succeeded.
type register struct {
	final     v1alpha1.JobState
	live      [maxTasks]engine.Token
	succeeded [maxTasks]bool
}

// maxTasks is how many tasks a Job has here, onFailure included.
const maxTasks = 8

// step returns the registers that there may be after an action; none if it can't be.
func step(state, input, output any) []any {
	s, a, said := state.(register), input.(action), output.(answer)
	before := s
	switch a.kind {
	case startAttempt:
		if s.live[a.task].Try != 0 || s.final == v1alpha1.JobSucceeded {
			return nil
		}
		s.live[a.task] = a.token
	case endAttempt:
		if s.live[a.task] != a.token {
			return nil
		}
		s.live[a.task] = engine.Token{}
		s.succeeded[a.task] = s.succeeded[a.task] || a.succeeded
	case readFinal:
		if s.final != said.final {
			return nil
		}
	case writeFinal:
		legal := s.final == "" && (a.final != v1alpha1.JobSucceeded || s.allSucceeded(a.size))
		s.final = a.final
		switch {
		case said.unknown && legal:
			return []any{before, s}
		case said.unknown:
			return []any{before}
		case !legal:
			return nil
		}
	}
	return []any{s}
}

func (s *register) allSucceeded(size int32) bool {
	for i := range size {
		if !s.succeeded[i] {
			return false
		}
	}
	return true
}

var model = (&porcupine.NondeterministicModel{
	Init:  func() []any { return []any{register{}} },
	Step:  step,
	Equal: func(a, b any) bool { return a == b },
}).ToModel()

// checkHistory has each Job's history judged: there must be an order of all actions, each between its call and its
// return, in which each is possible.
func (w *world) checkHistory() {
	for _, name := range sortedKeys(w.api.jobs.live) {
		job := w.api.jobs.live[name]
		w.history.moment(job.UID, action{kind: readFinal}, answer{final: finalOf(job)})
	}
	for _, uid := range w.uids {
		if j := w.truth(uid); w.spared(j) || w.touched(j) {
			continue
		}
		if judge(w.history.jobs[uid]) != porcupine.Ok {
			w.fail("linearizability: the history of %s is not one of a register: %+v", uid, w.history.jobs[uid])
		}
	}
}

func judge(operations []porcupine.Operation) porcupine.CheckResult {
	return porcupine.CheckOperationsTimeout(model, operations, 5*time.Second)
}

func TestTheCheckerRefusesForgedHistories(t *testing.T) {
	first, second := engine.Token{Job: "a", Try: 1}, engine.Token{Job: "a", Try: 2}
	start := func(from, to int64, token engine.Token) porcupine.Operation {
		return porcupine.Operation{Input: action{kind: startAttempt, token: token}, Output: answer{}, Call: from, Return: to}
	}
	end := func(from, to int64, token engine.Token, succeeded bool) porcupine.Operation {
		return porcupine.Operation{Input: action{kind: endAttempt, token: token, succeeded: succeeded}, Output: answer{}, Call: from, Return: to}
	}
	write := func(from, to int64, final v1alpha1.JobState, unknown bool) porcupine.Operation {
		return porcupine.Operation{Input: action{kind: writeFinal, final: final, size: 1}, Output: answer{unknown: unknown}, Call: from, Return: to}
	}
	read := func(from, to int64, final v1alpha1.JobState) porcupine.Operation {
		return porcupine.Operation{Input: action{kind: readFinal}, Output: answer{final: final}, Call: from, Return: to}
	}
	const done, failed = v1alpha1.JobSucceeded, v1alpha1.JobFailed
	cases := map[string]struct {
		history []porcupine.Operation
		want    porcupine.CheckResult
	}{
		"a plain Job":               {[]porcupine.Operation{start(1, 2, first), end(3, 4, first, true), write(5, 6, done, false), read(7, 8, done)}, porcupine.Ok},
		"a write without an answer": {[]porcupine.Operation{start(1, 2, first), end(3, 4, first, true), write(5, never, done, true), read(7, 8, ""), read(9, 10, done)}, porcupine.Ok},
		"a write that was lost":     {[]porcupine.Operation{start(1, 2, first), end(3, 4, first, false), write(5, never, failed, true), read(7, 8, "")}, porcupine.Ok},
		"two at once":               {[]porcupine.Operation{start(1, 2, first), start(3, 4, second), end(5, 6, first, true), end(7, 8, second, true)}, porcupine.Illegal},
		"two ends":                  {[]porcupine.Operation{start(1, 2, first), end(3, 4, first, true), write(5, 6, done, false), write(7, 8, failed, false)}, porcupine.Illegal},
		"success without one":       {[]porcupine.Operation{start(1, 2, first), end(3, 4, first, false), write(5, 6, done, false)}, porcupine.Illegal},
		"success before it":         {[]porcupine.Operation{start(1, 2, first), write(3, 4, done, false), end(5, 6, first, true)}, porcupine.Illegal},
		"an end that is taken back": {[]porcupine.Operation{start(1, 2, first), end(3, 4, first, true), write(5, 6, done, false), read(7, 8, "")}, porcupine.Illegal},
		"an unknown write that shows and goes": {[]porcupine.Operation{
			start(1, 2, first), end(3, 4, first, true), write(5, never, done, true), read(7, 8, done), read(9, 10, ""),
		}, porcupine.Illegal},
		"again after success": {[]porcupine.Operation{start(1, 2, first), end(3, 4, first, true), write(5, 6, done, false), start(7, 8, second)}, porcupine.Illegal},
		"an end of nothing":   {[]porcupine.Operation{end(1, 2, first, true)}, porcupine.Illegal},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if got := judge(c.history); got != c.want {
				t.Errorf("judged %s, want %s", got, c.want)
			}
		})
	}
}
