package simulation

import (
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/controllers/workerpool"
	"github.com/workerpool-dev/workerpool/internal/engine"
)

// What must hold at each step. The numbers are those of the promises.

// check is called after each step.
func (w *world) check() {
	for _, op := range w.operators {
		if op.phase == leading {
			w.checkBounds(op)
		}
	}
}

// checkBounds (8): an operator holds no more than there is.
func (w *world) checkBounds(op *operator) {
	e, s := reflect.ValueOf(op.engine).Elem(), reflect.ValueOf(op.writer).Elem()
	bounds := []struct {
		what       string
		held, most int
	}{
		{"Jobs", e.FieldByName("jobs").Len(), len(w.truths)},
		{"settled Jobs", e.FieldByName("settled").Len(), len(w.truths)},
		{"Jobs with claims", e.FieldByName("claims").Len(), len(w.truths) + strangers},
		{"sessions", e.FieldByName("sessions").Len(), len(w.streams)},
		{"writes", s.FieldByName("entries").Len(), len(w.truths)},
		{"requests", len(op.calls), concurrency + 2},
	}
	for _, b := range bounds {
		if b.held > b.most {
			w.fail("8 bounded: operator %d holds %d %s, of at most %d", op.id, b.held, b.what, b.most)
		}
	}
}

// checkStart is called before an agent starts a process.
func (w *world) checkStart(p *pod, proc *process) {
	token, j := proc.token, w.truth(proc.token.Job)
	if p.hostile || w.spared(j) {
		return
	}
	t := j.task(token.Index)
	if !w.isZombie(p) {
		w.checkAlone(p, proc)
		if token.Compare(t.started) < 0 && !w.wentBack {
			w.fail("3 token order: %s of %s is started after %s", describe(token), j.uid, t.started)
		}
	}
	if job := w.stored(j.uid); job != nil {
		w.checkMayStart(j, t, job, token)
	}
	if token.Compare(t.started) > 0 {
		t.started = token
	}
	t.starts++
	w.history.started(p, proc)
}

// checkAlone (3): no two attempts of a task run at once.
func (w *world) checkAlone(p *pod, proc *process) {
	for _, other := range w.pods {
		if other.agent == nil || w.isOutlaw(other) {
			continue
		}
		for _, o := range other.agent.live {
			if o != proc && keyOf(o.token) == keyOf(proc.token) && !o.started.IsZero() && !o.ended {
				w.fail("3 one live attempt: %s of %s is started on %s while %s runs on %s",
					describe(proc.token), proc.token.Job, p.uid, o.token, other.uid)
			}
		}
	}
}

// isZombie tells whether a pod runs on though its object was removed.
func (w *world) isZombie(p *pod) bool {
	object := w.api.pods.live[p.name]
	return object == nil || object.uid != p.uid
}

func (w *world) checkMayStart(j *jobTruth, t *taskTruth, job *v1alpha1.Job, token engine.Token) {
	s, handler := &job.Status, token.Index == j.size()
	switch {
	case handler:
		if !j.announced {
			w.fail("1 nothing lost: onFailure of %s is started before the failure is stored", j.uid)
		}
		return
	case j.atMostOnce() && t.starts > 0:
		w.fail("4 at most once: %s is started a second time", j.uid)
	case j.atMostOnce() && !j.recorded[token.String()]:
		w.fail("4 at most once: %s is started before that is stored", j.uid)
	case j.spec.StartAfter != nil && w.now.Before(j.spec.StartAfter.Time):
		w.fail("%s is started before its time", j.uid)
	case hasIndex(s.SucceededIndexes, token.Index) || hasIndex(s.FailedIndexes, token.Index):
		w.fail("2 not again without cause: task %d of %s is started, though it is stored as done", token.Index, j.uid)
	case t.forgotten != nil && token.Compare(*t.forgotten) > 0:
		w.fail("1 nothing lost: %s of %s is started, though %s has succeeded and its agent was told to forget that", describe(token), j.uid, t.forgotten)
	case t.failuresBefore(token) > int(deref(j.spec.MaxRetries)):
		w.fail("2 not again without cause: %s of %s is started after %d failed tries", describe(token), j.uid, t.failuresBefore(token))
	}
}

