package engine

import (
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/queue"
)

// agingPerPriority is what one step of priority is worth in waiting.
const agingPerPriority = 300 * time.Second

// pool is one WorkerPool: the queue in front of its workers.
type pool struct {
	engine *Engine
	config PoolConfig

	// queue has the tasks in state queued.
	queue *queue.Priority
	// overflow has the tasks beyond the queue's capacity, in the same order, in state waiting.
	overflow *queue.Priority
	// invited is the number of tasks on their way from the overflow to the queue: room is kept for
	// them. len(queue) + invited <= config.Capacity, but for tasks that came back from a worker, and
	// for what others push.
	invited int

	workers map[types.UID]*podWorker
	// free has each worker with room for another task, in the order in which they are served.
	// A worker is in it at most once (podWorker.inFree), and may have lost its room meanwhile.
	free []*podWorker

	// running and settling are the numbers of tasks in these states.
	running, settling int
	// processed and failed count the Jobs that finished.
	processed, failed uint64

	// awaited are the workers that must say Hello before the first dispatch, because they may run
	// what an earlier leader has sent them. It is set once, from the first list of pods.
	awaited map[types.UID]bool
	// listed is true once the pods were listed.
	listed bool
	// started is true once tasks may be dispatched, as far as the controller is concerned.
	started bool
	// closing is true once the WorkerPool is being deleted.
	closing bool
}

func newPool(e *Engine, config PoolConfig) *pool {
	return &pool{
		engine:    e,
		config:    config,
		queue:     mustQueue(config.Capacity),
		overflow:  mustQueue(unbounded),
		workers:   map[types.UID]*podWorker{},
		processed: config.Processed,
		failed:    config.Failed,
	}
}

// unbounded is the capacity of the overflow: its entries stand for Jobs that the API server holds,
// and are bounded by those.
const unbounded = 1<<31 - 1

func mustQueue(capacity int) *queue.Priority {
	q, err := queue.NewPriority(queue.Options{Capacity: capacity, Aging: agingPerPriority})
	if err != nil {
		panic(fmt.Sprintf("queue of capacity %d: %v", capacity, err))
	}
	return q
}

func (p *pool) configure(config PoolConfig) {
	p.config = config
	if err := p.queue.SetCapacity(config.Capacity); err != nil {
		panic(fmt.Sprintf("queue of capacity %d: %v", config.Capacity, err))
	}
	p.invite()
}

// enqueue puts a task in line: into the queue, or into the overflow if that is full.
func (p *pool) enqueue(t *task, job Job) {
	if p.overflow.Len() > 0 || p.queue.Len()+p.invited >= p.config.Capacity {
		p.overflowed(t)
		return
	}
	switch err := p.queue.TryPush(p.engine.now, t.item()); {
	case err == nil:
		p.queued(t, job)
	case errors.Is(err, worker.ErrFull), errors.Is(err, worker.ErrClosed):
		p.overflowed(t) // somebody else has pushed, or closed the queue
	default:
		panic(fmt.Sprintf("job %s: %v", job.UID, err))
	}
}

func (p *pool) queued(t *task, job Job) {
	t.job, t.state = job, queued
	if t.status.QueuedTime == nil {
		t.status.QueuedTime = microTime(p.engine.now)
	}
	t.writeWaiting(v1alpha1.JobQueued, "", "", waitingDue)
}

func (p *pool) overflowed(t *task) {
	t.state = waiting
	if err := p.overflow.TryPush(p.engine.now, t.item()); err != nil {
		panic(fmt.Sprintf("job %s: %v", t.job.UID, err))
	}
	t.writeWaiting(v1alpha1.JobPending, v1alpha1.ReasonQueueFull,
		fmt.Sprintf("The queue of the pool is full (%d Jobs). The Job comes in, in order, as room appears.", p.config.Capacity), waitingDue)
	t.shed()
}

// invite asks for as many of the Jobs beyond the capacity as there is room for.
func (p *pool) invite() {
	for p.queue.Len()+p.invited < p.config.Capacity {
		job, ok := p.overflow.TryPop(p.engine.now, takeAny)
		if !ok {
			return
		}
		t := job.(*task)
		t.state = invited
		p.invited++
		p.engine.out.Look(t.job.JobRef)
	}
}

func takeAny(worker.Job) queue.Choice { return queue.Take }

// admit lets in an invited task, with all that there is to know of it.
func (p *pool) admit(t *task, job Job) {
	p.invited--
	if err := p.queue.Return(p.engine.now, t.item()); err != nil {
		panic(fmt.Sprintf("job %s: %v", job.UID, err))
	}
	p.queued(t, job)
}

// requeue puts a task back that was on a worker. It is never refused: it was counted already. One of
// which only the name is left, because an earlier leader's attempt was found while it waited beyond
// the capacity, is asked for again first.
func (p *pool) requeue(t *task) {
	t.state, t.attempt = queued, nil
	if p.closing {
		t.release()
		return
	}
	if t.isShed() {
		t.state = invited
		p.invited++
		p.engine.out.Look(t.job.JobRef)
		return
	}
	if err := p.queue.Return(p.engine.now, t.item()); err != nil {
		panic(fmt.Sprintf("job %s: %v", t.job.UID, err))
	}
}

