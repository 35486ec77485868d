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
	"fmt"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
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
	// workerLost is how long a worker may be without a session before it is given up.
	workerLost = 60 * time.Second

	// runningDue and waitingDue are how long a state must last to be worth a write.
	runningDue = 200 * time.Millisecond
	waitingDue = 2 * time.Second

	// refusalRest is how long a worker is left alone that did not start what it was sent: its disk is
	// full, or its results are not stored yet.
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
	epoch Epoch
	out   Outbox

	// mu guards all below, and all that is reached from there. Nothing is waited for under it.
	mu sync.Mutex
	// now is the time of the call that holds mu.
	now   time.Time
	began time.Time

	pools map[types.NamespacedName]*pool
	// tasks are the Jobs that are not settled, and those whose end is being written.
	tasks map[types.UID]*task
	// settled are the Jobs that are stored as finished, until the cache shows it too: a Job that
	// the cache still shows as waiting must not run again.
	settled map[types.UID]bool
	// claims are what agents say of Jobs that the engine does not know, until someone has looked.
	// Each agent has at most its slots and its spool of them.
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

// New returns an engine that knows nothing. Begin comes before anything else.
func New(clock func() time.Time, out Outbox) *Engine {
	return &Engine{
		clock:   clock,
		out:     out,
		pools:   map[types.NamespacedName]*pool{},
		tasks:   map[types.UID]*task{},
		settled: map[types.UID]bool{},
		claims:  map[types.UID][]claim{},

		sessions: map[Session]*podWorker{},
	}
}

// Begin makes this the engine of a leader. It is called once, when the leader has won its Lease.
func (e *Engine) Begin(epoch Epoch) {
	e.enter()
	defer e.leave()
	e.epoch, e.began = epoch, e.now
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

// SetWorkers tells which pods a pool has, all of them, as the cache shows them. A pod that was among
// them and is not any more is gone for good, and so is what it ran.
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
func (e *Engine) Submit(job Job) {
	e.enter()
	defer e.leave()
	if e.settled[job.UID] {
		return
	}
	key := types.NamespacedName{Namespace: job.Namespace, Name: job.Pool}
	p := e.pools[key]
	if t := e.tasks[job.UID]; t != nil {
		t.update(job)
		if p == nil || p.closing || t.state != invited {
			return
		}
		p.admit(t, job)
		p.match()
		return
	}
	if p == nil || p.closing {
		e.reportPoolNotFound(job, job.Status)
		return
	}
	t := newTask(p, job)
	e.tasks[job.UID] = t
	e.takeIn(t, job)
	e.answerClaims(t)
	p.match()
	e.out.PoolChanged(key)
}

// takeIn puts a new task where its stored status says that it is: on a worker or in line.
func (e *Engine) takeIn(t *task, job Job) {
	if recorded := job.Status.Attempt; recorded != nil && t.adoptRecorded(*recorded) {
		return
	}
	t.pool.enqueue(t, job)
}

// reportPoolNotFound asks for a Job without a pool to be shown so, unless it is stored so already.
func (e *Engine) reportPoolNotFound(job Job, stored v1alpha1.JobStatus) {
	if stored.State == v1alpha1.JobPending && stored.Reason == v1alpha1.ReasonPoolNotFound {
		e.out.DropWrite(job.UID)
		return
	}
	status := job.Status
	status.State, status.Reason, status.Attempt = v1alpha1.JobPending, v1alpha1.ReasonPoolNotFound, nil
	status.Message = fmt.Sprintf("There is no WorkerPool %q in namespace %q. The Job runs once there is.", job.Pool, job.Namespace)
	e.version++
	e.out.Write(Write{
		Job: job.JobRef, ResourceVersion: job.ResourceVersion, Version: e.version, Status: status, Due: e.now.Add(waitingDue),
	})
}

// Knows tells whether the engine has anything to do with a Job, or an agent says that it has.
func (e *Engine) Knows(job types.UID) bool {
	e.enter()
	defer e.leave()
	return e.tasks[job] != nil || len(e.claims[job]) > 0
}

// Cancel ends a Job that does not exist any more: it leaves the queue, or is stopped on its worker.
// Nothing is written of it.
func (e *Engine) Cancel(job types.UID) {
	e.enter()
	defer e.leave()
	e.out.DropWrite(job)
	delete(e.settled, job)
	for _, c := range e.takeClaims(job) {
		c.refuse(killGrace)
	}
	if t := e.tasks[job]; t != nil {
		t.cancel()
		t.pool.match()
		e.collect(t.pool)
	}
}

// Forget drops what the engine remembers of a Job that the cache shows as finished.
func (e *Engine) Forget(job types.UID) {
	e.enter()
	defer e.leave()
	delete(e.settled, job)
	for _, c := range e.takeClaims(job) {
		c.refuse(0)
	}
	switch t := e.tasks[job]; {
	case t == nil:
	case t.state == settling:
		t.shown = true
	default:
		t.cancel()
		t.pool.match()
	}
}

// Tick lets time pass: workers without a session are given up, and a new leader stops waiting for
// silent ones. It is to be called about once a second.
func (e *Engine) Tick() {
	e.enter()
	defer e.leave()
	for key, p := range e.pools {
		p.offer()
		if p.match() || p.giveUp() {
			e.out.PoolChanged(key)
		}
	}
}

// collect forgets a pool that is closed and has nothing left.
func (e *Engine) collect(p *pool) {
	if p.closing && len(p.workers) == 0 && p.active() == 0 && e.pools[p.config.Key] == p {
		delete(e.pools, p.config.Key)
	}
}
