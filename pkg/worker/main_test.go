package worker_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/workerpool-dev/workerpool/pkg/worker"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// job does what its fields say, and counts. The zero value succeeds at once.
type job struct {
	process func() error
	retries int

	tries    atomic.Int32
	mu       sync.Mutex
	failures []error
}

func (j *job) Process() error {
	j.tries.Add(1)
	if j.process == nil {
		return nil
	}
	return j.process()
}

func (j *job) OnFailure(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.failures = append(j.failures, err)
}

func (j *job) MaxRetries() int { return j.retries }

// failed returns what OnFailure was called with.
func (j *job) failed() []error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.failures
}

// sleep returns a job that takes so long.
func sleep(d time.Duration) *job {
	return &job{process: func() error { time.Sleep(d); return nil }}
}

// contextJob runs until its context ends, or for as long as it is to.
type contextJob struct {
	job
	lasts time.Duration
	// deaf: the end of the context is ignored.
	deaf  bool
	cause error
}

func (j *contextJob) ProcessContext(ctx context.Context) error {
	j.tries.Add(1)
	if j.deaf {
		time.Sleep(j.lasts)
		return nil
	}
	select {
	case <-time.After(j.lasts):
		return nil
	case <-ctx.Done():
		j.cause = context.Cause(ctx)
		return ctx.Err()
	}
}

// limited is a contextJob with a timeout of its own.
type limited struct {
	contextJob
	limit time.Duration
}

func (j *limited) Timeout() time.Duration { return j.limit }

// sized is a job that takes resources.
type sized struct {
	job
	usage worker.ResourceUsage
}

func (j *sized) Resources() worker.ResourceUsage { return j.usage }

// patient is a job that says itself when to try it again.
type patient struct {
	job
	delay func(retry int, err error) time.Duration
}

func (j *patient) RetryDelay(retry int, err error) time.Duration { return j.delay(retry, err) }

// named is a job with a name.
type named struct {
	job
	id string
}

func (j *named) ID() string { return j.id }

var errJob = errors.New("the job failed")

func fails() error { return errJob }

// newPool returns a pool that is started, and that the test need not stop if it does nothing else.
func newPool(t *testing.T, o worker.Options) *worker.Pool {
	t.Helper()
	p, err := worker.NewPool(o)
	if err != nil {
		t.Fatalf("NewPool: %v", err)
	}
	if err := p.Start(); err != nil {
		t.Fatalf("Start: %v", err)
	}
	return p
}

func submit(t *testing.T, p *worker.Pool, jobs ...worker.Job) {
	t.Helper()
	for _, j := range jobs {
		if err := p.Submit(t.Context(), j); err != nil {
			t.Fatalf("Submit: %v", err)
		}
	}
}

func stop(t *testing.T, p *worker.Pool) {
	t.Helper()
	if err := p.Stop(); err != nil {
		t.Fatalf("Stop: %v", err)
	}
}

// result submits a job and waits for its end.
func result(t *testing.T, p *worker.Pool, j worker.Job) error {
	t.Helper()
	r, err := p.SubmitResult(t.Context(), j)
	if err != nil {
		t.Fatalf("SubmitResult: %v", err)
	}
	return r.Wait(t.Context())
}

func wantErr(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Fatalf("error is %v, want %v", got, want)
	}
}

func wantStatus(t *testing.T, p *worker.Pool, want worker.PoolStatus) {
	t.Helper()
	if got := p.Status(); got != want {
		t.Fatalf("status is %+v, want %+v", got, want)
	}
}

func wantTries(t *testing.T, j interface{ count() (int, int) }, tries, failures int) {
	t.Helper()
	if gotTries, gotFailures := j.count(); gotTries != tries || gotFailures != failures {
		t.Fatalf("%d tries and %d calls of OnFailure, want %d and %d", gotTries, gotFailures, tries, failures)
	}
}

func (j *job) count() (tries, failures int) { return int(j.tries.Load()), len(j.failed()) }
