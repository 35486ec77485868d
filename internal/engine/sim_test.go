package engine

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

var (
	simSeed  = flag.Uint64("sim.seed", 0, "run this seed of the simulation alone, and print what happens")
	simSeeds = flag.Uint64("sim.seeds", 1000, "number of seeds of the simulation")
)

// TestSimulation runs an engine among failing agents, writes, pods and leaders. After every step no
// Job may run twice at once and no final status may change; in the end, when all works again, every
// Job must be settled as one of its processes has ended.
func TestSimulation(t *testing.T) {
	if *simSeed != 0 {
		w := newWorld(t, *simSeed)
		defer func() { t.Log("\n" + strings.Join(w.log, "\n")) }()
		w.run()
		return
	}
	for seed := uint64(1); seed <= *simSeeds; seed++ {
		newWorld(t, seed).run()
		if t.Failed() {
			return
		}
	}
}

func (w *world) run() {
	final := map[types.UID]v1alpha1.JobState{}
	for range 300 {
		w.step()
		w.check(final)
		if w.t.Failed() {
			return
		}
	}
	w.resumeAll()
	if w.deleting {
		w.replacePool()
	}
	for range 400 {
		w.heal()
		w.check(final)
	}
	w.checkSettled()
}

func (w *world) step() {
	p := w.livePod()
	if p == nil { // so it is with a pool that is deleted
		w.replacePool()
		return
	}
	switch n := w.rng.IntN(100); {
	case n < 7:
		w.createJob()
	case n < 13:
		w.createAny()
	case n < 14:
		w.changeJob()
	case n < 34:
		w.receive(p)
	case n < 48:
		w.finishReset(p, true)
		w.finishProcess(p)
	case n < 62:
		w.report(p)
	case n < 72:
		w.connect(p)
	case n < 84:
		w.store(true)
	case n < 89:
		w.look()
	case n < 93:
		w.pass([]time.Duration{100 * time.Millisecond, time.Second, 5 * time.Second, 30 * time.Second}[w.rng.IntN(4)])
	case n < 95:
		w.note("drop %s", p.uid)
		w.drop(p)
	case n < 96:
		w.restartAgent(p)
	case n < 97:
		w.deleteJob()
	case n < 98:
		w.deletePod()
	case n < 99:
		w.loseWorker()
	case w.rng.IntN(3) == 0:
		w.replacePool()
	default:
		w.note("new leader")
		w.lead()
	}
}

// heal lets all that is outstanding happen.
func (w *world) heal() {
	for _, p := range w.pods {
		if p.gone {
			continue
		}
		w.replaceSpent(p)
		if p.terminating && len(p.running) == 0 && len(p.results) == 0 {
			w.drop(p)
			p.gone = true
			w.addPod()
			w.listPods()
			return
		}
		w.connect(p)
		w.receive(p)
		w.finishReset(p, false)
		w.finishProcess(p)
		w.report(p)
	}
	w.look()
	for range 5 {
		w.store(false)
	}
	w.pass(time.Second)
}

// replaceSpent is the pool controller, where a worker takes no more and is not busy.
func (w *world) replaceSpent(p *simPod) {
	pool, ok := w.engine.Manager(poolKey)
	if s := pool.Snapshot().Pods[p.uid]; ok && s.Spent && !s.Busy && !p.terminating {
		w.note("replaced %s", p.uid)
		p.terminating = true
		w.listPods()
	}
}

// checkSlot is called when an agent is told to start something: never in a slot that is being reset after an
// attempt that the engine knew of.
func (w *world) checkSlot(p *simPod, a Assignment) {
	if p.running[a.Token] == nil && len(p.running) < p.slots && len(p.running)+p.known >= p.slots {
		w.fail("%s %v was sent to %s, which runs %d and resets %d of %d slots", a.Token.Job, a.Token, p.uid, len(p.running), p.resets, p.slots)
	}
}