// checkSent is called when an operator sends an attempt to an agent.
func (w *world) checkSent(s *stream, a engine.Assignment) {
	j := w.truth(a.Token.Job)
	t := j.task(a.Token.Index)
	if j.issued[a.Token] == nil {
		j.issued[a.Token] = map[types.UID]bool{}
	}
	j.issued[a.Token][s.pod.uid] = true
	if j.tenant != s.pod.tenant {
		w.fail("%s of %s is sent to %s, which is not of its pool", describe(a.Token), j.uid, s.pod.uid)
	}
	if j.atMostOnce() && a.Token.Index == 0 && !j.recorded[a.Token.String()] {
		w.fail("4 at most once: %s of %s is sent before that is stored", describe(a.Token), j.uid)
	}
	if s.op.told[t.sent] && !w.spared(j) && t.sent != a.Token && a.Token.Index < j.size() {
		w.fail("2 not again without cause: operator %d sends %s of %s, though it was told that %s has succeeded", s.op.id, describe(a.Token), j.uid, t.sent)
	}
	if len(a.Argv) == 0 {
		w.fail("%s of %s is sent without its command", describe(a.Token), j.uid)
	}
	if !w.spared(j) {
		w.checkUnheard(s, a.Token, t)
	}
	if a.Token.Compare(t.sent) > 0 {
		t.sent = a.Token
	}
	t.latest, t.latestBy = a.Token, s.op
	w.note("operator %d sends %s of %s to %s", s.op.id, describe(a.Token), j.uid, s.pod.uid)
}

// checkUnheard (2): what this leader has sent, and of which it has not heard, is not sent again while its worker
// is there.
func (w *world) checkUnheard(s *stream, token engine.Token, t *taskTruth) {
	for _, p := range w.pods {
		if p.agent == nil || w.isOutlaw(p) || t.sent.Epoch != s.op.epoch {
			continue
		}
		for _, h := range p.agent.results {
			if h.Token == t.sent && h.Outcome == engine.Exited && h.sent == nil && !s.op.heard[h.Token] {
				w.fail("2 not again without cause: %s of %s is sent, though %s has ended on %s, which nobody was told",
					describe(token), token.Job, t.sent, p.uid)
			}
		}
	}
}

// checkKill is called when an operator has an agent end an attempt: that needs a cause.
func (w *world) checkKill(s *stream, k engine.Kill) {
	j := w.truth(k.Token.Job)
	if s.pod.hostile || w.spared(j) {
		return
	}
	t := j.task(k.Token.Index)
	a := s.agent
	if a == nil || a.find(k.Token) == nil || a.find(k.Token).started.IsZero() || k.Token.Compare(t.sent) < 0 && !t.isLatest(k.Token, s.op) {
		return
	}
	if j.gone || j.final != "" || j.suspended || j.announced || j.deadlineOver(w.now) || w.isZombie(s.pod) || j.hasFailed() || t.hasOther(k.Token, s.op) {
		return
	}
	if job := w.stored(j.uid); job != nil && (holds(&job.Status, k.Token) || s.pod.isContradicted(j, &job.Status, k.Token.Index)) {
		return
	}
	w.fail("6 what runs goes on: operator %d ends %s of %s on %s without a cause", s.op.id, describe(k.Token), j.uid, s.pod.uid)
}

// hasFailed tells whether a process of the Job has ended as its failure policy fails it for.
func (j *jobTruth) hasFailed() bool {
	for _, t := range j.tasks {
		for _, e := range t.exits {
			if j.failsOn(e.code) {
				return true
			}
		}
	}
	return false
}

