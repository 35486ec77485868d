package engine

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/resource"
)

// podWorker is one worker pod.
type podWorker struct {
	pool *pool
	uid  types.UID
	name string
	id   int

	// listed is true once a list has had the pod: from then on its absence means that it is gone.
	listed bool
	// ran is true once the cache has shown that the pod's containers have run. Nothing is assigned before: a leader
	// that takes over waits for the workers of which the API server knows that.
	ran bool
	// terminating: the last list has the pod as being deleted.
	terminating bool
	// cordon is whether the controller has declared that it deletes the worker. It may take that back.
	cordon cordon
	// started is true from the first session on. session != nil implies it, but for a draining worker.
	started bool
	// stopped: nothing new is assigned, ever. refuses: its agent wants nothing assigned for now: it was told to
	// end, or its server does not answer.
	stopped, refuses bool
	// unavailable is why its agent refuses, for people; empty if it does not say.
	unavailable string

	// session is nil while the agent is not connected; since says since when, if it should be.
	session Session
	since   time.Time
	// instance is the run of the agent's process that was connected last.
	instance string
	// sequence of the last command of this session.
	sequence uint64
	// outgoing is what the present call has gathered to be sent.
	outgoing Command
	// inPending is true while the worker is in Engine.pending.
	inPending bool

	handler   v1alpha1.HandlerType
	slots     int
	resources *resource.Controller
	limits    worker.ResourceLimits
	// tasks that run here. There may be more than slots where an earlier leader knew of more.
	tasks map[taskKey]*task
	// claims is the number of attempts that it has, or whose results it has, of Jobs that nobody has looked at
	// yet. Claimed is that of those that run.
	claims, claimed int
	// overclaims: it has spoken of more such attempts than it can have, in this session.
	overclaims bool
	// proves: its agent keeps a proof with each attempt, as the pod says.
	proves bool
	// goneAt is when its pod was gone, zero as long as it is not.
	goneAt time.Time
	// unsettled is the number of results from here whose write is under way.
	unsettled int
	// resetting is how many slots its agent has last said to be taken by resets, and resetFailure why one has
	// failed, empty if none has.
	resetting    int
	resetFailure string
	// death is the last end of its agent's container, as far as the cache shows it, and orphanedAt when
	// the agent came back without tasks that it ran.
	death      Death
	orphanedAt time.Time
	// resting is until when the worker is left alone, because it did not start what it was sent.
	resting time.Time
	// inFree is true while the worker is in pool.free.
	inFree bool

	// begun is the number of attempts that were sent here by this leader. The worker is spent when these
	// are as many as it should run, when one has failed, if the pool says so, or when a reset has failed.
	begun int
	spent bool

	// processed and failed count the Jobs that finished here, once that is stored.
	processed, failed uint64
}

// cordon is what the controller has declared about a worker. See Manager.Cordon.
type cordon int8

const (
	// serving: it is not to be deleted.
	serving cordon = iota
	// cordoned: it is to be deleted, and takes no further task.
	cordoned
	// givenUp: it is cordoned because it had no session for too long.
	givenUp
)

// taskKey names a task.
type taskKey struct {
	job   types.UID
	index int32
}

func (t Token) key() taskKey { return taskKey{t.Job, t.Index} }

func (t *task) key() taskKey { return taskKey{t.job.object.UID, t.index} }

func newPodWorker(p *pool, uid types.UID, name string) *podWorker {
	return &podWorker{
		pool: p, uid: uid, name: name,
		slots:     1, // until the cache shows the pod
		resources: resource.NewController(worker.ResourceLimits{}),
		tasks:     map[taskKey]*task{},
	}
}

// start lets the worker take tasks whenever it is connected.
func (w *podWorker) start() error {
	if w.stopped || w.spent || w.terminating {
		return worker.ErrStopped
	}
	w.started = true
	w.offer()
	return nil
}

// draining tells whether the worker takes no further task. What runs goes on.
func (w *podWorker) draining() bool {
	return w.stopped || w.spent || w.terminating || w.cordon != serving
}

// revise changes why the worker drains, and does what follows where it drains now and did not, or the other way.
func (w *podWorker) revise(change func()) {
	was := w.draining()
	change()
	if w.draining() == was {
		return
	}
	w.pool.engine.out.PoolChanged(w.pool.config.Key)
	if w.likeNew() {
		return
	}
	if was {
		w.pool.reconsider() // some Jobs may fit here and nowhere else
	} else {
		w.pool.recheck() // it may have been the last that is large enough
	}
}

// likeNew tells whether the worker has room for what a new one has room for.
func (w *podWorker) likeNew() bool {
	return w.limits == w.pool.config.Resources && w.slots == w.pool.config.Slots
}

// stop has the worker take no further task.
func (w *podWorker) stop() { w.revise(func() { w.stopped = true }) }

