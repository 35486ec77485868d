package e2e

import (
	"fmt"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

func TestAPoolWorksBesideOneThatDoesNot(t *testing.T) {
	t.Parallel()
	for name, trouble := range map[string]func(f *fixture) (more func()){
		"broken image": brokenImage, "full queue": fullQueue, "crashing agent": crashingAgent,
	} {
		t.Run(name, func(t *testing.T) {
			f := setup(t)
			f.create(f.pool().Replicas(2).Obj())
			f.awaitPool(ready("2/2"))
			more := trouble(newFixture(t, "restricted"))
			const jobs, batch = 50, 10
			for i := range jobs {
				if i%batch == 0 {
					more()
				}
				f.create(f.job(fmt.Sprint("job-", i), "true").Obj())
			}
			for i := range jobs {
				f.Expect(f.awaitJob(fmt.Sprint("job-", i), finished())).To(And(inState(v1alpha1.JobSucceeded, ""), startedTimes(1, 0)))
			}
			f.awaitPool(And(ready("2/2"), HaveField("Status.ProcessedJobs", HaveValue(BeEquivalentTo(jobs)))))
		})
	}
}

func brokenImage(f *fixture) (more func()) {
	f.create(f.pool().Replicas(3).Image("localhost/no/such:image").Obj(), f.job("stuck", "true").Obj())
	f.awaitPool(withCondition(v1alpha1.PoolProgressing, "False", v1alpha1.ReasonWorkerCannotStart))
	return func() {}
}

func fullQueue(f *fixture) (more func()) {
	f.create(f.pool().Capacity(1).Obj())
	f.awaitPool(ready("1/1"))
	f.block()
	for i := range 200 {
		f.create(f.job(fmt.Sprint("waiting-", i), "true").Obj())
	}
	f.awaitPool(withCondition(v1alpha1.PoolQueueFull, "True", v1alpha1.ReasonCapacity))
	return func() {}
}

// crashingAgent makes a pool whose only worker is killed time and again. The kubelet restarts it a few times at
// once, and later only after a while: more does not wait for that.
func crashingAgent(f *fixture) (more func()) {
	f.create(f.pool().Obj())
	f.awaitPool(ready("1/1"))
	f.block()
	node := f.node("demo-0")
	f.Expect(node.signal("KILL")).To(Equal(1))
	f.Eventually(node.signal, patience).WithArguments("KILL").Should(Equal(1), "it is restarted")
	return func() { node.signal("KILL") }
}