// checkSettled is called when an agent is told to forget a result.
func (w *world) checkSettled(s *stream, token engine.Token) {
	j := w.truth(token.Job)
	if s.pod.hostile || w.spared(j) {
		return
	}
	t := j.task(token.Index)
	code, exited := t.exitOf(token)
	job := w.stored(j.uid)
	if !exited || job == nil || s.pod.isContradicted(j, &job.Status, token.Index) || t.sent != token || token.Index == j.size() {
		return
	}
	if holds(&job.Status, token) {
		if code != 0 && !j.ignores(code) {
			t.failures[token] = true
		}
		return
	}
	if j.deadlineOver(w.now) || j.announced || j.hasFailed() || j.ignores(code) || j.suspended || j.atMostOnce() || w.losing(j) || t.hasRival(token, s.op, &job.Status) {
		return
	}
	if code == 0 {
		t.forgotten = &token
	}
	w.fail("1 nothing lost: %s is told to forget the end of %s of %s (code %d) before it is stored", s.pod.uid, describe(token), j.uid, code)
}

// losing tells whether the Job has lost so many workers that it may be about to fail.
func (w *world) losing(j *jobTruth) bool {
	job := w.stored(j.uid)
	return job != nil && deref(job.Status.LostWorkers) >= 4
}

// checkRecorded (6): an agent is told that an attempt is stored only if it is.
func (w *world) checkRecorded(s *stream, token engine.Token) {
	j := w.truth(token.Job)
	if w.spared(j) || j.recorded[token.String()] || j.recordedOn[token.Index][s.pod.uid] || j.gone {
		return
	}
	w.fail("6 what runs goes on: %s is told that %s of %s is stored, which it is not", s.pod.uid, describe(token), j.uid)
}

// checkStore is called when a status is about to be stored.
func (w *world) checkStore(op *operator, p *statusPatch, before, after *v1alpha1.Job) {
	j := w.truth(before.UID)
	state := after.Status.State
	switch {
	case before.Status.State.Finished() && state != before.Status.State:
		w.fail("1 terminal is final: %s was stored as %s and then as %s", j.uid, before.Status.State, state)
	case state.Finished() && p.unconfirmed() && !before.Status.State.Finished():
		w.fail("10 a deposed leader: operator %d settles %s as %s without a look at its Lease", op.id, j.uid, after.Status.Reason)
	case state == v1alpha1.JobSucceeded && j.plain() && !w.spared(j) && !j.wild && !j.task(0).exited(0):
		w.fail("1 nothing lost: %s is stored as Succeeded, and its processes have ended with %v", j.uid, j.task(0).exits)
	}
	w.checkKept(op, j, &before.Status, &after.Status)
	w.checkNamed(op, j, &after.Status)
	if counted := int(deref(after.Status.Retries)); counted > j.failedTries() && !w.spared(j) && !j.wild {
		w.fail("1 nothing lost: %s is stored with %d retries, and %d of its processes have failed", j.uid, counted, j.failedTries())
	}
	if state.Finished() {
		j.final = state
	}
	j.stores++
	w.noteRecorded(j, &after.Status)
	if most := w.mostStores(j); j.stores > most {
		w.fail("9 frugal: %s was stored %d times, of at most %d", j.uid, j.stores, most)
	}
}

// checkKept (1): what is stored of ends is never overwritten, whoever writes, and whenever that takes effect.
func (w *world) checkKept(op *operator, j *jobTruth, before, after *v1alpha1.JobStatus) {
	for index := range j.size() {
		if done(before, index) && !done(after, index) {
			w.fail("1 nothing lost: operator %d overwrites that task %d of %s has ended", op.id, index, j.uid)
		}
		if n := retriesOf(before, index); n > retriesOf(after, index) && !done(after, index) && !after.State.Finished() {
			w.fail("1 nothing lost: operator %d overwrites that task %d of %s has had %d retries", op.id, index, j.uid, n)
		}
	}
	if was, is := deref(before.Retries), deref(after.Retries); was > is {
		w.fail("1 nothing lost: operator %d overwrites the %d retries of %s with %d", op.id, was, j.uid, is)
	}
	if was, is := deref(before.LostWorkers), deref(after.LostWorkers); was > is {
		w.fail("1 nothing lost: operator %d overwrites the %d lost workers of %s with %d", op.id, was, j.uid, is)
	}
	if failing(before) && !failing(after) && !after.State.Finished() {
		w.fail("1 nothing lost: operator %d overwrites that %s fails", op.id, j.uid)
	}
	kept := map[string]bool{}
	for i := range after.EndedAttempts {
		kept[after.EndedAttempts[i].Token] = true
	}
	for i := range before.EndedAttempts {
		if token := before.EndedAttempts[i].Token; !kept[token] && len(after.EndedAttempts) < 3 {
			w.fail("1 nothing lost: operator %d overwrites the end of %s of %s", op.id, token, j.uid)
		}
	}
}