// checkUnfit is called when something is sent to a worker that could not be reset. What had to be stored before
// was given to it earlier, and its agent refuses it.
func (w *world) checkUnfit(a Assignment) {
	if w.jobs[a.Token.Job].job.Spec.Execution != v1alpha1.AtMostOnce {
		w.fail("%s %v was sent to a worker that could not be reset", a.Token.Job, a.Token)
	}
}

func (w *world) check(final map[types.UID]v1alpha1.JobState) {
	live := map[taskKey]Token{}
	for _, p := range w.pods {
		for token := range p.running {
			if other, twice := live[token.key()]; twice {
				w.fail("%s runs twice at once: %v and %v", token.Job, other, token)
			}
			live[token.key()] = token
		}
	}
	for uid, stored := range w.jobs {
		state := stored.job.Status.State
		if before := final[uid]; before != "" && before != state {
			w.fail("%s was stored as %s and then as %s", uid, before, state)
		}
		if state.Finished() {
			final[uid] = state
		}
	}
	w.checkCounts()
}

// checkCounts wants what the engine counts to be what there is.
func (w *world) checkCounts() {
	if w.engine.pools[poolKey] == nil {
		return
	}
	s, pool := w.pool().Snapshot(), w.engine.pools[poolKey]
	places, running, settling := map[place]int{}, 0, 0
	var backlog, taken int64
	for _, j := range w.engine.jobs {
		if j.pool != pool {
			continue // its pool was deleted; what was written of it is to be stored yet
		}
		places[j.place]++
		attempts := 0
		for _, t := range j.tasks {
			if t.attempt != nil {
				attempts++
				taken += t.attempt.share
			}
		}
		if j.backlog != j.startableTasks()*j.share {
			w.fail("%s counts %d millionths of a worker as waiting, of %d tasks", j.object.UID, j.backlog, j.startableTasks())
		}
		backlog += j.backlog
		if attempts != j.running {
			w.fail("%s has %d attempts, and counts %d", j.object.UID, attempts, j.running)
		}
		if j.running > 0 {
			running++
		}
		if j.settling {
			settling++
		}
	}
	if s.Queued != places[queued]+places[invited] || s.Waiting != places[overflow] || s.Active != running+settling ||
		len(pool.parked) != places[parked] || pool.invited != places[invited] {
		w.fail("counts %+v, parked %d, invited %d; there are %v, %d run, %d settle", s, len(pool.parked), pool.invited, places, running, settling)
	}
	if pool.backlog != backlog || pool.load.running != taken {
		w.fail("the pool counts %d millionths of a worker as waiting, and %d as taken; it is %d and %d", pool.backlog, pool.load.running, backlog, taken)
	}
	if pool.closing && (len(places) > 1 || len(places) == 1 && places[away] == 0) {
		w.fail("in a closed pool are in line: %v", places)
	}
	for _, p := range pool.workers {
		if p.session != nil && p.unsettled < 0 || p.claimed < 0 {
			w.fail("worker %s has %d results to be stored, %d claims", p.uid, p.unsettled, p.claimed)
		}
	}
}

// checkStart is called when a process of a Job is started.
func (w *world) checkStart(a Assignment) {
	stored := w.jobs[a.Token.Job]
	spec, status := stored.job.Spec, &stored.job.Status
	size := sizeOf(spec)
	if after := spec.StartAfter; after != nil && a.Token.Index < size && w.now.Before(after.Time) {
		w.fail("%s is started before its time", a.Token.Job)
	}
	if spec.Execution == v1alpha1.AtMostOnce && a.Token.Index < size {
		if stored.starts[0] > 0 {
			w.fail("%s is started a second time", a.Token.Job)
		}
		if status.Attempt == nil || status.Attempt.Token != a.Token.String() {
			w.fail("%s is started before that is stored", a.Token.Job)
		}
	}
	var done indexSet
	done.parse(status.SucceededIndexes, size)
	done.parse(status.FailedIndexes, size)
	if done.has(a.Token.Index) {
		w.fail("%s: task %d is started, though it is stored as done: %s, %s", a.Token.Job, a.Token.Index, status.SucceededIndexes, status.FailedIndexes)
	}
	if a.Token.Index == size && !meta.IsStatusConditionTrue(status.Conditions, v1alpha1.JobFailureTarget) {
		w.fail("onFailure of %s is started before the failure is stored", a.Token.Job)
	}
}

