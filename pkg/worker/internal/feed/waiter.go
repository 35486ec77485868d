package feed

// waiter is a call that waits: to push its item, or to get one.
type waiter[T any] struct {
	item T
	err  error

	// taker is who gets the item, nil if that is a plain pop.
	taker *taker[T]

	// listed: the waiter is in a list. One that is in none is settled: item or err is its result.
	listed     bool
	prev, next *waiter[T]

	// wake gets one token when the waiter is settled by another.
	wake chan struct{}
}

func newWaiter[T any]() *waiter[T] {
	return &waiter[T]{wake: make(chan struct{}, 1)}
}

// notify wakes the waiter, if there is one. Call it without the lock.
func (w *waiter[T]) notify() {
	if w != nil {
		w.wake <- struct{}{} // there is room: it is settled once
	}
}

// take returns the result and makes the waiter as new.
func (w *waiter[T]) take() (T, error) {
	var zero T
	v, err := w.item, w.err
	w.item, w.err = zero, nil
	return v, err
}

// waiters is a list in the order of arrival.
type waiters[T any] struct{ first, last *waiter[T] }

func (l *waiters[T]) add(w *waiter[T]) {
	w.listed, w.prev, w.next = true, l.last, nil
	if l.last == nil {
		l.first = w
	} else {
		l.last.next = w
	}
	l.last = w
}

func (l *waiters[T]) remove(w *waiter[T]) {
	if w.prev == nil {
		l.first = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		l.last = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.listed, w.prev, w.next = false, nil, nil
}

// settled gathers waiters to be woken once the lock is free.
type settled[T any] struct{ first *waiter[T] }

func (s *settled[T]) add(w *waiter[T]) {
	w.next = s.first
	s.first = w
}

func (s *settled[T]) notify() {
	for w := s.first; w != nil; {
		next := w.next
		w.next = nil // before it is woken: then it is not ours any more
		w.notify()
		w = next
	}
}
