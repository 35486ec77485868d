package queue

import (
	"time"

	"github.com/workerpool-dev/workerpool/pkg/worker"
)

// entry is a job that the queue holds. There may be 100,000 of them: keep it small.
type entry struct {
	job      worker.Job
	created  int64 // nanoseconds since 1970
	priority int
	index    int32 // of its node in store.delayed or store.ready; of a free slot, the next free one
	delayed  bool
}

// none ends the list of free slots.
const none int32 = -1

// store holds the jobs of a queue in their order. It knows neither capacity nor waiting, and has no
// lock. A slot is used again after its job has left, so that a store which has seen its busiest hour
// allocates no more; it does not shrink.
type store struct {
	aging   time.Duration
	entries []entry
	free    int32                // the first free slot or none
	slots   map[worker.Job]int32 // has exactly the jobs of ready and delayed
	ready   heap                 // by readyRank
	delayed heap                 // by delayedRank

	// arrivals counts what was put in. It is the last word of the order, so no two ranks are equal.
	arrivals uint64
}

func (s *store) init(aging time.Duration) {
	s.aging = aging
	s.free = none
	s.slots = make(map[worker.Job]int32)
	s.ready.entries = &s.entries
	s.delayed.entries = &s.entries
}

func (s *store) has(job worker.Job) bool {
	_, ok := s.slots[job]
	return ok
}

// put adds a job that the store does not have; it is delayed if notBefore is after now.
func (s *store) put(job worker.Job, created int64, priority int, notBefore, now int64) {
	slot := s.takeSlot()
	e := &s.entries[slot]
	*e = entry{job: job, created: created, priority: priority, delayed: notBefore > now}
	s.slots[job] = slot
	s.arrivals++
	if e.delayed {
		s.delayed.push(node{delayedRank(notBefore, s.arrivals), slot})
	} else {
		s.ready.push(node{readyRank(created, priority, s.aging, s.arrivals), slot})
	}
}

func (s *store) takeSlot() int32 {
	if s.free == none {
		s.entries = append(s.entries, entry{})
		return int32(len(s.entries) - 1)
	}
	slot := s.free
	s.free = s.entries[slot].index
	return slot
}

// promote makes ready what is due.
func (s *store) promote(now int64) {
	for s.delayed.len() > 0 && s.delayed.nodes[0].rank.notBefore() <= now {
		n := s.delayed.remove(0)
		e := &s.entries[n.slot]
		e.delayed = false
		s.ready.push(node{readyRank(e.created, e.priority, s.aging, n.rank.arrival), n.slot})
	}
}

// takeReady removes the job at an index of the ready heap; 0 is the first.
func (s *store) takeReady(index int) worker.Job { return s.take(&s.ready, index) }

func (s *store) take(h *heap, index int) worker.Job {
	slot := h.nodes[index].slot
	job := s.entries[slot].job
	s.drop(slot)
	return job
}

func (s *store) remove(job worker.Job) bool {
	slot, ok := s.slots[job]
	if ok {
		s.drop(slot)
	}
	return ok
}

func (s *store) drop(slot int32) {
	e := &s.entries[slot]
	if removed := s.heapOf(e).remove(int(e.index)); removed.slot != slot {
		panic("queue: a job is not where its index says")
	}
	delete(s.slots, e.job)
	*e = entry{index: s.free} // the job is forgotten too, so that it can be collected
	s.free = slot
	if len(s.slots) != s.ready.len()+s.delayed.len() {
		panic("queue: a job is not equal to itself")
	}
}

func (s *store) reprioritize(job worker.Job, priority int) bool {
	slot, ok := s.slots[job]
	if !ok {
		return false
	}
	e := &s.entries[slot]
	e.priority = priority
	if !e.delayed {
		arrival := s.ready.nodes[e.index].rank.arrival
		s.ready.place(int(e.index), node{readyRank(e.created, priority, s.aging, arrival), slot})
	}
	return true
}

// setAging ranks the ready jobs anew. Each keeps its arrival.
func (s *store) setAging(aging time.Duration) {
	s.aging = aging
	ready := s.ready.nodes
	s.ready.nodes = make([]node, 0, len(ready))
	for _, n := range ready {
		e := &s.entries[n.slot]
		s.ready.push(node{readyRank(e.created, e.priority, aging, n.rank.arrival), n.slot})
	}
}

func (s *store) heapOf(e *entry) *heap {
	if e.delayed {
		return &s.delayed
	}
	return &s.ready
}

func (s *store) empty() bool {
	return len(s.slots) == 0
}
