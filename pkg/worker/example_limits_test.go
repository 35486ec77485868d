package worker_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/resource"
)

// exampleFrame is a job that takes memory while it runs.
type exampleFrame struct {
	memory int64
	render func()
}

func (f *exampleFrame) Resources() worker.ResourceUsage {
	return worker.ResourceUsage{Memory: f.memory, CPU: 0.5}
}

func (f *exampleFrame) Process() error {
	f.render()
	return nil
}

func (f *exampleFrame) OnFailure(err error) { log.Print(err) }
func (f *exampleFrame) MaxRetries() int     { return 0 }

// Four workers, but never more memory in use than there is.
func ExampleOptions_resource() {
	ctx := context.Background()
	limits := worker.ResourceLimits{Memory: 1 << 30, CPU: 8}
	controller := resource.NewController(limits)
	pool, err := worker.NewPool(worker.Options{Workers: 4, Resource: controller})
	if err != nil {
		log.Fatal(err)
	}
	if err := pool.Start(); err != nil {
		log.Fatal(err)
	}
	render := func() { fmt.Println(controller.Status().Used.Memory>>20, "MiB in use") }
	for range 3 {
		if err := pool.Submit(ctx, &exampleFrame{600 << 20, render}); err != nil {
			log.Fatal(err)
		}
	}
	err = pool.Submit(ctx, &exampleFrame{2 << 30, render})
	if err := pool.Stop(); err != nil {
		log.Fatal(err)
	}
	fmt.Println(errors.Is(err, worker.ErrTooLarge), err)
	// Output:
	// 600 MiB in use
	// 600 MiB in use
	// 600 MiB in use
	// true memory: 2147483648 bytes asked, limit 1073741824
}