func done(s *v1alpha1.JobStatus, index int32) bool {
	return hasIndex(s.SucceededIndexes, index) || hasIndex(s.FailedIndexes, index)
}

// retriesOf a task of an indexed Job that is not done.
func retriesOf(s *v1alpha1.JobStatus, index int32) int {
	for part := range strings.SplitSeq(s.RetriedIndexes, ",") {
		if fields := strings.Split(part, ":"); len(fields) == 3 && fields[0] == strconv.Itoa(int(index)) {
			n, _ := strconv.Atoi(fields[1])
			return n
		}
	}
	return 0
}

func failing(s *v1alpha1.JobStatus) bool {
	return meta.IsStatusConditionTrue(s.Conditions, v1alpha1.JobFailureTarget)
}

// unconfirmed tells whether a write says what nobody but the operator says, and its Lease was not looked at.
func (p *statusPatch) unconfirmed() bool {
	return (p.status.Reason == v1alpha1.ReasonWorkerLost || p.status.Reason == v1alpha1.ReasonDeadlineExceeded) && !p.confirmed
}

func (w *world) noteRecorded(j *jobTruth, s *v1alpha1.JobStatus) {
	if s.Attempt != nil {
		j.recorded[s.Attempt.Token] = true
	}
	for _, on := range s.RunningIndexes {
		for index := range j.size() {
			if hasIndex(on.Indexes, index) {
				if j.recordedOn[index] == nil {
					j.recordedOn[index] = map[types.UID]bool{}
				}
				j.recordedOn[index][on.PodUID] = true
			}
		}
	}
	for _, c := range s.Conditions {
		j.announced = j.announced || c.Type == v1alpha1.JobFailureTarget && c.Status == "True"
	}
}

// mostStores (9) is how often a plain Job's status may be stored by now: three times, two more for each failed
// try and each attempt that was cut off, one for each attempt that is stored before it is sent, and what each
// leader, each change of a user and onFailure may have added.
func (w *world) mostStores(j *jobTruth) int {
	if !j.plain() || w.spared(j) {
		return 1 << 30
	}
	t := j.task(0)
	return 3 + 2*(len(t.exits)+t.cutOff+int(t.sent.Try)) + 2*j.changes + 2*w.booted + 3
}

// checkBusy (5): a worker whose result is not stored is busy.
func (w *world) checkBusy(op *operator, t *tenant, snapshot engine.PoolSnapshot) {
	for _, s := range w.streams {
		if s.op != op || s.pod.tenant != t || s.pod.hostile || !s.connected || s.agent.dead || len(s.up) > 0 || len(s.down) > 0 || s.agent.stream != s {
			continue
		}
		if n := len(s.agent.live) + len(s.agent.results); n > 0 && !snapshot.Pods[s.pod.uid].Busy && s.saidAll() {
			w.fail("5 busy workers: operator %d takes %s for idle, which runs %d and has %d results", op.id, s.pod.uid, len(s.agent.live), len(s.agent.results))
		}
	}
}

// saidAll tells whether the agent has told all that it knows.
func (s *stream) saidAll() bool {
	for _, h := range s.agent.results {
		if h.sent != s || !s.w.wanted(h.Token) {
			return false
		}
	}
	return len(s.agent.live) == 0
}

// wanted tells whether a result counts and is not stored.
func (w *world) wanted(token engine.Token) bool {
	j := w.truth(token.Job)
	job := w.stored(j.uid)
	return job != nil && j.task(token.Index).sent == token && !holds(&job.Status, token)
}

