package e2e

import (
	"testing"

	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/types"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// evict asks for the eviction of a worker, as kubectl drain and node autoscalers do.
func (f *fixture) evict(name string) error {
	f.t.Helper()
	return cluster.SubResource("eviction").Create(f.ctx, f.pod(name), &policyv1.Eviction{})
}

func (f *fixture) pod(name string) *corev1.Pod {
	f.t.Helper()
	pod := &corev1.Pod{}
	f.Expect(cluster.Get(f.ctx, client.ObjectKey{Namespace: f.namespace, Name: name}, pod)).To(Succeed())
	return pod
}

// otherThan matches a pod that is none of these, and is not being removed.
func otherThan(pods ...corev1.Pod) types.GomegaMatcher {
	matchers := []types.GomegaMatcher{HaveField("DeletionTimestamp", BeNil())}
	for _, pod := range pods {
		matchers = append(matchers, HaveField("UID", Not(Equal(pod.UID))))
	}
	return And(matchers...)
}

// idleBeside is the first worker but the busy one.
func idleBeside(busy string) string {
	if busy == "demo-0" {
		return "demo-1"
	}
	return "demo-0"
}

func TestAnEvictedIdleWorkerIsReplaced(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Obj())
	f.awaitPool(ready("1/1"))
	evicted := f.pod("demo-0")
	f.Expect(f.evict("demo-0")).To(Succeed())
	f.create(f.job("meanwhile", "true").Obj())

	f.Eventually(f.pods, patience).Should(ConsistOf(otherThan(*evicted)))
	f.Expect(f.awaitJob("meanwhile", inState(v1alpha1.JobSucceeded, ""))).To(startedTimes(1, 0))
	f.awaitPool(ready("1/1"))
}

func TestAnEvictedWorkerTakesNoJobAndFinishesItsOwn(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Slots(2).Obj())
	f.awaitPool(ready("1/1"))
	evicted := f.pod("demo-0")
	f.create(f.job("running", untilTold).Obj())
	f.awaitJob("running", inState(v1alpha1.JobRunning, ""))
	f.Expect(f.evict("demo-0")).To(Succeed())
	f.Eventually(f.pods, patience).Should(HaveLen(2)) // by now the operator knows
	f.create(f.job("later", "true").Obj())

	later := f.awaitJob("later", inState(v1alpha1.JobSucceeded, ""))
	f.Expect(later.Status.EndedAttempts).To(ConsistOf(HaveField("PodUID", Not(Equal(evicted.UID)))), "the evicted worker had a free slot")
	f.Expect(f.get("running")).To(inState(v1alpha1.JobRunning, ""))
	f.tell("demo-0")
	f.Expect(f.awaitJob("running", inState(v1alpha1.JobSucceeded, ""))).To(startedTimes(1, 0))
	f.Eventually(f.pods, patience).Should(ConsistOf(otherThan(*evicted)))
}

func TestAJobThatOutlastsTheGracePeriodOfAnEvictionRunsElsewhere(t *testing.T) {
	f := setup(t)
	f.create(f.pool().DrainTimeout(2).Obj())
	f.awaitPool(ready("1/1"))
	evicted := f.pod("demo-0")
	f.Expect(evicted.Spec.TerminationGracePeriodSeconds).To(HaveValue(BeEquivalentTo(2)))
	f.create(f.job("long", untilTold).Obj())
	f.awaitJob("long", inState(v1alpha1.JobRunning, ""))
	f.Expect(f.evict("demo-0")).To(Succeed())

	f.Eventually(f.pods, patience).Should(ConsistOf(otherThan(*evicted)))
	again := And(inState(v1alpha1.JobRunning, ""), HaveField("Status.Attempts", HaveValue(BeEquivalentTo(2))))
	f.tell(f.awaitJob("long", again).Status.Worker)
	job := f.awaitJob("long", inState(v1alpha1.JobSucceeded, ""))
	f.Expect(job).To(startedTimes(2, 0), "there are no retries to use up")
	f.Expect(job.Status.EndedAttempts[0].PodUID).To(Equal(evicted.UID))
	f.Expect(job.Status.EndedAttempts[0].Reason).To(Equal(v1alpha1.ReasonInterrupted))
}

// budget makes a PodDisruptionBudget for the workers of the pool demo.
func (f *fixture) budget(change func(*policyv1.PodDisruptionBudgetSpec)) *policyv1.PodDisruptionBudget {
	b := &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: "demo"},
		Spec: policyv1.PodDisruptionBudgetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: map[string]string{v1alpha1.LabelPool: "demo"}},
		},
	}
	change(&b.Spec)
	return b
}

// The pool's limit has room for no fourth worker, so that none can take the place of one that still finishes its
// Job.
func TestAnEvictionBeyondTheDisruptionBudgetWaitsForAnotherWorker(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*policyv1.PodDisruptionBudgetSpec){
		"minAvailable":              func(s *policyv1.PodDisruptionBudgetSpec) { s.MinAvailable = new(intstr.FromInt32(2)) },
		"minAvailable in percent":   func(s *policyv1.PodDisruptionBudgetSpec) { s.MinAvailable = new(intstr.FromString("60%")) },
		"maxUnavailable":            func(s *policyv1.PodDisruptionBudgetSpec) { s.MaxUnavailable = new(intstr.FromInt32(1)) },
		"maxUnavailable in percent": func(s *policyv1.PodDisruptionBudgetSpec) { s.MaxUnavailable = new(intstr.FromString("30%")) },
	} {
		t.Run(name, func(t *testing.T) {
			f := setup(t)
			f.create(f.budget(change), f.pool().Replicas(3).Template(small("64Mi")).Spec(func(s *v1alpha1.WorkerPoolSpec) {
				s.Limits = &v1alpha1.PoolLimits{Memory: new(resource.MustParse("192Mi"))}
			}).Obj())
			f.awaitPool(ready("3/3"))
			f.create(f.job("running", untilTold).Obj())
			busy := f.awaitJob("running", inState(v1alpha1.JobRunning, "")).Status.Worker
			idle := idleBeside(busy)
			f.awaitBudget(1)

			f.Expect(f.evict(busy)).To(Succeed())
			f.awaitPool(ready("2/3"))
			f.Expect(f.evict(idle)).To(Satisfy(apierrors.IsTooManyRequests))
			f.tell(busy)
			f.Expect(f.awaitJob("running", inState(v1alpha1.JobSucceeded, ""))).To(startedTimes(1, 0))
			f.Eventually(f.evict, patience).WithArguments(idle).Should(Succeed(), "once another worker is ready")
			f.awaitPool(ready("3/3"))
		})
	}
}

// awaitBudget waits until the budget allows so many evictions.
func (f *fixture) awaitBudget(allowed int32) {
	f.t.Helper()
	f.Eventually(func() int32 {
		b := &policyv1.PodDisruptionBudget{}
		f.Expect(cluster.Get(f.ctx, client.ObjectKey{Namespace: f.namespace, Name: "demo"}, b)).To(Succeed())
		return b.Status.DisruptionsAllowed
	}, patience).Should(Equal(allowed))
}
