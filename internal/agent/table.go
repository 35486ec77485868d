package agent

import (
	"slices"
	"time"

	pb "github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
)

// maxResults bounds the results that wait to be stored, those of running attempts to come included.
const maxResults = 1000

// attempt is one execution of a task, from its acceptance until nothing of it runs.
type attempt struct {
	token      token
	assignment *pb.Assignment
	// previous, if not nil, is a lower attempt of the same task that must have ended before this starts.
	previous *attempt
	// done is closed when nothing of the attempt runs, its reset included.
	done chan struct{}
	// deadline is when it must have ended, if not zero.
	deadline time.Time

	// The table's owner guards the rest.

	// started is zero until the process has started.
	started time.Time
	// process is nil before its start and after its end.
	process execution
	// ending is the outcome if the agent is the one that ends it, else unspecified.
	ending pb.Outcome
	// grace is what is left between SIGTERM and SIGKILL if ending was set before the start.
	grace time.Duration
	// recorded attempts outlive the fence.
	recorded bool
	// unwanted attempts leave no result.
	unwanted bool
	// timers end the attempt; they are stopped at its end.
	timers []*time.Timer
	// memory is what its processes had together when last looked at, and peak the most, in bytes.
	memory, peak int64
	// message is for the result.
	message string
	// ran attempts have executed something: they may have left the worker unclean.
	ran bool
	// reset is to be run, or runs, after the attempt; nil if there is none.
	reset *reset
	// unclean attempts should have been followed by a reset that is over and has succeeded, and were not. It
	// is set before done is closed, and may be read without the table after.
	unclean bool
}

// execution is what runs of an attempt: a process or a request.
type execution interface {
	// end has it ended within the grace, at once if that is 0. Of several calls the earliest end counts. It
	// returns false if it had ended before.
	end(grace time.Duration, now time.Time) bool
}

// result is how an attempt ended.
type result struct {
	token token
	// proof is that of the assignment's token, for the operator.
	proof          []byte
	jobName        string
	outcome        pb.Outcome
	exitCode       int32
	message        string
	output         []byte
	started, ended time.Time
	cpuTime        time.Duration
	// maxMemoryBytes is 0 if it is not known.
	maxMemoryBytes int64
	// signal that ended the process, 0 if none did.
	signal int32
	// httpStatus is 0 unless a server has answered.
	httpStatus int32

	// spooled results are on disk. The table's owner guards it.
	spooled bool
	// session is the last session that it was sent on. The table's owner guards it.
	session uint64
}

// refusal says why an assignment was not started.
type refusal string

const (
	refusedDraining refusal = "draining"
	refusedWaiting  refusal = "the server does not answer yet"
	refusedDisorder refusal = "the agent's folder is out of order"
	refusedScarce   refusal = "there is no room for another process"
	refusedKnown    refusal = "this or a higher attempt is known"
	refusedSlots    refusal = "no free slot"
	refusedResults  refusal = "too many results wait"
	refusedNobody   refusal = "no token"
	refusedUnclean  refusal = "a reset has failed"
)

// table is what the agent knows of attempts. It decides and does nothing else; its owner guards it.
type table struct {
	slots int
	// live has the attempts that have not ended, current the highest of them for each task. Lower
	// ones are being killed. Each task takes one slot.
	live    map[token]*attempt
	current map[task]*attempt
	// results are those to be stored, of which there are count.
	results map[task][]*result
	count   int
	// resets are those that run, or are about to.
	resets map[*reset]bool
	// resetFailure is why the first reset that has failed did; empty if none has. The worker is unfit then.
	resetFailure string
	// abandonsResets: the agent is to end, and nobody needs a clean worker any more.
	abandonsResets bool
	// draining agents, those whose folder is out of order, and those that wait for the server beside them take no
	// new attempts.
	draining bool
	// disorder is why the agent can't use its folder, for people; empty if it can.
	disorder string
	// waiting is why the server beside the agent can't be reached, nil if it can.
	waiting error
	// scarce: a process could not be started beside others, and none of those has ended since.
	scarce bool
}

// maxUnavailable bounds Report.unavailable, in bytes.
const maxUnavailable = 200

func newTable(slots int) *table {
	return &table{
		slots:   slots,
		live:    map[token]*attempt{},
		current: map[task]*attempt{},
		results: map[task][]*result{},
		resets:  map[*reset]bool{},
	}
}

// assign returns the attempt to start. If it has a previous one, that must be killed. Without an
// attempt the refusal says why; nothing has changed then.
func (t *table) assign(a *pb.Assignment) (*attempt, refusal) {
	tok := tokenOf(a.GetToken())
	if why := t.refuse(tok); why != "" {
		return nil, why
	}
	at := &attempt{token: tok, assignment: a, previous: t.current[tok.task], done: make(chan struct{})}
	t.live[tok], t.current[tok.task] = at, at
	return at, ""
}

