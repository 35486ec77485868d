package engine

import (
	"cmp"
	"maps"
	"slices"
	"time"
	"unique"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/queue"
)

// maxRetrying is how many tasks of a Job may wait to be tried again before no further ones are begun: it
// bounds what is remembered, and stored, of tasks that are neither new nor done.
const maxRetrying = 1000

// maxParallelism is how many tasks of a Job may run at once that does not say.
const maxParallelism = 1000

// job is a Job while the engine has to do with it. Its tasks are its indexes; a plain Job has one, with
// index 0. Its onFailure is one more, with the index after the last.
type job struct {
	pool *pool
	// object is the Job as it was read last. A large spec is reduced but for the moment in which something of it is sent,
	// and any spec is nil while the job waits without a place in the
	// queue: it is read again when there is one, so that what waits takes little memory. Its status is
	// what it should be; what is stored may lag behind. That of an indexed Job is composed when it is written.
	object Job
	// reduced: the spec lacks what is only needed to run it. If not, bulk is about how many bytes that has.
	reduced bool
	bulk    int
	// loading: the whole spec was asked for and has not come yet. What is booked for it is given back at loadBy, if it is
	// overdue then.
	loading, overdue bool
	loadBy           time.Time
	// priority and suspend are those of its spec.
	priority int32
	suspend  bool
	// place is where the job is in line.
	place place
	// admitted jobs have had a place in the queue, and are let in again beyond its capacity.
	admitted bool
	// obstacle says why the job is parked.
	obstacle *obstacle
	// share of a worker that each task takes, in millionths, and backlog that of all that could be started.
	share, backlog int64
	// kind is what each task asks for, as the queue has it; it is set when the job is queued.
	kind unique.Handle[request]
	// queuedAt is when it last took its place in the queue.
	queuedAt time.Time

	// version is that of the last write asked for; 0 if there was none.
	version uint64
	// asked is the state that was asked for, or found stored, last.
	asked state

	// tasks are those that have begun and are not done: they run, or are to be tried again.
	tasks map[int32]*task
	// running is the number of tasks with an attempt.
	running int
	// again has the tasks that were begun and can be started now, and retrying those that wait for it.
	again    []*task
	retrying timers[*task]
	// unsent are tasks whose attempt is to be sent to its worker by Process.
	unsent []*task
	// size is the number of tasks, and parallel how many of them may run at once. Those below next have
	// begun.
	size, parallel, next int32
	// indexed is how far the tasks of an indexed job are; nil for a plain one.
	indexed *indexes
	// form is what its items are filled into, nil until that is needed.
	form *form

	// failing is why the job fails, once that is clear: no further task is begun then, but for onFailure.
	failing *failure
	// announced: that the job fails is stored.
	announced bool
	// handled: onFailure has run, or there is none.
	handled bool
	// unstorable: the API server refuses each status of the job. It is ended, without further writes but the last.
	unstorable bool
	// settling: the job has ended, and that is being written.
	settling bool
	// owed are the results that the agents keep until they are stored. Those that are in no write yet are the last.
	owed []owed

	// deadline is when the job fails if it has not ended, and startAfter when it may begin; or zero.
	deadline, startAfter time.Time
	// activeDeadline is the deadline in seconds after the creation.
	activeDeadline int32
	// changed: the status has more to tell than its state. urgent has it written at once when it is
	// published.
	changed, urgent bool
	// note is why the job is tried again, as long as it is not.
	note string
	// endTime is when the last attempt ended, or the deadline was over.
	endTime time.Time
	// flush is when the status of an indexed job is to be written, zero if it is as was asked for last;
	// flushed is when that was.
	flush, flushed time.Time
	// timer is the job's place in the engine's timers.
	timer timer[*job]

	// cancelled: the Job does not exist any more; nothing is written of it.
	cancelled bool
	// shown: the cache shows the Job as finished, before its write was answered.
	shown bool
	// leaving: the pool is closed; what has become of the job is being stored.
	leaving bool
}

// owed is a result that its agent keeps until it is stored.
type owed struct {
	worker *podWorker
	token  Token
	// task whose attempt it is the end of. It may be tried again once the result is stored: see task.unstored.
	task *task
	// version of the write that has it; 0 while there is none.
	version uint64
	failed  bool
}

var (
	_ worker.Job         = (*job)(nil)
	_ worker.Prioritized = (*job)(nil)
	_ worker.Sized       = (*job)(nil)
)