// setPods takes over the list of the pool's pods.
func (p *pool) setPods(pods []WorkerPod) {
	present := make(map[types.UID]bool, len(pods))
	for _, pod := range pods {
		present[pod.UID] = true
		if pod.Terminated {
			continue
		}
		p.worker(pod.UID, pod.Name).setPod(pod)
	}
	for uid, w := range p.workers {
		// A pod that the cache has not shown yet may have a session already: it is not gone.
		if w.listed && (!present[uid] || terminated(pods, uid)) {
			w.gone()
		}
	}
	if !p.listed {
		p.listed = true
		p.await(pods)
	}
}

func terminated(pods []WorkerPod, uid types.UID) bool {
	for i := range pods {
		if pods[i].UID == uid {
			return pods[i].Terminated
		}
	}
	return false
}

// await notes which workers may hold work of an earlier leader.
func (p *pool) await(pods []WorkerPod) {
	p.awaited = map[types.UID]bool{}
	for _, pod := range pods {
		if w := p.workers[pod.UID]; pod.Started && w != nil && w.session == nil {
			p.awaited[pod.UID] = true
		}
	}
}

// start begins dispatch, if it is not closed for good.
func (p *pool) start() error {
	if p.closing {
		return worker.ErrStopped
	}
	if !p.started {
		p.started = true
		p.match()
		p.engine.out.PoolChanged(p.config.Key)
	}
	return nil
}

// open tells whether tasks may be dispatched: all workers have said what they run, or have been
// silent for so long that they run nothing that is not recorded.
func (p *pool) open() bool {
	if !p.started || !p.listed || p.closing {
		return false
	}
	return len(p.awaited) == 0 || p.engine.now.Sub(p.engine.began) >= silentWorkers
}

// worker returns the pool's worker of a pod, a new one if need be.
func (p *pool) worker(uid types.UID, name string) *podWorker {
	w := p.workers[uid]
	if w == nil {
		w = newPodWorker(p, uid, name)
		p.workers[uid] = w
	}
	return w
}

// match gives queued tasks to workers with room until one of the two runs out. It tells whether it
// gave any.
func (p *pool) match() bool {
	if !p.open() {
		return false
	}
	matched := false
	for {
		w := p.nextFree()
		if w == nil {
			break
		}
		job, ok := p.queue.TryPop(p.engine.now, takeAny)
		if !ok {
			break
		}
		t, ours := job.(*task)
		if !ours {
			p.reject(job, errNotOurs)
			continue
		}
		w.assign(t)
		matched = true
	}
	p.invite()
	return matched
}

var errNotOurs = fmt.Errorf("%w: a worker pod runs Jobs of the API only, and they come in by Submit", worker.ErrInvalid)

// reject fails a job that somebody else has pushed.
func (p *pool) reject(job worker.Job, err error) {
	p.processed++
	p.failed++
	p.engine.rejected = append(p.engine.rejected, rejection{job, err})
}

// nextFree returns the worker whose turn it is, and leaves it in the line.
func (p *pool) nextFree() *podWorker {
	for len(p.free) > 0 {
		w := p.free[0]
		if w.room() {
			return w
		}
		p.free = p.free[1:]
		w.inFree = false
	}
	p.free = nil
	return nil
}

// served puts the first in line of the free workers last, so that work spreads over all of them.
func (p *pool) served() {
	w := p.free[0]
	p.free = p.free[1:]
	w.inFree = false
	w.offer()
}

// close ends the pool: nothing more is dispatched, and what waits is let go.
func (p *pool) close() {
	if p.closing {
		return
	}
	p.closing = true
	_ = p.queue.Close() // it never fails
	for _, t := range p.engine.tasks {
		if t.pool == p && t.state < running {
			t.release()
		}
	}
	for _, job := range p.queue.Drain() {
		p.reject(job, worker.ErrStopped)
	}
	p.engine.out.PoolChanged(p.config.Key)
	p.engine.collect(p)
}

// abandon lets go of what a closed pool still has, because another took its name.
func (p *pool) abandon() {
	for _, w := range p.workers {
		w.gone()
	}
}

// offer puts the workers back in line that have rested.
func (p *pool) offer() {
	for _, w := range p.workers {
		w.offer()
	}
}

// giveUp marks the workers that have been without a session for too long. It tells whether there
// are any.
func (p *pool) giveUp() bool {
	found := false
	for _, w := range p.workers {
		if w.lost() {
			w.givenUp, found = true, true
		}
	}
	return found
}

// active is the number of tasks that are neither in line nor done with.
func (p *pool) active() int { return p.running + p.settling }

// status is the pool as a worker.Manager shows it.
func (p *pool) status() worker.PoolStatus {
	s := worker.PoolStatus{
		QueueSize:     p.queue.Len() + p.invited,
		ProcessedJobs: p.processed,
		FailedJobs:    p.failed,
		ActiveJobs:    p.active(),
	}
	for _, w := range p.workers {
		if p.started && !p.closing && w.takes() {
			s.Workers++
		}
	}
	return s
}

func (p *pool) snapshot() PoolSnapshot {
	s := p.status()
	snapshot := PoolSnapshot{
		Workers: s.Workers, Queued: s.QueueSize, Waiting: p.overflow.Len(), Active: s.ActiveJobs,
		Processed: s.ProcessedJobs, Failed: s.FailedJobs,
		Pods: make(map[types.UID]PodSnapshot, len(p.workers)),
	}
	for uid, w := range p.workers {
		snapshot.Pods[uid] = w.snapshot()
	}
	return snapshot
}
