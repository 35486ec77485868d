package queue

// node is a job in a heap: where it belongs, and the slot that has the rest of it. In the heap of kinds
// it is a kind, with the rank of its first job.
type node struct {
	rank rank
	slot int32
	kind int32 // only in the frontier of TryPop, whose slots are indices of a kind's heap
}

// heap is a binary heap with the lowest rank at index 0. Ranks are kept in the nodes, not behind the
// slots, so that sifting compares memory that lies together.
type heap struct {
	nodes []node

	// entries, or kinds, learn their node's index as it moves; both are nil if nobody wants to know.
	entries *[]entry
	kinds   *[]kind
}

func (h *heap) len() int {
	return len(h.nodes)
}

func (h *heap) push(n node) {
	h.nodes = append(h.nodes, n)
	h.up(len(h.nodes)-1, n)
}

// remove takes the node at index i out.
func (h *heap) remove(i int) node {
	removed := h.nodes[i]
	last := len(h.nodes) - 1
	moved := h.nodes[last]
	h.nodes = h.nodes[:last]
	if i < last {
		h.place(i, moved)
	}
	return removed
}

// place puts n where it belongs, given that index i is free.
func (h *heap) place(i int, n node) {
	if i > 0 && n.rank.before(h.nodes[(i-1)/2].rank) {
		h.up(i, n)
		return
	}
	h.down(i, n)
}

func (h *heap) up(i int, n node) {
	for i > 0 {
		parent := (i - 1) / 2
		if !n.rank.before(h.nodes[parent].rank) {
			break
		}
		h.set(i, h.nodes[parent])
		i = parent
	}
	h.set(i, n)
}

func (h *heap) down(i int, n node) {
	for {
		child := 2*i + 1
		if child >= len(h.nodes) {
			break
		}
		if right := child + 1; right < len(h.nodes) && h.nodes[right].rank.before(h.nodes[child].rank) {
			child = right
		}
		if !h.nodes[child].rank.before(n.rank) {
			break
		}
		h.set(i, h.nodes[child])
		i = child
	}
	h.set(i, n)
}

func (h *heap) set(i int, n node) {
	h.nodes[i] = n
	switch {
	case h.entries != nil:
		(*h.entries)[n.slot].index = int32(i)
	case h.kinds != nil:
		(*h.kinds)[n.slot].index = int32(i)
	}
}