func newJob(p *pool, object Job) *job {
	j := &job{pool: p, object: object, size: 1, parallel: maxParallelism}
	j.timer.of = j
	j.object.Spec = nil
	j.setSpec(&object)
	spec := object.Spec
	j.asked, j.priority, j.suspend = stateOf(&object.Status), deref(spec.Priority), deref(spec.Suspend)
	if spec.Parallelism != nil {
		j.parallel = *spec.Parallelism
	}
	if spec.Completions != nil || len(spec.Items) > 0 {
		j.size = max(deref(spec.Completions), int32(len(spec.Items)))
		j.indexed = restoreIndexes(j, &object.Status)
	}
	if j.plain() && len(j.object.Status.EndedAttempts) > 0 {
		j.putBack(j.task(0)) // it knows then which results are settled
	}
	j.handled = spec.OnFailure == nil
	j.share = p.shareOf(j)
	j.failing = failingOf(object.Status.Conditions)
	j.announced = j.failing != nil
	j.setTimes()
	return j
}

// mayHaveBegun tells whether an earlier leader can have begun something of a Job. Of a plain one of which nothing is stored it
// can too. That one is begun again: if it had ended it does no harm, and its end is stored late or was lost with its worker.
func mayHaveBegun(object *Job) bool {
	s, spec := &object.Status, object.Spec
	return s.Attempts != nil || failingOf(s.Conditions) != nil || spec.Completions != nil || len(spec.Items) > 0
}

func (j *job) engine() *Engine { return j.pool.engine }

// plain jobs have one task, whose attempts are in the status one by one.
func (j *job) plain() bool { return j.indexed == nil }

// shed drops what is only needed to run the Job: it is read again when there is room for it.
func (j *job) shed() { j.object.Spec, j.form = nil, nil }

// isShed tells whether shed was called since the Job was last read.
func (j *job) isShed() bool { return j.object.Spec == nil }

func (j *job) item() queue.Item {
	return queue.Item{Job: j, Priority: j.Priority(), Created: j.object.Created}
}

// itemOfKind is item for the queue, which is searched by kind.
func (j *job) itemOfKind() queue.Item {
	j.kind = unique.Make(j.request())
	item := j.item()
	item.Kind = j.kind
	return item
}

// Process sends the attempts that were made of the job's tasks to their workers. It is the Job's part of
// worker.Job: the work itself is done there, and its results come back to the engine. Like all of a job it
// is the engine's, and called with its lock held.
func (j *job) Process() error {
	for _, t := range j.unsent {
		t.attempt.sent = j.engine().now
		j.pool.meter.Sent(t.waited())
		t.attempt.worker.send(t.assignment())
	}
	j.unsent = j.unsent[:0]
	j.lighten()
	return nil
}

// OnFailure settles the Job as failed: the end of its last try is in its status already.
func (j *job) OnFailure(err error) {
	f := asFailure(err)
	j.finish(v1alpha1.JobFailed, f.reason, f.message)
}

// handling tells whether all that is left to do is onFailure.
func (j *job) handling() bool { return j.failing != nil && !j.handled }

// atHandler tells whether the tasks have ended, and onFailure is to run, or runs.
func (j *job) atHandler() bool { return j.handling() && (j.running == 0 || j.tasks[j.size] != nil) }

// ended tells whether no task is left to be run, but for onFailure. A plain job whose task has ended is
// failing, or settling.
func (j *job) ended() bool { return j.failing != nil || !j.plain() && j.indexed.done() == j.size }

// startable tells whether there is a task that could be started now.
func (j *job) startable() bool {
	switch {
	case j.settling, j.cancelled, j.leaving, j.overdue, j.suspend && j.failing == nil:
		return false
	case j.failing != nil:
		// It must be stored first: a later leader would not know what it is that runs.
		return j.handling() && j.running == 0 && j.announced
	case j.running >= int(j.parallel):
		return false
	}
	return len(j.again) > 0 || len(j.retrying) < maxRetrying && j.fresh()
}

// fresh tells whether there is a task that has not begun, and finds the first.
func (j *job) fresh() bool {
	for j.next < j.size && (j.tasks[j.next] != nil || !j.plain() && j.indexed.has(j.next)) {
		j.next++
	}
	return j.next < j.size
}

// nextTask takes the task to be started next. The job must be startable.
func (j *job) nextTask() *task {
	switch {
	case j.handling():
		return j.task(j.size)
	case len(j.again) > 0:
		t := j.again[0]
		j.again = j.again[1:]
		return t
	}
	j.next++
	return j.task(j.next - 1)
}

