package worker_test

import (
	"context"
	"fmt"
	"log"

	"github.com/workerpool-dev/workerpool/pkg/worker"
)

// exampleGreeting is a job.
type exampleGreeting struct{ name string }

func (g *exampleGreeting) Process() error {
	fmt.Println("Hello,", g.name)
	return nil
}

func (g *exampleGreeting) OnFailure(err error) { log.Print(err) }
func (g *exampleGreeting) MaxRetries() int     { return 0 }

func Example() {
	pool, err := worker.NewPool(worker.Options{Workers: 1})
	if err != nil {
		log.Fatal(err)
	}
	if err := pool.Start(); err != nil {
		log.Fatal(err)
	}
	for _, name := range []string{"Ada", "Grace"} {
		if err := pool.Submit(context.Background(), &exampleGreeting{name}); err != nil {
			log.Fatal(err)
		}
	}
	if err := pool.Stop(); err != nil { // runs all that was submitted, and waits for it
		log.Fatal(err)
	}
	// Output:
	// Hello, Ada
	// Hello, Grace
}