// checkVictim (5): a worker that was chosen because it is idle is idle when it is deleted.
func (w *world) checkVictim(op *operator, p *engine.Manager, intent workerpool.Intent) {
	if intent.Idle && p.Snapshot().Pods[intent.UID].Busy {
		w.fail("5 busy workers: operator %d deletes %s as an idle one, which is busy", op.id, intent.UID)
	}
}

// checkGiveUp (5): a worker is given up only if it was silent for long enough.
func (w *world) checkGiveUp(op *operator, uid types.UID) {
	for _, s := range w.streams {
		if s.op == op && s.pod.uid == uid && s.connected {
			w.fail("5 busy workers: operator %d gives up %s, which has a session with it", op.id, uid)
		}
	}
	if since := w.now.Sub(op.began); since < workerLost {
		w.fail("5 busy workers: operator %d gives up %s after leading for %v", op.id, uid, since)
	}
	if left, ok := op.left[uid]; ok && w.now.Sub(left) < workerLost {
		w.fail("5 busy workers: operator %d gives up %s %v after its session", op.id, uid, w.now.Sub(left))
	}
}

// stored is a Job as the API server has it; nil if it is gone.
func (w *world) stored(uid types.UID) *v1alpha1.Job {
	j := w.truths[uid]
	if job := w.api.jobs.live[j.name]; job != nil && job.UID == uid {
		return job
	}
	return nil
}

const workerLost = time.Minute

// checkNamed (1): a status names no attempt that its worker was not sent, and no time that can't be. An attempt of AtMostOnce is
// named before it is sent: there it must be one of the operator's own, or be named already.
func (w *world) checkNamed(op *operator, j *jobTruth, s *v1alpha1.JobStatus) {
	attempts := s.EndedAttempts
	if s.Attempt != nil {
		attempts = append(slices.Clone(attempts), *s.Attempt)
	}
	for _, a := range attempts {
		own := strings.HasSuffix(a.Token, engine.Token{Epoch: op.epoch}.String()[1:])
		named := j.atMostOnce() && (own || j.recorded[a.Token])
		if !w.spared(j) && !named && !j.wasSent(a.Token, a.PodUID) {
			w.fail("1 nothing lost: the status of %s names attempt %s on %s, which was not sent it", j.uid, a.Token, a.PodUID)
		}
	}
	for _, at := range []*metav1.MicroTime{s.StartTime, s.CompletionTime} {
		if at != nil && (at.Time.Before(j.created) || at.After(w.now)) {
			w.fail("1 nothing lost: the status of %s says that it has started or ended at %v; it was made at %v", j.uid, at, j.created)
		}
	}
}

// wasSent tells whether an attempt, as a status names it, was sent to a pod.
func (j *jobTruth) wasSent(token string, pod types.UID) bool {
	for issued, pods := range j.issued {
		if pods[pod] && issued.String() == token {
			return true
		}
	}
	return false
}

// checkCounters (8): what an operator counts can be.
func (w *world) checkCounters(op *operator, t *tenant, s engine.PoolSnapshot) {
	jobs := 0
	for _, j := range w.truths {
		if j.tenant == t {
			jobs++
		}
	}
	if s.Queued < 0 || s.Waiting < 0 || s.Active < 0 || s.Queued+s.Waiting > jobs || s.Active > jobs {
		w.fail("8 bounded: operator %d counts as queued %d, as waiting %d and as active %d Jobs of %s, of %d",
			op.id, s.Queued, s.Waiting, s.Active, t.config.Key, jobs)
	}
	if s.Demand.Waiting < 0 || s.Demand.Running < 0 || s.Used.Memory < 0 || s.Used.Files < 0 {
		w.fail("8 bounded: operator %d has a demand of %+v in %s, and %+v is used", op.id, s.Demand, t.config.Key, s.Used)
	}
	workers := reflect.ValueOf(op.engine).Elem().FieldByName("sessions").MapRange()
	for workers.Next() {
		for _, counter := range []string{"claims", "claimed", "unsettled", "resetting"} {
			if n := workers.Value().Elem().FieldByName(counter).Int(); n < 0 {
				w.fail("8 bounded: operator %d counts %d %s of a worker", op.id, n, counter)
			}
		}
	}
}
