package e2e

import (
	"fmt"
	"testing"

	. "github.com/onsi/gomega"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

func TestADeletedWorkerIsReplacedAndItsJobRunsElsewhere(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Obj())
	f.awaitPool(ready("1/1"))
	f.create(f.job("traveller", untilTold+"hostname").Obj())
	job := f.awaitJob("traveller", inState(v1alpha1.JobRunning, ""))
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: job.Status.Worker}}
	f.Expect(cluster.Get(f.ctx, client.ObjectKeyFromObject(pod), pod)).To(Succeed())
	first := pod.UID
	f.Expect(cluster.Delete(f.ctx, pod, client.GracePeriodSeconds(1))).To(Succeed())

	isNew := And(HaveField("UID", Not(Equal(first))), HaveField("Status.Phase", corev1.PodRunning))
	f.Eventually(f.pods, patience).Should(ConsistOf(isNew))
	f.awaitPool(ready("1/1"))
	f.tell(f.pods()[0].Name)
	job = f.awaitJob("traveller", inState(v1alpha1.JobSucceeded, ""))
	f.Expect(*job.Status.Attempts).To(BeEquivalentTo(2))
	f.Expect(job.Status.EndedAttempts[0].PodUID).To(Equal(first))
	f.Expect(job.Status.EndedAttempts[0].Reason).To(Equal(v1alpha1.ReasonInterrupted))
	f.Expect(job.Status.EndedAttempts[1].PodUID).NotTo(Equal(first))
	f.awaitPool(ready("1/1"))
}

func TestADrainingWorkerFinishesItsJob(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Obj())
	f.awaitPool(ready("1/1"))
	f.create(f.job("patient", untilTold+"echo done").Obj())
	f.awaitJob("patient", inState(v1alpha1.JobRunning, ""))
	f.scale(0)
	f.Eventually(f.pods, patience).Should(ConsistOf(HaveField("DeletionTimestamp", Not(BeNil()))))
	f.tell("demo-0")
	job := f.awaitJob("patient", inState(v1alpha1.JobSucceeded, ""))
	f.Expect(*job.Status.Attempts).To(BeEquivalentTo(1))
	f.Eventually(f.pods, patience).Should(BeEmpty())
	f.awaitPool(And(ready("0/0"), withCondition(v1alpha1.PoolReady, "True", v1alpha1.ReasonAllReady)))
}

func (f *fixture) scale(replicas int32) {
	f.t.Helper()
	f.Expect(cluster.SubResource("scale").Update(f.ctx, f.getPool(), client.WithSubResourceBody(&autoscalingv1.Scale{
		Spec: autoscalingv1.ScaleSpec{Replicas: replicas},
	}))).To(Succeed())
}

func TestAPoolScales(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Replicas(1).Obj())
	f.awaitPool(ready("1/1"))
	f.scale(3)
	f.awaitPool(ready("3/3"))
	f.scale(1)
	f.awaitPool(And(ready("1/1"), HaveField("Status.Replicas", HaveValue(BeEquivalentTo(1)))))
	f.Eventually(f.pods, patience).Should(HaveLen(1))
}

func TestAPoolThatCannotBeScheduledSaysSo(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Template(func(t *corev1.PodTemplateSpec) {
		t.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1000")}
	}).Obj())
	pool := f.awaitPool(withCondition(v1alpha1.PoolProgressing, "False", v1alpha1.ReasonUnschedulable))
	f.Expect(fmt.Sprint(pool.Status.Conditions)).To(ContainSubstring("Insufficient cpu"))
}

func TestAPoolWithAnImageThatIsNotThereSaysSo(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Image("localhost/no/such:image").Template(func(t *corev1.PodTemplateSpec) {
		t.Spec.Containers[0].ImagePullPolicy = corev1.PullNever
	}).Obj())
	pool := f.awaitPool(withCondition(v1alpha1.PoolProgressing, "False", v1alpha1.ReasonWorkerCannotStart))
	f.Expect(fmt.Sprint(pool.Status.Conditions)).To(ContainSubstring("localhost/no/such:image"))
}

func TestAPodThatThePodSecurityRefusesShowsInThePool(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Template(func(t *corev1.PodTemplateSpec) {
		t.Spec.Containers[0].SecurityContext.Privileged = new(true)
		t.Spec.Containers[0].SecurityContext.AllowPrivilegeEscalation = nil
	}).Obj())
	pool := f.awaitPool(withCondition(v1alpha1.PoolProgressing, "False", v1alpha1.ReasonNotCreated))
	f.Expect(fmt.Sprint(pool.Status.Conditions)).To(ContainSubstring("violates PodSecurity"))
}

func TestAChangedTemplateReplacesTheWorkersAndNoJobIsCutOff(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Replicas(2).Obj())
	f.awaitPool(ready("2/2"))
	f.create(f.job("long", untilTold+"echo done").Obj())
	worker := f.awaitJob("long", inState(v1alpha1.JobRunning, "")).Status.Worker
	old := map[types.UID]bool{}
	for _, pod := range f.pods() {
		old[pod.UID] = true
	}
	f.Expect(cluster.Patch(f.ctx, f.getPool(), client.RawPatch(types.MergePatchType,
		[]byte(`{"spec":{"template":{"metadata":{"labels":{"version":"2"}}}}}`)))).To(Succeed())
	f.Eventually(f.pods, patience).Should(ContainElement(And(HaveField("Name", worker), HaveField("DeletionTimestamp", Not(BeNil())))))
	f.tell(worker)
	f.Eventually(func(g Gomega) {
		pods := f.pods()
		g.Expect(pods).To(HaveLen(2))
		for _, pod := range pods {
			g.Expect(old).NotTo(HaveKey(pod.UID))
			g.Expect(pod.Labels).To(HaveKeyWithValue("version", "2"))
		}
	}, patience).Should(Succeed())
	job := f.awaitJob("long", inState(v1alpha1.JobSucceeded, ""))
	f.Expect(*job.Status.Attempts).To(BeEquivalentTo(1))
	f.create(f.job("after", "true").Obj())
	f.awaitJob("after", inState(v1alpha1.JobSucceeded, ""))
}

func TestMoreSlotsAreUsed(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Obj())
	f.awaitPool(ready("1/1"))
	f.Expect(cluster.Patch(f.ctx, f.getPool(), client.RawPatch(types.MergePatchType, []byte(`{"spec":{"slots":3}}`)))).To(Succeed())
	for i := range 3 {
		f.create(f.job(fmt.Sprintf("job-%d", i), untilTold).Obj())
	}
	workers := map[string]bool{}
	for i := range 3 {
		workers[f.awaitJob(fmt.Sprintf("job-%d", i), inState(v1alpha1.JobRunning, "")).Status.Worker] = true
	}
	for worker := range workers {
		f.tell(worker)
	}
	for i := range 3 {
		f.awaitJob(fmt.Sprintf("job-%d", i), inState(v1alpha1.JobSucceeded, ""))
	}
}
