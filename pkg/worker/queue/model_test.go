package queue_test

import (
	"cmp"
	"errors"
	"math"
	"math/big"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/queue"
)

// model is the queue as one would write it without a thought for speed: a slice that is sorted when
// someone looks, and big numbers.
type model struct {
	capacity int
	aging    time.Duration
	closed   bool
	arrivals int
	items    []*modelItem
}

type modelItem struct {
	queue.Item
	arrival int
	ready   bool // it was due at some time; the clock may go back, the job does not
}

func (m *model) advance(now time.Time) {
	for _, i := range m.items {
		i.ready = i.ready || !i.NotBefore.After(now)
	}
}

func (m *model) ready() []*modelItem {
	list := m.where(true)
	slices.SortFunc(list, func(a, b *modelItem) int {
		if m.aging == 0 {
			return cmp.Or(cmp.Compare(b.Priority, a.Priority), a.Created.Compare(b.Created), cmp.Compare(a.arrival, b.arrival))
		}
		return cmp.Or(m.key(a).Cmp(m.key(b)), cmp.Compare(a.arrival, b.arrival))
	})
	return list
}

func (m *model) delayed() []*modelItem {
	list := m.where(false)
	slices.SortFunc(list, func(a, b *modelItem) int {
		return cmp.Or(a.NotBefore.Compare(b.NotBefore), cmp.Compare(a.arrival, b.arrival))
	})
	return list
}

func (m *model) where(ready bool) []*modelItem {
	var list []*modelItem
	for _, i := range m.items {
		if i.ready == ready {
			list = append(list, i)
		}
	}
	return list
}

func (m *model) key(i *modelItem) *big.Int {
	bonus := new(big.Int).Mul(big.NewInt(int64(i.Priority)), big.NewInt(int64(m.aging)))
	return bonus.Sub(big.NewInt(i.Created.UnixNano()), bonus)
}

func (m *model) find(j worker.Job) *modelItem {
	for _, i := range m.items {
		if i.Job == j {
			return i
		}
	}
	return nil
}

func (m *model) add(now time.Time, item queue.Item, bounded bool) error {
	m.advance(now)
	due := !item.NotBefore.After(now)
	switch {
	case bounded && m.closed:
		return worker.ErrClosed
	case m.find(item.Job) != nil:
		return worker.ErrDuplicate
	case bounded && due && len(m.ready()) >= m.capacity:
		return worker.ErrFull
	}
	m.arrivals++
	m.items = append(m.items, &modelItem{Item: item, arrival: m.arrivals, ready: due})
	return nil
}

func (m *model) remove(j worker.Job) bool {
	before := len(m.items)
	m.items = slices.DeleteFunc(m.items, func(i *modelItem) bool { return i.Job == j })
	return len(m.items) < before
}

// comparison runs the queue and the model side by side.
type comparison struct {
	q     *queue.Priority
	m     *model
	jobs  []*job
	clock int
}

var agings = []time.Duration{0, 1, time.Second, time.Minute, math.MaxInt64}

func TestTheQueueDoesAsTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		capacity := rapid.IntRange(1, 12).Draw(t, "capacity")
		aging := rapid.SampledFrom(agings).Draw(t, "aging")
		q, err := queue.NewPriority(queue.Options{Capacity: capacity, Aging: aging})
		if err != nil {
			t.Fatalf("NewPriority: %v", err)
		}
		c := &comparison{q: q, m: &model{capacity: capacity, aging: aging}}
		for range 30 {
			c.jobs = append(c.jobs, &job{})
		}
		t.Repeat(map[string]func(*rapid.T){
			"TryPush":      func(t *rapid.T) { c.add(t, c.q.TryPush, true) },
			"TryPushAgain": func(t *rapid.T) { c.add(t, c.q.TryPush, true) }, // more pushes than pops
			"Return":       func(t *rapid.T) { c.add(t, c.q.Return, false) },
			"TryPop":       c.tryPop,
			"SkipKind":     c.skipKinds,
			"TryPopInTurn": c.tryPopInTurn,
			"Remove":       c.remove,
			"Reprioritize": c.reprioritize,
			"SetCapacity":  c.setCapacity,
			"SetAging":     c.setAging,
			"tick":         func(t *rapid.T) { c.clock += rapid.IntRange(-2, 60).Draw(t, "seconds") },
			"Close":        c.close,
			"Drain":        c.drain,
			"":             c.same,
		})
	})
}

