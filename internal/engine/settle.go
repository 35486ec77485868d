package engine

import (
	"fmt"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// settle takes in the end of the attempt that counts.
func (t *task) settle(r Result) {
	j, a, ran := t.job, t.attempt, r.ran()
	if a.started.IsZero() {
		a.started = j.engine().now.Add(-r.StartedAgo)
		if ran > 0 {
			t.meterStart()
		}
		j.noteAttempt(t)
	}
	t.release()
	t.noteSettled(a.token)
	fate := TaskCancelled
	switch {
	case j.cancelled:
		a.worker.acknowledge(a.token)
	case r.Outcome.cutOff():
		if r.Outcome == Interrupted { // else a worker that says so of all that it is sent would be sent it for ever, at once
			a.worker.resting = j.engine().now.Add(refusalRest)
		}
		fate = t.cutOff(a, failure{reason: v1alpha1.ReasonInterrupted, message: t.whyCutOff(a.worker)})
	default:
		fate = t.ended(a, r)
	}
	j.pool.meter.Ended(fate, ran)
	j.proceed()
}

// release frees what the task's attempt takes. It has none any more.
func (t *task) release() {
	t.attempt.worker.give(t)
	t.attempt = nil
}

func (t *task) whyCutOff(w *podWorker) string {
	switch {
	case t.job.suspend:
		return "The attempt was stopped, because the Job was suspended."
	case w.draining() && w.cordon != givenUp:
		return fmt.Sprintf("The attempt was cut off, because its worker %s was removed and the time for that was over before it had ended. "+
			"If the pool's Jobs need longer, raise its spec.drainTimeoutSeconds.", w.name)
	}
	return fmt.Sprintf("The attempt was cut off, because its worker %s was removed or had no connection to the operator.", w.name)
}

// ended takes in the end of an attempt that was not cut off.
func (t *task) ended(a *attempt, r Result) Fate {
	j := t.job
	f := t.verdict(r)
	j.pool.load.end(a.share, j.engine().now)
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
		return t.fail(*f, resultOf(r, f))
	}
	return fateOf(f)
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
func (t *task) fail(f failure, result *v1alpha1.JobResult) Fate {
	action := t.job.rule(f)
	if action == "" && !f.permanent {
		action = v1alpha1.ActionRetry
	}
	return t.act(action, f, result)
}

// cutOff puts back a task whose attempt was cut off for no fault of its own, unless a rule of the Job says
// otherwise, or it may not run twice.
func (t *task) cutOff(a *attempt, f failure) Fate {
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
		return TaskInterrupted
	}
	j.owe(a, t, true)
	return t.act(action, f, nil)
}

const tryAgain = " The Job is tried again."

// act does what was decided about a failure: without an action the task has failed for good.
func (t *task) act(action v1alpha1.FailureAction, f failure, result *v1alpha1.JobResult) Fate {
	j := t.job
	switch {
	case action == v1alpha1.ActionFail:
		t.giveUp(f, result)
		j.fail(f)
	case action == v1alpha1.ActionIgnore:
		t.retry(f)
		return TaskRetried
	case action == v1alpha1.ActionRetry && int(t.retries) < j.MaxRetries():
		t.retries++
		j.object.Status.Retries = new(next(deref(j.object.Status.Retries)))
		t.retry(f)
		return TaskRetried
	default:
		t.giveUp(f, result)
	}
	return TaskFailed
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
	if j.object.Status.Result == nil {
		if result == nil {
			result = &v1alpha1.JobResult{Reason: f.reason}
		}
		result.Message = clip(fmt.Sprintf("Task %d: %s", t.index, f.message))
		j.object.Status.Result = result
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
	if a.unsent { // it has not run
		if !j.cancelled {
			t.unbook(a)
		}
		j.proceed()
		return
	}
	fate := TaskCancelled
	switch {
	case j.cancelled:
	case explained:
		fate = t.cutOff(a, failure{reason: v1alpha1.ReasonInterrupted, message: t.whyCutOff(a.worker)})
	default:
		fate = t.loseWorker(a)
	}
	j.pool.meter.Ended(fate, 0)
	j.proceed()
}

func (t *task) loseWorker(a *attempt) Fate {
	j := t.job
	f := failure{reason: v1alpha1.ReasonWorkerLost, message: "The worker was lost while it ran the Job."}
	t.lost = next(t.lost)
	j.object.Status.LostWorkers = new(next(deref(j.object.Status.LostWorkers)))
	if t.lost < maxLostWorkers {
		fate := t.cutOff(a, f)
		if fate == TaskInterrupted {
			fate = TaskLost
		}
		return fate
	}
	j.noteCutOff(a, f.reason)
	f.message = fmt.Sprintf("%d workers were lost while they ran the Job: it may be what ends them.", maxLostWorkers)
	if t.isHandler() {
		t.handled(&f)
	} else {
		t.giveUp(f, nil)
	}
	return TaskFailed
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
	a := t.attempt
	t.release()
	j.pool.meter.Ended(TaskRefused, 0)
	t.unbook(a)
	j.proceed()
}

// exceedDeadline fails the job because its time is over.
func (j *job) exceedDeadline() {
	j.endTime = j.engine().now
	j.fail(*deadlineExceeded(j.activeDeadline))
}
