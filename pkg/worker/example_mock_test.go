package worker_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/mock"
)

// exampleInvite is code to be tested. It knows the queue only by its interface.
func exampleInvite(q worker.Queue, names ...string) (uninvited []string) {
	for _, name := range names {
		if err := q.Push(&exampleGreeting{name}); err != nil {
			uninvited = append(uninvited, name)
		}
	}
	return uninvited
}

// A queue that does what the test says, and tells what was done to it.
func Example_mockQueue() {
	q := mock.NewQueue(2)
	q.BeforePush = func(job worker.Job) error {
		if job.(*exampleGreeting).name == "Eve" {
			return errors.New("not her")
		}
		return nil
	}
	fmt.Println("uninvited:", exampleInvite(q, "Ada", "Eve", "Grace", "Mallory"))
	fmt.Println("pushed:", len(q.Pushes()), "queued:", q.Len())
	// Output:
	// uninvited: [Eve Mallory]
	// pushed: 4 queued: 2
}

// A job that fails twice, in a real pool.
func Example_mockJob() {
	ctx := context.Background()
	pool, err := worker.NewPool(worker.Options{Backoff: worker.Backoff{Initial: time.Millisecond}})
	if err != nil {
		log.Fatal(err)
	}
	if err := pool.Start(); err != nil {
		log.Fatal(err)
	}
	job := &mock.Job{ProcessFunc: mock.FailTimes(2, errors.New("no connection")), Retries: 3}
	result, err := pool.SubmitResult(ctx, job)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(result.Wait(ctx), job.Tries(), len(job.Failures()))
	if err := pool.Stop(); err != nil {
		log.Fatal(err)
	}
	// Output: <nil> 3 0
}

// A pool in which nothing happens by itself.
func Example_mockManager() {
	var pool worker.Manager = mock.NewManager(1, mock.NewQueue(10))
	m := pool.(*mock.Manager)
	if err := pool.Start(); err != nil {
		log.Fatal(err)
	}
	uninvited := exampleInvite(pool.Queue(), "Ada", "Grace")
	fmt.Println(uninvited, pool.Status().ActiveJobs, pool.Status().QueueSize)

	ada := m.Active()[0]
	m.End(ada, errors.New("she can't come"))
	fmt.Println(pool.Status().FailedJobs, pool.Status().ActiveJobs, pool.Status().QueueSize)
	// Output:
	// [] 1 1
	// 1 1 0
}
