package engine

import (
	"fmt"

	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// settle takes in the end of the attempt that counts.
func (t *task) settle(r Result) {
	a := t.attempt
	if a.started.IsZero() {
		a.started = t.pool.engine.now.Add(-r.StartedAgo)
		t.noteAttempt()
	}
	a.worker.give(t)
	if t.cancelled {
		a.worker.acknowledge(a.token)
		delete(t.pool.engine.tasks, t.job.UID)
		return
	}
	switch r.Outcome {
	case Interrupted, Killed:
		t.interrupted()
		a.worker.acknowledge(a.token)
	case Exited, CannotStart:
		t.ended(r)
	}
}

// ended records the end of an attempt that was not cut off.
func (t *task) ended(r Result) {
	end := microTime(t.pool.engine.now.Add(-r.EndedAgo))
	ended := *t.status.Attempt
	ended.EndTime = end
	result := &v1alpha1.JobResult{Output: r.Output}
	err := verdict(r)
	if r.Outcome == Exited {
		result.ExitCode, ended.ExitCode = new(r.ExitCode), new(r.ExitCode)
	}
	if err != nil {
		result.Reason, result.Message = err.reason, err.message
		ended.Reason = err.reason
	}
	t.endAttempt(ended, ended.Reason)
	t.status.CompletionTime = end
	t.status.Result = result
	t.status.Usage = &v1alpha1.JobUsage{
		CPUMilliseconds: new(r.CPUTime.Milliseconds()), MaxMemoryBytes: new(r.MaxMemoryBytes),
	}
	if err != nil {
		t.OnFailure(*err)
		return
	}
	t.finish(v1alpha1.JobSucceeded, "", "")
}

// verdict is nil for a success.
func verdict(r Result) *failure {
	switch {
	case r.Outcome == CannotStart:
		return &failure{v1alpha1.ReasonCannotStart, r.Message}
	case r.ExitCode > 128:
		return &failure{v1alpha1.ReasonExitCode, fmt.Sprintf("The command was ended by signal %d (exit code %d).", r.ExitCode-128, r.ExitCode)}
	case r.ExitCode != 0:
		return &failure{v1alpha1.ReasonExitCode, fmt.Sprintf("The command ended with exit code %d.", r.ExitCode)}
	}
	return nil
}

// interrupted puts back a task whose attempt was cut off for no fault of its own.
func (t *task) interrupted() {
	recorded := t.attempt.recorded
	if t.status.Attempt != nil {
		t.endAttempt(*t.status.Attempt, v1alpha1.ReasonInterrupted)
	}
	t.pool.requeue(t)
	t.writeRetrying("The attempt was cut off, because its worker was removed or had no connection. The Job is tried again.", recorded)
}

// lost puts back a task whose worker is gone. A loss that has an explanation does not count.
func (t *task) lost(explained bool) {
	t.attempt.worker.give(t)
	switch {
	case t.cancelled:
		delete(t.pool.engine.tasks, t.job.UID)
		return
	case explained:
		t.interrupted()
		return
	}
	recorded := t.attempt.recorded
	if t.status.Attempt != nil {
		t.endAttempt(*t.status.Attempt, v1alpha1.ReasonWorkerLost)
	}
	t.countLostWorker()
	if deref(t.status.LostWorkers) >= maxLostWorkers {
		t.status.CompletionTime = microTime(t.pool.engine.now)
		t.OnFailure(failure{
			v1alpha1.ReasonWorkerLost,
			fmt.Sprintf("%d workers were lost while they ran the Job: it may be what ends them.", maxLostWorkers),
		})
		return
	}
	t.pool.requeue(t)
	t.writeRetrying("The worker was lost while it ran the Job. The Job is tried again.", recorded)
}

// missing puts back a task that its worker turns out not to run. If it had started, or the agent was
// restarted meanwhile, it has run, and may be the reason.
func (t *task) missing(restarted bool) {
	if restarted || !t.attempt.started.IsZero() {
		t.lost(false)
		return
	}
	t.attempt.worker.resting = t.pool.engine.now.Add(refusalRest)
	t.attempt.worker.give(t)
	if t.cancelled {
		delete(t.pool.engine.tasks, t.job.UID)
		return
	}
	t.pool.requeue(t)
}

// writeRetrying asks for a task that was put back to be shown so: at once if the API says that it
// runs, and if it lasts otherwise. A task whose pool is being closed has been let go already.
func (t *task) writeRetrying(message string, recorded bool) {
	if t.pool.engine.tasks[t.job.UID] != t {
		return
	}
	after := waitingDue
	if recorded {
		after = 0
	}
	t.status.State, t.status.Reason, t.status.Message = v1alpha1.JobQueued, v1alpha1.ReasonRetrying, message
	t.write(t.pool.engine.now.Add(after))
}

// Written says that a write is stored. A Job's end is acknowledged to its worker only now.
func (e *Engine) Written(w Write, resourceVersion string) {
	e.enter()
	defer e.leave()
	t := e.tasks[w.Job.UID]
	if t == nil {
		return
	}
	t.job.ResourceVersion = resourceVersion
	switch {
	case t.state == settling && w.Version == t.version:
		t.acknowledge()
	case t.state == running && w.Status.Attempt != nil && w.Status.Attempt.Token == t.attempt.token.String():
		t.attempt.recorded = true
		t.attempt.worker.record(t.attempt.token)
	}
}

// Finished says that a Job is stored as finished, though a write of it was not answered so: it had
// timed out after it took effect, or somebody else has written.
func (e *Engine) Finished(job types.UID) {
	e.enter()
	defer e.leave()
	t := e.tasks[job]
	switch {
	case t == nil:
	case t.state == settling:
		t.acknowledge()
	default:
		t.cancel()
		t.pool.match()
	}
}

// acknowledge ends a task whose end is stored, or need not be.
func (t *task) acknowledge() {
	e, p, a := t.pool.engine, t.pool, t.attempt
	delete(e.tasks, t.job.UID)
	if !t.shown {
		e.settled[t.job.UID] = true
	}
	p.settling--
	p.processed++
	a.worker.unsettled--
	a.worker.processed++
	if t.status.State == v1alpha1.JobFailed {
		p.failed++
		a.worker.failed++
	}
	a.worker.acknowledge(a.token)
	e.out.PoolChanged(p.config.Key)
	e.collect(p)
}
