package engine

import (
	"fmt"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// state is what a status shows first.
type state struct {
	state           v1alpha1.JobState
	reason, message string
}

func stateOf(s *v1alpha1.JobStatus) state { return state{s.State, s.Reason, s.Message} }

// same tells whether another state need not be written after this one: its message alone is no reason to.
func (s state) same(o state) bool { return s.state == o.state && s.reason == o.reason }

// present is the state of a job that has not ended.
func (j *job) present() state {
	switch {
	case j.running > 0 && j.atHandler():
		return state{v1alpha1.JobRunning, v1alpha1.ReasonOnFailure, j.failing.message}
	case j.running > 0:
		return state{v1alpha1.JobRunning, "", ""}
	case j.obstacle != nil:
		return state{v1alpha1.JobPending, j.obstacle.reason, j.obstacle.message}
	case j.handling():
		return state{v1alpha1.JobQueued, v1alpha1.ReasonOnFailure, j.failing.message}
	case j.place == overflow, j.place == invited && !j.admitted:
		return state{v1alpha1.JobPending, v1alpha1.ReasonQueueFull, fmt.Sprintf(
			"The queue of the pool is full (%d Jobs). The Job comes in, in order, as room appears.", j.pool.config.Capacity)}
	case j.place == away:
		return state{v1alpha1.JobPending, v1alpha1.ReasonRetrying, j.note}
	case j.pool.hindrance.reason != "":
		return state{v1alpha1.JobQueued, j.pool.hindrance.reason, j.pool.hindrance.message}
	case j.note != "":
		return state{v1alpha1.JobQueued, v1alpha1.ReasonRetrying, j.note}
	}
	return state{v1alpha1.JobQueued, "", ""}
}

// publish asks for what has changed to be stored: at once where the API says something else that matters,
// or else when it has lasted.
func (j *job) publish() {
	if j.settling || j.leaving || j.cancelled || j.unstorable {
		return
	}
	if j.running > 0 {
		j.note = ""
	}
	now, urgent := j.present(), j.urgent
	j.urgent = false
	j.noteSuspended()
	if j.owesMany() {
		j.write(0)
		return
	}
	after := waitingDue
	switch {
	case urgent:
		after = 0
	case now.state == v1alpha1.JobRunning && !j.known():
		return // sent, and not known to have started
	case now.state == v1alpha1.JobRunning:
		after = runningDue
	case now.same(j.asked) && !j.changed:
		return
	}
	if !j.plain() && !j.handling() {
		if j.changed || !now.same(j.asked) {
			j.writeLater(after)
		}
		return
	}
	if now.state == v1alpha1.JobRunning && now.same(j.asked) && j.isRecorded() {
		return
	}
	j.write(after)
}

// known tells whether a process of the job is known to run.
func (j *job) known() bool {
	for _, t := range j.tasks {
		if t.attempt != nil && !t.attempt.started.IsZero() {
			return true
		}
	}
	return false
}

// isRecorded tells whether the one attempt of a plain job, or of onFailure, is stored or being stored. Of an indexed job that
// fails while several tasks run, the first decides.
func (j *job) isRecorded() bool {
	for _, t := range j.sorted() {
		if a := t.attempt; a != nil {
			return a.recorded || a.unsent || a.version == j.version && j.version != 0
		}
	}
	return false
}

// write asks for the present status to be stored, once it has lasted so long.
func (j *job) write(after time.Duration) { j.ask(j.present(), after, false) }

// askAgain asks for the status to be stored with the state that was asked for last, and all that is known by now.
func (j *job) askAgain() { j.ask(j.asked, 0, j.asked.isOwnVerdict()) }

// isOwnVerdict tells whether nobody but the engine says that the Job has ended so.
func (s state) isOwnVerdict() bool {
	return s.state.Finished() && (s.reason == v1alpha1.ReasonWorkerLost || s.reason == v1alpha1.ReasonDeadlineExceeded)
}

// ask asks for the status to be stored with a state.
func (j *job) ask(s state, after time.Duration, confirm bool) {
	e := j.engine()
	e.version++
	if claim, inherited := e.inherited[j.object.UID]; inherited && (claim != 0 || after == 0) {
		after, e.inherited[j.object.UID] = 0, e.version
	}
	j.object.Status.Leader = e.leader
	j.version, j.asked, j.changed, j.flush, j.flushed = e.version, s, false, time.Time{}, e.now
	j.object.Status.State, j.object.Status.Reason, j.object.Status.Message = s.state, s.reason, clip(s.message)
	if !j.plain() {
		j.compose()
	}
	for _, t := range j.tasks {
		switch a := t.attempt; {
		case a == nil || a.started.IsZero():
		case a.omitted:
			a.version = 0
		default:
			a.version = j.version
		}
	}
	j.assignOwed()
	e.out.Write(Write{
		Job: j.object.JobRef, ResourceVersion: j.object.ResourceVersion, Version: j.version, Status: j.object.Status,
		Due: e.now.Add(after), Confirm: confirm, Awaited: j.awaitsWrite(),
	})
}

// awaitsWrite tells whether something waits for the status to be stored: a result, a start, or onFailure.
func (j *job) awaitsWrite() bool {
	return len(j.owed) > 0 || j.handling() && !j.announced || j.engine().inherited[j.object.UID] != 0 ||
		slices.ContainsFunc(j.sorted(), func(t *task) bool { return t.attempt != nil && t.attempt.unsent && t.attempt.noted })
}

const (
	// statusInterval is how often the status of an indexed job is written, at the most, unless more results than
	// maxUnwritten come meanwhile: an agent takes no more tasks when it keeps a thousand.
	statusInterval = time.Second
	maxUnwritten   = 250
)

// writeLater has the status of an indexed job written in a while, with all that happens until then.
func (j *job) writeLater(after time.Duration) {
	at := j.engine().now.Add(after)
	if next := j.flushed.Add(statusInterval); at.Before(next) {
		at = next
	}
	if j.flush.IsZero() || at.Before(j.flush) {
		j.flush = at
		j.arm()
	}
}

// compose brings the status of an indexed job in line with its tasks.
func (j *job) compose() {
	x := j.indexed
	s := &j.object.Status
	s.Completions = fmt.Sprintf("%d/%d", x.succeeded.len(), j.size)
	s.Active, s.Succeeded, s.Failed = new(int32(j.running)), new(x.succeeded.len()), new(x.failed.len())
	if j.atHandler() {
		s.Active = new(int32(0)) // what runs is onFailure
	}
	s.SucceededIndexes, s.FailedIndexes, s.RetriedIndexes = x.succeeded.text(), x.failed.text(), j.retried()
	s.RunningIndexes = j.runningIndexes()
	if j.failing != nil && !j.settling {
		j.setCondition(v1alpha1.JobFailureTarget, metav1.ConditionTrue, j.failing.reason, j.failing.message)
	}
}

// noteAttempt brings the status in line with an attempt that has started, or of which that is to be stored
// before it may, once per attempt.
func (j *job) noteAttempt(t *task) {
	a := t.attempt
	if a.noted {
		return
	}
	a.noted, j.changed = true, true
	started := microTime(a.started)
	if a.unsent {
		started = microTime(j.engine().now)
	}
	if !t.isHandler() {
		j.object.Status.Attempts = new(next(deref(j.object.Status.Attempts)))
		j.object.Status.Worker = a.worker.name
		if j.plain() || j.object.Status.StartTime == nil {
			j.object.Status.StartTime = started
		}
	}
	if j.plain() || t.isHandler() {
		j.object.Status.Attempt = &v1alpha1.Attempt{Token: a.token.String(), Worker: a.worker.name, PodUID: a.worker.uid, StartTime: started}
	}
}

// noteEnd brings the status in line with an attempt that has ended.
func (j *job) noteEnd(t *task, r Result, f *failure) {
	end := j.engine().now.Add(-r.EndedAgo)
	if j.changed = true; end.After(j.endTime) { // it may be told long after others
		j.endTime = end
	}
	if !t.isHandler() {
		j.noteUsage(r)
		if j.plain() {
			j.object.Status.Result = resultOf(r, f)
		}
	}
	if j.object.Status.Attempt == nil {
		return
	}
	ended := *j.object.Status.Attempt
	ended.EndTime = microTime(end)
	if f != nil {
		ended.Reason = f.reason
	}
	if r.Outcome == Exited {
		ended.ExitCode = new(r.ExitCode)
	}
	j.endAttempt(ended)
}

// noteUsage keeps that of the last attempt, or of an indexed job that of all.
func (j *job) noteUsage(r Result) {
	cpu, memory := r.CPUTime.Milliseconds(), r.MaxMemoryBytes
	if before := j.object.Status.Usage; before != nil && !j.plain() {
		cpu = sum(cpu, deref(before.CPUMilliseconds))
		memory = max(memory, deref(before.MaxMemoryBytes))
	}
	j.object.Status.Usage = &v1alpha1.JobUsage{CPUMilliseconds: &cpu}
	if memory > 0 {
		j.object.Status.Usage.MaxMemoryBytes = &memory
	}
}

// noteCutOff brings the status in line with an attempt that was cut off.
func (j *job) noteCutOff(a *attempt, reason string) {
	j.urgent = j.urgent || a.recorded && j.plain()
	j.endTime, j.changed = j.engine().now, true
	if j.object.Status.Attempt != nil {
		ended := *j.object.Status.Attempt
		ended.EndTime, ended.Reason = microTime(j.endTime), reason
		j.endAttempt(ended)
	}
}

// maxEnded is how many ended attempts a status has.
const maxEnded = 3

// endAttempt moves an attempt to the ended ones, of which the last are kept.
func (j *job) endAttempt(ended v1alpha1.Attempt) {
	all := append(slices.Clone(j.object.Status.EndedAttempts), ended)
	j.object.Status.EndedAttempts = all[max(0, len(all)-maxEnded):]
	j.object.Status.Attempt = nil
}

// takeBack puts back a task whose attempt was stored but has not run.
func (j *job) takeBack(t *task) {
	j.object.Status.Attempt, j.urgent = nil, true
	j.object.Status.Attempts = new(max(0, deref(j.object.Status.Attempts)-1))
	j.putBack(t)
}

// noteSuspended keeps the condition of that name.
func (j *job) noteSuspended() {
	has := meta.IsStatusConditionTrue(j.object.Status.Conditions, v1alpha1.JobSuspended)
	switch suspended := j.suspend && j.failing == nil; {
	case suspended && !has:
		j.setCondition(v1alpha1.JobSuspended, metav1.ConditionTrue, v1alpha1.ReasonSuspended, "spec.suspend is true.")
	case !suspended && has:
		j.setCondition(v1alpha1.JobSuspended, metav1.ConditionFalse, "Resumed", "The Job is not suspended any more.")
	}
}

// setCondition leaves the conditions that others share as they are.
func (j *job) setCondition(kind string, status metav1.ConditionStatus, reason, message string) {
	j.object.Status.Conditions = slices.Clone(j.object.Status.Conditions)
	meta.SetStatusCondition(&j.object.Status.Conditions, metav1.Condition{
		Type: kind, Status: status, Reason: reason, Message: clip(message),
		LastTransitionTime: metav1.Time{Time: j.engine().now}, ObservedGeneration: j.object.Generation,
	})
}

// announceFailure has it stored that the job fails, before its onFailure runs.
func (j *job) announceFailure() {
	if !meta.IsStatusConditionTrue(j.object.Status.Conditions, v1alpha1.JobFailureTarget) {
		j.setCondition(v1alpha1.JobFailureTarget, metav1.ConditionTrue, j.failing.reason, j.failing.message)
		j.urgent = true
	}
}

// finish records a final state of a job of which nothing runs. It is not done with until that is stored.
func (j *job) finish(final v1alpha1.JobState, reason, message string) {
	j.leaveLine()
	j.disarm()
	kind, conditionReason := v1alpha1.JobComplete, reason
	if final == v1alpha1.JobFailed {
		kind = v1alpha1.JobFailedCondition
	}
	if conditionReason == "" {
		conditionReason = string(final)
	}
	clear(j.tasks)
	j.suspend = false
	j.noteSuspended()
	j.settling = true
	j.pool.settling++
	j.setCondition(kind, metav1.ConditionTrue, conditionReason, message)
	switch {
	case j.endTime.IsZero():
		j.endTime = j.engine().now
	case reason == v1alpha1.ReasonDeadlineExceeded && j.endTime.Before(j.deadline): // what it ran had ended before
		if j.endTime = j.deadline; j.deadline.After(j.engine().now) { // an agent says so, too early
			j.endTime = j.engine().now
		}
	}
	j.object.Status.CompletionTime = microTime(j.endTime)
	verdict := state{final, reason, message}
	j.ask(verdict, 0, verdict.isOwnVerdict())
	j.engine().out.PoolChanged(j.pool.config.Key)
}

func poolNotFound(pool types.NamespacedName) state {
	return state{v1alpha1.JobPending, v1alpha1.ReasonPoolNotFound, fmt.Sprintf(
		"There is no WorkerPool %q in namespace %q. The Job runs once there is.", pool.Name, pool.Namespace)}
}

// endWithoutPool asks for the end of a Job without a pool to be stored, if its time is over or it is being deleted. No
// worker can run the onFailure of one whose time is over: that it fails is stored, and it waits for a pool to run that.
func (e *Engine) endWithoutPool(object Job) bool {
	var f failure
	status := object.Status
	switch at := deadlineOf(&object, e.now); {
	case object.Deleted:
		f = deletedFailure
	case at.IsZero() || at.After(e.now) || meta.IsStatusConditionTrue(status.Conditions, v1alpha1.JobFailureTarget):
		return false
	default:
		f = *deadlineExceeded(*object.Spec.ActiveDeadlineSeconds)
	}
	e.awaitDeadline(object.JobRef, time.Time{})
	condition := metav1.Condition{
		Type: v1alpha1.JobFailedCondition, Status: metav1.ConditionTrue, Reason: f.reason, Message: f.message,
		LastTransitionTime: metav1.Time{Time: e.now}, ObservedGeneration: object.Generation,
	}
	if object.Spec.OnFailure != nil && !object.Deleted {
		condition.Type = v1alpha1.JobFailureTarget
		s := poolNotFound(types.NamespacedName{Namespace: object.Namespace, Name: object.Spec.Pool})
		status.State, status.Reason = s.state, s.reason
		status.Message = clip(f.message + " Its onFailure runs, and the Job has failed then, once there is a WorkerPool " + object.Spec.Pool + ".")
	} else {
		status.State, status.Reason, status.Message = v1alpha1.JobFailed, f.reason, clip(f.message)
		status.CompletionTime, status.Attempt, status.RunningIndexes = microTime(e.now), nil, nil
		if status.Active != nil {
			status.Active = new(int32(0))
		}
	}
	status.Conditions = slices.Clone(status.Conditions)
	meta.SetStatusCondition(&status.Conditions, condition)
	e.version++
	e.out.Write(Write{
		Job: object.JobRef, ResourceVersion: object.ResourceVersion, Version: e.version, Status: status, Due: e.now, Confirm: true,
	})
	return true
}

// reportPoolNotFound asks for a Job without a pool to be shown so, unless it is stored so already.
func (e *Engine) reportPoolNotFound(job Job, pool types.NamespacedName, stored state) {
	now := poolNotFound(pool)
	if now.same(stored) {
		e.out.DropWrite(job.UID)
		return
	}
	e.version++
	status := job.Status
	status.State, status.Reason, status.Message, status.Leader = now.state, now.reason, now.message, e.leader
	e.out.Write(Write{
		Job: job.JobRef, ResourceVersion: job.ResourceVersion, Version: e.version, Status: status, Due: e.now.Add(waitingDue),
	})
}

// Counted tells whether a Job that has finished is in the counters that are stored in its pool's status.
func (e *Engine) Counted(pool types.NamespacedName, job types.UID) bool {
	e.enter()
	defer e.leave()
	if e.jobs[job] != nil {
		return false
	}
	p := e.pools[pool]
	return p == nil || p.uncounted[job] == 0
}

func microTime(t time.Time) *metav1.MicroTime {
	return &metav1.MicroTime{Time: t.Truncate(time.Microsecond)}
}
