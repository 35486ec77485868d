package simulation

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/engine"
)

// jobTruth is what has happened to a Job, whatever the operators know of it.
type jobTruth struct {
	uid     types.UID
	tenant  *tenant
	name    string
	spec    *v1alpha1.JobSpec
	created time.Time
	tasks   map[int32]*taskTruth
	// final is its end as it is stored, or empty.
	final v1alpha1.JobState
	// gone: it was deleted. suspended: it was, at some time.
	gone, suspended bool
	// recorded are the attempts that a stored status has named, and recordedOn the pods of the indexes.
	recorded   map[string]bool
	recordedOn map[int32]map[types.UID]bool
	// issued are the attempts that were sent, and the pods that they were sent to.
	issued map[engine.Token]map[types.UID]bool
	// wild: the hostile worker has told of an end that no process here has.
	wild bool
	// announced: it is stored that the Job is about to fail.
	announced bool
	// stores is how often its status was stored, and changes how often a user has changed it.
	stores, changes int
}

// taskTruth is what has happened to a task.
type taskTruth struct {
	// sent and started are the highest tokens that were sent to an agent, and that an agent has started.
	sent, started engine.Token
	// latest was sent last, and latestBy has sent it. It is the highest too, unless the epoch has gone back.
	latest   engine.Token
	latestBy *operator
	// starts are how many processes it had, and exits what those that ended by themselves have ended with.
	starts int
	exits  []exit
	// cutOff is how many were ended by others.
	cutOff int
	// forgotten is a success that its agent was told to forget before it was stored, or nil.
	forgotten *engine.Token
	// failures are the failed tries that the agents were told to forget.
	failures map[engine.Token]bool
}

type exit struct {
	token engine.Token
	code  int32
}

func (w *world) truth(uid types.UID) *jobTruth { return w.truths[uid] }

func (w *world) record(token engine.Token) *taskTruth { return w.truths[token.Job].task(token.Index) }

func (j *jobTruth) task(index int32) *taskTruth {
	t := j.tasks[index]
	if t == nil {
		t = &taskTruth{failures: map[engine.Token]bool{}}
		j.tasks[index] = t
	}
	return t
}

func (j *jobTruth) size() int32 {
	if len(j.spec.Items) > 0 {
		return int32(len(j.spec.Items))
	}
	return max(1, deref(j.spec.Completions))
}

func (j *jobTruth) plain() bool { return j.spec.Completions == nil && len(j.spec.Items) == 0 }

func (j *jobTruth) atMostOnce() bool { return j.spec.Execution == v1alpha1.AtMostOnce }

// ignores tells whether a failure with this exit code leaves no trace.
func (j *jobTruth) ignores(code int32) bool {
	p := j.spec.FailurePolicy
	return p != nil && p.Rules[0].Action == v1alpha1.ActionIgnore && slices.Contains(p.Rules[0].ExitCodes, code)
}

func (j *jobTruth) failsOn(code int32) bool {
	p := j.spec.FailurePolicy
	return p != nil && p.Rules[0].Action == v1alpha1.ActionFail && slices.Contains(p.Rules[0].ExitCodes, code)
}

// deadlineOver tells whether the Job's time is over, or was so long ago that it may be taken to be.
func (j *jobTruth) deadlineOver(now time.Time) bool {
	d := j.spec.ActiveDeadlineSeconds
	return d != nil && now.Sub(j.created) >= time.Duration(*d)*time.Second
}

// failedTries is how many processes of the Job have failed by themselves.
func (j *jobTruth) failedTries() int {
	n := 0
	for _, t := range j.tasks {
		for _, e := range t.exits {
			if e.code != 0 {
				n++
			}
		}
	}
	return n
}

// isLatest tells whether an operator has sent an attempt, and nobody another since.
func (t *taskTruth) isLatest(token engine.Token, op *operator) bool {
	return t.latest == token && t.latestBy == op
}

// failuresBefore counts the failed tries that an attempt comes after.
func (t *taskTruth) failuresBefore(token engine.Token) int {
	n := 0
	for failed := range t.failures {
		if failed.Compare(token) < 0 {
			n++
		}
	}
	return n
}

// hasRival tells whether the operator knows of another attempt's end, which it is storing.
func (t *taskTruth) hasRival(token engine.Token, op *operator, stored *v1alpha1.JobStatus) bool {
	return slices.ContainsFunc(t.exits, func(e exit) bool {
		return e.token != token && op.heard[e.token] && (e.code == 0 || !holds(stored, e.token))
	})
}

// hasOther tells whether the operator knows how another attempt has ended: that counts, if it came first.
func (t *taskTruth) hasOther(token engine.Token, op *operator) bool {
	return slices.ContainsFunc(t.exits, func(e exit) bool { return e.token != token && op.heard[e.token] })
}

func (t *taskTruth) exited(code int32) bool {
	return slices.ContainsFunc(t.exits, func(e exit) bool { return e.code == code })
}

func (t *taskTruth) exitOf(token engine.Token) (int32, bool) {
	for _, e := range t.exits {
		if e.token == token {
			return e.code, true
		}
	}
	return 0, false
}

// noteEnd is called when an attempt has ended on its agent.
func (w *world) noteEnd(p *pod, proc *process, outcome engine.Outcome, code int32) {
	t := w.record(proc.token)
	w.note("%s of %s has ended on %s: outcome %d, code %d", describe(proc.token), proc.token.Job, p.uid, outcome, code)
	if proc.started.IsZero() {
		return
	}
	if outcome == engine.Interrupted && !p.hostile && proc.recorded && !p.agent.disowned {
		w.fail("6 what runs goes on: %s of %s is ended on %s, though that it runs is stored", describe(proc.token), proc.token.Job, p.uid)
	}
	if outcome == engine.Exited {
		t.exits = append(t.exits, exit{proc.token, code})
	} else {
		t.cutOff++
	}
	w.history.ended(p, proc)
}

// noteKilled is called when an attempt has ended with its agent.
func (w *world) noteKilled(p *pod, proc *process) {
	if !proc.started.IsZero() {
		w.history.ended(p, proc)
		w.record(proc.token).cutOff++
	}
}

// holds tells whether what is stored of a Job has the end of an attempt.
func holds(s *v1alpha1.JobStatus, token engine.Token) bool {
	return s.State.Finished() || hasIndex(s.SucceededIndexes, token.Index) || hasIndex(s.FailedIndexes, token.Index) ||
		strings.Contains(","+s.RetriedIndexes, ","+strconv.Itoa(int(token.Index))+":") ||
		slices.ContainsFunc(s.EndedAttempts, func(a v1alpha1.Attempt) bool { return a.Token == token.String() })
}

// hasIndex tells whether a list like 0-4,7 has an index.
func hasIndex(list string, index int32) bool {
	for part := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		a, errA := strconv.Atoi(first)
		b, errB := strconv.Atoi(last)
		if errA == nil && errB == nil && int(index) >= a && int(index) <= b {
			return true
		}
	}
	return false
}

func countIndexes(list string, size int32) int32 {
	n := int32(0)
	for i := range size {
		if hasIndex(list, i) {
			n++
		}
	}
	return n
}

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
