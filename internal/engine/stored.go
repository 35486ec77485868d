package engine

import (
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// owe has the agent keep a result until a write that has it is stored.
func (j *job) owe(a *attempt, t *task, failed bool) {
	a.worker.unsettled++
	j.owed = append(j.owed, owed{worker: a.worker, token: a.token, task: t, failed: failed})
}

// owesMany tells whether maxUnwritten results are in no write yet.
func (j *job) owesMany() bool {
	n := len(j.owed) - maxUnwritten
	return n >= 0 && j.owed[n].version == 0
}

// owes tells whether the job has taken in this result.
func (j *job) owes(token Token) bool {
	return slices.ContainsFunc(j.owed, func(o owed) bool { return o.token == token })
}

// owesTo tells whether the job has taken in this result from a worker.
func (j *job) owesTo(w *podWorker, token Token) bool {
	return slices.ContainsFunc(j.owed, func(o owed) bool { return o.token == token && o.worker.uid == w.uid })
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
	o.worker.unsettled--
	if !o.task.unstored && !o.task.isHandler() { // else the task is tried again, or it is another's end that counts
		o.worker.processed++
		if o.failed {
			o.worker.failed++
		}
	}
	o.task.unstored = false
	o.worker.acknowledge(o.token)
}

// Written says that a write is stored. Results are acknowledged to their workers only now.
func (e *Engine) Written(w Write, resourceVersion string) {
	e.enter()
	defer e.leave()
	delete(e.inherited, w.Job.UID) // from now on, what an earlier leader has sent is a conflict
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

// Changed says how a Job is stored where a write met a conflict: by a write of an earlier leader that has taken effect late,
// or by somebody else's. What is stored is not lost. The status is asked for anew, with all that is known now.
func (e *Engine) Changed(w Write, stored v1alpha1.JobStatus, resourceVersion string) {
	e.enter()
	defer e.leave()
	j := e.jobs[w.Job.UID]
	switch {
	case j == nil: // that it has no pool is said of what is stored now
		e.out.DropWrite(w.Job.UID)
		e.out.Look(w.Job)
		return
	case j.cancelled, j.version == 0:
		return
	}
	if newer(resourceVersion, j.object.ResourceVersion) {
		j.object.ResourceVersion = resourceVersion
	}
	j.learn(&stored)
	j.askAgain()
	j.proceed()
	j.pool.match()
}

// Refused says that the API server stores no status of a Job, however short: the Job leaves no room for one, or a policy
// denies it. Nobody is left to wait for it. The agents may forget its results, and what is left of it is ended; that it
// has failed is the last that is asked to be stored. This leader does not start it again.
func (e *Engine) Refused(w Write, why string) {
	e.enter()
	defer e.leave()
	j := e.jobs[w.Job.UID]
	switch {
	case j == nil, j.cancelled, w.Version != j.version:
		return
	case j.settling:
		j.complete()
		return
	case j.leaving:
		e.settled[j.object.UID] = true
		j.remove()
		return
	}
	j.unstorable, j.handled = true, true
	j.settleOwed()
	j.fail(failure{reason: v1alpha1.ReasonStatusRefused, message: "The API server does not store the status of the Job: " + why})
	j.proceed()
	j.pool.match()
}

// settleOwed lets the agents forget what they keep, stored or not.
func (j *job) settleOwed() {
	for i := range j.owed {
		j.owed[i].settle()
	}
	j.owed = nil
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
				t.prepare()
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
	case !j.cancelled:
		e.settled[job] = true // until the cache shows it
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
	if j.object.Status.State == v1alpha1.JobFailed {
		p.failed++
	}
	p.uncounted[j.object.UID] = p.processed
	e.out.PoolChanged(p.config.Key)
	j.remove()
}
