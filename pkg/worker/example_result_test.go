package worker_test

import (
	"context"
	"fmt"
	"log"
	"math"

	"github.com/workerpool-dev/workerpool/pkg/worker"
)

// exampleRoot is a job that keeps what it finds in a field. Who has waited for the job may read it.
type exampleRoot struct{ of, is float64 }

func (r *exampleRoot) Process() error {
	if r.of < 0 {
		return fmt.Errorf("no root of %v", r.of)
	}
	r.is = math.Sqrt(r.of)
	return nil
}

func (r *exampleRoot) OnFailure(error) {} // who waits gets the error
func (r *exampleRoot) MaxRetries() int { return 0 }

// Wait for a job, and see how it ended.
func ExamplePool_SubmitResult() {
	ctx := context.Background()
	pool, err := worker.NewPool(worker.Options{})
	if err != nil {
		log.Fatal(err)
	}
	if err := pool.Start(); err != nil {
		log.Fatal(err)
	}
	for _, job := range []*exampleRoot{{of: 144}, {of: -1}} {
		result, err := pool.SubmitResult(ctx, job)
		if err != nil {
			log.Fatal(err) // it was not accepted
		}
		err = result.Wait(ctx)
		fmt.Println(job.is, err)
	}
	if err := pool.Stop(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// 12 <nil>
	// 0 no root of -1
}
