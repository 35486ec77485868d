package jobtest_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/jobtest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// job has none of the optional interfaces.
type job struct {
	process func() error
	retries int
	tries   int
	failed  []error
}

func (j *job) Process() error      { j.tries++; return j.process() }
func (j *job) OnFailure(err error) { j.failed = append(j.failed, err) }
func (j *job) MaxRetries() int     { return j.retries }

func TestJobsThatSucceedFailPanicOrLeavePass(t *testing.T) {
	for name, process := range map[string]func() error{
		"succeed": func() error { return nil },
		"fail":    func() error { return errors.New("no luck") },
		"panic":   func() error { panic("boom") },
		"leave":   func() error { runtime.Goexit(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			jobtest.Run(t, func(*testing.T) worker.Job { return &job{process: process, retries: 2} })
		})
	}
}

func TestAJobIsTriedAsOftenAsItAllows(t *testing.T) {
	for _, c := range []struct{ retries, succeedsAt, want int }{
		{retries: 0, want: 1},
		{retries: 3, want: 4},
		{retries: 3, succeedsAt: 2, want: 2},
		{retries: 1_000_000_000, want: 100},
	} {
		var jobs []*job
		jobtest.Run(t, func(*testing.T) worker.Job {
			j := &job{retries: c.retries}
			j.process = func() error {
				if j.tries == c.succeedsAt {
					return nil
				}
				return errors.New("no luck")
			}
			jobs = append(jobs, j)
			return j
		})
		most, failed := 0, 0
		for _, j := range jobs {
			most = max(most, j.tries)
			failed = max(failed, len(j.failed))
		}
		if most != c.want || failed != 1 {
			t.Errorf("%d retries, success at try %d: %d tries and %d calls of OnFailure", c.retries, c.succeedsAt, most, failed)
		}
	}
}

// rich has all optional interfaces, and waits for its context.
type rich struct{ job }

func (*rich) Process() error                          { panic("Process of a JobContext was called") }
func (*rich) Timeout() time.Duration                  { return time.Second }
func (*rich) RetryDelay(n int, _ error) time.Duration { return time.Duration(1 - n) }
func (*rich) ID() string                              { return "rich" }
func (*rich) Priority() int                           { return -1 }
func (*rich) Resources() worker.ResourceUsage         { return worker.ResourceUsage{CPU: 0.5} }

func (r *rich) ProcessContext(ctx context.Context) error {
	r.tries++
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return errors.New("no luck")
}

func TestTheOptionalInterfacesAreAsked(t *testing.T) {
	var jobs []*rich
	jobtest.Run(t, func(*testing.T) worker.Job {
		j := &rich{job{retries: 5}}
		jobs = append(jobs, j)
		return j
	})
	most := 0
	for _, j := range jobs {
		most = max(most, j.tries)
	}
	if most != 2 { // RetryDelay refuses the second retry
		t.Fatalf("tried %d times", most)
	}
}
