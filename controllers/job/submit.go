package job

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/engine"
)

// poolField is the index of Jobs by their pool.
const poolField = "spec.pool"

type workqueueOf[R comparable] = workqueue.TypedRateLimitingInterface[R]

func indexByPool(mgr ctrl.Manager) error {
	err := mgr.GetFieldIndexer().IndexField(context.Background(), &v1alpha1.Job{}, poolField, func(o client.Object) []string {
		return []string{o.(*v1alpha1.Job).Spec.Pool}
	})
	if err != nil {
		return fmt.Errorf("indexing Jobs by pool: %w", err)
	}
	return nil
}

// Load submits the Jobs that are not finished, in the order in which they were created, so that the
// queue takes in the oldest first. Of Jobs created in the same second the name decides.
func Load(ctx context.Context, c client.Reader, eng interface{ Submit(engine.Job) }, opts ...client.ListOption) error {
	list := &v1alpha1.JobList{}
	if err := c.List(ctx, list, opts...); err != nil {
		return fmt.Errorf("listing Jobs: %w", err)
	}
	jobs := slices.DeleteFunc(list.Items, func(job v1alpha1.Job) bool {
		return job.Status.State.Finished() || !job.DeletionTimestamp.IsZero()
	})
	slices.SortFunc(jobs, func(a, b v1alpha1.Job) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	for i := range jobs {
		eng.Submit(Convert(&jobs[i]))
	}
	return nil
}

// Convert returns what the engine needs of a Job. It shares the Job's slices and strings.
func Convert(job *v1alpha1.Job) engine.Job {
	out := engine.Job{
		JobRef:          engine.JobRef{NamespacedName: client.ObjectKeyFromObject(job), UID: job.UID},
		ResourceVersion: job.ResourceVersion,
		Generation:      job.Generation,
		Pool:            job.Spec.Pool,
		Created:         job.CreationTimestamp.Time,
		Argv:            slices.Concat(job.Spec.Command, job.Spec.Args),
		WorkingDir:      job.Spec.WorkingDir,
		Status:          job.Status,
	}
	if job.Spec.Priority != nil {
		out.Priority = int(*job.Spec.Priority)
	}
	for _, env := range job.Spec.Env {
		value := ""
		if env.Value != nil {
			value = *env.Value
		}
		out.Env = append(out.Env, engine.EnvVar{Name: env.Name, Value: value})
	}
	return out
}
