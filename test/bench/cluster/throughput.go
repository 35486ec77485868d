package main

import (
	"context"
	"encoding/json"
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
	var status v1alpha1.JobStatus
	for round := range s.rounds {
		rate, last, err := s.crowd(ctx, fmt.Sprintf("ours-%d", round), n, func(context.Context, *v1alpha1.Job) error { return nil })
		if err != nil {
			return nil, err
		}
		took.Ours, status = append(took.Ours, rate), last
		if rate, err = s.crowdWithoutOperator(ctx, fmt.Sprintf("theirs-%d", round), n, status); err != nil {
			return nil, err
		}
		took.Theirs = append(took.Theirs, rate)
	}
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

// crowd creates so many Jobs by many clients and returns how many were completed in a second, from before the first
// POST until a watcher has seen the last complete, with the status of that one. See is told of each new Job.
func (s *suite) crowd(
	ctx context.Context, prefix string, n int, see func(context.Context, *v1alpha1.Job) error,
) (float64, v1alpha1.JobStatus, error) {
	var last v1alpha1.JobStatus
	clients, err := s.clients(creators)
	if err != nil {
		return 0, last, err
	}
	w, err := s.watch(ctx, &v1alpha1.JobList{})
	if err != nil {
		return 0, last, err
	}
	defer w.stop()
	before := time.Now()
	group, running := errgroup.WithContext(ctx)
	for i, c := range clients {
		group.Go(func() error {
			for j := i; j < n; j += creators {
				if err := c.Create(running, s.crowdJob(prefix, j)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	var end time.Time
	group.Go(func() error {
		complete := map[types.UID]bool{}
		_, at, err := next(running, w, func(t watch.EventType, j *v1alpha1.Job) bool {
			switch {
			case t == watch.Added:
				err := see(running, j)
				return err != nil
			case j.Status.State == v1alpha1.JobSucceeded:
				complete[j.UID], last = true, j.Status
			}
			return len(complete) == n
		})
		end = at
		return err
	})
	if err := group.Wait(); err != nil {
		return 0, last, err
	}
	return float64(n) / end.Sub(before).Seconds(), last, s.deleteJobs(ctx)
}

func (s *suite) crowdJob(prefix string, i int) *v1alpha1.Job {
	return testutil.MakeJob(s.namespace, fmt.Sprintf("%s-%04d", prefix, i), "crowd").Command("/bin/true").Obj()
}

// crowdWithoutOperator is crowd, where this program does what must be done, and no more: it runs the same program and
// writes the same status with the same verb, by as many at once as there are workers.
func (s *suite) crowdWithoutOperator(ctx context.Context, prefix string, n int, status v1alpha1.JobStatus) (float64, error) {
	if err := s.scaleOperator(ctx, 0); err != nil {
		return 0, err
	}
	clients, err := s.clients(1)
	if err != nil {
		return 0, err
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
	rate, _, err := s.crowd(running, prefix, n, func(_ context.Context, job *v1alpha1.Job) error {
		queue <- job
		return nil
	})
	close(queue)
	if waitErr := group.Wait(); waitErr != nil {
		return 0, waitErr
	}
	if err != nil {
		return 0, err
	}
	return rate, s.scaleOperator(ctx, 2)
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

// deleteJobs deletes all Jobs of the suite, and waits until they are gone.
func (s *suite) deleteJobs(ctx context.Context) error {
	if err := s.client.DeleteAllOf(ctx, &v1alpha1.Job{}, client.InNamespace(s.namespace)); err != nil {
		return err
	}
	return s.await(ctx, "the end of all Jobs", func(ctx context.Context) (bool, error) {
		var jobs v1alpha1.JobList
		err := s.client.List(ctx, &jobs, client.InNamespace(s.namespace), client.Limit(1))
		return len(jobs.Items) == 0, err
	})
}
