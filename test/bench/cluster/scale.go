package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

// most is the bound of spec.queue.capacity that the measurements use.
const most = 100_000

// bytesPerQueuedJob is what a queued Job takes in the memory of the operator: small ones, and large ones.
func bytesPerQueuedJob(ctx context.Context, s *suite) (measured []measurement, err error) {
	undo, err := s.profiled(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, undo(ctx)) }()
	for _, c := range []struct {
		name  string
		jobs  int
		stdin string
	}{
		{"small", s.size(most, 1000), strings.Repeat("x", 100)},
		{"large", s.size(2000, 100), strings.Repeat("x", 64<<10)},
	} {
		m, err := s.bytesPerJob(ctx, c.name, c.jobs, c.stdin)
		measured = append(measured, m...)
		if err != nil {
			return measured, err
		}
	}
	return measured, nil
}

const kibibyte = 1024

func (s *suite) bytesPerJob(ctx context.Context, name string, jobs int, stdin string) ([]measurement, error) {
	if err := s.pool(ctx, name, 0, 1, func(b *testutil.PoolBuilder) { b.Capacity(most) }); err != nil {
		return nil, err
	}
	l, err := s.leader(ctx)
	if err != nil {
		return nil, err
	}
	before, err := l.memory(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.enqueue(ctx, name, jobs, func(i int) *v1alpha1.Job {
		return testutil.MakeJob(s.namespace, fmt.Sprintf("%s-%06d", name, i), name).Command("/bin/true").Stdin(stdin).Obj()
	}); err != nil {
		return nil, err
	}
	after, err := l.memory(ctx)
	if err != nil {
		return nil, err
	}
	heap, resident := (after.heap-before.heap)/float64(jobs), (after.resident-before.resident)/float64(jobs)
	return []measurement{
		atMost("operator_bytes_per_queued_job_"+name, "B", 1, heap, 3*kibibyte, samples{Ours: []float64{before.heap, after.heap}}),
		atMost("operator_resident_bytes_per_queued_job_"+name, "B", 0, resident, 3*kibibyte,
			samples{Ours: []float64{before.resident, after.resident}}),
	}, errors.Join(s.deleteJobs(ctx), s.removePool(ctx, name))
}

// enqueue has many clients create so many Jobs, and waits until the pool has all of them in its queue and that is stored.
func (s *suite) enqueue(ctx context.Context, pool string, jobs int, job func(i int) *v1alpha1.Job) error {
	clients, err := s.clients(creators)
	if err != nil {
		return err
	}
	if err := create(ctx, clients, jobs, job); err != nil {
		return err
	}
	if err := s.await(ctx, "the queue of pool "+pool, func(ctx context.Context) (bool, error) {
		var p v1alpha1.WorkerPool
		err := s.client.Get(ctx, types.NamespacedName{Namespace: s.namespace, Name: pool}, &p)
		return p.Status.QueueSize != nil && int(*p.Status.QueueSize) == jobs, err
	}); err != nil {
		return err
	}
	last := job(jobs - 1) // statuses are written in the order of the queue
	if err := s.await(ctx, "the status of "+last.Name, func(ctx context.Context) (bool, error) {
		err := s.client.Get(ctx, client.ObjectKeyFromObject(last), last)
		return last.Status.State == v1alpha1.JobQueued, err
	}); err != nil {
		return err
	}
	return s.quiet(ctx)
}
