package queue_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/queue"
)

// mail is a job with a priority.
type mail struct {
	to     string
	urgent int
}

func (m *mail) Process() error  { fmt.Println("to", m.to); return nil }
func (m *mail) OnFailure(error) {}
func (m *mail) MaxRetries() int { return 3 }
func (m *mail) Priority() int   { return m.urgent }

func ExampleNewPriority() {
	q, err := queue.NewPriority(queue.Options{Capacity: 100, Aging: 5 * time.Minute})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, m := range []*mail{{to: "everyone"}, {to: "the fire brigade", urgent: 10}, {to: "me"}} {
		if err := q.Push(m); err != nil {
			fmt.Println(err)
		}
	}
	_ = q.Close() // no more jobs; Pop drains those that are there
	for {
		job, err := q.Pop()
		if errors.Is(err, worker.ErrClosed) {
			return
		}
		_ = job.Process()
	}
	// Output:
	// to the fire brigade
	// to everyone
	// to me
}

// A scheduler takes what fits and leaves the rest in its place.
func ExamplePriority_TryPop() {
	q, _ := queue.NewPriority(queue.Options{Capacity: 100})
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i, to := range []string{"a busy printer", "a free printer", "another free printer"} {
		_ = q.TryPush(now, queue.Item{Job: &mail{to: to}, Created: now.Add(time.Duration(i))})
	}
	job, ok := q.TryPop(now, func(j worker.Job) queue.Choice {
		if j.(*mail).to == "a busy printer" {
			return queue.Skip
		}
		return queue.Take
	})
	fmt.Println(job.(*mail).to, ok, q.Len())
	// Output: a free printer true 2
}
