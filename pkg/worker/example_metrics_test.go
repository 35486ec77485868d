package worker_test

import (
	"context"
	"errors"
	"expvar"
	"fmt"
	"log"

	"github.com/workerpool-dev/workerpool/pkg/worker"
)

// exampleCheck is a job.
type exampleCheck struct{ err error }

func (c *exampleCheck) Process() error  { return c.err }
func (c *exampleCheck) OnFailure(error) {}
func (c *exampleCheck) MaxRetries() int { return 0 }

// examplePools has the status of each pool of the program, by its name.
var examplePools = expvar.NewMap("workerpools")

// Publish the status of a pool: a program with an HTTP server shows it at /debug/vars.
func ExamplePool_Status() {
	pool, err := worker.NewPool(worker.Options{Workers: 4})
	if err != nil {
		log.Fatal(err)
	}
	examplePools.Set("checks", expvar.Func(func() any { return pool.Status() }))
	if err := pool.Start(); err != nil {
		log.Fatal(err)
	}
	for _, job := range []*exampleCheck{{}, {}, {errors.New("no answer")}} {
		result, err := pool.SubmitResult(context.Background(), job)
		if err != nil {
			log.Fatal(err)
		}
		<-result.Done()
	}
	fmt.Println(expvar.Get("workerpools"))
	if err := pool.Stop(); err != nil {
		log.Fatal(err)
	}
	// Output: {"checks": {"Workers":4,"QueueSize":0,"ProcessedJobs":3,"FailedJobs":1,"ActiveJobs":0}}
}
