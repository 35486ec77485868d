package feed

import "fmt"

// Broken says which of the invariants that are stated beside the fields does not hold, "" if all do.
func (q *FIFO[T]) Broken() string {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, check := range []struct {
		broken bool
		what   string
	}{
		{q.pushers.first != nil && !q.fullLocked(), "a call waits for room that is there"},
		{q.pushers.first != nil && q.closed, "a call waits for room after Close"},
		{q.pushers.first != nil && q.poppers.first != nil, "a call waits for an item and another one for room"},
		{q.poppers.first != nil && q.ready.n > 0, "a call waits for an item that is there"},
		{q.poppers.first != nil && q.overLocked(), "a call waits for an item that can't come"},
		{q.ledger.Taken < 0 || q.expected < 0, "less than nothing is taken"},
		{!q.pushers.sound(), "the list of pushers is broken"},
		{!q.poppers.sound(), "the list of poppers is broken"},
	} {
		if check.broken {
			return check.what
		}
	}
	return q.keptLocked()
}

// keptLocked finds items that have left and would not be collected.
func (q *FIFO[T]) keptLocked() string {
	var zero T
	size := len(q.ready.items)
	if size&(size-1) != 0 || q.ready.n > size {
		return fmt.Sprintf("a ring of %d has %d items", size, q.ready.n)
	}
	for i := q.ready.n; i < size; i++ {
		if any(q.ready.items[(q.ready.head+i)&(size-1)]) != any(zero) {
			return "the ring keeps an item"
		}
	}
	for _, l := range q.delayed.items[q.delayed.Len():cap(q.delayed.items)] {
		if any(l.item) != any(zero) {
			return "an item that was delayed is kept"
		}
	}
	return ""
}

func (l *waiters[T]) sound() bool {
	var last *waiter[T]
	for w := l.first; w != nil; w = w.next {
		if !w.listed || w.prev != last || len(w.wake) > 0 {
			return false
		}
		last = w
	}
	return last == l.last
}