func (t *table) refuse(tok token) refusal {
	current := t.current[tok.task]
	switch {
	case tok.task.jobUID == "":
		return refusedNobody
	case current != nil && tok.compare(current.token) <= 0:
		return refusedKnown
	case slices.ContainsFunc(t.results[tok.task], func(r *result) bool { return tok.compare(r.token) <= 0 }):
		return refusedKnown
	case t.draining:
		return refusedDraining
	case t.waiting != nil:
		return refusedWaiting
	case t.resetFailure != "":
		return refusedUnclean
	case t.disorder != "":
		return refusedDisorder
	case t.scarce:
		return refusedScarce
	case current == nil && len(t.current)+t.resetting() >= t.slots:
		return refusedSlots
	case len(t.live)+t.count >= maxResults:
		return refusedResults
	}
	return ""
}

// finish turns a live attempt into its result, and begins its reset. It returns whether the result is wanted.
func (t *table) finish(at *attempt, r *result) bool {
	hasSlot := t.current[at.token.task] == at
	t.drop(at)
	t.beginReset(at, hasSlot)
	if !at.unwanted {
		t.add(r)
	}
	return !at.unwanted
}

// drop forgets a live attempt.
func (t *table) drop(at *attempt) {
	t.scarce = false
	delete(t.live, at.token)
	if t.current[at.token.task] == at {
		delete(t.current, at.token.task)
	}
}

// beginReset gives an attempt that has ended its reset, if it asks for one and has executed anything. A worker
// that will take no attempt any more is not reset.
func (t *table) beginReset(at *attempt, hasSlot bool) {
	switch {
	case !at.ran || len(at.assignment.GetResetCommand().GetArgv()) == 0:
	case t.abandonsResets || t.resetFailure != "":
		at.unclean = true
	default:
		at.reset = &reset{hasSlot: hasSlot}
		t.resets[at.reset] = true
	}
}

// endReset forgets a reset, which has failed unless the failure is empty.
func (t *table) endReset(r *reset, failure string) {
	delete(t.resets, r)
	if t.resetFailure == "" {
		t.resetFailure = failure
	}
}

// resetting is how many slots are taken by resets.
func (t *table) resetting() int {
	n := 0
	for r := range t.resets {
		if r.hasSlot {
			n++
		}
	}
	return n
}

// add takes in a result of an attempt that is not live.
func (t *table) add(r *result) {
	t.results[r.token.task] = append(t.results[r.token.task], r)
	t.count++
}

// settle forgets the result of an attempt and returns it, or nil if there is none. A live attempt
// will leave none.
func (t *table) settle(tok token) *result {
	if at := t.live[tok]; at != nil {
		at.unwanted = true
		return nil
	}
	of := t.results[tok.task]
	i := slices.IndexFunc(of, func(r *result) bool { return r.token == tok })
	if i < 0 {
		return nil
	}
	settled := of[i]
	if of = slices.Delete(of, i, i+1); len(of) == 0 {
		delete(t.results, tok.task)
	} else {
		t.results[tok.task] = of
	}
	t.count--
	return settled
}

// record keeps a live attempt from the fence.
func (t *table) record(tok token) {
	if at := t.live[tok]; at != nil {
		at.recorded = true
	}
}

// unrecorded returns the live attempts that must not outlive the fence.
func (t *table) unrecorded() []*attempt {
	var all []*attempt
	for _, at := range t.live {
		if !at.recorded {
			all = append(all, at)
		}
	}
	return all
}

// unavailable returns why no attempt is taken in for now; empty if one is.
func (t *table) unavailable() string {
	switch {
	case t.draining:
		return "it is told to end"
	case t.waiting != nil:
		return clipTo("its server does not answer: "+t.waiting.Error(), maxUnavailable)
	case t.resetFailure != "":
		return "its reset has failed"
	case t.disorder != "":
		return t.disorder
	case t.scarce:
		return "it has no room for another process"
	}
	return ""
}

// drained returns whether an agent told to end may do so.
func (t *table) drained() bool {
	return t.draining && len(t.live) == 0 && len(t.resets) == 0 && t.count == 0
}

// unsent returns all results that were not sent on a session yet, and marks them as sent. It leaves
// none for later: an attempt that is neither running nor among the results counts as not run, and is
// run again.
func (t *table) unsent(session uint64) []*result {
	var all []*result
	for _, of := range t.results {
		for _, r := range of {
			if r.session != session {
				r.session = session
				all = append(all, r)
			}
		}
	}
	return all
}

// unspooled returns the results that are in memory only.
func (t *table) unspooled() []*result {
	var all []*result
	for _, of := range t.results {
		for _, r := range of {
			if !r.spooled {
				all = append(all, r)
			}
		}
	}
	return all
}

// waits returns whether r is to be stored still.
func (t *table) waits(r *result) bool {
	return slices.Contains(t.results[r.token.task], r)
}
