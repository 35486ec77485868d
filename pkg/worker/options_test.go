package worker_test

import (
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/queue"
	"github.com/workerpool-dev/workerpool/pkg/worker/resource"
)

type builder = func(int, worker.Queue, worker.ResourceController) worker.Worker

func TestOptionsThatMakeSense(t *testing.T) {
	build := func(id int, q worker.Queue, _ worker.ResourceController) worker.Worker { return newOwn(id, q) }
	q := queue.New(5)
	for name, c := range map[string]struct {
		options worker.Options
		workers int
	}{
		"nothing":        {worker.Options{}, runtime.GOMAXPROCS(0)},
		"an int":         {worker.Options{Workers: 4, QueueSize: 100}, 4},
		"NewWorkers":     {worker.Options{Workers: worker.NewWorkers(3)}, 3},
		"own workers":    {worker.Options{Workers: []worker.Worker{newOwn(7, q), newOwn(8, q)}, Queue: q}, 2},
		"built workers":  {worker.Options{Workers: build, WorkerCount: 3}, 3},
		"all of the own": {worker.Options{Queue: queue.New(1), Resource: resource.NewController(worker.ResourceLimits{}), Workers: 2}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := worker.NewPool(c.options)
			if err != nil {
				t.Fatalf("NewPool: %v", err)
			}
			wantErr(t, p.Start(), nil)
			if got := len(p.Workers()); got != c.workers {
				t.Errorf("%d workers, want %d", got, c.workers)
			}
			if got := p.Status().Workers; got != c.workers {
				t.Errorf("status has %d workers, want %d", got, c.workers)
			}
			if c.options.Queue != nil && p.Queue() != c.options.Queue {
				t.Error("Queue is not the one of the options")
			}
			stop(t, p)
		})
	}
}

func TestOptionsWithoutSenseAreRefusedWithTheReason(t *testing.T) {
	q := queue.New(1)
	for name, c := range map[string]struct {
		options worker.Options
		says    string
	}{
		"no workers":              {worker.Options{Workers: 0}, "0 Workers"},
		"negative workers":        {worker.Options{Workers: -1}, "-1 Workers"},
		"NewWorkers of none":      {worker.Options{Workers: worker.NewWorkers(0)}, "0 Workers"},
		"an int64":                {worker.Options{Workers: int64(4)}, "int64"},
		"a string":                {worker.Options{Workers: "4"}, "string"},
		"empty workers":           {worker.Options{Workers: []worker.Worker{}}, "empty"},
		"a nil worker":            {worker.Options{Workers: []worker.Worker{newOwn(1, q), nil}}, "Workers[1] is nil"},
		"a nil pointer worker":    {worker.Options{Workers: []worker.Worker{(*own)(nil)}}, "Workers[0] is nil"},
		"two of one ID":           {worker.Options{Workers: []worker.Worker{newOwn(1, q), newOwn(1, q)}}, "the ID 1"},
		"a function without n":    {worker.Options{Workers: (func(int, worker.Queue, worker.ResourceController) worker.Worker { return nil })}, "WorkerCount"},
		"a nil function":          {worker.Options{Workers: builder(nil), WorkerCount: 1}, "must not be nil"},
		"a function that is lazy": {worker.Options{Workers: (func(int, worker.Queue, worker.ResourceController) worker.Worker { return nil }), WorkerCount: 1}, "Workers[0] is nil"},
		"a count of no function":  {worker.Options{Workers: 2, WorkerCount: 2}, "WorkerCount"},
		"negative QueueSize":      {worker.Options{QueueSize: -1}, "QueueSize -1"},
		"Queue and QueueSize":     {worker.Options{Queue: q, QueueSize: 1}, "both"},
		"a nil pointer queue":     {worker.Options{Queue: (*queue.FIFO)(nil)}, "*queue.FIFO"},
		"a nil pointer resource":  {worker.Options{Resource: (*resource.Controller)(nil)}, "*resource.Controller"},
		"negative Timeout":        {worker.Options{Timeout: -1}, "Timeout"},
		"negative Backoff":        {worker.Options{Backoff: worker.Backoff{Initial: -1}}, "Backoff"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := worker.NewPool(c.options)
			wantErr(t, err, worker.ErrInvalid)
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("error is %q, and does not say %q", err, c.says)
			}
			if p != nil {
				t.Error("there is a pool nevertheless")
			}
		})
	}
}

func TestAnOwnWorkerThatDoesNotStartStopsTheOthers(t *testing.T) {
	q := queue.New(1)
	good, bad, last := newOwn(1, q), newOwn(2, q), newOwn(3, q)
	bad.startErr, good.stopErr = errJob, errors.New("nor stop")
	p, err := worker.NewPool(worker.Options{Workers: []worker.Worker{good, bad, last}, Queue: q})
	wantErr(t, err, nil)
	err = p.Start()
	wantErr(t, err, errJob)
	wantErr(t, err, good.stopErr)
	if !strings.Contains(err.Error(), "worker 2") {
		t.Errorf("error is %q, and does not say which worker", err)
	}
	if good.Status().Running || last.Status().Running {
		t.Error("a worker runs")
	}
	wantErr(t, p.Stop(), nil)
}
