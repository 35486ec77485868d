// Package fair shares what there is too little of between those who want it.
package fair

import (
	"context"
	"slices"
	"sync"
)

// Semaphore gives out a fixed number of places. Each holder names its party. A place that becomes free goes to
// the waiting party that holds the fewest, and of several to the one that has waited longest: so however many
// places one party asks for, another that asks for one is next.
type Semaphore[K comparable] struct {
	// mu guards what follows.
	mu   sync.Mutex
	free int
	// held is the number of places of each party that has any.
	held map[K]int
	// waiting is in the order of arrival. It is empty while places are free.
	waiting []*waiter[K]
}

type waiter[K comparable] struct {
	party K
	// given is closed when the waiter has its place.
	given chan struct{}
}

// NewSemaphore returns a semaphore with so many places.
func NewSemaphore[K comparable](places int) *Semaphore[K] {
	return &Semaphore[K]{free: places, held: map[K]int{}}
}

// Acquire takes a place for a party, and waits for it if need be. Without an error, Release gives it back.
func (s *Semaphore[K]) Acquire(ctx context.Context, party K) error {
	s.mu.Lock()
	if s.free > 0 {
		s.free--
		s.held[party]++
		s.mu.Unlock()
		return nil
	}
	w := &waiter[K]{party: party, given: make(chan struct{})}
	s.waiting = append(s.waiting, w)
	s.mu.Unlock()
	select {
	case <-w.given:
		return nil
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-w.given:
		s.releaseLocked(party) // it came too late
	default:
		s.waiting = slices.DeleteFunc(s.waiting, func(o *waiter[K]) bool { return o == w })
	}
	return ctx.Err()
}

// Release gives back a place of a party.
func (s *Semaphore[K]) Release(party K) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.releaseLocked(party)
}

func (s *Semaphore[K]) releaseLocked(party K) {
	switch n := s.held[party]; n {
	case 0:
		panic("fair: a place is given back that was not taken")
	case 1:
		delete(s.held, party)
	default:
		s.held[party] = n - 1
	}
	if len(s.waiting) == 0 {
		s.free++
		return
	}
	next := 0
	for i, w := range s.waiting {
		if s.held[w.party] < s.held[s.waiting[next].party] {
			next = i
		}
	}
	w := s.waiting[next]
	s.waiting = slices.Delete(s.waiting, next, next+1)
	s.held[w.party]++
	close(w.given)
}
