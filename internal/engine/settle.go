package engine

import (
	"fmt"
	"net/http"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// failure is why a try failed, in the words of the API.
type failure struct {
	reason, message string
	// exitCode of a command that ended by itself, else 0.
	exitCode int32
	// permanent failures are not retried, unless a rule of the Job says so.
	permanent bool
}

func (f failure) Error() string { return fmt.Sprintf("%s: %s", f.reason, f.message) }

func asFailure(err error) failure {
	if f, ok := err.(failure); ok { //nolint:errorlint // made here and never wrapped
		return f
	}
	return failure{reason: v1alpha1.ReasonCannotStart, message: err.Error()}
}

// settle takes in the end of the attempt that counts.
func (t *task) settle(r Result) {
	j, a := t.job, t.attempt
	if a.started.IsZero() {
		a.started = j.engine().now.Add(-r.StartedAgo)
		j.noteAttempt(t)
	}
	t.release()
	t.noteSettled(a.token)
	switch {
	case j.cancelled:
		a.worker.acknowledge(a.token)
	case r.Outcome.cutOff():
		t.cutOff(a, failure{reason: v1alpha1.ReasonInterrupted, message: t.whyCutOff()})
	default:
		t.ended(a, r)
	}
	j.proceed()
}

// release frees what the task's attempt takes. It has none any more.
func (t *task) release() {
	t.attempt.worker.give(t)
	t.attempt = nil
}

func (t *task) whyCutOff() string {
	if t.job.suspend {
		return "The attempt was stopped, because the Job was suspended."
	}
	return "The attempt was cut off, because its worker was removed or had no connection."
}

// ended takes in the end of an attempt that was not cut off.
func (t *task) ended(a *attempt, r Result) {
	j := t.job
	f := t.verdict(r)
	j.noteEnd(t, r, f)
	j.owe(a, t, f != nil)
	if f != nil && j.pool.config.SpentOnFailure {
		a.worker.spend()
	}
	switch {
	case t.isHandler():
		t.handled(f)
	case r.Outcome == DeadlineExceeded:
		j.fail(*f)
		j.putBack(t)
	case f == nil:
		t.succeed()
	default:
		t.fail(*f, resultOf(r, f))
	}
}

func (t *task) succeed() {
	j := t.job
	j.drop(t)
	if j.plain() {
		j.finish(v1alpha1.JobSucceeded, "", "")
		return
	}
	j.indexed.succeeded.add(t.index)
}

// fail decides what a failure means.
func (t *task) fail(f failure, result *v1alpha1.JobResult) {
	action := t.job.rule(f)
	if action == "" && !f.permanent {
		action = v1alpha1.ActionRetry
	}
	t.act(action, f, result)
}

// cutOff puts back a task whose attempt was cut off for no fault of its own, unless a rule of the Job says
// otherwise, or it may not run twice.
func (t *task) cutOff(a *attempt, f failure) {
	j := t.job
	if j.failing != nil && !t.isHandler() {
		f = *j.failing
	}
	j.noteCutOff(a, f.reason)
	action := j.rule(f)
	switch {
	case t.isHandler(), j.suspend && !j.atMostOnce():
		action = v1alpha1.ActionIgnore
	case j.atMostOnce():
		f.reason, action = v1alpha1.ReasonInterrupted, ""
		f.message += " It may have run in part, and is not run again."
	}
	if j.failing != nil || action == "" && !j.atMostOnce() || action == v1alpha1.ActionIgnore {
		j.note = f.message + tryAgain
		j.putBack(t)
		a.worker.acknowledge(a.token)
		return
	}
	j.owe(a, t, true)
	t.act(action, f, nil)
}

const tryAgain = " The Job is tried again."

// act does what was decided about a failure: without an action the task has failed for good.
func (t *task) act(action v1alpha1.FailureAction, f failure, result *v1alpha1.JobResult) {
	j := t.job
	switch {
	case action == v1alpha1.ActionFail:
		t.giveUp(f, result)
		j.fail(f)
	case action == v1alpha1.ActionIgnore:
		t.retry(f)
	case action == v1alpha1.ActionRetry && int(t.retries) < j.MaxRetries():
		t.retries++
		j.status.Retries = new(deref(j.status.Retries) + 1)
		t.retry(f)
	default:
		t.giveUp(f, result)
	}
}

// rule finds what the first of the Job's rules that is about the failure wants; empty if none is.
func (j *job) rule(f failure) v1alpha1.FailureAction {
	if j.isShed() || j.object.Spec.FailurePolicy == nil {
		return ""
	}
	rules := j.object.Spec.FailurePolicy.Rules
	for i := range rules {
		rule := &rules[i]
		if slices.Contains(rule.Reasons, v1alpha1.FailureReason(f.reason)) || f.exitCode != 0 && slices.Contains(rule.ExitCodes, f.exitCode) {
			return rule.Action
		}
	}
	return ""
}

// retry has the task tried again, once this failure is stored and the backoff is over.
func (t *task) retry(f failure) {
	j := t.job
	j.note, j.urgent = f.message+tryAgain, true
	t.unstored = true
	j.retryLater(t)
}

// giveUp ends a task that has failed for good.
func (t *task) giveUp(f failure, result *v1alpha1.JobResult) {
	j := t.job
	j.drop(t)
	if j.plain() {
		if j.failing == nil {
			j.failing = &f
		}
		return
	}
	j.indexed.failed.add(t.index)
	if j.status.Result == nil {
		if result == nil {
			result = &v1alpha1.JobResult{Reason: f.reason}
		}
		result.Message = clip(fmt.Sprintf("Task %d: %s", t.index, f.message))
		j.status.Result = result
	}
}

// handled notes that onFailure has run. If it failed itself, that is told beside the Job's failure.
func (t *task) handled(f *failure) {
	j := t.job
	j.drop(t)
	j.handled = true
	if f != nil {
		j.failing.message = clip(j.failing.message + " Its onFailure has failed too: " + f.message)
	}
}

// lose ends the attempt of a task whose worker is gone. A loss that has an explanation does not count.
func (t *task) lose(explained bool) {
	j, a := t.job, t.attempt
	t.release()
	switch {
	case j.cancelled:
	case a.unsent: // it has not run
		j.takeBack(t)
	case explained:
		t.cutOff(a, failure{reason: v1alpha1.ReasonInterrupted, message: t.whyCutOff()})
	default:
		t.loseWorker(a)
	}
	j.proceed()
}

func (t *task) loseWorker(a *attempt) {
	j := t.job
	f := failure{reason: v1alpha1.ReasonWorkerLost, message: "The worker was lost while it ran the Job."}
	t.lost++
	j.status.LostWorkers = new(deref(j.status.LostWorkers) + 1)
	if t.lost < maxLostWorkers {
		t.cutOff(a, f)
		return
	}
	j.noteCutOff(a, f.reason)
	f.message = fmt.Sprintf("%d workers were lost while they ran the Job: it may be what ends them.", maxLostWorkers)
	if t.isHandler() {
		t.handled(&f)
		return
	}
	t.giveUp(f, nil)
}

// miss puts back a task that its worker turns out not to run. If it had started, or the agent was
// restarted meanwhile, it has run, and may be the reason.
func (t *task) miss(restarted bool) {
	if restarted || !t.attempt.started.IsZero() {
		t.lose(false)
		return
	}
	j, w := t.job, t.attempt.worker
	w.resting = j.engine().now.Add(refusalRest)
	noted := t.attempt.noted
	t.release()
	if noted {
		j.takeBack(t)
	} else {
		j.putBack(t)
	}
	j.proceed()
}

// exceedDeadline fails the job because its time is over.
func (j *job) exceedDeadline() {
	j.endTime = j.engine().now
	j.fail(*deadlineExceeded(j))
}

func deadlineExceeded(j *job) *failure {
	return &failure{
		reason:  v1alpha1.ReasonDeadlineExceeded,
		message: fmt.Sprintf("The Job has not ended within %d seconds of its creation.", j.activeDeadline),
	}
}

// verdict is nil for a success.
func (t *task) verdict(r Result) *failure {
	switch r.Outcome {
	case CannotStart:
		return &failure{reason: v1alpha1.ReasonCannotStart, message: r.Message}
	case TimedOut:
		return &failure{reason: v1alpha1.ReasonTimeout, message: fmt.Sprintf("The try took longer than %s.", t.job.timeout())}
	case DeadlineExceeded:
		return deadlineExceeded(t.job)
	case MemoryExceeded:
		return &failure{reason: v1alpha1.ReasonMemoryExceeded, message: r.Message}
	case OOMKilled:
		return &failure{reason: v1alpha1.ReasonOOMKilled, message: r.Message}
	case Responded:
		return answerVerdict(r)
	case Exited, Killed, Interrupted:
	}
	switch {
	case r.ExitCode > 128:
		return &failure{
			reason: v1alpha1.ReasonExitCode, exitCode: r.ExitCode,
			message: fmt.Sprintf("The command was ended by signal %d (exit code %d).", r.ExitCode-128, r.ExitCode),
		}
	case r.ExitCode != 0:
		return &failure{reason: v1alpha1.ReasonExitCode, exitCode: r.ExitCode, message: fmt.Sprintf("The command ended with exit code %d.", r.ExitCode)}
	}
	return nil
}

// answerVerdict is nil for a status of 2xx.
func answerVerdict(r Result) *failure {
	status := int(r.HTTPStatus)
	f := &failure{
		reason: v1alpha1.ReasonHTTPStatus, message: fmt.Sprintf("The server answered %d %s.", status, http.StatusText(status)),
		permanent: status/100 == 4 && status != http.StatusRequestTimeout && status != http.StatusTooManyRequests,
	}
	switch {
	case status/100 == 2:
		return nil
	case status == 0:
		f.message = "There was no answer: " + r.Message
	}
	return f
}

func resultOf(r Result, f *failure) *v1alpha1.JobResult {
	result := &v1alpha1.JobResult{Output: r.Output}
	if r.Outcome == Exited {
		result.ExitCode = new(r.ExitCode)
	}
	if f != nil {
		result.Reason, result.Message = f.reason, clip(f.message)
	}
	return result
}

// clip shortens a message to what the API takes.
func clip(message string) string {
	const most = 1000
	for i := range message {
		if i > most {
			return message[:i] + " ..."
		}
	}
	return message
}

// owe has the agent keep a result until a write that has it is stored.
func (j *job) owe(a *attempt, t *task, failed bool) {
	a.worker.unsettled++
	j.owed = append(j.owed, owed{worker: a.worker, token: a.token, task: t, failed: failed})
}

// owes tells whether the job has taken in this result.
func (j *job) owes(token Token) bool {
	return slices.ContainsFunc(j.owed, func(o owed) bool { return o.token == token })
}

// assignOwed notes that the latest write has all results.
func (j *job) assignOwed() {
	for i := range j.owed {
		if j.owed[i].version == 0 {
			j.owed[i].version = j.version
		}
	}
}

// acknowledge lets the agents forget what is stored by now.
func (j *job) acknowledge(version uint64) {
	j.owed = slices.DeleteFunc(j.owed, func(o owed) bool {
		stored := o.version != 0 && o.version <= version
		if stored {
			o.settle()
		}
		return stored
	})
}

func (o *owed) settle() {
	o.task.unstored = false
	o.worker.unsettled--
	o.worker.processed++
	if o.failed {
		o.worker.failed++
	}
	o.worker.acknowledge(o.token)
}

// Written says that a write is stored. Results are acknowledged to their workers only now.
func (e *Engine) Written(w Write, resourceVersion string) {
	e.enter()
	defer e.leave()
	j := e.jobs[w.Job.UID]
	if j == nil {
		return
	}
	j.object.ResourceVersion = resourceVersion
	if w.Version > j.version { // asked for before the job came to its pool
		j.asked = stateOf(&w.Status)
	}
	j.acknowledge(w.Version)
	switch {
	case j.settling:
		if w.Version == j.version {
			j.complete()
		}
		return
	case j.leaving:
		if w.Version == j.version {
			e.left[j.object.UID] = resourceVersion
			delete(e.jobs, j.object.UID)
			e.out.Look(j.object.JobRef) // there may be a pool of the name again, or more to tell of the job
			e.collect(j.pool)
		}
		return
	}
	j.noteStored(w)
	j.proceed()
	j.pool.match()
}

// noteStored tells the agents which attempts are recorded, and sends those that had to be.
func (j *job) noteStored(w Write) {
	j.announced = j.announced || meta.IsStatusConditionTrue(w.Status.Conditions, v1alpha1.JobFailureTarget)
	for _, t := range j.sorted() {
		a := t.attempt
		switch {
		case a == nil || a.recorded:
		case j.recordedBy(w, a):
			a.recorded = true
			if a.unsent {
				t.send()
				continue
			}
			a.worker.record(a.token)
		}
	}
}

func (j *job) recordedBy(w Write, a *attempt) bool {
	if j.plain() || a.token.Index == j.size {
		return w.Status.Attempt != nil && w.Status.Attempt.Token == a.token.String()
	}
	return a.version != 0 && a.version <= w.Version
}

// Finished says that a Job is stored as finished, though a write of it was not answered so: it had
// timed out after it took effect, or somebody else has written.
func (e *Engine) Finished(job types.UID) {
	e.enter()
	defer e.leave()
	j := e.jobs[job]
	switch {
	case j == nil:
	case j.settling:
		j.complete()
	default:
		j.cancel()
		j.pool.match()
	}
}

// complete ends a job whose end is stored, or need not be.
func (j *job) complete() {
	e, p := j.engine(), j.pool
	if !j.shown {
		e.settled[j.object.UID] = true
	}
	p.settling--
	p.processed++
	if j.status.State == v1alpha1.JobFailed {
		p.failed++
	}
	p.uncounted[j.object.UID] = p.processed
	e.out.PoolChanged(p.config.Key)
	j.remove()
}
