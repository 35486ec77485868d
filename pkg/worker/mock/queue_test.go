package mock_test

import (
	"testing"
	"testing/synctest"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/mock"
	"github.com/workerpool-dev/workerpool/pkg/worker/queue/queuetest"
)

func TestQueueKeepsTheContract(t *testing.T) {
	queuetest.Run(t, func(_ *testing.T, capacity int) worker.Queue { return mock.NewQueue(capacity) })
}

func TestQueueRecordsCallsThatWereRefusedToo(t *testing.T) {
	q := mock.NewQueue(1)
	a, b := &mock.Job{}, &mock.Job{}
	wantErr(t, q.Push(a), nil)
	wantErr(t, q.Push(b), worker.ErrFull)
	wantErr(t, q.Push(nil), worker.ErrInvalid)
	wantList[worker.Job](t, "pushes", q.Pushes(), a, b, nil)
	q.Pushes()[0] = nil // a copy
	wantList[worker.Job](t, "pushes", q.Pushes(), a, b, nil)
	for range 2 {
		wantErr(t, q.Close(), nil)
		_, _ = q.Pop()
	}
	wantEqual(t, "number of calls of Pop", q.Pops(), 2)
	wantEqual(t, "number of calls of Close", q.Closes(), 2)
}

func TestQueueRecordsAPopThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := mock.NewQueue(1)
		go func() { _, _ = q.Pop() }()
		synctest.Wait()
		wantEqual(t, "number of calls of Pop", q.Pops(), 1)
		wantErr(t, q.Close(), nil)
	})
}

func TestAQueueWhoseHooksFailDoesNothing(t *testing.T) {
	q := mock.NewQueue(1)
	a, b := &mock.Job{}, &mock.Job{}
	q.BeforePush = func(job worker.Job) error {
		if job == b {
			return errScript
		}
		return nil
	}
	q.BeforePop = mock.FailTimes(1, errScript)
	q.BeforeClose = mock.FailTimes(1, errScript)
	wantErr(t, q.Push(b), errScript)
	wantErr(t, q.Close(), errScript)
	wantErr(t, q.Push(a), nil)
	_, err := q.Pop()
	wantErr(t, err, errScript)
	wantEqual(t, "length", q.Len(), 1)
	j, err := q.Pop()
	wantErr(t, err, nil)
	wantEqual(t, "job", j, worker.Job(a))
	wantErr(t, q.Close(), nil)
	wantErr(t, q.Push(a), worker.ErrClosed)
	wantList[worker.Job](t, "pushes", q.Pushes(), b, a, a)
}

func TestAHookMayUseTheQueue(t *testing.T) {
	q := mock.NewQueue(1)
	a := &mock.Job{}
	q.BeforePop = func() error {
		wantList(t, "pushes", q.Pushes()) // no lock is held
		return q.Push(a)
	}
	j, err := q.Pop()
	wantErr(t, err, nil)
	wantEqual(t, "job", j, worker.Job(a))
}
