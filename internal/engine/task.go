package engine

import (
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/queue"
)

// taskState is where a task is. States before running are in line.
type taskState int

const (
	// waiting: beyond the queue's capacity, in the overflow.
	waiting taskState = iota
	// invited: on its way from the overflow to the queue.
	invited
	// queued: in the queue.
	queued
	// running: sent to a worker, or about to be told to be ended there; attempt is set.
	running
	// settling: ended, its end is being written.
	settling
)

// task is a Job while the engine has to do with it.
type task struct {
	pool  *pool
	job   Job
	state taskState

	// status is what the Job's status should be; what is stored may lag behind.
	status v1alpha1.JobStatus
	// version is that of the last write asked for; 0 if there was none.
	version uint64

	// attempt is the one that counts: set in the states running and settling.
	attempt *attempt
	// lastTry is the highest try that was ever sent. Tries that never started are counted here
	// and not in status.Attempts.
	lastTry int32
	// last is the highest token that is known.
	last Token
	// cancelled: the Job does not exist any more; nothing is written of it.
	cancelled bool
	// shown: the cache shows the Job as finished, before its write was answered.
	shown bool
}

// attempt is one execution of a task on a worker.
type attempt struct {
	token  Token
	worker *podWorker
	// sequence of the command that carried it.
	sequence uint64
	// started is when its process started, zero while that is not known.
	started time.Time
	// recorded: the API knows that it runs.
	recorded bool
	// usage is what it takes from its worker.
	usage worker.ResourceUsage
}

var (
	_ worker.Job         = (*task)(nil)
	_ worker.Prioritized = (*task)(nil)
	_ worker.Sized       = (*task)(nil)
)

// startedBefore tells whether the attempt is known to have started, and earlier than another.
func (a *attempt) startedBefore(o *attempt) bool {
	return !a.started.IsZero() && (o.started.IsZero() || a.started.Before(o.started))
}

func newTask(p *pool, job Job) *task {
	t := &task{pool: p, job: job, status: job.Status}
	t.lastTry = deref(job.Status.Attempts)
	for _, ended := range job.Status.EndedAttempts {
		if token, err := ParseToken(job.UID, ended.Token); err == nil {
			t.know(token)
		}
	}
	return t
}

// know notes that there is, or was, an attempt of this token.
func (t *task) know(token Token) {
	t.lastTry = max(t.lastTry, token.Try)
	if token.Compare(t.last) > 0 {
		t.last = token
	}
}

func (t *task) item() queue.Item {
	return queue.Item{Job: t, Priority: t.job.Priority, Created: t.job.Created}
}

// update takes over what may change of a Job while it is in line.
func (t *task) update(job Job) {
	if newer(job.ResourceVersion, t.job.ResourceVersion) {
		t.job.ResourceVersion = job.ResourceVersion
	}
	t.job.Generation = job.Generation
	if job.Priority == t.job.Priority {
		return
	}
	t.job.Priority = job.Priority
	switch t.state {
	case waiting:
		t.pool.overflow.Reprioritize(t, job.Priority)
	case queued:
		t.pool.queue.Reprioritize(t, job.Priority)
	case invited, running, settling:
	}
}

// newer compares resource versions, which are decimal numbers of any length.
func newer(a, b string) bool { return len(a) > len(b) || len(a) == len(b) && a > b }

// shed drops what is only needed to run the Job: it is read again when there is room for it.
func (t *task) shed() { t.job.Argv, t.job.Env, t.job.WorkingDir = nil, nil, "" }

// isShed tells whether shed was called since the Job was last read: no Job is without a command.
func (t *task) isShed() bool { return len(t.job.Argv) == 0 }

// Process sends the task's attempt to its worker. It is the Job's part of worker.Job: the work
// itself is done there, and its result comes back to the engine. Like all of a task it is the engine's,
// and called with its lock held.
func (t *task) Process() error {
	t.attempt.worker.send(Assignment{
		Token: t.attempt.token, JobName: t.job.Name,
		Argv: t.job.Argv, Env: t.job.Env, WorkingDir: t.job.WorkingDir,
	})
	return nil
}

// OnFailure settles the Job as failed: the end of its last try is in its status already.
func (t *task) OnFailure(err error) {
	f := asFailure(err)
	t.finish(v1alpha1.JobFailed, f.reason, f.message)
}

// MaxRetries is how often a failed Job is tried again. Attempts that were cut off do not count.
func (t *task) MaxRetries() int { return 0 }

// Priority of the Job.
func (t *task) Priority() int { return t.job.Priority }

// Resources is what the Job takes: an equal share of its worker for each slot, which is known only
// where it runs. See podWorker.share.
func (t *task) Resources() worker.ResourceUsage {
	if t.attempt == nil {
		return worker.ResourceUsage{}
	}
	return t.attempt.usage
}

// leaveLine takes the task out of the queue or the overflow.
func (t *task) leaveLine() {
	switch t.state {
	case waiting:
		t.pool.overflow.Remove(t)
	case invited:
		t.pool.invited--
	case queued:
		t.pool.queue.Remove(t)
	case running, settling:
	}
}

// release lets go of a task in line because its pool goes: it waits for another of that name.
func (t *task) release() {
	t.leaveLine()
	delete(t.pool.engine.tasks, t.job.UID)
	stored := t.job.Status
	if t.version > 0 {
		stored = v1alpha1.JobStatus{} // written since, who knows what
	}
	t.job.Status = t.status
	t.pool.engine.reportPoolNotFound(t.job, stored)
}

