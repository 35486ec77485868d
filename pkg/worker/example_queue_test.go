package worker_test

import (
	"context"
	"fmt"
	"log"
	"sync"

	"github.com/workerpool-dev/workerpool/pkg/worker"
)

// exampleLanes is a queue of two lanes: jobs with a priority above 0 overtake all others.
type exampleLanes struct {
	mu      sync.Mutex
	room    int
	closed  bool
	lanes   [2][]worker.Job   // the fast one first
	waiting []chan worker.Job // the calls of Pop that wait: none while there is a job
}

func (q *exampleLanes) Push(job worker.Job) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case job == nil:
		return worker.ErrInvalid
	case q.closed:
		return worker.ErrClosed
	case len(q.waiting) > 0:
		q.waiting[0] <- job
		q.waiting = q.waiting[1:]
		return nil
	case len(q.lanes[0])+len(q.lanes[1]) == q.room:
		return worker.ErrFull
	}
	lane := 1
	if p, ok := job.(worker.Prioritized); ok && p.Priority() > 0 {
		lane = 0
	}
	q.lanes[lane] = append(q.lanes[lane], job)
	return nil
}

func (q *exampleLanes) Pop() (worker.Job, error) {
	if job, ok := <-q.next(); ok {
		return job, nil
	}
	return nil, worker.ErrClosed
}

// next returns a channel that gets the next job, or is closed if none will come.
func (q *exampleLanes) next() <-chan worker.Job {
	next := make(chan worker.Job, 1)
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, lane := range q.lanes {
		if len(lane) > 0 {
			q.lanes[i] = lane[1:]
			next <- lane[0]
			return next
		}
	}
	if q.closed {
		close(next)
		return next
	}
	q.waiting = append(q.waiting, next)
	return next
}

func (q *exampleLanes) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.lanes[0]) + len(q.lanes[1])
}

func (q *exampleLanes) Close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for _, next := range q.waiting {
		close(next)
	}
	q.waiting = nil
	return nil
}

// exampleTrip is a job.
type exampleTrip struct {
	by   string
	fast bool
}

func (r *exampleTrip) Priority() int {
	if r.fast {
		return 1
	}
	return 0
}

func (r *exampleTrip) Process() error {
	fmt.Println("by", r.by)
	return nil
}

func (r *exampleTrip) OnFailure(err error) { log.Print(err) }
func (r *exampleTrip) MaxRetries() int     { return 0 }

// A queue of your own: four methods.
func ExampleQueue() {
	pool, err := worker.NewPool(worker.Options{Workers: 1, Queue: &exampleLanes{room: 100}})
	if err != nil {
		log.Fatal(err)
	}
	for _, job := range []*exampleTrip{{by: "bicycle"}, {by: "bus"}, {by: "train", fast: true}} {
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
	// by train
	// by bicycle
	// by bus
}
