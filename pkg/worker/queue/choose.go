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
)

// TryPop shows the ready jobs to choose, in order, until it says Take or Stop, and returns the job
// taken; false means that none was. A nil choose takes the first. choose is called under the queue's
// lock, so it must not call the queue. To look at k jobs costs O(k log k), whatever the queue's length.
func (q *Priority) TryPop(now time.Time, choose func(worker.Job) Choice) (worker.Job, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.advanceLocked(nanos(now))
	index, ok := q.chooseLocked(choose)
	if !ok {
		return nil, false
	}
	job := q.jobs.takeReady(index)
	q.settleLocked()
	return job, true
}

// chooseLocked returns the index of the chosen job in the ready heap. The next in order is always
// one of the frontier: the children of those that were skipped. So the heap is read and not touched.
func (q *Priority) chooseLocked(choose func(worker.Job) Choice) (int, bool) {
	ready := q.jobs.ready.nodes
	if len(ready) == 0 {
		return 0, false
	}
	if choose == nil {
		return 0, true
	}
	frontier := &q.frontier // its slots are indices of the ready heap
	frontier.nodes = append(frontier.nodes[:0], node{ready[0].rank, 0})
	for frontier.len() > 0 {
		index := int(frontier.remove(0).slot)
		switch choose(q.jobs.entries[ready[index].slot].job) {
		case Take:
			return index, true
		case Stop:
			return 0, false
		}
		for child := 2*index + 1; child <= 2*index+2 && child < len(ready); child++ {
			frontier.push(node{ready[child].rank, int32(child)})
		}
	}
	return 0, false
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
	return q.jobs.list(&q.jobs.ready), q.jobs.list(&q.jobs.delayed)
}

// list returns the jobs of a heap, unsorted.
func (s *store) list(h *heap) []placed {
	jobs := make([]placed, h.len())
	for i, n := range h.nodes {
		jobs[i] = placed{n.rank, s.entries[n.slot].job}
	}
	return jobs
}
