package queue

// kind holds the ready jobs of one Item.Kind.
type kind struct {
	key     any
	jobs    heap   // by readyRank
	members int32  // jobs of this kind, ready or delayed; a slot without any is free, but for that of nil
	index   int32  // of its node in kinds.order; of a free slot, the next free one
	prev    int32  // its neighbours in the ring,
	next    int32  // which has the kinds with a ready job
	passed  uint64 // the last call of TryPop in which it was passed over
}

// kinds holds the ready jobs of a queue. The first job of all is the first of some kind, so a heap of
// kinds and a heap for each of them do what one heap would.
type kinds struct {
	list  []kind // a slot that is free is used again
	free  int32  // the first free slot or none
	slots map[any]int32
	order heap  // has a node for each kind with a ready job
	turn  int32 // the kind that TryPopInTurn shows next; none if no job is ready
	ready int   // jobs in all kinds
	calls uint64
}

// smallHeap is a length up to which the heap of a kind is kept as it is.
const smallHeap = 16

func (k *kinds) init(entries *[]entry) {
	k.slots = make(map[any]int32)
	k.free, k.turn = none, none
	k.order.kinds = &k.list
	k.list = []kind{{jobs: heap{entries: entries}}} // that of nil, which is never freed
}

// join returns the slot of a kind that gets one more member.
func (k *kinds) join(key any) int32 {
	slot := int32(0)
	if key != nil {
		var known bool
		if slot, known = k.slots[key]; !known {
			slot = k.takeSlot()
			k.list[slot].key = key
			k.slots[key] = slot
		}
	}
	k.list[slot].members++
	return slot
}

func (k *kinds) takeSlot() int32 {
	if k.free == none {
		k.list = append(k.list, kind{jobs: heap{entries: k.list[0].jobs.entries}})
		return int32(len(k.list) - 1)
	}
	slot := k.free
	k.free = k.list[slot].index
	return slot
}

// leave takes a member from a kind, which has not been ready or is not any more.
func (k *kinds) leave(slot int32) {
	one := &k.list[slot]
	one.members--
	if one.members > 0 || slot == 0 {
		return
	}
	delete(k.slots, one.key)
	one.key = nil
	one.index, k.free = k.free, slot
}

// push makes a job of a kind ready.
func (k *kinds) push(slot int32, n node) {
	one := &k.list[slot]
	one.jobs.push(n)
	k.ready++
	if one.jobs.len() == 1 {
		k.order.push(node{rank: n.rank, slot: slot})
		k.enterRing(slot)
		return
	}
	k.settle(slot)
}

// remove takes the job at an index of a kind's heap out.
func (k *kinds) remove(slot, index int32) node {
	one := &k.list[slot]
	removed := one.jobs.remove(int(index))
	k.ready--
	if slot != 0 {
		one.jobs.shrink()
	}
	if one.jobs.len() == 0 {
		k.order.remove(int(one.index))
		k.leaveRing(slot)
		return removed
	}
	k.settle(slot)
	return removed
}

// settle puts a kind where its first job belongs.
func (k *kinds) settle(slot int32) {
	one := &k.list[slot]
	if first := one.jobs.nodes[0].rank; first != k.order.nodes[one.index].rank {
		k.order.place(int(one.index), node{rank: first, slot: slot})
	}
}

// enterRing makes a kind the next in turn.
func (k *kinds) enterRing(slot int32) {
	one := &k.list[slot]
	if k.turn == none {
		one.prev, one.next = slot, slot
	} else {
		one.prev, one.next = k.list[k.turn].prev, k.turn
		k.list[one.prev].next, k.list[one.next].prev = slot, slot
	}
	k.turn = slot
}

func (k *kinds) leaveRing(slot int32) {
	one := &k.list[slot]
	k.list[one.prev].next, k.list[one.next].prev = one.next, one.prev
	switch {
	case one.next == slot:
		k.turn = none
	case k.turn == slot:
		k.turn = one.next
	}
}

// first returns the kind of the first job of all, which is the first of its heap. There must be one.
func (k *kinds) first() int32 { return k.order.nodes[0].slot }

// setRanks ranks all ready jobs anew.
func (k *kinds) setRanks(rankOf func(node) rank) {
	for slot := range k.list {
		jobs := &k.list[slot].jobs
		old := jobs.nodes
		jobs.nodes = make([]node, 0, len(old))
		for _, n := range old {
			jobs.push(node{rank: rankOf(n), slot: n.slot})
		}
	}
	old := k.order.nodes
	k.order.nodes = make([]node, 0, len(old))
	for _, n := range old {
		k.order.push(node{rank: k.list[n.slot].jobs.nodes[0].rank, slot: n.slot})
	}
}

// shrink gives back memory that a heap has needed and needs no more: there may be very many heaps.
func (h *heap) shrink() {
	if cap(h.nodes) > smallHeap && len(h.nodes) < cap(h.nodes)/4 {
		h.nodes = append(make([]node, 0, cap(h.nodes)/2), h.nodes...)
	}
}
