package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

const (
	// creators create at once.
	creators = 32
	// workers run at once.
	workers = 8
)

// jobsPerSecond compares a crowd of Jobs with the same traffic without an operator, and with batch/v1.
func jobsPerSecond(ctx context.Context, s *suite) ([]measurement, error) {
	n := s.size(2000, 200)
	if err := s.pool(ctx, "crowd", workers, 1); err != nil {
		return nil, err
	}
	var took samples
	var lines []line
	for round := range s.rounds {
		ours, err := s.crowd(ctx, fmt.Sprintf("ours-%d", round), n, func(*v1alpha1.Job) {})
		if err != nil {
			return nil, err
		}
		theirs, err := s.crowdWithoutOperator(ctx, fmt.Sprintf("theirs-%d", round), n, ours.last)
		if err != nil {
			return nil, err
		}
		took.Ours, took.Theirs = append(took.Ours, ours.rate()), append(took.Theirs, theirs.rate())
		lines = []line{
			{"Jobs in a WorkerPool of 8", rateOverTime(ours.start, ours.completed)},
			{"the same without an operator", rateOverTime(theirs.start, theirs.completed)},
		}
	}
	s.draws(picture{
		file: "jobs-per-second", title: fmt.Sprintf("%d Jobs, created by %d clients", n, creators),
		x: "seconds since the first POST", y: "completed per second", lines: lines,
	})
	if err := s.removePool(ctx, "crowd"); err != nil {
		return nil, err
	}
	batch, err := s.batchCrowd(ctx, s.size(100, 10))
	if err != nil {
		return nil, err
	}
	ours := median(took.Ours)
	return []measurement{
		atLeast("jobs_per_second", "1/s", 0.8, ours, median(took.Theirs), took),
		atLeast("jobs_per_second_batch", "1/s", 60, ours, batch, samples{Theirs: []float64{batch}}),
	}, nil
}

// crowd is what became of a crowd of Jobs.
type crowd struct {
	// start is before the first POST.
	start time.Time
	// completed has when a watcher has seen each Job complete.
	completed []time.Time
	// last is the status of the last.
	last v1alpha1.JobStatus
}

func (c *crowd) rate() float64 {
	return float64(len(c.completed)) / c.completed[len(c.completed)-1].Sub(c.start).Seconds()
}

// crowd has many clients create so many Jobs, and waits until all are complete. See is told of each new Job.
func (s *suite) crowd(ctx context.Context, prefix string, n int, see func(*v1alpha1.Job)) (*crowd, error) {
	w, err := s.watch(ctx, &v1alpha1.JobList{})
	if err != nil {
		return nil, err
	}
	defer w.stop()
	clients, err := s.clients(creators)
	if err != nil {
		return nil, err
	}
	if err := s.quiet(ctx); err != nil {
		return nil, err
	}
	result := &crowd{start: time.Now()}
	group, running := errgroup.WithContext(ctx)
	group.Go(func() error {
		return create(running, clients, n, func(i int) *v1alpha1.Job { return s.crowdJob(prefix, i) })
	})
	group.Go(func() error { return result.watch(running, w, n, see) })
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return result, s.deleteJobs(ctx)
}

func (c *crowd) watch(ctx context.Context, w *watcher, n int, see func(*v1alpha1.Job)) error {
	complete := map[types.UID]bool{}
	for len(complete) < n {
		job, at, err := next(ctx, w, func(t watch.EventType, j *v1alpha1.Job) bool {
			if t == watch.Added {
				see(j)
			}
			return j.Status.State == v1alpha1.JobSucceeded && !complete[j.UID]
		})
		if err != nil {
			return err
		}
		complete[job.UID] = true
		c.completed, c.last = append(c.completed, at), job.Status
	}
	return nil
}

// create has many clients create Jobs at once.
func create(ctx context.Context, clients []client.WithWatch, n int, job func(i int) *v1alpha1.Job) error {
	return share(ctx, clients, n, func(ctx context.Context, c client.WithWatch, i int) error { return c.Create(ctx, job(i)) })
}

