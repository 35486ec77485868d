package resource_test

import (
	"fmt"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/resource"
)

func ExampleNewController() {
	c := resource.NewController(worker.ResourceLimits{Memory: 1 << 30, CPU: 2})

	job := worker.ResourceUsage{Memory: 600 << 20, CPU: 0.5, Files: 100} // files are not limited here
	fmt.Println(c.Acquire(job))
	fmt.Println(c.Acquire(job))
	c.Release(job)
	fmt.Println(c.Acquire(job))

	fmt.Println(c.Check(worker.ResourceUsage{Memory: 3 << 30}))
	// Output:
	// <nil>
	// resources are in use
	// <nil>
	// memory: 3221225472 bytes asked, limit 1073741824
}
