package engine

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/queue"
	"github.com/workerpool-dev/workerpool/pkg/worker/resource"
)

// pool is one WorkerPool: the queue in front of its workers.
type pool struct {
	engine *Engine
	config PoolConfig
	meter  PoolMeter

	// queue has the jobs whose place is queued.
	queue *queue.Priority
	// overflow has those beyond the queue's capacity, in the same order.
	overflow *queue.Priority
	// invited is the number of jobs on their way into the queue: room is kept for them.
	// len(queue) + invited <= config.Capacity, but for jobs that had a place before, and for what others
	// push.
	invited int
	// parked has the jobs that stand aside.
	parked map[*job]bool
	// files has what the running tasks have reserved of the pool's open files. Template stands for a new
	// worker, of which nothing is taken.
	files, template *resource.Controller
	// reserved is the worker that is kept for the first job in line that finds no room.
	reserved reservation
	// hindrance is why its queued jobs do not start, as the controller has declared; its reason is empty if they only wait
	// for their turn. Untold are the jobs, in order, whose status may say something else.
	hindrance obstacle
	untold    []*job
	// unseen: the last search has left out jobs; the next tick goes on with it.
	unseen bool

	workers map[types.UID]*podWorker
	// free has each worker with room for another task, in the order in which they are served.
	// A worker is in it at most once (podWorker.inFree), and may have lost its room meanwhile.
	free []*podWorker

	// backlog is the share of workers that waits to be taken, in millionths, and load measures what is.
	backlog int64
	load    load
	// claimedBytes is what the claims of its workers hold of results. See claim.bytes.
	claimedBytes int
	// running is the number of jobs with a task that runs, settling that of those whose end is being
	// written.
	running, settling int
	// processed and failed count the Jobs that finished.
	processed, failed uint64
	// uncounted are the Jobs that have finished, with what processed was then, until that is stored.
	uncounted map[types.UID]uint64

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
		meter:     e.meter.Open(config.Key),
		queue:     mustQueue(config.Capacity, config.Aging),
		overflow:  mustQueue(unbounded, config.Aging),
		parked:    map[*job]bool{},
		files:     resource.NewController(worker.ResourceLimits{}),
		template:  resource.NewController(worker.ResourceLimits{}),
		uncounted: map[types.UID]uint64{},
		workers:   map[types.UID]*podWorker{},
		processed: config.Processed,
		failed:    config.Failed,
	}
}

// unbounded is the capacity of the overflow: its entries stand for Jobs that the API server holds,
// and are bounded by those.
const unbounded = 1<<31 - 1

func mustQueue(capacity int, aging time.Duration) *queue.Priority {
	q, err := queue.NewPriority(queue.Options{Capacity: capacity, Aging: aging})
	if err != nil {
		panic(fmt.Sprintf("queue of capacity %d: %v", capacity, err))
	}
	return q
}

func (p *pool) configure(config PoolConfig) {
	before := p.config
	p.config = config
	if err := p.queue.SetCapacity(config.Capacity); err != nil {
		panic(fmt.Sprintf("queue of capacity %d: %v", config.Capacity, err))
	}
	for _, q := range []*queue.Priority{p.queue, p.overflow} {
		if err := q.SetAging(config.Aging); err != nil {
			panic(fmt.Sprintf("aging of %v: %v", config.Aging, err))
		}
	}
	p.files.SetLimits(worker.ResourceLimits{Files: config.Limits.Files})
	p.template.SetLimits(config.Resources)
	if before.Handler != config.Handler || before.Limits.Files != config.Limits.Files || before.Resources != config.Resources || before.Slots != config.Slots ||
		!reflect.DeepEqual(before.Defaults.Resources, config.Defaults.Resources) {
		p.reconsider()
	}
	p.counted(config.Processed)
	p.invite()
}

// counted forgets the Jobs that are in the counters which are stored.
func (p *pool) counted(processed uint64) {
	for uid, n := range p.uncounted {
		if n <= processed {
			delete(p.uncounted, uid)
		}
	}
}

