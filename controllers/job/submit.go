package job

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"unique"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/engine"
	"github.com/workerpool-dev/workerpool/internal/tolerant"
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
// queue takes in the oldest first. Of Jobs created in the same second the one that was queued first comes
// first, as far as that is stored, and else the name decides.
func Load(ctx context.Context, c client.Reader, eng interface{ Submit(engine.Job) }, opts ...client.ListOption) error {
	list := &v1alpha1.JobList{}
	if err := c.List(ctx, list, append([]client.ListOption{client.UnsafeDisableDeepCopy}, opts...)...); err != nil {
		return fmt.Errorf("listing Jobs: %w", err)
	}
	var jobs []*v1alpha1.Job
	for i := range list.Items {
		if job := &list.Items[i]; !job.Status.State.Finished() && !invalid(job) {
			jobs = append(jobs, job)
		}
	}
	slices.SortFunc(jobs, func(a, b *v1alpha1.Job) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), compareQueued(a, b), cmp.Compare(a.Name, b.Name))
	})
	for _, job := range jobs {
		eng.Submit(Convert(job))
	}
	return nil
}

// compareQueued is 0 unless both have been in the queue. Those that have come before those that have not.
func compareQueued(a, b *v1alpha1.Job) int {
	x, y := a.Status.QueuedTime, b.Status.QueuedTime
	switch {
	case x != nil && y != nil:
		return x.Compare(y.Time)
	case x != nil:
		return -1
	case y != nil:
		return 1
	}
	return 0
}

// Convert returns what the engine needs of a Job. What its spec and its status point to may be the cache's too, and
// nobody changes that: a queued Job is in memory once.
func Convert(job *v1alpha1.Job) engine.Job {
	spec := job.Spec // on its own, or the rest of the Job would stay with it
	return engine.Job{
		JobRef:          engine.JobRef{NamespacedName: client.ObjectKeyFromObject(job), UID: job.UID},
		ResourceVersion: job.ResourceVersion,
		Generation:      job.Generation,
		Created:         job.CreationTimestamp.Time,
		Spec:            &spec,
		Reduced:         engine.IsReduced(&spec),
		Status:          job.Status,
		Deleted:         !job.DeletionTimestamp.IsZero(),
		Bytes:           notedBytes(job),
	}
}

// Trim is the TransformFunc of the cache of Jobs, of which there may be very many. What many of them say is in memory
// once. Of a finished one it drops what was to be run, and of others too if it is large: then it is read again when the
// Job is started. Nothing here reads labels, annotations and the like, and each of them may be large.
func Trim(object any) (any, error) {
	job, ok := object.(*v1alpha1.Job)
	if !ok {
		return object, nil
	}
	if !engine.IsReduced(&job.Spec) { // else it was here before
		noteBytes(job)
	}
	notes := tolerant.InMemory(job)
	job.ObjectMeta = metav1.ObjectMeta{
		Namespace: job.Namespace, Name: job.Name, UID: job.UID, ResourceVersion: job.ResourceVersion, Generation: job.Generation,
		CreationTimestamp: job.CreationTimestamp, DeletionTimestamp: job.DeletionTimestamp,
	}
	if len(notes) > 0 {
		job.Annotations = notes
	}
	job.Namespace, job.Spec.Pool = shared(job.Namespace), shared(job.Spec.Pool)
	job.Spec.Execution = shared(job.Spec.Execution)
	job.Status.State, job.Status.Reason, job.Status.Leader = shared(job.Status.State), shared(job.Status.Reason), shared(job.Status.Leader)
	if job.Status.State.Finished() {
		job.Spec = v1alpha1.JobSpec{Pool: job.Spec.Pool, TTLSecondsAfterFinished: job.Spec.TTLSecondsAfterFinished}
	} else {
		job.Spec, _ = engine.Reduce(&job.Spec)
		job.Status.Message = shared(job.Status.Message) // that of a finished one is its own
	}
	return job, nil
}

// shared is one string for all that are equal.
func shared[S ~string](s S) S { return unique.Make(s).Value() }
