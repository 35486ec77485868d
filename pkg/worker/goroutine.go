package worker

import (
	"context"
	"fmt"
	"time"

	basic "github.com/workerpool-dev/workerpool/pkg/worker/worker"
)

// goroutine is a worker of a Pool.
type goroutine struct{ *basic.Worker[Job] }

var _ WorkerContext = goroutine{}

// Stop has the worker take no further job, and waits for the one that runs.
func (g goroutine) Stop() error {
	g.Retire()
	<-g.Done()
	return nil
}

// cutOffGrace is how long StopContext waits for a job that it has cut off.
const cutOffGrace = time.Second

// StopContext is Stop that cuts the job off at the end of the context. Another worker tries it again.
func (g goroutine) StopContext(ctx context.Context) error {
	g.Retire()
	select {
	case <-g.Done():
		return nil
	case <-ctx.Done():
	}
	g.Cut()
	timeout := time.NewTimer(cutOffGrace)
	defer timeout.Stop()
	select {
	case <-g.Done():
	case <-timeout.C:
	}
	return context.Cause(ctx)
}

// Status returns worker status.
func (g goroutine) Status() WorkerStatus {
	s := g.Worker.Status()
	status := WorkerStatus{
		Running:       s.Started && !s.Done,
		ProcessedJobs: s.Ended,
		FailedJobs:    s.Failed,
		State:         stateOf(s),
	}
	if s.Holds {
		status.CurrentJob = infoOf(s.Job, s.Attempt, s.StartTime)
	}
	return status
}

func stateOf(s basic.Status[Job]) WorkerState {
	switch {
	case s.Done:
		return WorkerStopped
	case s.Stopped:
		return WorkerStopping
	case !s.Started:
		return WorkerNew
	case !s.Holds:
		return WorkerIdle
	case s.Waiting:
		return WorkerWaiting
	}
	return WorkerBusy
}

// infoOf describes a job that runs.
func infoOf(job Job, attempt int, start time.Time) *JobInfo {
	info := &JobInfo{Attempt: attempt, StartTime: start}
	if n, ok := job.(Named); ok {
		info.ID = n.ID()
	} else {
		info.ID = fmt.Sprintf("%T", job)
	}
	if s, ok := job.(Sized); ok {
		info.Usage = s.Resources()
	}
	return info
}
