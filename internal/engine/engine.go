// Package engine is the pools in memory: queues, workers, attempts and what becomes of them.
//
// The engine decides and does nothing: it is told what happened, by the controllers, the agents'
// sessions and the status writer, and hands what should happen to sessions and to its Outbox. It
// starts no goroutine and reads no clock but the one it is given, so that whoever drives it can
// replay each of its decisions.
//
// It holds no truth of its own. A new leader's engine starts empty and is rebuilt from the Jobs and
// pods in the API and from what the agents say in their first message.
package engine

import (
	"cmp"
	"iter"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/pkg/worker"
)

// Times that the engine waits. They fit together: an agent that has heard from no leader for
// FenceTimeout kills what is not recorded, so that a leader who has waited silentWorkers for it
// knows that it runs nothing of the kind.
const (
	// HeartbeatInterval is how often both ends of a session say something.
	HeartbeatInterval = 2 * time.Second
	// SilenceTimeout ends a session on which nothing was heard for so long.
	SilenceTimeout = 6 * time.Second
	// FenceTimeout is how long an agent without a leader keeps what is not recorded.
	FenceTimeout = 20 * time.Second

	// silentWorkers is how long a new leader waits for workers that have not said Hello.
	silentWorkers = FenceTimeout + 2*time.Second

	// runningDue and waitingDue are how long a state must last to be worth a write.
	runningDue = 200 * time.Millisecond
	waitingDue = 2 * time.Second

	// refusalRest is how long a worker is left alone that did not start what it was sent, because too many of its
	// results are not stored yet, or has interrupted it.
	refusalRest = time.Second

	// killGrace is the time from SIGTERM to SIGKILL for a Job that is deleted.
	killGrace = 10 * time.Second

	// maxLostWorkers is how many workers a Job may lose before it fails.
	maxLostWorkers = 5
)

// Engine holds the pools of one leader. Its methods are safe for concurrent use and never block; those
// of the views that it gives out may, where they say so.
type Engine struct {
	clock func() time.Time
	// chance returns a number from 0 to 1.
	chance func() float64
	epoch  Epoch
	// leader is the epoch as statuses have it.
	leader string
	out    Outbox
	meter  Meter

	// mu guards all below, and all that is reached from there. Nothing is waited for under it.
	mu sync.Mutex
	// now is the time of the call that holds mu.
	now   time.Time
	began time.Time

	pools map[types.NamespacedName]*pool
	// jobs are those that have not ended, and those whose end is being written.
	jobs map[types.UID]*job
	// timers are those of them that wait for a time.
	timers timers[*job]
	// deadlines are those of the Jobs without a pool that have one, and deadlineOf finds them.
	deadlines  timers[JobRef]
	deadlineOf map[types.UID]*timer[JobRef]
	// swept is when the pools were last looked at for what time alone brings.
	swept time.Time
	// settled are the Jobs that are stored as finished, until the cache shows it too: a Job that
	// the cache still shows as waiting must not run again.
	settled map[types.UID]bool
	// left has, of Jobs that had begun when their pool was deleted, the version as which that is stored,
	// until the cache shows it: what they have done must not be forgotten.
	left map[types.UID]string
	// loading: the Jobs that were there when the lead was won are being submitted.
	loading bool
	// inherited are the Jobs of which an earlier leader may have begun something, as long as a write of its may still take
	// effect: until one of this leader is stored. Nothing of them is begun before. Each has the version of the write that
	// is waited for, 0 if none is.
	inherited map[types.UID]uint64
	// kept are the Jobs with a large spec that is kept for more of their tasks, the one that was used last at the end,
	// and keptBytes what they take together: at most maxKept.
	kept      []*job
	keptBytes int
	// claims are what agents say of Jobs that the engine does not know, until someone has looked. Each agent has at
	// most its slots and its spool of them. Those to run something die with the pod, and results some time after it.
	claims map[types.UID][]claim

	sessions map[Session]*podWorker
	// version is that of the last write, over all Jobs: a write is recognised by it.
	version uint64
	// pending are the workers that have something to be sent when the present call ends.
	pending []*podWorker
	// rejected are the jobs in the pools' queues that turned out not to be the engine's, to be told when
	// the present call ends: they are strangers' code, which must not run with mu held.
	rejected []rejection
	// waits are the calls that wait for something to be over.
	waits []wait
}

// rejection is a job that is not one of the engine's, with what it is told.
type rejection struct {
	job worker.Job
	err error
}

// wait is a call that waits.
type wait struct {
	// over tells, with the lock held, whether it need not wait any more.
	over func() bool
	// told is closed then.
	told chan struct{}
}

