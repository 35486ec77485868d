package queue_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/queue"
)

func ExampleNew() {
	q := queue.New(2)
	fmt.Println(q.Push(&mail{to: "me"}))
	fmt.Println(q.Push(&mail{to: "you"}))
	fmt.Println(q.Push(&mail{to: "everyone"}))
	_ = q.Close() // no more jobs; Pop drains those that are there
	for {
		job, err := q.Pop()
		if errors.Is(err, worker.ErrClosed) {
			return
		}
		_ = job.Process()
	}
	// Output:
	// <nil>
	// <nil>
	// queue is full
	// to me
	// to you
}

// Where jobs come faster than they are done, those who push are held back.
func ExampleFIFO_PushContext() {
	q := queue.New(1)
	_ = q.Push(&mail{to: "me"})

	ctx, cancel := context.WithTimeoutCause(context.Background(), time.Millisecond, errors.New("the mail is late"))
	defer cancel()
	fmt.Println(q.PushContext(ctx, &mail{to: "you"}))

	go func() { _, _ = q.Pop() }() // makes room
	fmt.Println(q.PushContext(context.Background(), &mail{to: "you"}), q.Len())
	// Output:
	// the mail is late
	// <nil> 1
}

// What failed goes back and comes again when its time has come. Close waits for it: Pop returns
// ErrClosed only once nothing is left.
func ExampleFIFO_Requeue() {
	q := queue.New(10)
	_ = q.Push(&mail{to: "a busy server"})
	_ = q.Push(&mail{to: "me"})
	_ = q.Close()
	for try := 1; ; try++ {
		job, err := q.Pop()
		if err != nil {
			fmt.Println(err)
			return
		}
		if try == 1 {
			_ = q.Requeue(job, time.Millisecond)
			continue
		}
		_ = job.Process()
	}
	// Output:
	// to me
	// to a busy server
	// queue is closed
}
