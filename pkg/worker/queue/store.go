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
	index    int32 // of its node in store.delayed or in its kind's heap; of a free slot, the next free one
	kind     int32 // its slot in store.ready
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
	ready   kinds                // by readyRank
	delayed heap                 // by delayedRank

	// arrivals counts what was put in. It is the last word of the order, so no two ranks are equal.
	arrivals uint64
}

func (s *store) init(aging time.Duration) {
	s.aging = aging
	s.free = none
	s.slots = make(map[worker.Job]int32)
	s.ready.init(&s.entries)
	s.delayed.entries = &s.entries
}

func (s *store) has(job worker.Job) bool {
	_, ok := s.slots[job]
	return ok
}

// put adds a job that the store does not have; it is delayed if notBefore is after now.
func (s *store) put(job worker.Job, key any, created int64, priority int, notBefore, now int64) {
	slot := s.takeSlot()
	e := &s.entries[slot]
	*e = entry{job: job, created: created, priority: priority, kind: s.ready.join(key), delayed: notBefore > now}
	s.slots[job] = slot
	s.arrivals++
	if e.delayed {
		s.delayed.push(node{rank: delayedRank(notBefore, s.arrivals), slot: slot})
	} else {
		s.ready.push(e.kind, node{rank: readyRank(created, priority, s.aging, s.arrivals), slot: slot})
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
		s.ready.push(e.kind, node{rank: readyRank(e.created, e.priority, s.aging, n.rank.arrival), slot: n.slot})
	}
}

// takeFirst removes the first of the ready jobs. There must be one.
func (s *store) takeFirst() worker.Job { return s.takeReady(s.ready.first(), 0) }

// takeReady removes the job at an index of a kind's heap.
func (s *store) takeReady(kind, index int32) worker.Job {
	return s.take(s.ready.list[kind].jobs.nodes[index].slot)
}

func (s *store) take(slot int32) worker.Job {
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
	if s.takeOut(e).slot != slot {
		panic("queue: a job is not where its index says")
	}
	s.ready.leave(e.kind)
	delete(s.slots, e.job)
	*e = entry{index: s.free} // the job is forgotten too, so that it can be collected
	s.free = slot
	if len(s.slots) != s.ready.ready+s.delayed.len() {
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
		jobs := &s.ready.list[e.kind].jobs
		arrival := jobs.nodes[e.index].rank.arrival
		jobs.place(int(e.index), node{rank: readyRank(e.created, priority, s.aging, arrival), slot: slot})
		s.ready.settle(e.kind)
	}
	return true
}

// setAging ranks the ready jobs anew. Each keeps its arrival.
func (s *store) setAging(aging time.Duration) {
	s.aging = aging
	s.ready.setRanks(func(n node) rank {
		e := &s.entries[n.slot]
		return readyRank(e.created, e.priority, aging, n.rank.arrival)
	})
}

// takeOut removes the node of an entry from its heap.
func (s *store) takeOut(e *entry) node {
	if e.delayed {
		return s.delayed.remove(int(e.index))
	}
	return s.ready.remove(e.kind, e.index)
}

func (s *store) empty() bool {
	return len(s.slots) == 0
}
