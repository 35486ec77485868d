package status

import "container/heap"

// dueHeap has entries by the time when they are due.
type dueHeap struct{ byDue byDue }

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
