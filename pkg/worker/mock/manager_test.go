package mock_test

import (
	"testing"
	"testing/synctest"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/mock"
	"github.com/workerpool-dev/workerpool/pkg/worker/pool/pooltest"
)

func TestManagerKeepsTheContract(t *testing.T) {
	pooltest.Run(t, func(_ *testing.T, workers, capacity int) pooltest.Subject {
		m := mock.NewManager(workers, mock.NewQueue(capacity))
		return pooltest.Subject{Manager: m, Submit: func(*testing.T) (func(error), error) {
			j := &mock.Job{}
			return func(err error) { m.End(j, err) }, m.Queue().Push(j)
		}}
	})
}

func TestActiveJobsAreThoseThatWorkersHave(t *testing.T) {
	q := mock.NewQueue(3)
	m := mock.NewManager(2, q)
	a, b, c := &mock.Job{}, &mock.Job{}, &mock.Job{}
	for _, j := range []worker.Job{a, b, c} {
		wantErr(t, m.Queue().Push(j), nil)
	}
	wantList(t, "active jobs", m.Active())
	wantErr(t, m.Start(), nil)
	wantList[worker.Job](t, "active jobs", m.Active(), a, b)
	m.Active()[0] = nil // a copy
	m.End(b, nil)
	wantList[worker.Job](t, "active jobs", m.Active(), a, c)
	wantList[worker.Job](t, "pushes", q.Pushes(), a, b, c)
}

func TestTheSameJobMayComeTwice(t *testing.T) {
	m := mock.NewManager(1, mock.NewQueue(2))
	j := &mock.Job{}
	wantErr(t, m.Start(), nil)
	for n := range uint64(2) {
		wantErr(t, m.Queue().Push(j), nil)
		wantList[worker.Job](t, "active jobs", m.Active(), j)
		m.End(j, nil)
		wantEqual(t, "number of processed jobs", m.Status().ProcessedJobs, n+1)
	}
}

func TestAManagerWhoseHooksFailDoesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mock.NewManager(1, mock.NewQueue(1))
		m.BeforeStart = mock.FailTimes(1, errScript)
		m.BeforeStop = mock.FailTimes(1, errScript)
		wantErr(t, m.Start(), errScript)
		wantErr(t, m.Stop(), errScript)
		wantEqual(t, "status", m.Status(), worker.PoolStatus{})
		wantErr(t, m.Start(), nil)
		wantEqual(t, "status", m.Status(), worker.PoolStatus{Workers: 1})
		j := &mock.Job{}
		wantErr(t, m.Queue().Push(j), nil)
		go func() { _ = m.Stop() }()
		synctest.Wait()
		wantEqual(t, "number of calls of Stop", m.Stops(), 2)
		m.End(j, nil)
		synctest.Wait()
		wantEqual(t, "status", m.Status(), worker.PoolStatus{ProcessedJobs: 1})
		wantEqual(t, "number of calls of Start", m.Starts(), 2)
	})
}

func TestAManagerShowsTheStatusThatWasSet(t *testing.T) {
	m := mock.NewManager(1, mock.NewQueue(1))
	status := worker.PoolStatus{Workers: 9, QueueSize: 8, ProcessedJobs: 7, FailedJobs: 6, ActiveJobs: 5}
	m.SetStatus(status)
	wantErr(t, m.Start(), nil)
	wantEqual(t, "status", m.Status(), status)
}
