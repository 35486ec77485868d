package feed

import (
	"container/heap"
	"time"
)

// delayed has the items whose time has not come: the first due, and the first come among equals, goes
// first.
type delayed[T any] struct {
	items    []later[T] // a heap
	arrivals uint64
}

type later[T any] struct {
	item    T
	due     time.Time
	arrival uint64
}

func (d *delayed[T]) add(v T, due time.Time) {
	d.arrivals++
	heap.Push(d, later[T]{v, due, d.arrivals})
}

func (d *delayed[T]) due() time.Time { return d.items[0].due }

func (d *delayed[T]) pop() T { return heap.Pop(d).(later[T]).item }

// Len, Less, Swap, Push and Pop are for container/heap.

func (d *delayed[T]) Len() int { return len(d.items) }

func (d *delayed[T]) Less(i, j int) bool {
	if c := d.items[i].due.Compare(d.items[j].due); c != 0 {
		return c < 0
	}
	return d.items[i].arrival < d.items[j].arrival
}

func (d *delayed[T]) Swap(i, j int) { d.items[i], d.items[j] = d.items[j], d.items[i] }

func (d *delayed[T]) Push(x any) { d.items = append(d.items, x.(later[T])) }

func (d *delayed[T]) Pop() any {
	last := len(d.items) - 1
	l := d.items[last]
	d.items[last] = later[T]{}
	d.items = d.items[:last]
	return l
}
