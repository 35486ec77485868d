package worker_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	"github.com/workerpool-dev/workerpool/pkg/worker"
)

// exampleDownload is a job that can be told to end.
type exampleDownload struct{ url string }

// ProcessContext stands for a request to a server that does not answer.
func (d *exampleDownload) ProcessContext(ctx context.Context) error {
	<-ctx.Done()
	return fmt.Errorf("%s: %w", d.url, ctx.Err())
}

// Process makes it a Job. The workers of a pool call ProcessContext instead.
func (d *exampleDownload) Process() error { return d.ProcessContext(context.Background()) }

// Timeout is for one try. Without this method Options.Timeout counts.
func (d *exampleDownload) Timeout() time.Duration { return time.Millisecond }

func (d *exampleDownload) OnFailure(err error) {
	fmt.Println(err)
	fmt.Println("because of its timeout:", errors.Is(err, worker.ErrTimeout))
}

func (d *exampleDownload) MaxRetries() int { return 0 }

// A job with a timeout of its own.
func ExampleTimed() {
	pool, err := worker.NewPool(worker.Options{Workers: 1, Timeout: time.Minute})
	if err != nil {
		log.Fatal(err)
	}
	if err := pool.Start(); err != nil {
		log.Fatal(err)
	}
	if err := pool.Submit(context.Background(), &exampleDownload{"http://example.com"}); err != nil {
		log.Fatal(err)
	}
	if err := pool.Stop(); err != nil {
		log.Fatal(err)
	}
	// Output:
	// timeout after 1ms: http://example.com: context deadline exceeded
	// because of its timeout: true
}
