package mock_test

import (
	"errors"
	"testing"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/jobtest"
	"github.com/workerpool-dev/workerpool/pkg/worker/mock"
)

func TestJobKeepsTheContract(t *testing.T) {
	for name, newJob := range map[string]func() *mock.Job{
		"zero value":         func() *mock.Job { return &mock.Job{} },
		"fails for good":     func() *mock.Job { return &mock.Job{Retries: 2, ProcessFunc: mock.FailTimes(99, errScript)} },
		"fails and then not": func() *mock.Job { return &mock.Job{Retries: 2, ProcessFunc: mock.FailTimes(2, errScript)} },
		"panics":             func() *mock.Job { return &mock.Job{Retries: 1, ProcessFunc: func() error { panic("boom") }} },
	} {
		t.Run(name, func(t *testing.T) {
			jobtest.Run(t, func(*testing.T) worker.Job { return newJob() })
		})
	}
}

func TestAJobThatFailsTwiceSucceedsAtTheThirdTry(t *testing.T) {
	j := &mock.Job{Retries: 5, ProcessFunc: mock.FailTimes(2, errScript)}
	wantErr(t, j.Process(), errScript)
	wantErr(t, j.Process(), errScript)
	wantErr(t, j.Process(), nil)
	wantErr(t, j.Process(), nil)
	wantEqual(t, "number of tries", j.Tries(), 4)
	wantEqual(t, "number of retries", j.MaxRetries(), 5)
}

func TestAJobRecordsItsFailures(t *testing.T) {
	j := &mock.Job{}
	wantList(t, "failures", j.Failures())
	other := errors.New("other")
	j.OnFailure(errScript)
	j.OnFailure(other)
	wantList(t, "failures", j.Failures(), errScript, other)
	j.Failures()[0] = nil // a copy
	wantList(t, "failures", j.Failures(), errScript, other)
}