func sizeOf(spec *v1alpha1.JobSpec) int32 {
	if len(spec.Items) > 0 {
		return int32(len(spec.Items))
	}
	return max(1, deref(spec.Completions))
}

// checkSettling is called when an agent is told to forget a result. Of a process that ended by itself, the
// API must have it, or it must not count: because a later attempt was sent, or another agent holds
// the result that is being stored.
func (w *world) checkSettling(p *simPod, token Token) {
	stored, known := w.jobs[token.Job], w.engine.jobs[token.Job]
	status := &stored.job.Status
	if stored.gone || w.refused[token.Job] || status.State.Finished() || w.sent[token.key()] != token || known != nil && known.superseded(token) {
		return
	}
	var done indexSet
	for _, indexes := range []string{status.SucceededIndexes, status.FailedIndexes} {
		done.parse(indexes, sizeOf(stored.job.Spec))
	}
	if done.has(token.Index) || strings.Contains(","+status.RetriedIndexes, fmt.Sprintf(",%d:", token.Index)) ||
		slices.ContainsFunc(status.EndedAttempts, func(a v1alpha1.Attempt) bool { return a.Token == token.String() }) {
		return
	}
	if deadline := stored.job.Spec.ActiveDeadlineSeconds; deadline != nil && w.now.Sub(stored.job.Created) >= seconds(*deadline) {
		return // the Job fails, whatever its tasks have done
	}
	if policy := stored.job.Spec.FailurePolicy; policy != nil && policy.Rules[0].Action == v1alpha1.ActionIgnore {
		return // leaves no trace of an indexed Job's failure
	}
	if slices.ContainsFunc(p.results, func(r Result) bool { return r.Token == token && r.Outcome == Exited }) {
		w.fail("the result of %s[%d] %v on %s was forgotten before it was stored: %+v", token.Job, token.Index, token, p.uid, status)
	}
}

func (j *job) superseded(token Token) bool {
	t := j.tasks[token.Index]
	held := slices.ContainsFunc(j.owed, func(o owed) bool { return o.token.key() == token.key() })
	return !j.owes(token) && (held || t != nil && t.outranks(token) || t != nil && t.attempt != nil && t.attempt.token != token ||
		j.settling || j.leaving || j.failing != nil)
}

func (w *world) checkSettled() {
	for uid, stored := range w.jobs {
		if !stored.gone {
			w.checkEnd(uid, stored)
		}
	}
	s := w.pool().Snapshot()
	if s.Active != 0 || s.Queued != 0 || s.Waiting != 0 || len(w.engine.jobs) != places(w)[parked] || len(w.engine.claims) != 0 || len(w.engine.settled) != 0 {
		w.fail("the engine still holds: %+v, tasks %d, claims %d, settled %d", s, len(w.engine.jobs), len(w.engine.claims), len(w.engine.settled))
	}
	for _, p := range w.pods {
		if len(p.results) > 0 {
			w.fail("%s still holds results: %+v", p.uid, p.results)
		}
	}
}

func places(w *world) map[place]int {
	n := map[place]int{}
	for _, j := range w.engine.jobs {
		n[j.place]++
	}
	return n
}

