package worker_test

import (
	"context"
	"testing"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/queue"
)

type funcJob func() error

func (f funcJob) Process() error { return f() }
func (funcJob) OnFailure(error)  {}
func (funcJob) MaxRetries() int  { return 0 }

func TestSmoke(t *testing.T) {
	p, err := worker.NewPool(worker.Options{Queue: queue.New(100), Workers: worker.NewWorkers(4)})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	n := 0
	if err := p.Submit(context.Background(), funcJob(func() error { n++; return nil })); err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(); err != nil {
		t.Fatal(err)
	}
	if n != 1 {
		t.Fatal(n)
	}
	t.Logf("%+v", p.Status())
}
