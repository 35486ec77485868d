package main

import (
	"context"
	"sync"
	"time"

	"github.com/Jeffail/tunny"
	"github.com/alitto/pond/v2"
	"github.com/gammazero/workerpool"
	"github.com/panjf2000/ants/v2"
	concpool "github.com/sourcegraph/conc/pool"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/workerpool-dev/workerpool/pkg/worker"
)

// queueSize is the number of places in front of the workers, for subjects that let one choose.
const queueSize = 1024

// poolSubject is a way to run jobs on a number of workers.
type poolSubject struct {
	name string

	// bounded means that a submit waits when the pool has too much work already.
	bounded bool

	// synchronous means that a submit waits until its job has run.
	synchronous bool

	// open starts a pool with so many workers.
	open func(workers int) pool
}

// pool is a subject that runs.
type pool struct {
	// bind gives the job the form that the subject takes, and returns what submits it. That may be
	// called any number of times, but by one producer at a time.
	bind func(job func()) (submit func())

	// stop ends the pool once all jobs have run.
	stop func()
}

var poolSubjects = []poolSubject{
	{name: us, bounded: true, open: openOurs},
	{name: floor, bounded: true, open: func(workers int) pool { return openChannel(workers, queueSize) }},
	{name: "channel-unbuffered", bounded: true, open: func(workers int) pool { return openChannel(workers, 0) }},
	{name: "goroutines", open: openGoroutines},
	{name: "errgroup", bounded: true, open: openErrgroup},
	{name: "semaphore", bounded: true, open: openSemaphore},
	{name: "conc", bounded: true, open: openConc},
	{name: "ants", bounded: true, open: openAnts},
	{name: "gammazero", open: openGammazero},
	{name: "tunny", bounded: true, synchronous: true, open: openTunny},
	{name: "pond-go-1024", bounded: true, open: func(workers int) pool {
		return openPond(workers, pond.WithQueueSize(queueSize))
	}},
	{name: "pond-go-unbounded", open: func(workers int) pool { return openPond(workers) }},
	{name: "pond-submit", open: openPondSubmit},
}

// funcJob is a function as a worker.Job.
type funcJob struct {
	run func()
}

var _ worker.Job = (*funcJob)(nil)

func (j *funcJob) Process() error { j.run(); return nil }
func (*funcJob) OnFailure(error)  {}
func (*funcJob) MaxRetries() int  { return 0 }

func openOurs(workers int) pool {
	p := got(worker.NewPool(worker.Options{Workers: workers, QueueSize: queueSize}))
	must(p.Start())
	ctx := context.Background()
	return pool{
		bind: func(job func()) func() {
			j := &funcJob{job}
			return func() { must(p.Submit(ctx, j)) }
		},
		stop: func() { must(p.Stop()) },
	}
}

func openChannel(workers, size int) pool {
	jobs := make(chan func(), size)
	var ended sync.WaitGroup
	for range workers {
		ended.Go(func() {
			for job := range jobs {
				job()
			}
		})
	}
	return pool{
		bind: func(job func()) func() { return func() { jobs <- job } },
		stop: func() { close(jobs); ended.Wait() },
	}
}

func openGoroutines(int) pool {
	return pool{
		bind: func(job func()) func() { return func() { go job() } },
		stop: func() {},
	}
}

func openErrgroup(workers int) pool {
	var g errgroup.Group
	g.SetLimit(workers)
	return pool{
		bind: func(job func()) func() {
			process := (&funcJob{job}).Process
			return func() { g.Go(process) }
		},
		stop: func() { must(g.Wait()) },
	}
}

func openSemaphore(workers int) pool {
	s := semaphore.NewWeighted(int64(workers))
	ctx := context.Background()
	return pool{
		bind: func(job func()) func() {
			j := func() { job(); s.Release(1) }
			return func() { must(s.Acquire(ctx, 1)); go j() }
		},
		stop: func() { must(s.Acquire(ctx, int64(workers))) },
	}
}

func openConc(workers int) pool {
	p := concpool.New().WithMaxGoroutines(workers)
	return pool{
		bind: func(job func()) func() { return func() { p.Go(job) } },
		stop: p.Wait,
	}
}

func openAnts(workers int) pool {
	p := got(ants.NewPool(workers))
	return pool{
		bind: func(job func()) func() { return func() { must(p.Submit(job)) } },
		stop: func() { must(p.ReleaseTimeout(time.Minute)) },
	}
}

func openGammazero(workers int) pool {
	p := workerpool.New(workers)
	return pool{
		bind: func(job func()) func() { return func() { p.Submit(job) } },
		stop: p.StopWait,
	}
}

func openTunny(workers int) pool {
	p := tunny.NewCallback(workers)
	return pool{
		bind: func(job func()) func() { return func() { p.Process(job) } },
		stop: p.Close,
	}
}

func openPond(workers int, options ...pond.Option) pool {
	p := pond.NewPool(workers, options...)
	return pool{
		bind: func(job func()) func() { return func() { must(p.Go(job)) } },
		stop: p.StopAndWait,
	}
}

func openPondSubmit(workers int) pool {
	p := pond.NewPool(workers)
	return pool{
		bind: func(job func()) func() { return func() { p.Submit(job) } },
		stop: p.StopAndWait,
	}
}