// setPods takes over the list of the pool's pods. It takes a time that grows with their number alone: all other pools
// wait meanwhile.
func (p *pool) setPods(pods []WorkerPod) {
	running := make(map[types.UID]bool, len(pods))
	for _, pod := range pods {
		if pod.Terminated {
			continue
		}
		running[pod.UID] = true
		p.worker(pod.UID, pod.Name).setPod(pod)
	}
	var ended []*podWorker
	for _, w := range p.workers {
		// A pod that no list has had yet may have a session already: it is not gone.
		if w.listed && !running[w.uid] {
			ended = append(ended, w)
		}
	}
	slices.SortFunc(ended, compareWorkers)
	for _, w := range ended {
		w.gone()
	}
	if !p.listed {
		p.listed = true
		p.await(pods)
	}
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
	if !p.started || !p.listed || p.closing || p.config.Suspend {
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

// close ends the pool: nothing more is dispatched, and what waits is let go.
func (p *pool) close() {
	if p.closing {
		return
	}
	p.closing = true
	_ = p.queue.Close() // it never fails
	for _, j := range inOrder(maps.Values(p.engine.jobs)) {
		if j.pool == p {
			j.leaveLine() // and nothing of it starts any more: what runs ends
			j.proceed()
		}
	}
	for _, job := range p.queue.Drain() {
		p.reject(job, worker.ErrStopped)
	}
	p.engine.out.PoolChanged(p.config.Key)
	p.engine.collect(p)
}

// kill ends what runs in the pool at once.
func (p *pool) kill() {
	for _, w := range p.byOrdinal() {
		for _, t := range w.sorted() {
			if !t.attempt.unsent {
				w.kill(t.attempt.token, 0)
			}
		}
	}
}

// abandon lets go of what a closed pool still has, because another took its name.
func (p *pool) abandon() {
	for _, w := range p.byOrdinal() {
		w.gone()
	}
}

// byOrdinal are the workers in an order that does not depend on chance.
func (p *pool) byOrdinal() []*podWorker {
	return slices.SortedFunc(maps.Values(p.workers), compareWorkers)
}

func compareWorkers(a, b *podWorker) int {
	return cmp.Or(cmp.Compare(a.id, b.id), cmp.Compare(a.uid, b.uid))
}

// offer puts the workers back in line that have rested, and ends what no worker runs any more.
func (p *pool) offer() {
	for _, w := range p.byOrdinal() {
		w.bury()
		w.offer()
	}
}

// hasLost tells whether a worker has been without a session for too long.
func (p *pool) hasLost() bool {
	for _, w := range p.workers {
		if w.lost() {
			return true
		}
	}
	return false
}

// cordon has exactly these workers drain, but for those that are not as they were thought to be, and returns them all.
// What is being deleted stays as it is. A pod that is not known runs nothing.
func (p *pool) cordon(victims []Victim) map[types.UID]bool {
	chosen := make(map[types.UID]cordon, len(victims))
	done := make(map[types.UID]bool, len(victims))
	for _, v := range victims {
		w := p.workers[v.Pod]
		if done[v.Pod] = w == nil || w.is(v); !done[v.Pod] {
			continue
		}
		chosen[v.Pod] = cordoned
		if v.Lost {
			chosen[v.Pod] = givenUp
		}
	}
	var changed []*podWorker
	for _, w := range p.workers {
		if now := chosen[w.uid]; now != w.cordon && (now != serving || !w.terminating) {
			changed = append(changed, w)
		}
	}
	slices.SortFunc(changed, compareWorkers)
	var left, back bool // of those that may have room for Jobs that fit on no new one
	for _, w := range changed {
		was := w.draining()
		w.cordon = chosen[w.uid]
		left = left || !was && !w.likeNew()
		back = back || !w.draining() && !w.likeNew()
		w.offer()
	}
	if len(changed) > 0 {
		p.engine.out.PoolChanged(p.config.Key)
	}
	switch {
	case back:
		p.reconsider()
	case left:
		p.recheck()
	}
	return done
}

// explain has the status of queued jobs say why they do not start.
func (p *pool) explain(o obstacle) {
	same := p.hindrance.reason == o.reason
	if p.hindrance = o; same {
		return
	}
	p.untold = nil
	for next := range p.queue.All(p.engine.now) {
		if j, ours := next.(*job); ours {
			p.untold = append(p.untold, j)
		}
	}
	p.tell()
}

// toldPerSweep is how many queued jobs have their status brought in line at a time: about as many as are written in
// a second.
const toldPerSweep = 100

// tell brings the status of the next untold jobs in line.
func (p *pool) tell() {
	n := min(len(p.untold), toldPerSweep)
	for _, j := range p.untold[:n] {
		if j.place == queued {
			j.publish()
		}
	}
	if p.untold = p.untold[n:]; len(p.untold) == 0 {
		p.untold = nil
	}
}

// active is the number of jobs that run, or whose end is not stored yet.
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
		Workers: s.Workers, Queued: s.QueueSize, QueueCapacity: p.config.Capacity, Waiting: p.overflow.Len(), Active: s.ActiveJobs,
		Processed: s.ProcessedJobs, Failed: s.FailedJobs,
		Demand: p.demand(), Limits: p.config.Limits, Requested: p.config.Requested,
		Pods: make(map[types.UID]PodSnapshot, len(p.workers)),
	}
	for uid, w := range p.workers {
		snapshot.Pods[uid] = w.snapshot()
		if w.session != nil {
			used := w.resources.Status().Used
			snapshot.Used.CPU += used.CPU
			snapshot.Used.Memory += used.Memory
			snapshot.Capacity.CPU += w.limits.CPU
			snapshot.Capacity.Memory += w.limits.Memory
		}
	}
	snapshot.Used.Files, snapshot.Capacity.Files = p.files.Status().Used.Files, p.config.Limits.Files
	return snapshot
}
