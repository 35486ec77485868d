package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

const (
	// recovering workers have as many slots each.
	recovering = 10
	// recoveryBudget is how long after it has the Lease a leader may take to dispatch.
	recoveryBudget = 5.0
)

// recoverRow is how long it takes a new leader to go on, after the last was killed with many Jobs queued and 100
// running.
func recoverRow(ctx context.Context, s *suite) ([]measurement, error) {
	var measured []measurement
	for _, queued := range []int{s.size(10_000, 500), s.size(most, 1000)} {
		m, err := s.recover(ctx, queued)
		measured = append(measured, m...)
		if err != nil {
			return measured, err
		}
	}
	return measured, nil
}

func (s *suite) recover(ctx context.Context, queued int) ([]measurement, error) {
	pool := fmt.Sprint("recover-", queued)
	if err := s.pool(ctx, pool, recovering, recovering, func(b *testutil.PoolBuilder) { b.Capacity(most) }); err != nil {
		return nil, err
	}
	clients, err := s.clients(creators)
	if err != nil {
		return nil, err
	}
	if err := create(ctx, clients, queued, func(i int) *v1alpha1.Job {
		return testutil.MakeJob(s.namespace, fmt.Sprintf("%s-%06d", pool, i), pool).Command("/bin/sleep").Obj()
	}); err != nil {
		return nil, err
	}
	w, err := s.watch(ctx, &v1alpha1.JobList{})
	if err != nil {
		return nil, err
	}
	defer w.stop()
	l, err := s.leader(ctx)
	if err != nil {
		return nil, err
	}
	if err := syscall.Kill(l.pid, syscall.SIGKILL); err != nil {
		return nil, fmt.Errorf("killing the leader: %w", err)
	}
	successor, err := s.successor(ctx, l)
	if err != nil {
		return nil, err
	}
	starts, err := startsAfter(ctx, w, successor.since, recovering*recovering)
	if err != nil {
		return nil, err
	}
	first, full := starts[0].Sub(successor.since).Seconds(), starts[len(starts)-1].Sub(successor.since).Seconds()
	budget := 0.0
	if queued < most {
		budget = 1
	}
	return []measurement{
		atMost(fmt.Sprintf("recover_%d_first", queued), "s", budget, first, recoveryBudget, samples{Ours: []float64{first}}),
		atMost(fmt.Sprintf("recover_%d_full", queued), "s", 0, full, recoveryBudget, samples{Ours: []float64{full}}),
	}, errors.Join(s.deleteJobs(ctx), s.removePool(ctx, pool))
}

// successor waits for another leader than this.
func (s *suite) successor(ctx context.Context, of *leader) (*leader, error) {
	var next *leader
	err := s.await(ctx, "another leader", func(ctx context.Context) (bool, error) {
		var err error
		next, err = s.leader(ctx)
		return err == nil && next.since.After(of.since), err
	})
	return next, err
}

// startsAfter returns when so many Jobs have started after that time, in order.
func startsAfter(ctx context.Context, w *watcher, after time.Time, n int) ([]time.Time, error) {
	starts := map[types.UID]time.Time{}
	_, _, err := next(ctx, w, func(_ watch.EventType, j *v1alpha1.Job) bool {
		if start := j.Status.StartTime; start != nil && start.After(after) {
			starts[j.UID] = start.Time
		}
		return len(starts) == n
	})
	return slices.SortedFunc(maps.Values(starts), time.Time.Compare), err
}
