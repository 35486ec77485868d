package worker_test

import (
	"context"
	"fmt"
	"log"
	"sync"

	"github.com/workerpool-dev/workerpool/pkg/worker"
)

// exampleClerk is a worker that has something its jobs need: here a desk, elsewhere a connection or a
// loaded model. It tries each job once and reserves nothing: a worker of one's own does all of that
// itself.
type exampleClerk struct {
	id   int
	jobs worker.QueueContext
	desk string

	working sync.WaitGroup
	cancel  context.CancelFunc // set by Start

	mu     sync.Mutex
	status worker.WorkerStatus
}

func exampleNewClerk(id int, jobs worker.Queue, _ worker.ResourceController) worker.Worker {
	return &exampleClerk{
		id:     id,
		jobs:   jobs.(worker.QueueContext), // the queues of this module are
		desk:   fmt.Sprintf("desk %d", id),
		status: worker.WorkerStatus{State: worker.WorkerNew},
	}
}

func (c *exampleClerk) Start() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch c.status.State {
	case worker.WorkerStopping, worker.WorkerStopped:
		return worker.ErrStopped
	case worker.WorkerNew:
		var ctx context.Context
		ctx, c.cancel = context.WithCancel(context.Background())
		c.status.Running, c.status.State = true, worker.WorkerIdle
		c.working.Go(func() { c.work(ctx) })
	}
	return nil
}

func (c *exampleClerk) work(ctx context.Context) {
	for {
		job, err := c.jobs.PopContext(ctx)
		if err != nil {
			return // after Stop, or when the queue is closed and empty
		}
		c.begin(job)
		if err = c.process(job); err != nil {
			job.OnFailure(err)
		}
		c.end(err)
	}
}

func (c *exampleClerk) process(job worker.Job) error {
	if form, ok := job.(*exampleForm); ok {
		return form.ProcessAt(c.desk)
	}
	return job.Process()
}

func (c *exampleClerk) begin(job worker.Job) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status.CurrentJob = &worker.JobInfo{ID: fmt.Sprintf("%T", job), Attempt: 1}
	if c.status.State == worker.WorkerIdle {
		c.status.State = worker.WorkerBusy
	}
}

func (c *exampleClerk) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status.CurrentJob = nil
	c.status.ProcessedJobs++
	if err != nil {
		c.status.FailedJobs++
	}
	if c.status.State == worker.WorkerBusy {
		c.status.State = worker.WorkerIdle
	}
}

func (c *exampleClerk) Stop() error {
	c.mu.Lock()
	if c.status.State != worker.WorkerStopped {
		c.status.State = worker.WorkerStopping
	}
	if c.cancel != nil {
		c.cancel()
	}
	c.mu.Unlock()
	c.working.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status.Running, c.status.State = false, worker.WorkerStopped
	return nil
}

func (c *exampleClerk) ID() int { return c.id }

func (c *exampleClerk) Status() worker.WorkerStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	status := c.status
	if status.CurrentJob != nil {
		status.CurrentJob = new(*status.CurrentJob)
	}
	return status
}

// exampleForm is a job that needs a desk.
type exampleForm struct{ filled chan<- string }

func (f *exampleForm) ProcessAt(desk string) error {
	f.filled <- "filled at " + desk
	return nil
}

func (f *exampleForm) Process() error      { return fmt.Errorf("no desk: %w", worker.ErrInvalid) }
func (f *exampleForm) OnFailure(err error) { log.Print(err) }
func (f *exampleForm) MaxRetries() int     { return 0 }

// Workers of your own. They take jobs from the pool's queue by themselves.
func ExampleWorker() {
	pool, err := worker.NewPool(worker.Options{Workers: exampleNewClerk, WorkerCount: 1})
	if err != nil {
		log.Fatal(err)
	}
	if err := pool.Start(); err != nil {
		log.Fatal(err)
	}
	filled := make(chan string)
	for range 2 {
		if err := pool.Submit(context.Background(), &exampleForm{filled}); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(<-filled)
	fmt.Println(<-filled)
	if err := pool.Stop(); err != nil { // a clerk leaves what is still queued
		log.Fatal(err)
	}
	// Output:
	// filled at desk 0
	// filled at desk 0
}
