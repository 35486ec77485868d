package worker_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/queue"
	"github.com/workerpool-dev/workerpool/pkg/worker/resource"
)

// wild is a job whose tries end in any way, and which knows what became of it.
type wild struct {
	usage   worker.ResourceUsage
	retries int
	try     func(ctx context.Context) error

	mu        sync.Mutex
	running   bool
	tries     int
	succeeded bool
	failures  int
	errs      []string
}

func (j *wild) Process() error { panic("a JobContext is asked for ProcessContext") }

func (j *wild) ProcessContext(ctx context.Context) error {
	j.note(func() {
		if j.running || j.succeeded || j.failures > 0 {
			j.errs = append(j.errs, "tried while it ran, or after its end")
		}
		j.running = true
		j.tries++
	})
	defer j.note(func() { j.running = false })
	err := j.try(ctx)
	if err == nil {
		j.note(func() { j.succeeded = true })
	}
	return err
}

func (j *wild) OnFailure(error)                 { j.note(func() { j.failures++ }) }
func (j *wild) MaxRetries() int                 { return j.retries }
func (j *wild) Resources() worker.ResourceUsage { return j.usage }
func (j *wild) Timeout() time.Duration          { return 2 * time.Second }

func (j *wild) note(f func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	f()
}

// newWild returns a job that does something else in each try.
func newWild(random *rand.Rand) *wild {
	j := &wild{
		retries: random.IntN(4),
		usage:   worker.ResourceUsage{Memory: random.Int64N(10), CPU: float64(random.IntN(3)), Files: random.IntN(3)},
	}
	seed := random.Uint64()
	j.try = func(ctx context.Context) error {
		chance := rand.New(rand.NewPCG(seed, uint64(j.tries)))
		select {
		case <-time.After(time.Duration(chance.IntN(3000)) * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
		switch chance.IntN(6) {
		case 0:
			panic("wild")
		case 1:
			runtime.Goexit()
		case 2, 3:
			return errJob
		}
		return nil
	}
	return j
}

// Jobs of all kinds, submitted from many sides, while the pool is resized and at last stopped with a
// deadline: each that was accepted has succeeded, failed or been handed back, and one of them only.
// The limits hold, the counters add up, nothing hangs and no goroutine is left.
func TestWhateverHappensEachAcceptedJobEndsOnce(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { runWild(t, rand.New(rand.NewPCG(seed, 0))) })
		})
	}
}

func wildQueue(random *rand.Rand) worker.Queue {
	size := 1 + random.IntN(20)
	switch random.IntN(4) {
	case 0:
		return plain{queue.New(size)}
	case 1:
		q, err := queue.NewPriority(queue.Options{Capacity: size, Aging: time.Second})
		if err != nil {
			panic(err)
		}
		return q
	case 2:
		return struct{ worker.QueueContext }{queue.New(size)}
	}
	return queue.New(size)
}

func runWild(t *testing.T, random *rand.Rand) {
	limits := worker.ResourceLimits{Memory: 15, CPU: 3, Files: 4}
	c := resource.NewController(limits)
	p := newPool(t, worker.Options{
		Workers: 1 + random.IntN(5), Queue: wildQueue(random), Resource: c,
		Logger: slog.New(slog.DiscardHandler),
	})
	var mu sync.Mutex
	accepted := map[*wild]*worker.Result{}
	var submitting sync.WaitGroup
	for range 3 {
		mine := rand.New(rand.NewPCG(random.Uint64(), 1))
		submitting.Go(func() {
			for range 30 {
				j := newWild(mine)
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(mine.IntN(5000))*time.Millisecond)
				r, err := p.SubmitResult(ctx, j)
				cancel()
				if err == nil {
					mu.Lock()
					accepted[j] = r
					mu.Unlock()
				}
			}
		})
	}
	for range 5 {
		time.Sleep(time.Duration(random.IntN(3000)) * time.Millisecond)
		wantErr(t, p.Resize(1+random.IntN(6)), nil)
		s := c.Status()
		if s.Used.Memory > limits.Memory || s.Used.CPU > limits.CPU || s.Used.Files > limits.Files {
			t.Fatalf("used is %+v", s.Used)
		}
	}
	if random.IntN(2) == 0 {
		submitting.Wait()
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(random.IntN(60))*time.Second)
	defer cancel()
	left, _ := p.StopContext(ctx)
	submitting.Wait()
	stopErr := p.Stop()
	wantErr(t, stopErr, nil)
	mu.Lock()
	defer mu.Unlock()
	checkWild(t, p, accepted, left)
	if used := c.Status().Used; used != (worker.ResourceUsage{}) {
		t.Errorf("at the end %+v is in use", used)
	}
}

func checkWild(t *testing.T, p *worker.Pool, accepted map[*wild]*worker.Result, left []worker.Job) {
	t.Helper()
	handedBack := map[*wild]bool{}
	for _, j := range left {
		if handedBack[j.(*wild)] {
			t.Error("a job was handed back twice")
		}
		handedBack[j.(*wild)] = true
	}
	want := worker.PoolStatus{}
	for j, r := range accepted {
		ends := j.failures
		if j.succeeded {
			ends++
		}
		if handedBack[j] {
			ends++
		}
		if ends != 1 || len(j.errs) > 0 {
			t.Errorf("a job succeeded: %v, failed %d times, was handed back: %v; %v", j.succeeded, j.failures, handedBack[j], j.errs)
		}
		if j.failures > 0 {
			want.FailedJobs++
		}
		if !handedBack[j] {
			want.ProcessedJobs++
		}
		checkResult(t, j, r, handedBack[j])
	}
	if got := p.Status(); got != want {
		t.Errorf("status is %+v, want %+v", got, want)
	}
}

func checkResult(t *testing.T, j *wild, r *worker.Result, handedBack bool) {
	t.Helper()
	select {
	case <-r.Done():
	default:
		t.Error("a job that was accepted has no result")
		return
	}
	err := r.Wait(context.Background())
	if (err == nil) != j.succeeded {
		t.Errorf("a job has the result %v, and succeeded: %v", err, j.succeeded)
	}
	if handedBack {
		wantErr(t, err, worker.ErrStopped)
	}
}
