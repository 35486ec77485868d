package e2e

import (
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

func TestWorkersThatAreNotHeardOfAreGivenUpOnceAndTheirJobsRunElsewhere(t *testing.T) {
	f := setup(t)
	const timeout = 30 * time.Second
	f.create(f.pool().Replicas(2).Spec(func(s *v1alpha1.WorkerPoolSpec) {
		s.WorkerLostTimeoutSeconds = new(int32(timeout.Seconds()))
	}).Obj())
	f.awaitPool(ready("2/2"))
	f.create(f.job("traveller", untilTold).Obj())
	lost := f.pod(f.awaitJob("traveller", inState(v1alpha1.JobRunning, "")).Status.Worker)
	old := f.pods()
	node := f.node(lost.Name)
	stopped := time.Now()
	f.Expect(node.signal("STOP")).To(Equal(2))

	f.Eventually(f.pods, timeout+patience).Should(ConsistOf(otherThan(old[0], old[1]), otherThan(old[0], old[1])))
	f.Expect(time.Since(stopped)).To(BeNumerically(">=", timeout))
	f.awaitPool(ready("2/2"))
	again := And(inState(v1alpha1.JobRunning, ""), HaveField("Status.Attempts", HaveValue(BeEquivalentTo(2))))
	f.tell(f.awaitJob("traveller", again).Status.Worker)
	job := f.awaitJob("traveller", inState(v1alpha1.JobSucceeded, ""))
	f.Expect(job).To(startedTimes(2, 0))
	f.Expect(job.Status.EndedAttempts[0].PodUID).To(Equal(lost.UID))
	f.Expect(job.Status.EndedAttempts[0].Reason).To(Equal(v1alpha1.ReasonWorkerLost))
	f.expectEvents(v1alpha1.ReasonWorkerLost,
		"Worker demo-0 was not heard of for too long and is replaced.", "Worker demo-1 was not heard of for too long and is replaced.")
}

func TestAWorkerIsReplacedWhenItIsTooOldAndFinishesItsJob(t *testing.T) {
	f := setup(t)
	const age = time.Minute
	f.create(f.pool().Spec(func(s *v1alpha1.WorkerPoolSpec) {
		s.Recycle = &v1alpha1.RecycleSpec{MaxAgeSeconds: new(int32(age.Seconds()))}
	}).Obj())
	f.awaitPool(ready("1/1"))
	old := f.pod("demo-0")
	f.create(f.job("running", untilTold).Obj())
	f.awaitJob("running", inState(v1alpha1.JobRunning, ""))

	f.Eventually(f.pods, age+patience).Should(ConsistOf(
		And(HaveField("UID", old.UID), HaveField("DeletionTimestamp", Not(BeNil()))), otherThan(*old)))
	f.Expect(f.pod("demo-1").CreationTimestamp.Sub(old.CreationTimestamp.Time)).To(BeNumerically(">=", age))
	f.awaitPool(ready("1/1"))
	f.Expect(f.get("running")).To(inState(v1alpha1.JobRunning, ""))
	f.tell(old.Name)
	f.Expect(f.awaitJob("running", inState(v1alpha1.JobSucceeded, ""))).To(startedTimes(1, 0))
	f.Eventually(f.pods, patience).Should(ConsistOf(otherThan(*old)))
}
