package mock_test

import (
	"errors"
	"fmt"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/mock"
)

// newsletter is the code under test: it sends a mail to each address with a pool, and says how many
// have no place.
type newsletter struct{ pool worker.Manager }

func (n *newsletter) send(jobs ...worker.Job) (refused int, err error) {
	for _, j := range jobs {
		switch err := n.pool.Queue().Push(j); {
		case errors.Is(err, worker.ErrFull):
			refused++
		case err != nil:
			return refused, fmt.Errorf("send: %w", err)
		}
	}
	return refused, nil
}

func (n *newsletter) progress() string {
	s := n.pool.Status()
	return fmt.Sprintf("%d of %d, %d failed", s.ProcessedJobs, s.ProcessedJobs+uint64(s.QueueSize+s.ActiveJobs), s.FailedJobs)
}

// A test that runs jobs one by one.
func Example() {
	pool := mock.NewManager(1, mock.NewQueue(1))
	_ = pool.Start()
	n := &newsletter{pool}

	good := &mock.Job{}
	bad := &mock.Job{ProcessFunc: mock.FailTimes(1, errors.New("no such address"))}
	fmt.Println(n.send(good, bad, &mock.Job{}))
	fmt.Println(n.progress())
	for len(pool.Active()) > 0 {
		job := pool.Active()[0]
		pool.End(job, job.Process())
		fmt.Println(n.progress())
	}
	fmt.Println("tries:", good.Tries(), bad.Tries())
	// Output:
	// 1 <nil>
	// 0 of 2, 0 failed
	// 1 of 2, 0 failed
	// 2 of 2, 1 failed
	// tries: 1 1
}

// A test of what happens when something fails.
func Example_script() {
	queue := mock.NewQueue(10)
	queue.BeforePush = func(worker.Job) error { return worker.ErrClosed }
	n := &newsletter{mock.NewManager(1, queue)}
	fmt.Println(n.send(&mock.Job{}, &mock.Job{}))
	fmt.Println("pushes:", len(queue.Pushes()))
	// Output:
	// 0 send: queue is closed
	// pushes: 1
}

func ExampleWorker() {
	w := mock.NewWorker(1)
	end := w.Give(worker.JobInfo{ID: "resize 7.png"})
	fmt.Println(w.Status().State)
	_ = w.Start()
	fmt.Println(w.Status().State, w.Status().CurrentJob.ID)
	end(errors.New("not a picture"))
	fmt.Println(w.Status().State, w.Status().ProcessedJobs, w.Status().FailedJobs)
	// Output:
	// new
	// busy resize 7.png
	// idle 1 1
}
