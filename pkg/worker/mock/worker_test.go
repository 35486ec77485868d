package mock_test

import (
	"testing"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/mock"
	"github.com/workerpool-dev/workerpool/pkg/worker/worker/workertest"
)

func TestWorkerKeepsTheContract(t *testing.T) {
	workertest.Run(t, func(*testing.T) workertest.Subject {
		w := mock.NewWorker(3)
		return workertest.Subject{Worker: w, Give: func(*testing.T) func(error) {
			return w.Give(worker.JobInfo{ID: "job"})
		}}
	})
}

func TestAWorkerRunsOneJobAfterTheOther(t *testing.T) {
	w := mock.NewWorker(3)
	wantEqual(t, "ID", w.ID(), 3)
	wantErr(t, w.Start(), nil)
	end := w.Give(worker.JobInfo{ID: "first", Attempt: 2})
	w.Give(worker.JobInfo{ID: "second"})(errScript)
	w.Give(worker.JobInfo{ID: "third"})
	wantEqual(t, "job", *w.Status().CurrentJob, worker.JobInfo{ID: "first", Attempt: 2})
	end(nil)
	wantEqual(t, "job", *w.Status().CurrentJob, worker.JobInfo{ID: "third", Attempt: 1})
	wantEqual(t, "number of failed jobs", w.Status().FailedJobs, 1)
	wantEqual(t, "number of processed jobs", w.Status().ProcessedJobs, 2)
}

func TestTheFirstEndOfAJobStands(t *testing.T) {
	w := mock.NewWorker(1)
	end := w.Give(worker.JobInfo{ID: "job"})
	end(errScript)
	end(nil)
	wantErr(t, w.Start(), nil)
	wantEqual(t, "number of failed jobs", w.Status().FailedJobs, 1)
	end(nil)
	wantEqual(t, "number of processed jobs", w.Status().ProcessedJobs, 1)
}

func TestAWorkerWhoseHooksFailDoesNothing(t *testing.T) {
	w := mock.NewWorker(1)
	w.BeforeStart = mock.FailTimes(2, errScript)
	w.BeforeStop = mock.FailTimes(1, errScript)
	wantErr(t, w.Start(), errScript)
	wantErr(t, w.Start(), errScript)
	wantErr(t, w.Stop(), errScript)
	wantEqual(t, "state", w.Status().State, worker.WorkerNew)
	wantErr(t, w.Start(), nil)
	wantErr(t, w.Stop(), nil)
	wantEqual(t, "state", w.Status().State, worker.WorkerStopped)
	wantEqual(t, "number of calls of Start", w.Starts(), 3)
	wantEqual(t, "number of calls of Stop", w.Stops(), 2)
}

func TestAWorkerShowsTheStatusThatWasSet(t *testing.T) {
	w := mock.NewWorker(1)
	status := worker.WorkerStatus{State: worker.WorkerWaiting, CurrentJob: &worker.JobInfo{ID: "big"}, FailedJobs: 9}
	w.SetStatus(status)
	status.CurrentJob.ID = "changed"
	w.Status().CurrentJob.ID = "changed"
	wantErr(t, w.Start(), nil)
	got := w.Status()
	wantEqual(t, "job", *got.CurrentJob, worker.JobInfo{ID: "big"})
	got.CurrentJob = nil
	wantEqual(t, "status", got, worker.WorkerStatus{State: worker.WorkerWaiting, FailedJobs: 9})
	w.SetStatus(worker.WorkerStatus{})
	wantEqual(t, "status", w.Status(), worker.WorkerStatus{})
}
