package worker

import "sync/atomic"

// Job is worker.Job.
type Job interface {
	Process() error
	OnFailure(err error)
	MaxRetries() int
}

// Ticket is a job that there is something to remember of: it was tried before, or someone waits for
// its result. A queue sees it in the place of the job.
type Ticket[J Job] struct {
	job J

	// retries is how often it was tried again.
	retries atomic.Int32

	// settled, if not nil, is told once how the job ended: nil, the error of its last try, or
	// fault.ErrStopped if it was handed back.
	settled func(err error)
}

// NewTicket returns a job that does as job does and, in a pool of this module, tells settled how it
// ended, once: nil, the error of the last try, or fault.ErrStopped if the job was handed back.
func NewTicket[J Job](job J, settled func(error)) J {
	return (&Ticket[J]{job: job, settled: settled}).asJob()
}

// asJob needs J to be an interface that a Ticket has the methods of: worker.Job.
func (t *Ticket[J]) asJob() J { return any(t).(J) }

// Open returns the job of a ticket, and the ticket or nil.
func Open[J Job](job J) (J, *Ticket[J]) {
	if t, ok := any(job).(*Ticket[J]); ok {
		return t.job, t
	}
	return job, nil
}

// Unwrap returns the job that was submitted.
func (t *Ticket[J]) Unwrap() J { return t.job }

// Process is that of the job.
func (t *Ticket[J]) Process() error { return t.job.Process() }

// OnFailure is that of the job.
func (t *Ticket[J]) OnFailure(err error) { t.job.OnFailure(err) }

// MaxRetries is that of the job.
func (t *Ticket[J]) MaxRetries() int { return t.job.MaxRetries() }

// Priority is that of the job, 0 if it has none.
func (t *Ticket[J]) Priority() int {
	if p, ok := any(t.job).(interface{ Priority() int }); ok {
		return p.Priority()
	}
	return 0
}

// Settle tells who waits for the result. It may be called on nil.
func (t *Ticket[J]) Settle(err error) {
	if t != nil && t.settled != nil {
		t.settled(err)
	}
}

// attempt is the number of the present try, 1 for the first. It may be called on nil.
func (t *Ticket[J]) attempt() int {
	if t == nil {
		return 1
	}
	return int(t.retries.Load()) + 1
}