// share has many clients do at once what is to be done n times.
func share(ctx context.Context, clients []client.WithWatch, n int, do func(ctx context.Context, c client.WithWatch, i int) error) error {
	group, ctx := errgroup.WithContext(ctx)
	for i, c := range clients {
		group.Go(func() error {
			for j := i; j < n; j += len(clients) {
				if err := do(ctx, c, j); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

func (s *suite) crowdJob(prefix string, i int) *v1alpha1.Job {
	return testutil.MakeJob(s.namespace, fmt.Sprintf("%s-%04d", prefix, i), "crowd").Command("/bin/true").Obj()
}

// crowdWithoutOperator is crowd, where this program does what must be done, and no more: it runs the same program and
// writes the same status with the same verb, by as many at once as there are workers.
func (s *suite) crowdWithoutOperator(ctx context.Context, prefix string, n int, status v1alpha1.JobStatus) (*crowd, error) {
	if err := s.scaleOperator(ctx, 0); err != nil {
		return nil, err
	}
	clients, err := s.clients(1)
	if err != nil {
		return nil, err
	}
	queue := make(chan *v1alpha1.Job, n)
	group, running := errgroup.WithContext(ctx)
	for range workers {
		group.Go(func() error {
			for job := range queue {
				if err := s.standIn(running, clients[0], job, status); err != nil {
					return err
				}
			}
			return nil
		})
	}
	result, err := s.crowd(running, prefix, n, func(job *v1alpha1.Job) { queue <- job })
	close(queue)
	if err := errors.Join(group.Wait(), err); err != nil {
		return nil, err
	}
	return result, s.scaleOperator(ctx, 2)
}

// standIn runs a Job and stores that it has succeeded.
func (s *suite) standIn(ctx context.Context, c client.Client, job *v1alpha1.Job, status v1alpha1.JobStatus) error {
	if err := exec.CommandContext(ctx, filepath.Join(s.programs, "true")).Run(); err != nil { //nolint:gosec // of ours
		return err
	}
	body, err := json.Marshal([]map[string]any{
		{"op": "replace", "path": "/metadata/uid", "value": job.UID},
		{"op": "replace", "path": "/metadata/resourceVersion", "value": job.ResourceVersion},
		{"op": "add", "path": "/status", "value": status},
	})
	if err != nil {
		return err
	}
	return c.Status().Patch(ctx, job, client.RawPatch(types.JSONPatchType, body))
}

// scaleOperator has so many operators run, and none lead if that is none, else one.
func (s *suite) scaleOperator(ctx context.Context, replicas int32) error {
	operator := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: operatorName}}
	patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas))
	if err := s.client.Patch(ctx, operator, patch); err != nil {
		return err
	}
	return s.await(ctx, fmt.Sprintf("%d operators", replicas), func(ctx context.Context) (bool, error) {
		var pods corev1.PodList
		err := s.client.List(ctx, &pods, client.InNamespace(operatorNamespace))
		if err != nil || len(pods.Items) != int(replicas) {
			return false, err
		}
		var lease coordinationv1.Lease
		err = s.client.Get(ctx, types.NamespacedName{Namespace: operatorNamespace, Name: operatorName}, &lease)
		led := lease.Spec.HolderIdentity != nil && *lease.Spec.HolderIdentity != ""
		return led == (replicas > 0), err
	})
}

// batchCrowd is how many Jobs of batch/v1 are completed in a second, of so many at once.
func (s *suite) batchCrowd(ctx context.Context, n int) (float64, error) {
	w, err := s.watch(ctx, &batchv1.JobList{})
	if err != nil {
		return 0, err
	}
	defer w.stop()
	if err := s.quiet(ctx); err != nil {
		return 0, err
	}
	before := time.Now()
	for i := range n {
		if err := s.client.Create(ctx, s.batchJob(fmt.Sprintf("crowd-%03d", i))); err != nil {
			return 0, err
		}
	}
	complete := map[types.UID]bool{}
	_, end, err := next(ctx, w, func(_ watch.EventType, j *batchv1.Job) bool {
		if j.Status.Succeeded > 0 {
			complete[j.UID] = true
		}
		return len(complete) == n
	})
	if err != nil {
		return 0, err
	}
	err = s.client.DeleteAllOf(ctx, &batchv1.Job{}, client.InNamespace(s.namespace), client.PropagationPolicy(metav1.DeletePropagationBackground))
	return float64(n) / end.Sub(before).Seconds(), err
}

// deleteJobs deletes all Jobs of the suite, and waits until they are gone. A single request for all is cut off after a
// minute, with a few thousand deleted.
func (s *suite) deleteJobs(ctx context.Context) error {
	clients, err := s.clients(creators)
	if err != nil {
		return err
	}
	return s.await(ctx, "the end of all Jobs", func(ctx context.Context) (bool, error) {
		var jobs metav1.PartialObjectMetadataList
		jobs.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("JobList"))
		if err := s.client.List(ctx, &jobs, client.InNamespace(s.namespace), client.Limit(5000)); err != nil {
			return false, err
		}
		return len(jobs.Items) == 0, share(ctx, clients, len(jobs.Items), func(ctx context.Context, c client.WithWatch, i int) error {
			job := &v1alpha1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: jobs.Items[i].Name}}
			return client.IgnoreNotFound(c.Delete(ctx, job))
		})
	})
}
