package feed_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/internal/feed"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// job does nothing. It has a field because pointers to empty structs may be equal.
type job struct{ id int }

func (*job) Process() error   { return nil }
func (*job) OnFailure(error)  {}
func (*job) MaxRetries() int  { return 0 }
func (j *job) String() string { return fmt.Sprint("job ", j.id) }

func jobs(n int) []worker.Job {
	list := make([]worker.Job, n)
	for i := range list {
		list[i] = &job{id: i}
	}
	return list
}

var errCause = errors.New("the cause")

// call is a call that may wait. The fields are for reading once done is closed.
type call struct {
	done chan struct{}
	job  worker.Job
	err  error
	at   time.Time
}

// begin runs a call beside the test.
func begin(f func() (worker.Job, error)) *call {
	c := &call{done: make(chan struct{})}
	go func() {
		defer close(c.done)
		c.job, c.err = f()
		c.at = time.Now()
	}()
	return c
}

// start runs a call beside the test, until it has returned or waits.
func start(f func() (worker.Job, error)) *call {
	c := begin(f)
	synctest.Wait()
	return c
}

func goNext(taker feed.Taker[worker.Job]) *call {
	return start(func() (worker.Job, error) { return taker.Next(feed.None) })
}

func goPop(ctx context.Context, q worker.QueueContext) *call {
	return start(func() (worker.Job, error) { return q.PopContext(ctx) })
}

func goPush(ctx context.Context, q worker.QueueContext, j worker.Job) *call {
	return start(func() (worker.Job, error) { return nil, q.PushContext(ctx, j) })
}

// contextThatEnds ends at once, but not before a call has begun to wait.
func contextThatEnds() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(time.Millisecond, cancel)
	return ctx
}

func (c *call) returned() bool {
	synctest.Wait()
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

func (c *call) wantWaiting(t *testing.T) {
	t.Helper()
	if c.returned() {
		t.Fatalf("should wait, returned %v, %v", c.job, c.err)
	}
}

func (c *call) wantErr(t *testing.T, want error) {
	t.Helper()
	if !c.returned() {
		t.Fatalf("still waits, want the error %v", want)
	}
	wantErr(t, c.err, want)
}

func (c *call) wantJob(t *testing.T, want worker.Job) {
	t.Helper()
	c.wantErr(t, nil)
	if c.job != want {
		t.Fatalf("returned %v, want %v", c.job, want)
	}
}

func wantErr(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Fatalf("error is %v, want %v", got, want)
	}
}

func wantBooks(t *testing.T, f feed.Feed[worker.Job], want feed.Books) {
	t.Helper()
	synctest.Wait()
	if got := f.Books(); got != want {
		t.Fatalf("books are %+v, want %+v", got, want)
	}
}

func mustPush(t testing.TB, q worker.Queue, list ...worker.Job) {
	t.Helper()
	for _, j := range list {
		if err := q.Push(j); err != nil {
			t.Fatalf("Push: %v", err)
		}
	}
}

// mustNext takes a job that is there.
func mustNext(t testing.TB, taker feed.Taker[worker.Job], last feed.Outcome) worker.Job {
	t.Helper()
	j, err := taker.Next(last)
	if err != nil {
		t.Fatalf("Next: %v", err)
	}
	return j
}
