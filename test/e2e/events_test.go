package e2e

import (
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// events are what was told of the pool demo, and for which reason.
func (f *fixture) events(reason string) []eventsv1.Event {
	f.t.Helper()
	list := &eventsv1.EventList{}
	f.Expect(cluster.List(f.ctx, list, client.InNamespace(f.namespace), client.MatchingFields{"regarding.kind": "WorkerPool", "reason": reason})).To(Succeed())
	return list.Items
}

// expectEvents waits until these notes are all that was told for the reason, each of them once.
func (f *fixture) expectEvents(reason string, notes ...any) {
	f.t.Helper()
	var once []any
	for _, note := range notes {
		once = append(once, And(HaveField("Note", note), HaveField("Series", BeNil()), HaveField("Type", "Warning")))
	}
	f.Eventually(f.events, patience).WithArguments(reason).Should(ConsistOf(once...))
}

// foreign is a pod that nobody but the test has made.
func (f *fixture) foreign(name string) *corev1.Pod {
	template := f.pool().Obj().Spec.Template
	template.Spec.TerminationGracePeriodSeconds = new(int64(0))
	template.Spec.Containers[0].Command = []string{"sleep", "86400"}
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: name}, Spec: template.Spec}
}

func TestAPodWithTheNameOfAWorkerIsLeftAloneAndToldOfOnce(t *testing.T) {
	f := setup(t)
	foreign := f.foreign("demo-0")
	f.create(foreign, f.pool().Obj())
	const note = "A pod that is not the pool's has the name demo-0: another name is used."
	demo := f.awaitPool(And(ready("1/1"), withCondition(v1alpha1.PoolProgressing, "False", v1alpha1.ReasonNameTaken)))
	f.Expect(demo.Status.Conditions).To(ContainElement(HaveField("Message", note)))
	f.scale(2)
	f.awaitPool(And(ready("2/2"), withCondition(v1alpha1.PoolProgressing, "False", v1alpha1.ReasonNameTaken)))
	f.Expect(f.pod("demo-0").UID).To(Equal(foreign.UID))
	f.Expect(f.pods()).To(ConsistOf(HaveField("Name", "demo-1"), HaveField("Name", "demo-2")))
	f.expectEvents(v1alpha1.ReasonNameTaken, note)
}

func TestALimitThatIsReachedIsToldOfOnce(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Replicas(2).Template(small("64Mi")).Spec(func(s *v1alpha1.WorkerPoolSpec) {
		s.Limits = &v1alpha1.PoolLimits{Memory: new(resource.MustParse("64Mi"))}
	}).Obj())
	f.awaitPool(ready("1/2"))
	f.run("work", "true")
	f.scale(3)
	f.awaitPool(ready("1/3"))
	f.expectEvents(v1alpha1.ReasonLimit, ContainSubstring("128Mi of memory"))
}

// The kubelet says by turns that the image is not there and that it waits.
func TestAnImageThatIsNotThereIsToldOfOnce(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Image("localhost/no/such:image").Obj())
	told := func(text string) {
		f.awaitPool(HaveField("Status.Conditions", ContainElement(And(
			HaveField("Reason", v1alpha1.ReasonWorkerCannotStart), HaveField("Message", ContainSubstring(text))))))
	}
	told("ErrImagePull")
	told("ImagePullBackOff")
	told("ErrImagePull")
	f.expectEvents(v1alpha1.ReasonWorkerCannotStart, ContainSubstring("localhost/no/such:image"))
}