// spend has the worker replaced: it takes no further task.
func (w *podWorker) spend() { w.revise(func() { w.spent = true }) }

// begin counts an attempt that is sent to the worker.
func (w *podWorker) begin() {
	w.begun++
	if most := w.pool.config.MaxAttempts; most > 0 && w.begun >= most {
		w.spend()
	}
}

// setRefuses notes whether the agent wants tasks, and why not.
func (w *podWorker) setRefuses(refuses bool, why string) {
	if w.refuses != refuses || w.unavailable != why {
		w.refuses, w.unavailable = refuses, why
		w.pool.engine.out.PoolChanged(w.pool.config.Key)
		w.offer()
	}
}

// setResets notes what the agent says of its resets. It comes before the results that are said with it: the
// slot of an attempt that has ended may be taken by its reset.
func (w *podWorker) setResets(r Resets) {
	was := w.busy()
	w.resetting = r.Running
	failed := r.Failure != "" && w.resetFailure == ""
	if failed {
		w.resetFailure = r.Failure
		w.spend()
	}
	if failed || w.busy() != was {
		w.pool.engine.out.PoolChanged(w.pool.config.Key)
	}
	w.offer()
}

// whyUnavailable is why the worker takes nothing for now, though it does not drain; empty if it takes tasks.
func (w *podWorker) whyUnavailable() string {
	switch {
	case w.session == nil:
		return "its agent has no session with the operator"
	case w.refuses:
		return cmp.Or(w.unavailable, "its agent takes no Job for now")
	case w.restsAgain():
		return "its agent does not start what it is sent"
	}
	return ""
}

// restsAgain tells whether the worker has just rested, and runs nothing: it may be sent a task and refuse it again and
// again.
func (w *podWorker) restsAgain() bool {
	if w.resting.IsZero() || w.pool.engine.now.Sub(w.resting) >= refusalRest+sweepInterval {
		return false
	}
	for _, t := range w.tasks {
		if !t.attempt.started.IsZero() {
			return false
		}
	}
	return true
}

// takes tells whether the worker takes tasks while it has room.
func (w *podWorker) takes() bool { return w.session != nil && w.ran && !w.draining() && !w.refuses }

// busy tells whether the worker runs a task or a reset, or has a result that is not stored yet, as far as is known.
func (w *podWorker) busy() bool {
	return len(w.tasks) > 0 || w.unsettled > 0 || w.resetting > 0 || w.claims > 0
}

func (w *podWorker) state() worker.WorkerState {
	switch {
	case w.draining() && w.busy():
		return worker.WorkerStopping
	case w.draining():
		return worker.WorkerStopped
	case w.busy():
		return worker.WorkerBusy
	case w.started:
		return worker.WorkerIdle
	}
	return worker.WorkerNew
}

// status is the worker as a worker.Worker shows it.
func (w *podWorker) status() worker.WorkerStatus {
	s := worker.WorkerStatus{ProcessedJobs: w.processed, FailedJobs: w.failed, State: w.state()}
	s.Running = w.started && s.State != worker.WorkerStopped
	var oldest *task
	for _, t := range w.tasks {
		if oldest == nil || t.attempt.startedBefore(oldest.attempt) {
			oldest = t
		}
	}
	if oldest != nil {
		a := oldest.attempt
		s.CurrentJob = &worker.JobInfo{
			ID: oldest.job.object.Name, Attempt: int(a.token.Try), StartTime: a.started, Usage: a.usage,
		}
	}
	return s
}

// setPod takes over what the cache shows.
func (w *podWorker) setPod(pod WorkerPod) {
	if !w.listed && pod.Started && w.session == nil {
		w.since = w.pool.engine.now
	}
	w.listed, w.name, w.id, w.slots, w.handler = true, pod.Name, pod.Ordinal, max(1, pod.Slots), pod.Handler
	w.ran = w.ran || pod.Started
	w.death = pod.Death
	w.bury()
	if pod.Resources != w.limits {
		w.limits = pod.Resources
		w.resources.SetLimits(pod.Resources)
	}
	w.revise(func() { w.terminating = pod.Terminating })
	w.offer()
}

// usageOf is what a task takes here that asks for so much.
func (w *podWorker) usageOf(asked worker.ResourceUsage) worker.ResourceUsage {
	return usageOf(asked, w.limits, w.slots)
}

// usageOf adds, for what is not asked for, an equal part of a worker for each of its slots.
func usageOf(asked worker.ResourceUsage, limits worker.ResourceLimits, slots int) worker.ResourceUsage {
	slots = max(1, slots)
	if asked.Memory == 0 {
		asked.Memory = limits.Memory / int64(slots)
	}
	if asked.CPU == 0 {
		asked.CPU = float64(int64(limits.CPU*1000)/int64(slots)) / 1000
	}
	return asked
}

