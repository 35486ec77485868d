package e2e

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

// sorted returns the Jobs of the namespace whose names begin with job, in an order.
func (f *fixture) sorted(order func(a, b *v1alpha1.Job) int) []*v1alpha1.Job {
	f.t.Helper()
	list := &v1alpha1.JobList{}
	f.Expect(cluster.List(f.ctx, list, client.InNamespace(f.namespace))).To(Succeed())
	var jobs []*v1alpha1.Job
	for i := range list.Items {
		if list.Items[i].Name != "blocker" {
			jobs = append(jobs, &list.Items[i])
		}
	}
	slices.SortFunc(jobs, order)
	return jobs
}

func byStart(a, b *v1alpha1.Job) int { return a.Status.StartTime.Compare(b.Status.StartTime.Time) }

// byKey is the order of the queue as the guide gives it, for pools with this agingSeconds.
func byKey(agingSeconds int64) func(a, b *v1alpha1.Job) int {
	key := func(job *v1alpha1.Job) int64 {
		return job.CreationTimestamp.Unix() - int64(ptr.Deref(job.Spec.Priority, 0))*agingSeconds
	}
	at := func(t *metav1.MicroTime) time.Time { return ptr.Deref(t, metav1.MicroTime{}).Time }
	return func(a, b *v1alpha1.Job) int {
		return cmp.Or(cmp.Compare(key(a), key(b)), at(a.Status.QueuedTime).Compare(at(b.Status.QueuedTime)), cmp.Compare(a.Name, b.Name))
	}
}

func names(jobs []*v1alpha1.Job) []string {
	var all []string
	for _, job := range jobs {
		all = append(all, job.Name)
	}
	return all
}

func TestTheOrderCanBeToldFromTheJobs(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Aging(1).Obj())
	f.awaitPool(ready("1/1"))
	release := f.block()
	for i, priority := range []int32{0, 3, -2, 3, 0, 1000, -1000, 1, 2} {
		f.create(f.job(fmt.Sprint("job-", i), "true").Priority(priority).Obj())
	}
	f.awaitPool(holding(9, 1))
	for _, job := range f.sorted(byKey(1)) {
		f.awaitJob(job.Name, inState(v1alpha1.JobQueued, ""))
	}
	told := names(f.sorted(byKey(1)))
	release()
	for _, name := range told {
		f.awaitJob(name, inState(v1alpha1.JobSucceeded, ""))
	}
	f.Expect(names(f.sorted(byStart))).To(Equal(told))
}

func TestAChangedPriorityCountsForAJobThatWaits(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Obj())
	f.awaitPool(ready("1/1"))
	release := f.block()
	for i := range 4 {
		f.create(f.job(fmt.Sprint("job-", i), "true").Obj())
		f.awaitJob(fmt.Sprint("job-", i), inState(v1alpha1.JobQueued, ""))
	}
	f.patch(f.get("job-1"), `{"spec":{"priority":10}}`)
	f.patch(f.get("job-3"), `{"spec":{"priority":20}}`)
	f.patch(f.get("job-0"), `{"spec":{"priority":-10}}`)
	f.passes("witness")
	release()
	for i := range 4 {
		f.awaitJob(fmt.Sprint("job-", i), inState(v1alpha1.JobSucceeded, ""))
	}
	f.Expect(names(f.sorted(byStart))).To(Equal([]string{"job-3", "job-1", "job-2", "job-0"}))
}

func TestAChangedPriorityCountsForAJobBeyondTheCapacity(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Capacity(1).Obj())
	f.awaitPool(ready("1/1"))
	release := f.block()
	for i := range 3 {
		f.create(f.job(fmt.Sprint("job-", i), "true").Obj())
	}
	f.awaitJob("job-1", inState(v1alpha1.JobPending, v1alpha1.ReasonQueueFull))
	f.awaitJob("job-2", inState(v1alpha1.JobPending, v1alpha1.ReasonQueueFull))
	f.patch(f.get("job-2"), `{"spec":{"priority":10}}`)
	f.passes("witness")
	release()
	for i := range 3 {
		f.awaitJob(fmt.Sprint("job-", i), inState(v1alpha1.JobSucceeded, ""))
	}
	order := names(f.sorted(byStart))
	f.Expect(slices.Index(order, "job-2")).To(BeNumerically("<", slices.Index(order, "job-1")))
}

// passes waits until the operator has seen all that was done to Jobs so far: it makes a Job of a pool that
// does not exist, and the operator says so after what it has seen before.
func (f *fixture) passes(name string) {
	f.t.Helper()
	f.create(testutil.MakeJob(f.namespace, name, "no-such-pool").Obj())
	f.awaitJob(name, inState(v1alpha1.JobPending, v1alpha1.ReasonPoolNotFound))
	f.delete(name)
}

// With SOAK in the environment there are ten times as many.
func TestManyJobsAgainstASmallCapacityAllRunInOrder(t *testing.T) {
	f := setup(t)
	jobs := 2000
	if os.Getenv("SOAK") != "" {
		jobs *= 10
	}
	f.create(f.pool().Capacity(100).Retain(0).Obj())
	f.awaitPool(ready("1/1"))
	release := f.block()
	for i := range jobs {
		f.create(testutil.MakeJob(f.namespace, fmt.Sprint("job-", i), "demo").Command("true").Obj())
	}
	f.awaitPool(And(holding(100, 1), withCondition(v1alpha1.PoolQueueFull, "True", v1alpha1.ReasonCapacity)))
	release()
	f.Eventually(f.getPool, patience+time.Duration(jobs)*50*time.Millisecond, time.Second).
		Should(HaveField("Status.ProcessedJobs", HaveValue(BeEquivalentTo(jobs))))

	order := f.sorted(byStart)
	f.Expect(order).To(HaveLen(jobs))
	for i, job := range order {
		f.Expect(job).To(And(inState(v1alpha1.JobSucceeded, ""), startedTimes(1, 0)))
		if i > 0 {
			f.Expect(job.CreationTimestamp.Time).NotTo(BeTemporally("<", order[i-1].CreationTimestamp.Time),
				"%s was started after %s", job.Name, order[i-1].Name)
		}
	}
}
