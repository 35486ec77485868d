package engine

import (
	"errors"
	"math"
	"time"
)

// ErrTooManyClaims means that a worker speaks of more Jobs that are not known here than it can have attempts of.
var ErrTooManyClaims = errors.New("the worker speaks of too many Jobs that are not known")

// Bounds on what an agent says. A correct one never meets them.
const (
	// maxTry bounds the tries that others tell of, so that there are always higher ones.
	maxTry = 1 << 30
	// maxMeasure bounds what is measured, such that JSON has it exactly. Sums stop there.
	maxMeasure = 1<<53 - 1
	// maxSpool is how many results an agent keeps, and maxClaims that with what it runs. See podWorker.mayClaim.
	maxSpool = 1000
	// claimedBytes bounds the outputs that a pool's claims hold together.
	claimedBytes = 16 << 20
	// claimLife is how long a result is kept that a worker has claimed and whose pod is gone, until its Job is found.
	claimLife = 10 * time.Minute
)

// issued tells whether an attempt is one that a leader has given to this very worker. Whatever a worker says of
// another counts for nothing: it is told to end it, and to forget its result.
//
// A proof decides, whatever the epoch: after an etcd restore, or where the Lease was edited, what runs may be of an
// epoch above ours. Without a proof, what is known of the attempt does. Agents of the version before have none, and
// are believed where an earlier leader may have given them the attempt and the Job's status names no other pod.
func (w *podWorker) issued(j *job, token Token, proven bool) bool {
	e := j.engine()
	if j.pool.config.Key != w.pool.config.Key || token.Index < 0 || token.Index > j.size {
		return false
	}
	t := j.tasks[token.Index]
	switch {
	case proven, t.isOn(w, token), j.owesTo(w, token):
		return true
	case w.proves, token.Epoch.Compare(e.epoch) >= 0, token.Try > maxTry:
		return false
	case j.atMostOnce() && token.Index != j.size: // it is stored before it is sent, so that it is known
		return false
	}
	return t == nil || t.attempt == nil || !t.attempt.recorded || t.attempt.worker.uid == w.uid
}

// isOn tells whether an attempt is the one that is known to run on a worker. Of one that is only stored by its index,
// which attempt it is, is not known.
func (t *task) isOn(w *podWorker, token Token) bool {
	if t == nil || t.attempt == nil || t.attempt.unsent || t.attempt.worker.uid != w.uid {
		return false
	}
	known := t.attempt.token
	return known == token || known.Try == 0 && token.Try <= maxTry && token.Epoch.Compare(t.job.engine().epoch) < 0
}

// undecided tells whether what a worker says of an attempt can be judged only with the Job's spec, which is to be
// read again.
func (w *podWorker) undecided(j *job, token Token, proven bool) bool {
	return j.isShed() && w.issued(j, token, proven) && !proven && !j.tasks[token.Index].isOn(w, token)
}

// baseless tells whether a worker speaks of an attempt of an unknown Job that its agent would have a proof of.
func (w *podWorker) baseless(proven bool) bool { return w.proves && !proven }

// clampAgo makes what an agent says of times fit: an attempt has not started before it was sent, or where that is not
// known, before its Job was created, and has ended since.
func (j *job) clampAgo(token Token, started, ended time.Duration) (time.Duration, time.Duration) {
	now, since := j.engine().now, j.object.Created
	if t := j.tasks[token.Index]; t != nil && t.attempt != nil && t.attempt.token == token && !t.attempt.sent.IsZero() {
		since = t.attempt.sent
	}
	started = min(max(0, started), max(0, now.Sub(since)))
	return started, min(max(0, ended), started)
}

// clamp makes a result fit: see clampAgo, and maxMeasure.
func (j *job) clamp(r Result) Result {
	r.StartedAgo, r.EndedAgo = j.clampAgo(r.Token, r.StartedAgo, r.EndedAgo)
	r.CPUTime = max(0, r.CPUTime)
	r.MaxMemoryBytes = measure(r.MaxMemoryBytes)
	return r
}

func measure(n int64) int64 { return min(max(0, n), maxMeasure) }

// sum of two measures.
func sum(a, b int64) int64 { return measure(a) + min(measure(b), maxMeasure-measure(a)) }

// next is one more, up to what the API has room for: a status that was edited may have that.
func next(n int32) int32 { return min(n, math.MaxInt32-1) + 1 }

// mayClaim tells whether a worker may speak of one more Job that is not known: it can have no more attempts than
// slots, and no more results than its spool.
func (w *podWorker) mayClaim() bool {
	w.overclaims = w.overclaims || w.claims >= w.slots+maxSpool
	return !w.overclaims
}

// dropOldClaims forgets what was claimed by workers that have been gone for so long.
func (e *Engine) dropOldClaims() {
	e.deleteClaims(func(c claim) bool { return !c.worker.goneAt.IsZero() && e.now.Sub(c.worker.goneAt) >= claimLife })
}
