// Package jobtest checks that a job keeps the contract of worker.Job, and those of the optional
// interfaces that it has: what a pool relies on when it runs the job.
package jobtest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/workerpool-dev/workerpool/pkg/worker"
)

// mostTries bounds what is tried of a job that never succeeds and has many retries.
const mostTries = 100

// patience is how long a job may take, in real time, to notice that its context has ended.
const patience = 10 * time.Second

// Run runs the suite. newJob makes a job for each test, which runs it for real and, while it fails,
// again until its retries are used up, without the delays between. So the job must end by itself.
// What it returns does not matter; a panic is a failure like others.
func Run(t *testing.T, newJob func(t *testing.T) worker.Job) {
	t.Run("MaxRetries is not negative and does not change", func(t *testing.T) { testMaxRetries(t, newJob(t)) })
	t.Run("a failed job can be tried again", func(t *testing.T) { _ = tryAll(t, newJob(t)) })
	for name, err := range map[string]error{
		"the error of the last try": nil,
		"a stop":                    worker.ErrStopped,
		"a panic":                   fmt.Errorf("the last try: %w", &worker.PanicError{Value: "boom"}),
		"any other error":           errors.New("any other error"),
	} {
		t.Run("OnFailure takes "+name, func(t *testing.T) { testOnFailure(t, newJob(t), err) })
	}
	t.Run("questions may be asked at any time", func(t *testing.T) { testQuestions(t, newJob(t)) })
	if _, ok := newJob(t).(worker.JobContext); ok {
		t.Run("ProcessContext returns when its context has ended", func(t *testing.T) { testEndedContext(t, newJob(t)) })
	}
}

func testMaxRetries(t *testing.T, j worker.Job) {
	retries := j.MaxRetries()
	wantRetries(t, j, retries)
	err := try(t.Context(), j)
	wantRetries(t, j, retries)
	if err != nil {
		j.OnFailure(err)
		wantRetries(t, j, retries)
	}
}

func testOnFailure(t *testing.T, j worker.Job, err error) {
	if last := tryAll(t, j); err == nil {
		err = last
	}
	if err == nil {
		return // it succeeded, so there is no last error
	}
	j.OnFailure(err)
}

// testQuestions asks from many goroutines before the job runs, while it runs and when it has failed.
// The race detector has the last word.
func testQuestions(t *testing.T, j worker.Job) {
	retries := j.MaxRetries()
	over := make(chan struct{})
	var asking sync.WaitGroup
	for range 4 {
		ask(t, j, retries)
		asking.Go(func() {
			for open := true; open; {
				ask(t, j, retries)
				runtime.Gosched() // it may be the only processor
				select {
				case <-over:
					open = false
				default:
				}
			}
		})
	}
	if err := tryAll(t, j); err != nil {
		j.OnFailure(err)
	}
	close(over)
	asking.Wait()
}

// ask asks all that others than the goroutine that runs the job may ask.
func ask(t *testing.T, j worker.Job, retries int) {
	wantRetries(t, j, retries)
	if p, ok := j.(worker.Prioritized); ok {
		p.Priority()
	}
	if l, ok := j.(worker.Timed); ok {
		l.Timeout()
	}
	if n, ok := j.(worker.Named); ok {
		check(t, n.ID() != "", "ID is empty")
	}
	if s, ok := j.(worker.Sized); ok {
		u := s.Resources()
		check(t, makesSense(u), "Resources are %+v: negative or not a number", u)
	}
}

func makesSense(u worker.ResourceUsage) bool {
	return u.Memory >= 0 && u.CPU >= 0 && !math.IsInf(u.CPU, 1) && u.Files >= 0 // no NaN is >= 0
}

func testEndedContext(t *testing.T, j worker.Job) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(worker.ErrStopped)
	returned := make(chan struct{})
	go func() {
		_ = try(ctx, j) // that it gives up does not mean that it failed
		close(returned)
	}()
	select {
	case <-returned:
	case <-time.After(patience):
		t.Fatalf("the context has ended, but ProcessContext has not returned in %v", patience)
	}
}

func wantRetries(t *testing.T, j worker.Job, want int) {
	t.Helper()
	got := j.MaxRetries()
	check(t, got == want && got >= 0, "MaxRetries is %d, and was %d before", got, want)
}

func check(t *testing.T, ok bool, format string, args ...any) {
	t.Helper()
	if !ok {
		t.Errorf(format, args...)
	}
}

// tryAll runs the job until it succeeds or is not to be tried again, and returns its last error.
func tryAll(t *testing.T, j worker.Job) error {
	t.Helper()
	for retry := 0; ; retry++ {
		err := try(t.Context(), j)
		if err == nil || retry == j.MaxRetries() || retry+1 == mostTries {
			return err
		}
		if r, ok := j.(worker.Retried); ok && r.RetryDelay(retry+1, err) < 0 {
			return err
		}
	}
}

// try runs the job once as a pool does: in a goroutine that it may end, and where it may panic.
func try(ctx context.Context, j worker.Job) error {
	result := make(chan error, 1)
	go func() {
		err := worker.ErrGoexit
		defer func() {
			if v := recover(); v != nil {
				err = &worker.PanicError{Value: v}
			}
			result <- err
		}()
		if c, ok := j.(worker.JobContext); ok {
			err = c.ProcessContext(ctx)
		} else {
			err = j.Process()
		}
	}()
	return <-result
}