// New returns an engine that knows nothing. Begin comes before anything else. The chance is a number from 0
// to 1, another for each call.
func New(clock func() time.Time, chance func() float64, out Outbox) *Engine {
	return &Engine{
		clock:   clock,
		chance:  chance,
		out:     out,
		meter:   unmeasured{},
		pools:   map[types.NamespacedName]*pool{},
		jobs:    map[types.UID]*job{},
		settled: map[types.UID]bool{},
		left:    map[types.UID]string{},
		claims:  map[types.UID][]claim{},

		inherited:  map[types.UID]uint64{},
		deadlineOf: map[types.UID]*timer[JobRef]{},

		sessions: map[Session]*podWorker{},
	}
}

// Begin makes this the engine of a leader. It is called once, when the leader has won its Lease. What is submitted from now
// until Loaded is what earlier leaders have left.
func (e *Engine) Begin(epoch Epoch) {
	e.enter()
	defer e.leave()
	e.epoch, e.leader, e.began, e.loading = epoch, epoch.String(), e.now, true
}

// Loaded says that all Jobs are submitted that were there when the lead was won. No other leader has begun later ones.
func (e *Engine) Loaded() {
	e.enter()
	defer e.leave()
	e.loading = false
}

// enter takes the lock and the time. Each public method begins with it.
func (e *Engine) enter() {
	e.mu.Lock()
	e.now = e.clock()
}

// leave sends what the call has gathered for each worker, in one command, and gives the lock back.
func (e *Engine) leave() {
	for _, w := range e.pending {
		w.flush()
	}
	e.pending = e.pending[:0]
	e.waits = slices.DeleteFunc(e.waits, wait.tell)
	rejected := e.rejected
	e.rejected = nil
	e.mu.Unlock()
	for _, r := range rejected {
		r.job.OnFailure(r.err)
	}
}

// await waits until something is over.
func (e *Engine) await(over func() bool) {
	told := make(chan struct{})
	e.enter()
	e.waits = append(e.waits, wait{over, told})
	e.leave()
	<-told
}

func (w wait) tell() bool {
	over := w.over()
	if over {
		close(w.told)
	}
	return over
}

// SetPool makes a pool known, or changes its settings. It may be repeated. A new pool dispatches once
// its Manager is started.
func (e *Engine) SetPool(config PoolConfig) {
	e.enter()
	defer e.leave()
	p := e.pools[config.Key]
	if p != nil && p.closing && p.config.UID != config.UID {
		p.abandon()
		e.drop(p)
		p = nil
	}
	if p == nil {
		p = newPool(e, config)
		e.pools[config.Key] = p
		e.out.PoolOpened(config.Key)
	}
	if p.closing {
		return
	}
	p.configure(config)
	p.match()
}

// SetWorkers tells which pods a pool has, all of them. A pod that was among them and is not any more is gone for good,
// and so is what it ran: its tasks may run again at once. So whoever leaves out a pod has proved that it is gone; that
// a cache does not show it proves nothing.
func (e *Engine) SetWorkers(key types.NamespacedName, pods []WorkerPod) {
	e.enter()
	defer e.leave()
	if p := e.pools[key]; p != nil {
		p.setPods(pods)
		p.match()
		e.collect(p)
	}
}

// Submit takes in a Job, or what is new of it. It may be repeated, and the Job may be in any state
// that is not finished.
func (e *Engine) Submit(object Job) {
	e.enter()
	defer e.leave()
	if e.settled[object.UID] || newer(e.left[object.UID], object.ResourceVersion) {
		return
	}
	delete(e.left, object.UID)
	if e.loading && mayHaveBegun(&object) {
		e.inherited[object.UID] = 0
	}
	key := types.NamespacedName{Namespace: object.Namespace, Name: object.Spec.Pool}
	if j := e.jobs[object.UID]; j != nil {
		if !j.settling && !j.cancelled && !j.leaving {
			j.update(object)
			j.pool.match()
			j.lighten()
			e.out.PoolChanged(key)
		}
		return
	}
	p := e.pools[key]
	if p == nil {
		for _, c := range e.takeClaims(object.UID, func(c claim) bool { return c.worker.pool.config.Key != key }) {
			c.refuse(0) // what another pool's worker says of it
		}
		if e.endWithoutPool(object) {
			return
		}
		if at := deadlineOf(&object, e.now); at.After(e.now) {
			e.awaitDeadline(object.JobRef, at)
		}
		e.reportPoolNotFound(object, key, stateOf(&object.Status))
		return
	}
	e.out.DropWrite(object.UID) // that there is no pool
	if _, inherited := e.inherited[object.UID]; inherited {
		e.inherited[object.UID] = 0
	}
	e.awaitDeadline(object.JobRef, time.Time{})
	j := newJob(p, object)
	e.jobs[object.UID] = j
	j.adopt(&object.Status)
	e.answerClaims(j)
	if object.Deleted {
		j.deleted()
	}
	j.wake() // its deadline may have passed
	p.match()
	j.lighten()
	e.out.PoolChanged(key)
}

