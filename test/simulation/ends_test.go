package simulation

import (
	"reflect"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// rounds is how long all may take to settle once nothing is wrong any more.
const rounds = 600

// run lets the world go wrong for a while, heals it, and wants all Jobs to settle.
func (w *world) run(steps int) {
	for range steps {
		w.step()
		if w.violation != "" {
			return
		}
	}
	w.heal()
	for range rounds {
		w.round()
		w.check()
		if w.violation != "" {
			return
		}
		if w.settled() {
			w.checkEnds()
			w.checkHistory()
			return
		}
	}
	w.failUnsettled()
}

// heal takes away all trouble.
func (w *world) heal() {
	w.note("all is well from now on")
	w.healing = true
	for len(w.api.ghosts) > 0 {
		w.haunt()
	}
	for _, op := range w.operators {
		op.paused, op.cut = false, false
	}
	for _, s := range w.streams {
		s.slow = time.Time{}
	}
	for _, p := range w.pods {
		p.away = time.Time{}
		p.lost = earlier(p.lost, w.now.Add(30*time.Second))
	}
	for _, t := range w.tenants {
		t.replicas = max(2, t.replicas)
	}
	w.villain.until = w.now.Add(holdsUp)
	w.resumeAll()
}

// round lets all happen that can, and a second pass.
func (w *world) round() {
	for _, op := range append([]*operator(nil), w.operators...) {
		w.elect(op)
	}
	w.bury()
	for _, p := range append([]*pod(nil), w.pods...) {
		w.kubelet(p)
		if p.agent != nil {
			w.dialSome(p)
			for range slots {
				p.agent.begin()
			}
			p.agent.exit([]int32{0, 0, 0, 1, 2}[w.rng.IntN(5)])
			p.agent.report()
			if p.hostile && w.now.Before(w.villain.until) {
				w.forgeSome()
			}
		}
	}
	for _, s := range append([]*stream(nil), w.streams...) {
		for range 3 {
			s.deliverUp()
			s.deliverDown()
		}
	}
	for _, op := range append([]*operator(nil), w.operators...) {
		op.catchUp()
	}
	w.pass(300 * time.Millisecond)
	w.pass(700 * time.Millisecond)
	w.bury()
}

// catchUp lets an operator do all that it has to.
func (op *operator) catchUp() {
	if op.dead {
		return
	}
	for op.jobs.lag() > 0 {
		op.jobs.deliver(op.seeJob)
	}
	for op.pods.lag() > 0 {
		op.pods.deliver(func(*podObject, *podObject, bool) { op.poolChanged = true })
	}
	for range 40 {
		op.writeStatuses()
		op.reconcileJob()
		if len(op.calls) == 0 && len(op.queue) == 0 {
			break
		}
		if len(op.calls) > 0 && op.calls[0].request != nil {
			op.w.answer(op.calls[0], answered)
		}
	}
	op.reconcilePools()
}

// settled tells whether all Jobs are stored as finished, and no agent has anything left of them.
func (w *world) settled() bool {
	for _, name := range w.api.jobs.names() {
		if !w.api.jobs.live[name].Status.State.Finished() {
			return false
		}
	}
	for _, p := range w.pods {
		if p.agent != nil && len(p.agent.live)+len(p.agent.results) > 0 || p.agent == nil && len(p.spool) > 0 {
			return false
		}
	}
	for _, op := range w.operators {
		if op.phase == leading {
			return op.isIdle() && len(op.cordoned()) == 0
		}
	}
	return false
}

// cordoned are the workers that take no task though they are not being deleted.
func (op *operator) cordoned() []types.UID {
	var uids []types.UID
	for _, t := range op.w.tenants {
		p, ok := op.engine.Manager(t.config.Key)
		if !ok {
			continue
		}
		pods := p.Snapshot().Pods
		for _, uid := range sortedKeys(pods) {
			object := op.w.api.pods.live[pods[uid].Name]
			if object != nil && object.uid == uid && !object.terminating && pods[uid].Cordoned {
				uids = append(uids, uid)
			}
		}
	}
	return uids
}

// isIdle tells whether the operator holds nothing any more.
func (op *operator) isIdle() bool {
	e, s := reflect.ValueOf(op.engine).Elem(), reflect.ValueOf(op.writer).Elem()
	for _, held := range []string{"jobs", "settled", "left", "claims"} {
		if e.FieldByName(held).Len() > 0 {
			return false
		}
	}
	return s.FieldByName("entries").Len() == 0 && len(op.calls) == 0
}

func (w *world) failUnsettled() {
	for _, op := range w.operators {
		if uids := op.cordoned(); op.phase == leading && len(uids) > 0 {
			w.fail("1 nothing lost: %v take no task for good", uids)
		}
	}
	for _, name := range w.api.jobs.names() {
		if job := w.api.jobs.live[name]; !job.Status.State.Finished() {
			w.fail("1 nothing lost: %s does not settle: %s %s %s", job.UID, job.Status.State, job.Status.Reason, job.Status.Message)
		}
	}
	for _, p := range w.pods {
		if p.agent != nil && len(p.agent.results) > 0 {
			w.fail("1 nothing lost: %s holds %d results for good, of %s", p.uid, len(p.agent.results), p.agent.results[0].Token.Job)
		}
		if p.agent != nil && len(p.agent.live) > 0 {
			w.fail("1 nothing lost: %s runs %d attempts for good", p.uid, len(p.agent.live))
		}
	}
	for _, op := range w.operators {
		e := reflect.ValueOf(op.engine).Elem()
		if op.phase == leading {
			w.fail("8 bounded: operator %d holds for good: %d Jobs, %d settled, %d claims, %d writes, %d requests", op.id, e.FieldByName("jobs").Len(),
				e.FieldByName("settled").Len(), e.FieldByName("claims").Len(), reflect.ValueOf(op.writer).Elem().FieldByName("entries").Len(), len(op.calls))
		}
	}
	w.fail("1 nothing lost: nobody leads")
}

// checkEnds wants each Job's last status to tell what has become of its processes.
func (w *world) checkEnds() {
	for _, name := range w.api.jobs.names() {
		job := w.api.jobs.live[name]
		w.checkEnd(w.truth(job.UID), &job.Status)
	}
}

func (w *world) checkEnd(j *jobTruth, s *v1alpha1.JobStatus) {
	if w.spared(j) || j.wild {
		return
	}
	if failed := s.State == v1alpha1.JobFailed; j.spec.OnFailure != nil && failed != (j.task(j.size()).starts > 0) {
		w.fail("1 nothing lost: %s is stored as %s, and its onFailure was started %d times", j.uid, s.State, j.task(j.size()).starts)
	}
	if s.Reason == v1alpha1.ReasonDeadlineExceeded {
		if !j.deadlineOver(s.CompletionTime.Time) {
			w.fail("%s has failed by its deadline before that was over", j.uid)
		}
		return
	}
	if !j.plain() {
		w.checkIndexes(j, s)
		return
	}
	switch s.Reason {
	case v1alpha1.ReasonWorkerLost:
		if deref(s.LostWorkers) < 5 {
			w.fail("5 busy workers: %s was given up after %d lost workers", j.uid, deref(s.LostWorkers))
		}
	case v1alpha1.ReasonInterrupted:
		if !j.atMostOnce() {
			w.fail("5 busy workers: %s has failed as interrupted", j.uid)
		}
	default:
		w.checkResult(j, s)
	}
}

func (w *world) checkResult(j *jobTruth, s *v1alpha1.JobStatus) {
	t := j.task(0)
	if s.Result == nil || s.Result.ExitCode == nil || !t.exited(*s.Result.ExitCode) {
		w.fail("1 nothing lost: %s was stored with the result %+v, its processes ended with %v", j.uid, s.Result, t.exits)
		return
	}
	code := *s.Result.ExitCode
	if (s.State == v1alpha1.JobSucceeded) != (code == 0) {
		w.fail("1 nothing lost: %s was stored as %s with exit code %d", j.uid, s.State, code)
	}
	if retries := deref(j.spec.MaxRetries); s.State == v1alpha1.JobFailed && code == 1 && deref(s.Retries) != retries {
		w.fail("1 nothing lost: %s has failed after %d retries of %d", j.uid, deref(s.Retries), retries)
	}
}

func (w *world) checkIndexes(j *jobTruth, s *v1alpha1.JobStatus) {
	size := j.size()
	for index := range size {
		t := j.task(index)
		succeeded, failed := hasIndex(s.SucceededIndexes, index), hasIndex(s.FailedIndexes, index)
		switch {
		case succeeded && (failed || !t.exited(0)):
			w.fail("1 nothing lost: task %d of %s is stored as succeeded, its processes ended with %v", index, j.uid, t.exits)
		case failed && !t.exited(1) && !t.exited(2) && deref(s.LostWorkers) < 5:
			w.fail("1 nothing lost: task %d of %s is stored as failed, its processes ended with %v", index, j.uid, t.exits)
		}
	}
	all := countIndexes(s.SucceededIndexes, size)+countIndexes(s.FailedIndexes, size) == size
	switch {
	case s.State == v1alpha1.JobSucceeded && countIndexes(s.SucceededIndexes, size) != size:
		w.fail("1 nothing lost: %s has succeeded with the tasks %s", j.uid, s.SucceededIndexes)
	case s.State == v1alpha1.JobSucceeded:
	case s.Reason == v1alpha1.ReasonIndexesFailed && (!all || s.FailedIndexes == ""):
		w.fail("1 nothing lost: %s has failed with the tasks %q succeeded and %q failed", j.uid, s.SucceededIndexes, s.FailedIndexes)
	case s.Reason != v1alpha1.ReasonIndexesFailed && !j.hasFailed():
		w.fail("1 nothing lost: %s has failed: %s", j.uid, s.Reason)
	}
}