// cancel ends a task whose Job does not exist any more.
func (t *task) cancel() {
	switch {
	case t.state < running:
		t.leaveLine()
		delete(t.pool.engine.tasks, t.job.UID)
	case t.cancelled:
	case t.state == running:
		t.cancelled = true
		t.attempt.worker.kill(t.attempt.token, killGrace)
	default: // settling: there is nothing left to write the result to
		t.shown = true
		t.acknowledge()
	}
	t.pool.engine.out.PoolChanged(t.pool.config.Key)
}

// adoptRecorded takes over the attempt that the Job's stored status has as running. It tells
// whether the task runs now; if its worker is gone, it does not.
func (t *task) adoptRecorded(recorded v1alpha1.Attempt) bool {
	token, err := ParseToken(t.job.UID, recorded.Token)
	if err != nil {
		return false // written by hand, or by another version: the agents know what runs
	}
	t.know(token)
	w := t.pool.workers[recorded.PodUID]
	if w == nil && !t.pool.listed {
		w = t.pool.worker(recorded.PodUID, recorded.Worker)
		w.listed = true // it is gone if the list does not have it
	}
	if w == nil {
		t.endAttempt(recorded, v1alpha1.ReasonWorkerLost)
		t.countLostWorker()
		return false
	}
	a := &attempt{token: token, worker: w, recorded: true}
	if recorded.StartTime != nil {
		a.started = recorded.StartTime.Time
	}
	w.take(t, a)
	return true
}

// start makes a new attempt on a worker.
func (t *task) start(w *podWorker) {
	token := Token{Job: t.job.UID, Try: t.lastTry + 1, Epoch: t.pool.engine.epoch}
	t.know(token)
	w.take(t, &attempt{token: token, worker: w})
	// The worker is there: sending cannot fail, and losing what was sent shows in its reports.
	_ = t.Process()
}

// noteStarted takes over when the attempt's process started.
func (t *task) noteStarted(ago time.Duration) {
	a := t.attempt
	if !a.started.IsZero() {
		return
	}
	a.started = t.pool.engine.now.Add(-ago)
	t.noteAttempt()
	if a.recorded {
		return
	}
	t.status.State, t.status.Reason, t.status.Message = v1alpha1.JobRunning, "", ""
	t.write(a.started.Add(runningDue))
}

// noteAttempt brings the status in line with an attempt that has started, once per attempt.
func (t *task) noteAttempt() {
	a := t.attempt
	t.status.Attempts = new(deref(t.status.Attempts) + 1)
	t.status.StartTime = microTime(a.started)
	t.status.Worker = a.worker.name
	t.status.Attempt = &v1alpha1.Attempt{
		Token: a.token.String(), Worker: a.worker.name, PodUID: a.worker.uid, StartTime: t.status.StartTime,
	}
}

// endAttempt moves an attempt to the ended ones; only the last three are kept.
func (t *task) endAttempt(ended v1alpha1.Attempt, reason string) {
	if ended.EndTime == nil {
		ended.EndTime = microTime(t.pool.engine.now)
	}
	ended.Reason = reason
	all := append(append([]v1alpha1.Attempt(nil), t.status.EndedAttempts...), ended)
	t.status.EndedAttempts = all[max(0, len(all)-3):]
	t.status.Attempt = nil
}

func (t *task) countLostWorker() { t.status.LostWorkers = new(deref(t.status.LostWorkers) + 1) }

// writeWaiting asks for a state in line to be stored, if it lasts.
func (t *task) writeWaiting(state v1alpha1.JobState, reason, message string, after time.Duration) {
	storedSo := t.version == 0 && t.job.Status.State == state && t.job.Status.Reason == reason
	t.status.State, t.status.Reason, t.status.Message = state, reason, message
	if !storedSo {
		t.write(t.pool.engine.now.Add(after))
	}
}

func (t *task) write(due time.Time) { t.writeConfirmed(due, false) }

func (t *task) writeConfirmed(due time.Time, confirm bool) {
	if t.cancelled {
		return
	}
	t.pool.engine.version++
	t.version = t.pool.engine.version
	t.pool.engine.out.Write(Write{
		Job: t.job.JobRef, ResourceVersion: t.job.ResourceVersion, Version: t.version, Status: t.status, Due: due,
		Confirm: confirm,
	})
}

// finish records a final state of a task that was on a worker. It is not done with until that is stored.
func (t *task) finish(state v1alpha1.JobState, reason, message string) {
	condition := metav1.Condition{
		Type: v1alpha1.JobComplete, Status: metav1.ConditionTrue, Reason: reason, Message: message,
		LastTransitionTime: metav1.Time{Time: t.pool.engine.now}, ObservedGeneration: t.job.Generation,
	}
	if state == v1alpha1.JobFailed {
		condition.Type = v1alpha1.JobFailedCondition
	}
	if condition.Reason == "" {
		condition.Reason = string(state)
	}
	t.state = settling
	t.pool.settling++
	t.attempt.worker.unsettled++
	t.status.State, t.status.Reason, t.status.Message = state, reason, message
	t.status.Conditions = append(append([]metav1.Condition(nil), t.status.Conditions...), condition)
	if t.status.CompletionTime == nil {
		t.status.CompletionTime = microTime(t.pool.engine.now)
	}
	t.writeConfirmed(t.pool.engine.now, reason == v1alpha1.ReasonWorkerLost)
}

// failure is why a try failed, in the words of the API.
type failure struct{ reason, message string }

func (f failure) Error() string { return fmt.Sprintf("%s: %s", f.reason, f.message) }

func asFailure(err error) failure {
	if f, ok := err.(failure); ok { //nolint:errorlint // made here and never wrapped
		return f
	}
	return failure{reason: v1alpha1.ReasonCannotStart, message: err.Error()}
}

func microTime(t time.Time) *metav1.MicroTime {
	return &metav1.MicroTime{Time: t.Truncate(time.Microsecond)}
}

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
