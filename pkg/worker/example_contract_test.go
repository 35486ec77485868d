package worker_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/jobtest"
	"github.com/workerpool-dev/workerpool/pkg/worker/mock"
	"github.com/workerpool-dev/workerpool/pkg/worker/queue"
	"github.com/workerpool-dev/workerpool/pkg/worker/queue/queuetest"
	"github.com/workerpool-dev/workerpool/pkg/worker/worker/workertest"
)

func TestLanesKeepTheContractOfAQueue(t *testing.T) {
	queuetest.Run(t, func(_ *testing.T, capacity int) worker.Queue { return &exampleLanes{room: capacity} })
}

func TestClerkKeepsTheContractOfAWorker(t *testing.T) {
	workertest.Run(t, func(*testing.T) workertest.Subject {
		jobs := queue.New(10)
		return workertest.Subject{
			Worker: exampleNewClerk(7, jobs, nil),
			Give: func(t *testing.T) func(error) {
				result := make(chan error, 1)
				if err := jobs.Push(&mock.Job{ProcessFunc: func() error { return <-result }}); err != nil {
					t.Fatal(err)
				}
				return func(err error) { result <- err }
			},
		}
	})
}

func TestRootKeepsTheContractOfAJob(t *testing.T) {
	jobtest.Run(t, func(*testing.T) worker.Job { return &exampleRoot{of: -1} })
}

func TestRetriesTakeNoTimeInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pool, err := worker.NewPool(worker.Options{Backoff: worker.Backoff{Initial: time.Hour}})
		if err != nil {
			t.Fatal(err)
		}
		if err := pool.Start(); err != nil {
			t.Fatal(err)
		}
		job := &mock.Job{ProcessFunc: mock.FailTimes(2, errors.New("no connection")), Retries: 3}
		if err := pool.Submit(t.Context(), job); err != nil {
			t.Fatal(err)
		}
		if err := pool.Stop(); err != nil { // waits for hours, which pass at once
			t.Fatal(err)
		}
		if job.Tries() != 3 {
			t.Errorf("%d tries, want 3", job.Tries())
		}
	})
}
