package queue

import (
	"iter"
	"slices"
	"time"

	"github.com/workerpool-dev/workerpool/pkg/worker"
)

// Choice is what to do about a job that TryPop shows.
type Choice int

const (
	// Take pops the job.
	Take Choice = iota

	// Skip leaves the job where it is and goes on to the next.
	Skip

	// Stop leaves all jobs where they are.
	Stop

	// SkipKind leaves the job and all others of its Item.Kind where they are and goes on to the next.
	SkipKind
)

// TryPop shows the ready jobs to choose, in order, until it says Take or Stop, and returns the job
// taken; false means that none was. A nil choose takes the first. choose is called under the queue's
// lock, so it must not call the queue. To look at k jobs costs O(k log k), whatever the queue's length,
// and however many jobs are of a kind that is passed over.
func (q *Priority) TryPop(now time.Time, choose func(worker.Job) Choice) (worker.Job, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.advanceLocked(nanos(now))
	kind, index, ok := q.chooseLocked(choose)
	return q.popLocked(kind, index, ok)
}

// TryPopInTurn is TryPop that shows the first ready job of each kind, one kind after the other and not
// in order. Each call goes on after the kind at which the last has stopped, and a kind that is new is
// next. So a choose that stops after a few looks gets to see every kind in the end, however many
// there are. Skip and SkipKind are the same here.
func (q *Priority) TryPopInTurn(now time.Time, choose func(worker.Job) Choice) (worker.Job, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.advanceLocked(nanos(now))
	kinds := &q.jobs.ready
	for range kinds.order.len() {
		turn := kinds.turn
		kinds.turn = kinds.list[turn].next
		switch choose(q.jobs.entries[kinds.list[turn].jobs.nodes[0].slot].job) {
		case Take:
			return q.popLocked(turn, 0, true)
		case Stop:
			return nil, false
		case Skip, SkipKind:
		}
	}
	return nil, false
}

func (q *Priority) popLocked(kind, index int32, ok bool) (worker.Job, bool) {
	if !ok {
		return nil, false
	}
	job := q.jobs.takeReady(kind, index)
	q.settleLocked()
	return job, true
}

// chooseLocked returns the kind of the chosen job and its index in the heap of that. The next in order
// is always one of the frontier: the children of those that were skipped, in their own heap, and in
// the heap of kinds where they are the first of theirs. So the heaps are read and not touched.
func (q *Priority) chooseLocked(choose func(worker.Job) Choice) (kind, index int32, ok bool) {
	kinds := &q.jobs.ready
	if kinds.ready == 0 {
		return 0, 0, false
	}
	if choose == nil {
		return kinds.first(), 0, true
	}
	kinds.calls++
	frontier := &q.frontier // its slots are indices of a kind's heap
	frontier.nodes = frontier.nodes[:0]
	q.showLocked(kinds.order.nodes, 0)
	for frontier.len() > 0 {
		next := frontier.remove(0)
		of := &kinds.list[next.kind]
		if next.slot == 0 {
			q.showLocked(kinds.order.nodes, 2*int(of.index)+1)
			q.showLocked(kinds.order.nodes, 2*int(of.index)+2)
		}
		if of.passed == kinds.calls {
			continue
		}
		switch choose(q.jobs.entries[of.jobs.nodes[next.slot].slot].job) {
		case Take:
			return next.kind, next.slot, true
		case Stop:
			return 0, 0, false
		case SkipKind:
			of.passed = kinds.calls
			continue
		case Skip:
		}
		for child := 2*next.slot + 1; child <= 2*next.slot+2 && int(child) < of.jobs.len(); child++ {
			frontier.push(node{of.jobs.nodes[child].rank, child, next.kind})
		}
	}
	return 0, 0, false
}

// showLocked adds the first job of a kind to the frontier, if there is a kind at this index of the order.
func (q *Priority) showLocked(order []node, index int) {
	if index < len(order) {
		q.frontier.push(node{order[index].rank, 0, order[index].slot})
	}
}

// All returns the jobs that are ready at now, in order, and then the delayed ones by their time. The
// queue is read once, when a loop over the sequence begins, and is not locked while the loop runs.
func (q *Priority) All(now time.Time) iter.Seq[worker.Job] {
	return func(yield func(worker.Job) bool) {
		ready, delayed := q.snapshot(now)
		for _, jobs := range [][]placed{ready, delayed} {
			slices.SortFunc(jobs, func(a, b placed) int { return a.rank.compare(b.rank) })
			for _, p := range jobs {
				if !yield(p.job) {
					return
				}
			}
		}
	}
}

// placed is a job as a snapshot has it.
type placed struct {
	rank rank
	job  worker.Job
}

func (q *Priority) snapshot(now time.Time) (ready, delayed []placed) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.advanceLocked(nanos(now))
	ready = make([]placed, 0, q.jobs.ready.ready)
	for _, n := range q.jobs.ready.order.nodes {
		ready = q.jobs.list(ready, &q.jobs.ready.list[n.slot].jobs)
	}
	return ready, q.jobs.list(make([]placed, 0, q.jobs.delayed.len()), &q.jobs.delayed)
}

// list adds the jobs of a heap, unsorted.
func (s *store) list(to []placed, h *heap) []placed {
	for _, n := range h.nodes {
		to = append(to, placed{n.rank, s.entries[n.slot].job})
	}
	return to
}