// checkEnd wants a Job's last status to tell what has become of its processes.
func (w *world) checkEnd(uid types.UID, stored *storedJob) {
	spec, status := stored.job.Spec, stored.job.Status
	if status.State == v1alpha1.JobPending && status.Reason == v1alpha1.ReasonDoesNotFit && spec.Resources.Memory.Value() > simResources.Memory {
		return
	}
	if !status.State.Finished() {
		w.fail("%s is not settled: %s %s", uid, status.State, status.Reason)
		return
	}
	if failed := status.State == v1alpha1.JobFailed; spec.OnFailure != nil && failed != (stored.starts[sizeOf(spec)] > 0) {
		w.fail("%s is stored as %s, and its onFailure was started %d times", uid, status.State, stored.starts[sizeOf(spec)])
	}
	if spec.Completions != nil || len(spec.Items) > 0 {
		w.checkIndexes(uid, stored)
		return
	}
	switch status.Reason {
	case v1alpha1.ReasonWorkerLost:
		if *status.LostWorkers < maxLostWorkers {
			w.fail("%s was given up after %d lost workers", uid, *status.LostWorkers)
		}
	case v1alpha1.ReasonInterrupted:
		if spec.Execution != v1alpha1.AtMostOnce {
			w.fail("%s has failed as interrupted", uid)
		}
	case v1alpha1.ReasonDeadlineExceeded:
		w.checkDeadline(uid, stored)
	default:
		w.checkResult(uid, stored)
	}
}

func (w *world) checkResult(uid types.UID, stored *storedJob) {
	status, exits := stored.job.Status, stored.exits[0]
	if status.Result == nil || status.Result.ExitCode == nil || !slices.Contains(exits, *status.Result.ExitCode) {
		w.fail("%s was stored with the result %+v, its processes ended with %v", uid, status.Result, exits)
		return
	}
	code := *status.Result.ExitCode
	if (status.State == v1alpha1.JobSucceeded) != (code == 0) {
		w.fail("%s was stored as %s with exit code %d", uid, status.State, code)
	}
	if retries := deref(stored.job.Spec.MaxRetries); status.State == v1alpha1.JobFailed && code == 1 && deref(status.Retries) != retries {
		w.fail("%s has failed after %d retries of %d", uid, deref(status.Retries), retries)
	}
}

func (w *world) checkDeadline(uid types.UID, stored *storedJob) {
	spec := stored.job.Spec
	if spec.ActiveDeadlineSeconds == nil || stored.job.Status.CompletionTime.Time.Before(stored.job.Created.Add(seconds(*spec.ActiveDeadlineSeconds))) {
		w.fail("%s has failed at %s by a deadline of %v seconds after %s", uid, stored.job.Status.CompletionTime, spec.ActiveDeadlineSeconds, stored.job.Created)
	}
}

func (w *world) checkIndexes(uid types.UID, stored *storedJob) {
	spec, status := stored.job.Spec, stored.job.Status
	var succeeded, failed indexSet
	succeeded.parse(status.SucceededIndexes, sizeOf(spec))
	failed.parse(status.FailedIndexes, sizeOf(spec))
	for index := range succeeded.all() {
		if failed.has(index) || !slices.Contains(stored.exits[index], 0) {
			w.fail("%s: task %d is stored as succeeded, its processes ended with %v", uid, index, stored.exits[index])
		}
	}
	for index := range failed.all() {
		lost := deref(status.LostWorkers) >= maxLostWorkers
		if !lost && !slices.ContainsFunc(stored.exits[index], func(code int32) bool { return code != 0 }) {
			w.fail("%s: task %d is stored as failed, its processes ended with %v", uid, index, stored.exits[index])
		}
	}
	all := succeeded.len()+failed.len() == sizeOf(spec)
	switch {
	case status.State == v1alpha1.JobSucceeded:
		if succeeded.len() != sizeOf(spec) {
			w.fail("%s has succeeded with the tasks %s", uid, status.SucceededIndexes)
		}
	case status.Reason == v1alpha1.ReasonDeadlineExceeded:
		w.checkDeadline(uid, stored)
	case status.Reason == v1alpha1.ReasonIndexesFailed:
		if !all || failed.len() == 0 {
			w.fail("%s has failed with the tasks %q succeeded and %q failed", uid, status.SucceededIndexes, status.FailedIndexes)
		}
	case spec.FailurePolicy == nil || spec.FailurePolicy.Rules[0].Action != v1alpha1.ActionFail || failed.len() == 0:
		w.fail("%s has failed: %s", uid, status.Reason)
	}
}

func (w *world) fail(format string, args ...any) {
	w.t.Helper()
	w.t.Errorf("seed %d: "+format, append([]any{w.seed}, args...)...)
}
