package feed_test

import (
	"context"
	"sync"
	"testing"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/internal/feed"
	"github.com/workerpool-dev/workerpool/pkg/worker/queue"
)

// plain is the least that a queue can be.
type plain struct {
	mu      sync.Mutex
	changed sync.Cond
	size    int
	closed  bool
	jobs    []worker.Job

	// Hooks of tests, called without mu; nil does nothing.
	popped  func(worker.Job)
	refuses func(worker.Job) error
}

func newPlain(size int) *plain {
	q := &plain{size: size}
	q.changed.L = &q.mu
	return q
}

func (q *plain) Push(j worker.Job) error {
	if q.refuses != nil {
		if err := q.refuses(j); err != nil {
			return err
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return worker.ErrClosed
	case len(q.jobs) >= q.size:
		return worker.ErrFull
	}
	q.jobs = append(q.jobs, j)
	q.changed.Broadcast()
	return nil
}

func (q *plain) Pop() (worker.Job, error) {
	j, err := q.pop()
	if err == nil && q.popped != nil {
		q.popped(j)
	}
	return j, err
}

func (q *plain) pop() (worker.Job, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.jobs) == 0 {
		if q.closed {
			return nil, worker.ErrClosed
		}
		q.changed.Wait()
	}
	j := q.jobs[0]
	q.jobs = q.jobs[1:]
	return j, nil
}

func (q *plain) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.jobs)
}

func (q *plain) Close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.changed.Broadcast()
	return nil
}

// waiting is a queue whose waits can be bounded, and that takes nothing back.
type waiting struct{ worker.QueueContext }

// popping is a queue whose Pop can be bounded, but not its Push.
type popping struct {
	worker.Queue
	pop func(context.Context) (worker.Job, error)
}

func (q popping) PopContext(ctx context.Context) (worker.Job, error) { return q.pop(ctx) }

func newPriority(t testing.TB, size int) *queue.Priority {
	t.Helper()
	q, err := queue.NewPriority(queue.Options{Capacity: size})
	if err != nil {
		t.Fatalf("NewPriority: %v", err)
	}
	return q
}

// kind is a feed and the queue that it feeds from.
type kind struct {
	name string
	make func(t testing.TB, size int) (worker.Queue, feed.Feed[worker.Job])

	// stays: Stop ends a Next that waits only once the queue gives a job or is closed.
	stays bool
}

var kinds = []kind{
	{name: "FIFO", make: func(_ testing.TB, size int) (worker.Queue, feed.Feed[worker.Job]) {
		q := queue.New(size)
		return q, q.Feed(q)
	}},
	{name: "plain queue", stays: true, make: func(_ testing.TB, size int) (worker.Queue, feed.Feed[worker.Job]) {
		return foreign(newPlain(size))
	}},
	{name: "queue with PopContext", make: func(_ testing.TB, size int) (worker.Queue, feed.Feed[worker.Job]) {
		q := queue.New(size)
		return foreign(popping{q, q.PopContext})
	}},
	{name: "queue with PushContext", make: func(_ testing.TB, size int) (worker.Queue, feed.Feed[worker.Job]) {
		return foreign(waiting{queue.New(size)})
	}},
	{name: "foreign FIFO", make: func(_ testing.TB, size int) (worker.Queue, feed.Feed[worker.Job]) {
		return foreign(queue.New(size))
	}},
	{name: "foreign Priority", make: func(t testing.TB, size int) (worker.Queue, feed.Feed[worker.Job]) {
		return foreign(newPriority(t, size))
	}},
	{name: "Priority", make: func(t testing.TB, size int) (worker.Queue, feed.Feed[worker.Job]) {
		q := newPriority(t, size)
		return q, q.Feed(q)
	}},
}

func foreign(q worker.Queue) (worker.Queue, feed.Feed[worker.Job]) {
	return q, feed.NewForeign[worker.Job](q)
}

// forAll runs a test for each kind of feed.
func forAll(t *testing.T, test func(t *testing.T, k kind)) {
	t.Helper()
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) { test(t, k) })
	}
}