// fits tells whether the worker is large enough for a task that asks for so much.
func (w *podWorker) fits(asked worker.ResourceUsage) bool {
	return !errors.Is(w.resources.Check(w.usageOf(asked)), worker.ErrTooLarge)
}

// room tells whether the worker can take another task now, if that is not too large, with some slots kept.
func (w *podWorker) room(kept int) bool {
	return w.takes() && len(w.tasks)+w.claimed+w.resetting+kept < w.slots && !w.pool.engine.now.Before(w.resting)
}

// offer puts the worker into the line of those with room, if it has any.
func (w *podWorker) offer() {
	if !w.inFree && w.room(0) {
		w.inFree = true
		w.pool.free = append(w.pool.free, w)
	}
}

// take books an attempt of a task on the worker. What it takes is not refused where it runs already.
func (w *podWorker) take(t *task, a *attempt) {
	j := t.job
	a.worker, a.sequence = w, w.sequence+1
	if usage := w.usageOf(j.Resources()); w.resources.Acquire(usage) == nil {
		a.usage = usage
	}
	if files := (worker.ResourceUsage{Files: a.usage.Files}); w.pool.files.Acquire(files) == nil {
		a.files = files
	}
	a.share = j.share
	j.pool.load.add(a.share, j.engine().now)
	j.unqueue(t)
	j.admitted = true
	t.attempt = a
	w.tasks[t.key()] = t
	if j.running == 0 {
		j.pool.running++
	}
	j.running++
}

// give ends the booking of a task's attempt.
func (w *podWorker) give(t *task) {
	w.resources.Release(t.attempt.usage)
	w.pool.files.Release(t.attempt.files)
	t.attempt.usage, t.attempt.files = worker.ResourceUsage{}, worker.ResourceUsage{}
	delete(w.tasks, t.key())
	t.job.pool.load.add(-t.attempt.share, w.pool.engine.now)
	t.job.running--
	if t.job.running == 0 {
		t.job.pool.running--
	}
	w.offer()
}

// outbox returns what is to be sent to the worker when the present call ends.
func (w *podWorker) outbox() *Command {
	if !w.inPending {
		w.inPending = true
		w.pool.engine.pending = append(w.pool.engine.pending, w)
	}
	return &w.outgoing
}

func (w *podWorker) send(a Assignment) { w.outbox().Assignments = append(w.outgoing.Assignments, a) }

func (w *podWorker) kill(token Token, grace time.Duration) {
	w.outbox().Kills = append(w.outgoing.Kills, Kill{Token: token, Grace: grace})
}

func (w *podWorker) record(token Token) {
	w.outbox().Recorded = append(w.outgoing.Recorded, token)
}

func (w *podWorker) acknowledge(token Token) {
	w.outbox().Settled = append(w.outgoing.Settled, token)
}

// flush sends what was gathered. Without a session it is dropped: the next Hello tells what is needed.
func (w *podWorker) flush() {
	cmd := w.outgoing
	w.outgoing, w.inPending = Command{}, false
	if w.session == nil {
		return
	}
	w.sequence++
	cmd.Sequence = w.sequence
	w.session.Send(cmd)
}

// lost tells whether the worker should be given up.
func (w *podWorker) lost() bool {
	return w.session == nil && !w.since.IsZero() && w.pool.engine.now.Sub(w.since) >= w.pool.config.LostAfter
}

// is tells whether the worker is as it was thought to be.
func (w *podWorker) is(v Victim) bool { return (!v.Idle || !w.busy()) && (!v.Lost || w.lost()) }

// gone ends a worker whose pod does not exist, or does not run, any more.
func (w *podWorker) gone() {
	e, lost := w.pool.engine, w.lost()
	if w.session != nil {
		delete(e.sessions, w.session)
		w.session.Close("the worker's pod is gone")
		w.session = nil
	}
	e.dropRunning(w)
	for _, t := range w.sorted() {
		if t.attempt != nil { // else its job has failed meanwhile
			t.lose(w.draining() && w.cordon != givenUp && !lost)
		}
	}
	w.resetting, w.goneAt = 0, e.now
	delete(w.pool.workers, w.uid)
	delete(w.pool.awaited, w.uid)
	w.stop()
}

// sorted are the tasks that run here, in an order that does not depend on chance.
func (w *podWorker) sorted() []*task {
	return slices.SortedFunc(maps.Values(w.tasks), func(a, b *task) int {
		return cmp.Or(cmp.Compare(a.job.object.UID, b.job.object.UID), cmp.Compare(a.index, b.index))
	})
}

func (w *podWorker) snapshot() PodSnapshot {
	return PodSnapshot{
		Name:         w.name,
		Connected:    w.session != nil,
		Busy:         w.busy(),
		Draining:     w.draining() || w.refuses,
		Cordoned:     w.cordon != serving,
		Unavailable:  w.whyUnavailable(),
		Spent:        w.spent,
		ResetFailure: w.resetFailure,
		Lost:         w.lost(),
	}
}
