package mock

import (
	"sync"

	"github.com/workerpool-dev/workerpool/pkg/worker"
)

// Worker is a worker.Worker without a queue: the test gives it jobs with Give, one after the other or
// many at once. It runs one at a time, in the order in which they were given, from Start to Stop.
type Worker struct {
	BeforeStart func() error
	BeforeStop  func() error

	id      int
	stopped chan struct{} // closed when the state is stopped

	starts, stops counter

	mu      sync.Mutex
	status  worker.WorkerStatus  // without CurrentJob
	fixed   *worker.WorkerStatus // by SetStatus
	current *given               // only while the state is busy or stopping
	waiting []*given             // none while the state is idle
}

// given is what Give was called with.
type given struct {
	info  worker.JobInfo
	ended bool
	err   error
}

var _ worker.Worker = (*Worker)(nil)

// NewWorker returns a worker that was not started.
func NewWorker(id int) *Worker {
	return &Worker{id: id, stopped: make(chan struct{}), status: worker.WorkerStatus{State: worker.WorkerNew}}
}

// Give gives the worker a job and returns the function that ends it: a job with an error has failed.
// If the job does not run yet, it ends as soon as it does. A second call of the function does nothing.
// An Attempt of 0 in info becomes 1.
func (w *Worker) Give(info worker.JobInfo) (end func(err error)) {
	info.Attempt = max(info.Attempt, 1)
	job := &given{info: info}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = append(w.waiting, job)
	w.settleLocked()
	return func(err error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if job.ended {
			return
		}
		job.ended, job.err = true, err
		w.settleLocked()
	}
}

// settleLocked counts the job that runs if it has ended, and goes on with the next one. Call it after
// each change.
func (w *Worker) settleLocked() {
	for {
		switch {
		case w.current != nil && w.current.ended:
			w.status.ProcessedJobs++
			if w.current.err != nil {
				w.status.FailedJobs++
			}
			w.current = nil
		case w.status.State == worker.WorkerBusy && w.current == nil:
			w.status.State = worker.WorkerIdle
		case w.status.State == worker.WorkerIdle && len(w.waiting) > 0:
			w.current, w.waiting = w.waiting[0], w.waiting[1:]
			w.status.State = worker.WorkerBusy
		case w.status.State == worker.WorkerStopping && w.current == nil:
			w.status.Running, w.status.State = false, worker.WorkerStopped
			close(w.stopped)
		default:
			return
		}
	}
}

// Start starts the worker, which takes the first job that was given. It returns ErrStopped after Stop.
func (w *Worker) Start() error {
	if err := w.starts.call(w.BeforeStart); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch w.status.State {
	case worker.WorkerNew:
		w.status.Running, w.status.State = true, worker.WorkerIdle
		w.settleLocked()
	case worker.WorkerStopping, worker.WorkerStopped:
		return worker.ErrStopped
	}
	return nil
}

// Stop stops the worker. It waits until the job that runs is ended; those that wait are never run.
func (w *Worker) Stop() error {
	if err := w.stops.call(w.BeforeStop); err != nil {
		return err
	}
	w.beginStop()
	<-w.stopped
	return nil
}

func (w *Worker) beginStop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.status.State != worker.WorkerStopped {
		w.status.State = worker.WorkerStopping
		w.settleLocked()
	}
}

// ID returns the argument of NewWorker.
func (w *Worker) ID() int {
	return w.id
}

// Status returns what the worker does and has done, as a copy, or what SetStatus says.
func (w *Worker) Status() worker.WorkerStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	status := w.status
	if w.current != nil {
		status.CurrentJob = &w.current.info
	}
	if w.fixed != nil {
		status = *w.fixed
	}
	if status.CurrentJob != nil {
		status.CurrentJob = new(*status.CurrentJob)
	}
	return status
}

// SetStatus fixes what Status returns from now on, whatever happens.
func (w *Worker) SetStatus(status worker.WorkerStatus) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if status.CurrentJob != nil {
		status.CurrentJob = new(*status.CurrentJob)
	}
	w.fixed = &status
}

// Starts returns the number of calls of Start.
func (w *Worker) Starts() int { return w.starts.count() }

// Stops returns the number of calls of Stop, those that wait included.
func (w *Worker) Stops() int { return w.stops.count() }