// update takes over what may change of a Job.
func (j *job) update(object Job) {
	if newer(object.ResourceVersion, j.object.ResourceVersion) {
		j.object.ResourceVersion = object.ResourceVersion
		if j.learn(&object.Status) && j.version != 0 {
			j.askAgain() // what was asked for knows less
		}
	}
	j.object.Generation, j.object.Bytes = object.Generation, object.Bytes
	j.setSpec(&object)
	j.suspend = deref(object.Spec.Suspend)
	if priority := deref(object.Spec.Priority); priority != j.priority {
		j.priority = priority
		j.reprioritize()
	}
	j.engine().answerClaims(j)
	if object.Deleted {
		j.deleted()
	}
	if j.suspend && j.failing == nil {
		j.stop()
	}
	j.prepareAll()
	j.proceed()
	if j.running == 0 && (j.place == overflow || j.place == parked) {
		j.shed()
	}
}

// newer compares resource versions, which are decimal numbers of any length.
func newer(a, b string) bool { return len(a) > len(b) || len(a) == len(b) && a > b }

// stop ends all that runs of the job, with its grace.
func (j *job) stop() {
	for _, t := range j.sorted() {
		if t.attempt != nil {
			t.stop()
		}
	}
}

// sorted are the tasks that have begun and are not done, by their index.
func (j *job) sorted() []*task {
	return slices.SortedFunc(maps.Values(j.tasks), func(a, b *task) int { return cmp.Compare(a.index, b.index) })
}

// fail makes the job fail: what runs of it is ended first.
func (j *job) fail(f failure) {
	if j.failing == nil {
		j.failing = &f
	}
	j.stop()
}

// deletedFailure is that of a Job that is being deleted, and is there yet because somebody's finalizer holds it.
var deletedFailure = failure{reason: v1alpha1.ReasonDeleted, message: "The Job was deleted. It is gone once its finalizers are."}

// deleted ends a job that is being deleted. Its onFailure is not run.
func (j *job) deleted() {
	if !j.handled || j.failing == nil {
		j.handled = true
		j.fail(deletedFailure)
	}
}

// proceed does what is next: it ends the job if nothing is left of it, or else puts it in line if
// something of it can be started.
func (j *job) proceed() {
	switch {
	case j.settling, j.leaving:
		return
	case j.cancelled:
		if j.running == 0 {
			j.remove()
		}
		return
	case j.running == 0 && j.ended() && j.conclude():
		return
	case j.pool.closing:
		if j.running == 0 {
			j.release()
		}
		return
	}
	j.takePlace()
	j.arm()
}

// conclude finishes a job of which no task is left. It returns false if its onFailure is to run first.
func (j *job) conclude() bool {
	if j.failing == nil && !j.plain() && j.indexed.failed.len() > 0 {
		f := j.indexed.failure(j.size)
		j.failing = &f
	}
	switch {
	case j.failing == nil:
		j.finish(v1alpha1.JobSucceeded, "", "")
	case j.handled, j.pool.config.Handler == v1alpha1.HandlerHTTP: // whose workers run no commands
		j.OnFailure(*j.failing)
	default:
		j.announceFailure()
		return false
	}
	return true
}

// cancel ends a job that does not exist any more.
func (j *job) cancel() {
	j.engine().out.PoolChanged(j.pool.config.Key)
	switch {
	case j.settling: // there is nothing left to write the result to
		j.shown = true
		j.complete()
	case j.running > 0:
		j.leaveLine()
		j.disarm()
		j.cancelled = true
		j.acknowledge(j.version)
		j.stop()
		j.proceed() // what was not sent yet needs no answer
	default:
		j.remove()
	}
}

// remove forgets the job. Its agents need not keep what is not stored of it.
func (j *job) remove() {
	j.leaveLine()
	j.disarm()
	j.settleOwed()
	j.engine().unkeep(j)
	delete(j.engine().jobs, j.object.UID)
	delete(j.engine().inherited, j.object.UID)
	j.engine().collect(j.pool)
}

// release lets go of a job of which nothing runs because its pool goes: it waits for another of that name.
func (j *job) release() {
	j.leaveLine()
	j.disarm()
	if known := j.version == 0 && !j.changed; known || j.object.Status.Attempts == nil {
		var stored state // unless something was asked for since
		if known {
			stored = j.asked
		}
		j.engine().awaitDeadline(j.object.JobRef, j.deadline)
		j.engine().reportPoolNotFound(j.object, j.pool.config.Key, stored)
		delete(j.engine().jobs, j.object.UID)
		return
	}
	j.leaving = true
	after := waitingDue
	if len(j.owed) > 0 {
		after = 0
	}
	j.ask(poolNotFound(j.pool.config.Key), after, false)
}

func seconds(n int32) time.Duration { return time.Duration(n) * time.Second }

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
