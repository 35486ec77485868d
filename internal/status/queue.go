package status

import (
	"cmp"
	"container/heap"
	"time"
)

// turns has the entries of each namespace that has some. Namespaces take turns: the one goes first that was served longest
// ago. The API server takes seconds for some Jobs, and those of one namespace must not hold up all others.
type turns map[string]*dueHeap

func (t turns) push(e *entry) {
	if t[e.namespace] == nil {
		t[e.namespace] = &dueHeap{}
	}
	t[e.namespace].push(e)
}

func (t turns) remove(e *entry) {
	e.queue.remove(e)
	if t[e.namespace].first() == nil {
		delete(t, e.namespace)
	}
}

// next is the entry whose turn it is, nil if there is none; and after how long the next is due of those that are not yet. A
// namespace that holds as many places as are free waits until one is given back.
func (t turns) next(now time.Time, held map[string]int, free int) (*entry, time.Duration) {
	var next *entry
	wait := time.Hour
	for namespace, queue := range t {
		e := queue.first()
		if due := e.due.Sub(now); due > 0 {
			wait = min(wait, due)
			continue
		}
		if held[namespace] >= free {
			continue
		}
		if next == nil || cmp.Or(cmp.Compare(queue.served, next.queue.served), e.due.Compare(next.due), cmp.Compare(namespace, next.namespace)) < 0 {
			next = e
		}
	}
	return next, wait
}

// dueHeap has entries by the time when they are due.
type dueHeap struct {
	byDue byDue
	// served is the number of the last write that was taken from it, of all that were taken; 0 if none was.
	served uint64
}

func (h *dueHeap) push(e *entry) {
	e.queue = h
	heap.Push(&h.byDue, e)
}

func (h *dueHeap) remove(e *entry) {
	heap.Remove(&h.byDue, e.index)
	e.queue = nil
}

// first is nil if there is none.
func (h *dueHeap) first() *entry {
	if len(h.byDue) == 0 {
		return nil
	}
	return h.byDue[0]
}

// byDue is the heap's inside.
type byDue []*entry

func (h byDue) Len() int           { return len(h) }
func (h byDue) Less(i, j int) bool { return h[i].due.Before(h[j].due) }

func (h byDue) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push is heap.Interface's.
func (h *byDue) Push(x any) {
	e := x.(*entry)
	e.index = len(*h)
	*h = append(*h, e)
}

// Pop is heap.Interface's.
func (h *byDue) Pop() any {
	last := len(*h) - 1
	e := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return e
}
