package worker_test

import (
	"context"
	"testing"
	"time"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/jobtest"
	"github.com/workerpool-dev/workerpool/pkg/worker/pool/pooltest"
	"github.com/workerpool-dev/workerpool/pkg/worker/queue"
	"github.com/workerpool-dev/workerpool/pkg/worker/worker/workertest"
)

// told is a job that ends when it is told to.
type told struct {
	job
	end chan error
}

func newTold() *told {
	j := &told{end: make(chan error, 1)}
	j.process = func() error { return <-j.end }
	return j
}

func (j *told) tell(err error) { j.end <- err }

// RetryDelay has it tried again at once.
func (j *told) RetryDelay(int, error) time.Duration { return 0 }

func TestPoolKeepsTheContractOfManager(t *testing.T) {
	newQueues := map[string]func(capacity int) worker.Queue{
		"FIFO":  func(capacity int) worker.Queue { return queue.New(capacity) },
		"plain": func(capacity int) worker.Queue { return plain{queue.New(capacity)} },
		"Priority": func(capacity int) worker.Queue {
			q, err := queue.NewPriority(queue.Options{Capacity: capacity})
			if err != nil {
				panic(err)
			}
			return q
		},
	}
	for name, newQueue := range newQueues {
		t.Run(name, func(t *testing.T) {
			pooltest.Run(t, func(t *testing.T, workers, capacity int) pooltest.Subject {
				p, err := worker.NewPool(worker.Options{Workers: workers, Queue: newQueue(capacity)})
				wantErr(t, err, nil)
				s := pooltest.Subject{Manager: p, Submit: func(*testing.T) (func(error), error) {
					j := newTold()
					return j.tell, p.Queue().Push(j)
				}}
				if name == "plain" { // each worker may have a job in its hand that nobody has counted
					s.Slack = workers
				}
				return s
			})
		})
	}
}

func TestWorkersOfAPoolKeepTheContractOfWorker(t *testing.T) {
	workertest.Run(t, func(t *testing.T) workertest.Subject {
		p, err := worker.NewPool(worker.Options{Workers: 1})
		wantErr(t, err, nil)
		give := func(retries int) func(t *testing.T) func(error) {
			return func(t *testing.T) func(error) {
				j := newTold()
				j.retries = retries
				wantErr(t, p.Queue().Push(j), nil)
				return j.tell
			}
		}
		return workertest.Subject{Worker: p.Workers()[0], Give: give(0), GiveRetried: give(1)}
	})
}

func TestJobsOfTheTestsKeepTheContractOfJob(t *testing.T) {
	for name, newJob := range map[string]func() worker.Job{
		"plain":   func() worker.Job { return &job{retries: 2, process: fails} },
		"context": func() worker.Job { return &contextJob{lasts: time.Nanosecond} },
		"timed":   func() worker.Job { return &limited{limit: time.Second} },
		"sized":   func() worker.Job { return &sized{usage: worker.ResourceUsage{Files: 1}} },
		"prioritized": func() worker.Job {
			return &prioritized{patient: patient{delay: func(int, error) time.Duration { return 0 }}}
		},
		"named": func() worker.Job { return &named{id: "a"} },
		"submitted for its result": func() worker.Job {
			q := queue.New(1)
			p, err := worker.NewPool(worker.Options{Queue: q})
			wantErr(t, err, nil)
			_, err = p.SubmitResult(context.Background(), &job{retries: 1})
			wantErr(t, err, nil)
			j, _ := q.Pop()
			return j
		},
	} {
		t.Run(name, func(t *testing.T) {
			jobtest.Run(t, func(*testing.T) worker.Job { return newJob() })
		})
	}
}
