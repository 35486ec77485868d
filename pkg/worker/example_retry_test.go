package worker_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/workerpool-dev/workerpool/pkg/worker"
)

// exampleMail is a job that fails at first.
type exampleMail struct {
	to    string
	tries int
}

func (m *exampleMail) Process() error {
	m.tries++
	if m.to == "nobody" || m.tries < 3 {
		return errors.New("no connection")
	}
	fmt.Printf("sent to %s, try %d\n", m.to, m.tries)
	return nil
}

func (m *exampleMail) MaxRetries() int { return 4 } // so there are up to 5 tries

func (m *exampleMail) OnFailure(err error) {
	fmt.Printf("given up %s after try %d: %v\n", m.to, m.tries, err)
}

// Retries wait longer each time, in the queue and not in a worker.
func ExampleBackoff() {
	ctx := context.Background()
	pool, err := worker.NewPool(worker.Options{
		Workers: 2,
		Backoff: worker.Backoff{Initial: time.Millisecond, Factor: 1.5, Max: time.Minute},
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := pool.Start(); err != nil {
		log.Fatal(err)
	}
	for _, to := range []string{"Ada", "nobody"} {
		result, err := pool.SubmitResult(ctx, &exampleMail{to: to})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(result.Wait(ctx))
	}
	if err := pool.Stop(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// sent to Ada, try 3
	// <nil>
	// given up nobody after try 5: no connection
	// no connection
}