func (c *comparison) add(t *rapid.T, add func(time.Time, queue.Item) error, bounded bool) {
	item := queue.Item{
		Job:      rapid.SampledFrom(c.jobs).Draw(t, "job"),
		Priority: rapid.OneOf(rapid.IntRange(-2, 2), rapid.IntRange(-1000, 1000), rapid.Int()).Draw(t, "priority"),
		Created:  at(rapid.IntRange(c.clock-90, c.clock).Draw(t, "created")),
		Kind:     rapid.SampledFrom([]any{nil, "a", "b", 3}).Draw(t, "kind"),
	}
	if rapid.Bool().Draw(t, "delayed") {
		item.NotBefore = at(rapid.IntRange(c.clock-1, c.clock+90).Draw(t, "not before"))
	}
	got, want := add(at(c.clock), item), c.m.add(at(c.clock), item, bounded)
	if !errors.Is(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func (c *comparison) tryPop(t *rapid.T) {
	last := rapid.IntRange(0, 20).Draw(t, "skip")
	choice := rapid.SampledFrom([]queue.Choice{queue.Take, queue.Take, queue.Stop}).Draw(t, "then")
	c.m.advance(at(c.clock))
	expected := c.m.ready()
	seen := 0
	got, ok := c.q.TryPop(at(c.clock), func(j worker.Job) queue.Choice {
		if seen >= len(expected) || j != expected[seen].Job {
			t.Fatalf("job %d shown is not job %d of the model", seen, seen)
		}
		seen++
		if seen-1 == last {
			return choice
		}
		return queue.Skip
	})
	if taken := last < len(expected) && choice == queue.Take; ok != taken {
		t.Fatalf("TryPop is %v, want %v", ok, taken)
	}
	if seen != min(last+1, len(expected)) {
		t.Fatalf("%d jobs were shown of %d", seen, len(expected))
	}
	if ok {
		if got != expected[last].Job {
			t.Fatal("TryPop did not return the job taken")
		}
		c.m.remove(got)
	}
}

// skipKinds takes the first job of the last kind that is shown, after some jobs that are skipped one by one.
func (c *comparison) skipKinds(t *rapid.T) {
	c.m.advance(at(c.clock))
	alone := rapid.IntRange(0, 5).Draw(t, "alone")
	var expected []*modelItem
	passed := map[any]bool{}
	for _, i := range c.m.ready() {
		if !passed[i.Kind] {
			expected = append(expected, i)
			passed[i.Kind] = len(expected) > alone
		}
	}
	last, seen := rapid.IntRange(0, 8).Draw(t, "last"), 0
	got, ok := c.q.TryPop(at(c.clock), func(j worker.Job) queue.Choice {
		if seen >= len(expected) || j != expected[seen].Job {
			t.Fatalf("job %d shown is not the one of the model", seen)
		}
		seen++
		switch {
		case seen-1 == last:
			return queue.Take
		case seen > alone:
			return queue.SkipKind
		}
		return queue.Skip
	})
	if ok != (last < len(expected)) || seen != min(last+1, len(expected)) {
		t.Fatalf("TryPop is %v after %d jobs of %d", ok, seen, len(expected))
	}
	if ok {
		c.m.remove(got)
	}
}

// tryPopInTurn looks at some kinds: each shows its first job, and once.
func (c *comparison) tryPopInTurn(t *rapid.T) {
	c.m.advance(at(c.clock))
	first := map[any]*modelItem{}
	for _, i := range slices.Backward(c.m.ready()) {
		first[i.Kind] = i
	}
	last, seen := rapid.IntRange(0, 5).Draw(t, "last"), 0
	shown := map[any]bool{}
	got, ok := c.q.TryPopInTurn(at(c.clock), func(j worker.Job) queue.Choice {
		item := c.m.find(j)
		if item == nil || first[item.Kind] != item || shown[item.Kind] {
			t.Fatalf("%+v is shown, which is not the first of a kind that was not shown yet", item)
		}
		shown[item.Kind] = true
		if seen++; seen-1 == last {
			return queue.Take
		}
		return queue.SkipKind
	})
	if ok != (last < len(first)) || seen != min(last+1, len(first)) {
		t.Fatalf("TryPopInTurn is %v after %d kinds of %d", ok, seen, len(first))
	}
	if ok {
		c.m.remove(got)
	}
}

func (c *comparison) remove(t *rapid.T) {
	j := rapid.SampledFrom(c.jobs).Draw(t, "job")
	if got, want := c.q.Remove(j), c.m.remove(j); got != want {
		t.Fatalf("Remove is %v, want %v", got, want)
	}
}

func (c *comparison) reprioritize(t *rapid.T) {
	j := rapid.SampledFrom(c.jobs).Draw(t, "job")
	priority := rapid.IntRange(-1000, 1000).Draw(t, "priority")
	item := c.m.find(j)
	if item != nil {
		item.Priority = priority
	}
	if got, want := c.q.Reprioritize(j, priority), item != nil; got != want {
		t.Fatalf("Reprioritize is %v, want %v", got, want)
	}
}

func (c *comparison) setCapacity(t *rapid.T) {
	c.m.capacity = rapid.IntRange(1, 12).Draw(t, "capacity")
	if err := c.q.SetCapacity(c.m.capacity); err != nil {
		t.Fatalf("SetCapacity: %v", err)
	}
}

func (c *comparison) setAging(t *rapid.T) {
	c.m.aging = rapid.SampledFrom(agings).Draw(t, "aging")
	if err := c.q.SetAging(c.m.aging); err != nil {
		t.Fatalf("SetAging: %v", err)
	}
}

// close is rare, so that most runs go on for long.
func (c *comparison) close(t *rapid.T) {
	if rapid.IntRange(0, 9).Draw(t, "close at 0") != 0 {
		return
	}
	c.m.closed = true
	if err := c.q.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

// drain is rare likewise.
func (c *comparison) drain(t *rapid.T) {
	if rapid.IntRange(0, 9).Draw(t, "drain at 0") != 0 {
		return
	}
	expected := slices.Concat(c.m.ready(), c.m.delayed())
	c.m.items = nil
	got := c.q.Drain()
	if !slices.EqualFunc(got, expected, func(j worker.Job, i *modelItem) bool { return j == i.Job }) {
		t.Fatalf("drained %d jobs that are not the %d of the model, or not in their order", len(got), len(expected))
	}
}

func (c *comparison) same(t *rapid.T) {
	ready, delayed := c.m.ready(), c.m.delayed()
	if c.q.Len() != len(ready) || c.q.Delayed() != len(delayed) {
		t.Fatalf("Len %d, Delayed %d; want %d, %d", c.q.Len(), c.q.Delayed(), len(ready), len(delayed))
	}
	next, ok := c.q.NextReady()
	if ok != (len(delayed) > 0) || ok && !next.Equal(delayed[0].NotBefore) {
		t.Fatalf("NextReady is %v, %v", next, ok)
	}
	c.m.advance(at(c.clock))
	expected := slices.Concat(c.m.ready(), c.m.delayed())
	got := slices.Collect(c.q.All(at(c.clock)))
	if !slices.EqualFunc(got, expected, func(j worker.Job, i *modelItem) bool { return j == i.Job }) {
		t.Fatalf("All differs from the model at second %d: %d jobs, want %d", c.clock, len(got), len(expected))
	}
}
