package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/watch"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

// atOnce are the numbers of processes at once of which each side may take its best.
var atOnce = []int32{2, 4, 8}

// tasksPerSecond compares the tasks of one Job with xargs in the same worker.
func tasksPerSecond(ctx context.Context, s *suite) ([]measurement, error) {
	n := s.size(5000, 500)
	if err := s.poolsOf(ctx, "tasks-"); err != nil {
		return nil, err
	}
	lines, items := strings.Repeat("x\n", n), make([]string, n)
	for i := range items {
		items[i] = "x"
	}
	var completions, items1, xargs best
	for round := range s.rounds {
		for _, p := range atOnce {
			pool := fmt.Sprint("tasks-", p)
			name := func(kind string) string { return fmt.Sprintf("%s-%d-%d", kind, p, round) }
			for _, of := range []struct {
				best *best
				job  *testutil.JobBuilder
			}{
				{&completions, testutil.MakeJob(s.namespace, name("completions"), pool).Command("/bin/true").Completions(int32(n))},
				{&xargs, testutil.MakeJob(s.namespace, name("xargs"), pool).
					Command("/bin/xargs", "-n1", fmt.Sprint("-P", p), "/bin/true").Stdin(lines)},
				{&items1, testutil.MakeJob(s.namespace, name("items"), pool).Command("/bin/true").Items(items...)},
			} {
				took, err := s.run(ctx, of.job.Obj())
				if err != nil {
					return nil, err
				}
				of.best.add(p, float64(n)/took.Seconds())
			}
		}
	}
	return []measurement{
		atLeast("tasks_per_second", "1/s", 0.65, completions.median(), xargs.median(), samplesOf(completions, xargs)),
		atLeast("item_tasks_per_second", "1/s", 0.65, items1.median(), xargs.median(), samplesOf(items1, xargs)),
	}, s.removePoolsOf(ctx, "tasks-")
}

// poolsOf makes a pool of one worker for each number of processes at once.
func (s *suite) poolsOf(ctx context.Context, prefix string, change ...func(*testutil.PoolBuilder)) error {
	for _, slots := range atOnce {
		if err := s.pool(ctx, fmt.Sprint(prefix, slots), 1, slots, change...); err != nil {
			return err
		}
	}
	return nil
}

func (s *suite) removePoolsOf(ctx context.Context, prefix string) error {
	for _, slots := range atOnce {
		if err := s.removePool(ctx, fmt.Sprint(prefix, slots)); err != nil {
			return err
		}
	}
	return nil
}

// run creates a Job and returns how long it takes until a watcher sees that it is complete.
func (s *suite) run(ctx context.Context, job *v1alpha1.Job) (time.Duration, error) {
	w, err := s.watch(ctx, &v1alpha1.JobList{})
	if err != nil {
		return 0, err
	}
	defer w.stop()
	if err := s.quiet(ctx); err != nil {
		return 0, err
	}
	before := time.Now()
	if err := s.client.Create(ctx, job); err != nil {
		return 0, err
	}
	seen, at, err := next(ctx, w, func(_ watch.EventType, j *v1alpha1.Job) bool { return j.Name == job.Name && j.Status.State.Finished() })
	if err != nil {
		return 0, err
	}
	if seen.Status.State != v1alpha1.JobSucceeded {
		return 0, fmt.Errorf("job %s: %s %s", job.Name, seen.Status.Reason, seen.Status.Message)
	}
	return at.Sub(before), s.remove(ctx, w, seen)
}

// best has what was measured with each number of processes at once.
type best map[int32][]float64

func (b *best) add(atOnce int32, figure float64) {
	if *b == nil {
		*b = best{}
	}
	(*b)[atOnce] = append((*b)[atOnce], figure)
}

// of is the series with the highest median.
func (b best) of() (series []float64) {
	for _, figures := range b {
		if series == nil || median(figures) > median(series) {
			series = figures
		}
	}
	return series
}

func (b best) median() float64 { return median(b.of()) }

func samplesOf(ours, theirs best) samples { return samples{Ours: ours.of(), Theirs: theirs.of()} }

// size is how much to measure.
func (s *suite) size(n, short int) int {
	if s.short {
		return short
	}
	return n
}
