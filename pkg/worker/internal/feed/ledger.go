package feed

// Ledger has the numbers of a feed's takers. It is guarded by the feed's lock.
type Ledger struct {
	// Taken is the number of items that takers hold. They may come back.
	Taken         int
	Ended, Failed uint64
}

// Hand is that of one taker: the item that it holds counts in its ledger. It is guarded by the feed's
// lock.
type Hand[T any] struct {
	ledger *Ledger
	view   View[T]
}

// NewHand returns an empty hand.
func NewHand[T any](l *Ledger) Hand[T] { return Hand[T]{ledger: l} }

// View returns what the hand holds and what became of what it held.
func (h *Hand[T]) View() View[T] { return h.view }

// Hold puts an item into the hand.
func (h *Hand[T]) Hold(v T) {
	h.view.Holds, h.view.Item = true, v
	h.ledger.Taken++
}

// Settle empties the hand.
func (h *Hand[T]) Settle(last Outcome) {
	if !h.view.Holds {
		return
	}
	var zero T
	h.view.Holds, h.view.Item = false, zero
	h.ledger.Taken--
	if last == None {
		return
	}
	h.view.Ended++
	h.ledger.Ended++
	if last == Failed {
		h.view.Failed++
		h.ledger.Failed++
	}
}
