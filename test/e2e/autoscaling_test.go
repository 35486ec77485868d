package e2e

import (
	"fmt"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// A pool without workers gets some with its first Jobs, and gives them back.
func TestAPoolScalesFromZeroAndBack(t *testing.T) {
	f := setup(t)
	pool := f.pool().Spec(func(s *v1alpha1.WorkerPoolSpec) {
		s.Replicas = nil
		s.Autoscaling = &v1alpha1.AutoscalingSpec{MaxReplicas: 2, TargetWaitSeconds: new(int32(1)), ScaleDownDelaySeconds: new(int32(3))}
	}).Obj()
	f.create(pool)
	f.awaitPool(And(ready("0/0"), withCondition(v1alpha1.PoolReady, "True", v1alpha1.ReasonAllReady)))
	f.Expect(f.pods()).To(BeEmpty())

	for i := range 3 {
		f.create(f.job(fmt.Sprintf("waits-%d", i), untilTold).Obj())
	}
	f.awaitPool(And(ready("2/2"), holding(1, 2)))
	f.tell("demo-0")
	f.tell("demo-1")
	for i := range 3 {
		f.awaitJob(fmt.Sprintf("waits-%d", i), And(inState(v1alpha1.JobSucceeded, ""), startedTimes(1, 0)))
	}
	f.awaitPool(ready("0/0"))
	f.Eventually(f.pods, patience).Should(BeEmpty())
	f.Expect(f.run("again", "echo warm")).To(Equal("warm\n"))
}
