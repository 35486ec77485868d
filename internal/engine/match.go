package engine

import (
	"fmt"
	"slices"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/queue"
)

// maxLook is how many jobs that find no room are passed over, to serve those behind them.
const maxLook = 256

// matcher looks for the next job to be started, and for a worker with room for it. It is made anew for
// each round of matching.
type matcher struct {
	pool *pool
	// tight are requests that no worker has room for now.
	tight map[request]bool
	// looked is how many jobs were passed over.
	looked int
	// head is the first job that was: one worker is kept for it, or so many of the pool's open files.
	head  *job
	files int

	// What was found: a job and its worker, or a job that is not the engine's.
	job      *job
	worker   *podWorker
	stranger worker.Job
}

// request is what decides whether a worker has room.
type request struct {
	usage   worker.ResourceUsage
	handler v1alpha1.HandlerType
}

// match gives queued tasks to workers with room until one of the two runs out. It tells whether it
// gave any.
func (p *pool) match() bool {
	matched := false
	for m := (matcher{pool: p}); p.open() && p.hasFree() && m.find(); matched = true {
		if m.stranger != nil {
			p.reject(m.stranger, errNotOurs)
			continue
		}
		p.give(m.job, m.worker)
	}
	p.invite() // even where none was given: jobs may have left the queue
	return matched
}

// find looks through the queue, in order.
func (m *matcher) find() bool {
	m.job, m.worker, m.stranger, m.looked, m.head, m.files = nil, nil, nil, 0, nil, 0
	taken, ok := m.pool.queue.TryPop(m.pool.engine.now, m.choose)
	if ok {
		m.stranger = taken
	}
	return ok || m.job != nil
}

// choose stops at a job that can be started: it stays in the queue as long as more of its tasks can be.
func (m *matcher) choose(next worker.Job) queue.Choice {
	j, ours := next.(*job)
	if !ours {
		return queue.Take
	}
	r := request{j.Resources(), j.handler()}
	if !m.tight[r] && m.pool.hasFiles(r, m.files) {
		m.worker = m.pool.roomFor(j, r)
	}
	if m.worker == nil {
		return m.pass(j, r)
	}
	m.job = j
	return queue.Stop
}

// hasFiles tells whether a task can have the open files that it asks for, with some kept for another.
func (p *pool) hasFiles(r request, kept int) bool {
	return p.files.CheckLeaving(worker.ResourceUsage{Files: r.usage.Files}, worker.ResourceUsage{Files: kept}) == nil
}

// pass leaves a job for which there is no room to wait, and goes on to the next.
func (m *matcher) pass(j *job, r request) queue.Choice {
	if m.tight == nil {
		m.tight = map[request]bool{}
	}
	m.tight[r] = true
	if m.head == nil {
		m.head = j
		if m.pool.hasFiles(r, 0) {
			m.pool.reserve(j, r)
		} else {
			m.files = r.usage.Files
		}
	}
	if m.looked++; m.looked >= maxLook {
		return queue.Stop
	}
	return queue.Skip
}

// give starts the next task of a job on a worker, and puts the worker last in the line of free ones, so
// that work spreads over all of them.
func (p *pool) give(j *job, w *podWorker) {
	if p.reserved.job == j {
		p.reserved = reservation{}
	}
	t := j.nextTask()
	if f := t.tooLong(); f != nil {
		t.refuse(*f)
		return
	}
	t.start(w)
	_ = j.Process() // the worker is there, and losing what was sent shows in its reports
	p.served(w)
	if !j.startable() {
		j.leaveLine()
	}
	j.count()
	j.arm()
}

// reservation keeps a worker for the first job in line that finds no room: what others leave of it, or
// free, is not given to jobs that need the same.
type reservation struct {
	job    *job
	worker *podWorker
	usage  worker.ResourceUsage
}

// reserve chooses the worker for a job that finds no room: the one it has already, or that with the most
// memory free.
func (p *pool) reserve(j *job, r request) {
	if w := p.reserved.worker; p.reserved.job == j && p.workers[w.uid] == w && w.couldRun(r) {
		return
	}
	p.reserved = reservation{}
	best := int64(-1)
	for _, w := range p.byOrdinal() {
		if !w.couldRun(r) {
			continue
		}
		if free := w.limits.Memory - w.resources.Status().Used.Memory; free > best {
			best = free
			p.reserved = reservation{j, w, w.usageOf(r.usage)}
		}
	}
}

// couldRun tells whether the worker takes tasks and is large enough for this one.
func (w *podWorker) couldRun(r request) bool {
	return w.takes() && serves(w.handler, r.handler) && w.fits(r.usage)
}

// hasFree tells whether a worker has a free slot. It forgets those at the front of the line that have none.
func (p *pool) hasFree() bool {
	for len(p.free) > 0 {
		w := p.free[0]
		if w.room(0) {
			return true
		}
		p.free = p.free[1:]
		w.inFree = false
	}
	p.free = nil
	return false
}

// roomFor returns the first worker in line that can take a task now, nil if none can.
func (p *pool) roomFor(j *job, r request) *podWorker {
	for _, w := range p.free {
		slots, kept := p.keptOn(w, j)
		if w.room(slots) && serves(w.handler, r.handler) && w.resources.CheckLeaving(w.usageOf(r.usage), kept) == nil {
			return w
		}
	}
	return nil
}

// keptOn is what of a worker is kept from a job: the slot and the resources of another.
func (p *pool) keptOn(w *podWorker, j *job) (slots int, usage worker.ResourceUsage) {
	if kept := p.reserved; kept.worker == w && kept.job != j && kept.job.place == queued {
		return 1, kept.usage
	}
	return 0, worker.ResourceUsage{}
}

// served puts a worker last in the line of those with room, if it has any left.
func (p *pool) served(w *podWorker) {
	if i := slices.Index(p.free, w); i >= 0 {
		p.free = slices.Delete(p.free, i, i+1)
	}
	w.inFree = false
	w.offer()
}

var errNotOurs = fmt.Errorf("%w: a worker pod runs Jobs of the API only, and they come in by Submit", worker.ErrInvalid)

// reject fails a job that somebody else has pushed.
func (p *pool) reject(job worker.Job, err error) {
	p.processed++
	p.failed++
	p.engine.rejected = append(p.engine.rejected, rejection{job, err})
}
