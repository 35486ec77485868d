package main

import (
	"context"
	"fmt"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/testutil"
	"github.com/workerpool-dev/workerpool/internal/tinyprogram"
)

// createToStart compares the time until the first instruction of a Job's process with the time until a watcher sees
// an object of the same kind at all, one after the other. The object is a Job that is suspended.
func createToStart(ctx context.Context, s *suite) ([]measurement, error) {
	if err := s.pool(ctx, "idle", 1, 1); err != nil {
		return nil, err
	}
	w, err := s.watch(ctx, &v1alpha1.JobList{})
	if err != nil {
		return nil, err
	}
	defer w.stop()
	var took samples
	for i := range s.size(400*s.rounds, 100) {
		started, err := s.timeToStart(ctx, w, fmt.Sprint("start-", i))
		if err != nil {
			return nil, err
		}
		seen, err := s.timeToSee(ctx, w, fmt.Sprint("seen-", i))
		if err != nil {
			return nil, err
		}
		took.Ours, took.Theirs = append(took.Ours, milliseconds(started)), append(took.Theirs, milliseconds(seen))
	}
	s.draws(picture{
		file: "create-to-start", title: "From before the POST of a Job", x: "milliseconds", y: "share of all", logarithmic: true,
		lines: []line{
			{"to the first instruction of its process", distribution(took.Ours)},
			{"to the watch event of such an object", distribution(took.Theirs)},
		},
	})
	return []measurement{
		atMost("create_to_start_p50", "ms", 1.6, median(took.Ours), median(took.Theirs), took),
		atMost("create_to_start_p99", "ms", 2, quantile(took.Ours, 0.99), quantile(took.Theirs, 0.99), samples{}),
	}, s.removePool(ctx, "idle")
}

// timeToStart is that from before the POST to the process of the Job.
func (s *suite) timeToStart(ctx context.Context, w *watcher, name string) (time.Duration, error) {
	job := testutil.MakeJob(s.namespace, name, "idle").Command("/bin/now").Obj()
	before := time.Now()
	if err := s.client.Create(ctx, job); err != nil {
		return 0, err
	}
	job, _, err := next(ctx, w, func(_ watch.EventType, j *v1alpha1.Job) bool { return j.Name == name && j.Status.State.Finished() })
	if err != nil {
		return 0, err
	}
	if job.Status.State != v1alpha1.JobSucceeded {
		return 0, fmt.Errorf("job %s: %s %s", name, job.Status.Reason, job.Status.Message)
	}
	started, err := tinyprogram.TimeOf(job.Status.Result.Output)
	if err != nil {
		return 0, err
	}
	return started.Sub(before.Round(0)), s.remove(ctx, w, job)
}

// remove deletes a Job and waits until it is gone.
func (s *suite) remove(ctx context.Context, w *watcher, job *v1alpha1.Job) error {
	if err := s.client.Delete(ctx, job); err != nil {
		return err
	}
	_, _, err := next(ctx, w, func(t watch.EventType, j *v1alpha1.Job) bool { return j.UID == job.UID && t == watch.Deleted })
	return err
}

// timeToSee is that from before the POST to the watcher.
func (s *suite) timeToSee(ctx context.Context, w *watcher, name string) (time.Duration, error) {
	job := testutil.MakeJob(s.namespace, name, "idle").Command("/bin/now").Suspend().Obj()
	before := time.Now()
	if err := s.client.Create(ctx, job); err != nil {
		return 0, err
	}
	_, at, err := next(ctx, w, func(_ watch.EventType, j *v1alpha1.Job) bool { return j.Name == name })
	if err != nil {
		return 0, err
	}
	return at.Sub(before), s.remove(ctx, w, job)
}

// createToComplete compares a Job of ours and one of batch/v1 that runs the same, each alone.
func createToComplete(ctx context.Context, s *suite) ([]measurement, error) {
	if err := s.pool(ctx, "idle", 1, 1); err != nil {
		return nil, err
	}
	ours, err := s.watch(ctx, &v1alpha1.JobList{})
	if err != nil {
		return nil, err
	}
	defer ours.stop()
	theirs, err := s.watch(ctx, &batchv1.JobList{})
	if err != nil {
		return nil, err
	}
	defer theirs.stop()
	var took samples
	for i := range s.size(10*s.rounds, 2) {
		for j := range 10 {
			t, err := s.timeToComplete(ctx, ours, fmt.Sprintf("complete-%d-%d", i, j))
			if err != nil {
				return nil, err
			}
			took.Ours = append(took.Ours, milliseconds(t))
		}
		t, err := s.timeToCompleteBatch(ctx, theirs, fmt.Sprint("complete-", i))
		if err != nil {
			return nil, err
		}
		took.Theirs = append(took.Theirs, milliseconds(t))
	}
	s.draws(picture{
		file: "create-to-complete", title: "From before the POST of a Job until it is seen to be complete", x: "milliseconds", y: "share of all",
		logarithmic: true,
		lines:       []line{{"a Job in a WorkerPool", distribution(took.Ours)}, {"a Job of batch/v1", distribution(took.Theirs)}},
	})
	return []measurement{atMost("create_to_complete_p50", "ms", 0.01, median(took.Ours), median(took.Theirs), took)},
		s.removePool(ctx, "idle")
}

func (s *suite) timeToComplete(ctx context.Context, w *watcher, name string) (time.Duration, error) {
	before := time.Now()
	if err := s.client.Create(ctx, testutil.MakeJob(s.namespace, name, "idle").Command("/bin/true").Obj()); err != nil {
		return 0, err
	}
	job, at, err := next(ctx, w, func(_ watch.EventType, j *v1alpha1.Job) bool {
		return j.Name == name && j.Status.State == v1alpha1.JobSucceeded
	})
	if err != nil {
		return 0, err
	}
	return at.Sub(before), s.remove(ctx, w, job)
}

func (s *suite) timeToCompleteBatch(ctx context.Context, w *watcher, name string) (time.Duration, error) {
	job := s.batchJob(name)
	before := time.Now()
	if err := s.client.Create(ctx, job); err != nil {
		return 0, err
	}
	_, at, err := next(ctx, w, func(_ watch.EventType, j *batchv1.Job) bool { return j.Name == name && j.Status.Succeeded > 0 })
	if err != nil {
		return 0, err
	}
	if err := s.client.Delete(ctx, job, client.PropagationPolicy(metav1.DeletePropagationForeground)); err != nil {
		return 0, err
	}
	_, _, err = next(ctx, w, func(t watch.EventType, j *batchv1.Job) bool { return j.Name == name && t == watch.Deleted })
	return at.Sub(before), err
}

// batchJob is a Job as Kubernetes runs it, with a pod of its own for the same program.
func (s *suite) batchJob(name string) *batchv1.Job {
	return &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.namespace, Name: name},
		Spec: batchv1.JobSpec{
			BackoffLimit: new(int32(0)),
			Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
				RestartPolicy:                 corev1.RestartPolicyNever,
				AutomountServiceAccountToken:  new(false),
				TerminationGracePeriodSeconds: new(int64(0)),
				Containers: []corev1.Container{{
					Name: "job", Image: s.image, ImagePullPolicy: corev1.PullIfNotPresent, Command: []string{"/bin/true"},
				}},
			}},
		},
	}
}
