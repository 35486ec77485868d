package engine

import (
	"fmt"
	"slices"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/queue"
)

// How far one call of match looks. An ordinary pool has a few kinds of Jobs and never comes near. Where each Job asks
// for something else, a search in order ends before it has seen all kinds; then it goes on with the others in turn,
// and the next call where it has stopped. So a call takes a fraction of a millisecond, whatever waits, and each Job
// is seen.
const (
	// maxInOrder and maxInTurn are how many kinds that find no room are passed over to find one that does, and
	// maxByTick how many in turn by a tick that goes on with a search.
	maxInOrder, maxInTurn, maxByTick = 256, 16, 1024
	// maxEffort bounds the comparisons of one call: of a kind with a worker, or with what was refused before. The
	// half of it is for the search in order.
	maxEffort = 1 << 15
	// maxClaims is how many jobs of earlier leaders are made this one's at once.
	maxClaims = 16
	// maxRefused is how many requests that no worker has room for are remembered during a call.
	maxRefused = 16
)

// matcher looks for the next job to be started, and for a worker with room for it. It is made anew for
// each round of matching.
type matcher struct {
	pool *pool
	// refused are requests that no worker has room for now, none of which covers another. What covers one of them is
	// refused too.
	refused []request
	// looked is how many kinds were passed over in order, or in turn, and effort what all looks have cost.
	looked, effort int
	// turns is how many kinds are looked at in turn.
	turns int
	// claims is how many jobs there was room for that are not this leader's yet.
	claims int
	// inTurn: the search in order has ended before it has seen all kinds. Cut: some were not looked at.
	inTurn, cut bool
	// gave: a task was started.
	gave bool
	// waits is true once a job has found no room in this search: one worker is kept for the first such. Files is
	// how many of the pool's open files are kept for the first that lacks those.
	waits bool
	files int

	// What was found: a job and its worker, or a job that is not the engine's.
	job      *job
	worker   *podWorker
	stranger worker.Job
}

// request is what decides whether a worker has room. Jobs of one request are of one kind.
type request struct {
	usage   worker.ResourceUsage
	handler v1alpha1.HandlerType
}

func (j *job) request() request { return request{j.Resources(), j.handler()} }

// match gives queued tasks to workers with room until one of the two runs out. It tells whether it
// gave any.
func (p *pool) match() bool { return p.search(maxInTurn) }

// search is match with so many kinds to be looked at in turn.
func (p *pool) search(turns int) bool {
	m := matcher{pool: p, turns: turns}
	for ; p.open() && p.hasFree() && m.find(); m.gave = true {
		if m.stranger != nil {
			p.reject(m.stranger, errNotOurs)
			continue
		}
		m.give()
	}
	p.unseen = m.cut
	p.invite() // even where none was given: jobs may have left the queue
	return m.gave
}

// find looks through the queue, in order. Where that takes too long, it goes on with the kinds in turn.
func (m *matcher) find() bool {
	m.job, m.worker, m.stranger, m.waits, m.files = nil, nil, nil, false, 0
	m.looked, m.claims, m.inTurn, m.cut = 0, 0, false, false
	now := m.pool.engine.now
	taken, ok := m.pool.queue.TryPop(now, m.choose)
	if m.cut && (m.looked >= maxInOrder || !m.gave) { // else the next call begins with less to do
		m.looked, m.inTurn, m.cut = 0, true, false
		taken, ok = m.pool.queue.TryPopInTurn(now, m.choose)
	}
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
	if m.worker = m.roomFor(j, j.kind.Value()); m.worker == nil {
		return m.pass(queue.SkipKind)
	}
	if !m.isOurs(j) {
		return m.pass(queue.Skip)
	}
	m.job = j
	return queue.Stop
}

// isOurs tells whether no write of an earlier leader to the job can take effect any more. Else it has it stored that this one
// leads, so that it is so soon. The jobs that come next are not asked for in advance: most have long to wait.
func (m *matcher) isOurs(j *job) bool {
	claim, inherited := j.engine().inherited[j.object.UID]
	if !inherited {
		return true
	}
	if m.claims++; claim == 0 && m.claims <= maxClaims {
		j.write(0)
	}
	return false
}

// pass goes on as it is told to, if the next is not to be left for later.
func (m *matcher) pass(on queue.Choice) queue.Choice {
	m.looked++
	kinds, effort := maxInOrder, maxEffort/2
	if m.inTurn {
		kinds, effort = m.turns, maxEffort
	}
	if m.looked < kinds && m.effort < effort {
		return on
	}
	m.cut = true
	return queue.Stop
}

// roomFor returns a worker for the next task of a job. For the first that finds none, something is kept: open
// files of the pool if it lacks those, or else a worker, which may be one that was kept for another so far.
func (m *matcher) roomFor(j *job, r request) *podWorker {
	p := m.pool
	m.effort += 1 + len(m.refused)
	tight := m.isTight(r)
	if !tight && p.hasFiles(r, m.files) {
		if w := m.free(j, r); w != nil {
			return w
		}
	}
	switch {
	case m.inTurn:
	case m.files == 0 && !p.hasFiles(r, 0):
		m.files = r.usage.Files
	case !m.waits && p.hasFiles(r, m.files):
		m.waits = true
		if p.reserve(j, r) {
			m.forget()
			if w := m.free(j, r); w != nil {
				return w
			}
			tight = false
		}
	}
	if !tight {
		m.refuse(r)
	}
	return nil
}

// free returns the first worker in line that can take a task now, nil if none can.
func (m *matcher) free(j *job, r request) *podWorker {
	m.effort += len(m.pool.free)
	return m.pool.roomFor(j, r)
}

// isTight tells whether what is asked for, or less, was refused.
func (m *matcher) isTight(r request) bool {
	for i := range m.refused {
		if r.covers(&m.refused[i]) {
			return true
		}
	}
	return false
}

// refuse notes that there is no room for a request.
func (m *matcher) refuse(r request) {
	m.refused = slices.DeleteFunc(m.refused, func(o request) bool { return o.covers(&r) })
	if len(m.refused) < maxRefused {
		m.refused = append(m.refused, r)
	}
}

// forget looks at all anew: a reservation has gone, or is another.
func (m *matcher) forget() { m.refused = m.refused[:0] }

// covers tells whether a request takes, on any worker, at least what another takes.
func (r *request) covers(o *request) bool {
	return r.usage.Files >= o.usage.Files && atLeast(r.usage.Memory, o.usage.Memory) && atLeast(r.usage.CPU, o.usage.CPU) &&
		r.handler == o.handler
}

// atLeast compares two amounts. 0 is a share, which is not the same on each worker.
func atLeast[N int64 | float64](a, b N) bool { return a == b || a > b && b > 0 }

// hasFiles tells whether a task can have the open files that it asks for, with some kept for another.
func (p *pool) hasFiles(r request, kept int) bool {
	return p.files.CheckLeaving(worker.ResourceUsage{Files: r.usage.Files}, worker.ResourceUsage{Files: kept}) == nil
}

// give starts the next task of a job on a worker, and puts the worker last in the line of free ones, so
// that work spreads over all of them.
func (m *matcher) give() {
	p, j, w := m.pool, m.job, m.worker
	if p.reserved.job == j {
		p.reserved = reservation{}
		m.forget()
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
// memory free. It tells whether that has changed what is kept from others.
func (p *pool) reserve(j *job, r request) bool {
	if w := p.reserved.worker; p.reserved.job == j && p.workers[w.uid] == w && w.couldRun(r) {
		return false
	}
	before := p.reserved
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
	return p.reserved != before
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