// Knows tells whether the engine has anything to do with a Job, or an agent says that it has.
func (e *Engine) Knows(job types.UID) bool {
	e.enter()
	defer e.leave()
	return e.jobs[job] != nil || len(e.claims[job]) > 0
}

// Cancel ends a Job that the cache does not show any more: it leaves the queue, or is stopped on its worker.
// Nothing is written of it.
func (e *Engine) Cancel(job types.UID) {
	e.enter()
	defer e.leave()
	delete(e.settled, job)
	e.cancel(job)
}

// Gone is Cancel of a Job that the API server does not have any more, though the cache may show it yet. It is remembered
// until the cache has shown that: else it would be taken for a new one.
func (e *Engine) Gone(job types.UID) {
	e.enter()
	defer e.leave()
	if j := e.jobs[job]; j != nil && !j.cancelled {
		e.settled[job] = true
		e.cancel(job)
	}
}

// Absent says that the API server has no Job of this UID by this name. Where an agent has named it so, that may be all
// that is wrong: another that the name was right for is not told so, and the Job goes on.
func (e *Engine) Absent(job JobRef) {
	e.enter()
	defer e.leave()
	if j := e.jobs[job.UID]; j != nil && j.object.NamespacedName == job.NamespacedName {
		delete(e.settled, job.UID)
		e.cancel(job.UID)
		return
	}
	for _, c := range e.takeClaims(job.UID, func(c claim) bool { return c.ref == job }) {
		c.refuse(killGrace)
	}
}

func (e *Engine) cancel(job types.UID) {
	e.out.DropWrite(job)
	e.awaitDeadline(JobRef{UID: job}, time.Time{})
	delete(e.left, job)
	delete(e.inherited, job)
	for _, c := range e.takeClaims(job, anyClaim) {
		c.refuse(killGrace)
	}
	if j := e.jobs[job]; j != nil {
		j.cancel()
		j.pool.match()
		e.collect(j.pool)
	}
}

// Forget drops what the engine remembers of a Job that the cache shows as finished.
func (e *Engine) Forget(job types.UID) {
	e.enter()
	defer e.leave()
	delete(e.settled, job)
	delete(e.left, job)
	delete(e.inherited, job)
	e.awaitDeadline(JobRef{UID: job}, time.Time{})
	for _, c := range e.takeClaims(job, anyClaim) {
		c.refuse(0)
	}
	switch j := e.jobs[job]; {
	case j == nil:
	case j.settling:
		j.shown = true
	default:
		j.cancel()
		j.pool.match()
	}
}

// TickInterval is how often Tick is to be called, about.
const TickInterval = 100 * time.Millisecond

// sweepInterval is how often the pools are looked at.
const sweepInterval = time.Second

// Tick lets time pass: retries, deadlines and delayed writes come due, workers without a session are given
// up, and a new leader stops waiting for silent ones.
func (e *Engine) Tick() {
	e.enter()
	defer e.leave()
	e.wakeJobs()
	for _, p := range e.inOrder(func(p *pool) bool { return p.unseen }) {
		if p.search(maxByTick) {
			e.out.PoolChanged(p.config.Key)
		}
	}
	if e.now.Sub(e.swept) < sweepInterval {
		return
	}
	e.swept = e.now
	e.dropOldClaims()
	for _, p := range e.inOrder(func(*pool) bool { return true }) {
		p.tell()
		p.offer()
		if p.match() || p.hasLost() {
			e.out.PoolChanged(p.config.Key)
		}
	}
}

// inOrder are the pools of a kind, in an order that does not depend on chance.
func (e *Engine) inOrder(kind func(*pool) bool) []*pool {
	var all []*pool
	for _, p := range e.pools {
		if kind(p) {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b *pool) int {
		x, y := a.config.Key, b.config.Key
		return cmp.Or(cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Name, y.Name))
	})
	return all
}

// inOrder are jobs in the order of their creation.
func inOrder(jobs iter.Seq[*job]) []*job {
	return slices.SortedFunc(jobs, func(a, b *job) int {
		return cmp.Or(a.object.Created.Compare(b.object.Created), cmp.Compare(a.object.Name, b.object.Name))
	})
}

// collect forgets a pool that is closed and has nothing left.
func (e *Engine) collect(p *pool) {
	if p.closing && len(p.workers) == 0 && p.active() == 0 {
		e.drop(p)
	}
}

// drop forgets a pool, unless another has taken its name.
func (e *Engine) drop(p *pool) {
	if e.pools[p.config.Key] == p {
		delete(e.pools, p.config.Key)
		p.meter.Close()
	}
}
