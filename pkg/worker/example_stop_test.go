package worker_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/workerpool-dev/workerpool/pkg/worker"
)

// exampleBackup is a job that takes long, but ends when it is told to.
type exampleBackup struct{ started chan<- string }

func (b *exampleBackup) ProcessContext(ctx context.Context) error {
	b.started <- "started"
	<-ctx.Done()
	return context.Cause(ctx)
}

func (b *exampleBackup) Process() error      { return b.ProcessContext(context.Background()) }
func (b *exampleBackup) OnFailure(err error) { log.Print(err) }
func (b *exampleBackup) MaxRetries() int     { return 0 }

// Stop with a deadline, and take back what is left: to write it down, or to give it to another pool.
func ExamplePool_StopContext() {
	pool, err := worker.NewPool(worker.Options{Workers: 1})
	if err != nil {
		log.Fatal(err)
	}
	if err := pool.Start(); err != nil {
		log.Fatal(err)
	}
	started := make(chan string)
	for range 3 {
		if err := pool.Submit(context.Background(), &exampleBackup{started}); err != nil {
			log.Fatal(err)
		}
	}
	fmt.Println(<-started)

	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
	defer cancel()
	left, err := pool.StopContext(ctx)
	fmt.Println(len(left), "jobs are left:", err) // the one that ran, and those that were queued
	// Output:
	// started
	// 3 jobs are left: context deadline exceeded
}
