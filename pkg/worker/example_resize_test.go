package worker_test

import (
	"fmt"
	"log"

	"github.com/workerpool-dev/workerpool/pkg/worker"
)

// The number of workers can be changed at any time.
func ExamplePool_Resize() {
	pool, err := worker.NewPool(worker.Options{Workers: 2})
	if err != nil {
		log.Fatal(err)
	}
	if err := pool.Start(); err != nil {
		log.Fatal(err)
	}
	for _, n := range []int{8, 1, 0} {
		err := pool.Resize(n)
		fmt.Println(pool.Status().Workers, err)
	}
	if err := pool.Stop(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// 8 <nil>
	// 1 <nil>
	// 1 invalid argument: 0 workers, must be positive
}
