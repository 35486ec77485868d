package worker_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/queue"
)

// exampleCall is a job that asks for a place in the queue.
type exampleCall struct {
	to       string
	priority int
}

func (c *exampleCall) Priority() int { return c.priority }

func (c *exampleCall) Process() error {
	fmt.Println("call", c.to)
	return nil
}

func (c *exampleCall) OnFailure(err error) { log.Print(err) }
func (c *exampleCall) MaxRetries() int     { return 0 }

// One step of priority is worth five minutes of waiting.
func ExampleOptions_priority() {
	calls, err := queue.NewPriority(queue.Options{Capacity: 100, Aging: 5 * time.Minute})
	if err != nil {
		log.Fatal(err)
	}
	pool, err := worker.NewPool(worker.Options{Workers: 1, Queue: calls})
	if err != nil {
		log.Fatal(err)
	}
	for _, job := range []*exampleCall{{"Ada", 0}, {"the fire brigade", 10}, {"Grace", 0}} {
		if err := pool.Submit(context.Background(), job); err != nil {
			log.Fatal(err)
		}
	}
	if err := pool.Start(); err != nil {
		log.Fatal(err)
	}
	if err := pool.Stop(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// call the fire brigade
	// call Ada
	// call Grace
}
