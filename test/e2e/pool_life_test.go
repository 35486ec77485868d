package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apitypes "k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

func TestASuspendedPoolStartsNothingAndWhatRunsGoesOn(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Slots(2).Obj())
	f.awaitPool(ready("1/1"))
	f.create(f.job("running", untilTold).Obj())
	f.awaitJob("running", inState(v1alpha1.JobRunning, ""))
	f.patch(f.getPool(), `{"spec":{"suspend":true}}`)
	f.awaitPool(HaveField("Status.ObservedGeneration", BeEquivalentTo(2)))

	f.create(f.job("waiting", "true").Obj())
	f.awaitJob("waiting", inState(v1alpha1.JobQueued, v1alpha1.ReasonPoolSuspended))
	f.tell("demo-0")
	f.awaitJob("running", inState(v1alpha1.JobSucceeded, ""))
	f.Expect(f.get("waiting")).To(inState(v1alpha1.JobQueued, v1alpha1.ReasonPoolSuspended))
	f.patch(f.getPool(), `{"spec":{"suspend":false}}`)
	f.awaitJob("waiting", inState(v1alpha1.JobSucceeded, ""))
}

func TestAPoolRunsWithWhatIsWithinItsLimits(t *testing.T) {
	f := setup(t)
	pool := f.pool().Replicas(3).Template(func(t *corev1.PodTemplateSpec) {
		t.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")}
	}).Spec(func(s *v1alpha1.WorkerPoolSpec) {
		s.Limits = &v1alpha1.PoolLimits{Memory: new(resource.MustParse("150Mi"))}
	}).Obj()
	f.create(pool, f.job("served", "true").Obj())
	demo := f.awaitPool(And(ready("2/3"), withCondition(v1alpha1.PoolLimitReached, "True", v1alpha1.ReasonLimit)))
	f.Expect(demo.Status.Conditions).To(ContainElement(HaveField("Message", ContainSubstring("192Mi of memory"))))
	f.Expect(demo.Status.Resources.Capacity.Memory.String()).To(Equal("64Mi"), "what two workers have without their agents")
	f.awaitJob("served", inState(v1alpha1.JobSucceeded, ""))
	f.patch(f.getPool(), `{"spec":{"limits":{"memory":"192Mi"}}}`)
	f.awaitPool(And(ready("3/3"), withCondition(v1alpha1.PoolLimitReached, "False", v1alpha1.ReasonWithinLimits)))
}

func TestAWorkerIsReplacedAfterItsJobs(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Spec(func(s *v1alpha1.WorkerPoolSpec) { s.Recycle = &v1alpha1.RecycleSpec{MaxJobs: new(int32(2))} }).Obj())
	uids := map[apitypes.UID]int{}
	for i := range 5 {
		name := fmt.Sprint("job-", i)
		f.create(f.job(name, "true").Obj())
		job := f.awaitJob(name, inState(v1alpha1.JobSucceeded, ""))
		uids[job.Status.EndedAttempts[0].PodUID]++
	}
	f.Expect(uids).To(HaveLen(3))
	f.Expect(uids).To(HaveEach(BeNumerically("<=", 2)))
}

func TestAWorkerIsReplacedAfterAFailure(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Spec(func(s *v1alpha1.WorkerPoolSpec) { s.Recycle = &v1alpha1.RecycleSpec{OnFailure: new(true)} }).Obj())
	uid := func(name, script string, state v1alpha1.JobState, reason string) apitypes.UID {
		f.create(f.job(name, script).Obj())
		return f.awaitJob(name, inState(state, reason)).Status.EndedAttempts[0].PodUID
	}
	first := uid("good", "true", v1alpha1.JobSucceeded, "")
	f.Expect(uid("bad", "false", v1alpha1.JobFailed, v1alpha1.ReasonExitCode)).To(Equal(first))
	f.Expect(uid("next", "true", v1alpha1.JobSucceeded, "")).NotTo(Equal(first))
	f.awaitPool(ready("1/1"))
}

func TestARolloutCanDoWithoutFurtherWorkers(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Replicas(2).Spec(func(s *v1alpha1.WorkerPoolSpec) {
		s.Update = v1alpha1.UpdateSpec{MaxSurge: new(int32(0)), MaxUnavailable: new(int32(1))}
	}).Obj())
	f.awaitPool(ready("2/2"))
	f.patch(f.getPool(), `{"spec":{"slots":2}}`)
	demo := f.awaitPool(And(ready("2/2"), HaveField("Status.UpdatedReplicas", HaveValue(BeEquivalentTo(2))), HaveField("Status.ObservedGeneration", BeEquivalentTo(2))))
	f.Expect(*demo.Status.Replicas).To(BeEquivalentTo(2))
}

// A namespace deletes its pods first. Nothing says to them that it is not for a moment only.
func TestTheWorkersOfANamespaceThatIsDeletedAreGoneWithinSeconds(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Replicas(2).DrainTimeout(300).Obj())
	f.awaitPool(ready("2/2"))
	f.create(f.job("long", "trap '' TERM; while true; do sleep 1; done").Obj())
	f.awaitJob("long", inState(v1alpha1.JobRunning, ""))
	f.Expect(cluster.Delete(f.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: f.namespace}})).To(Succeed())
	f.Eventually(func() []corev1.Pod {
		pods := &corev1.PodList{}
		f.Expect(cluster.List(f.ctx, pods, client.InNamespace(f.namespace))).To(Succeed())
		return pods.Items
	}, 60*time.Second).Should(BeEmpty(), "the workers have 300 seconds")
	for text := range strings.Lines(f.kubectl("logs", "--namespace="+operatorNamespace, leader(f))) {
		if strings.Contains(text, f.namespace) {
			f.Expect(text).NotTo(ContainSubstring("forbidden"))
		}
	}
}
