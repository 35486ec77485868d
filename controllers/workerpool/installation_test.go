package workerpool

import (
	"fmt"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/engine"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

// another runs the controller of another installation in the same namespace.
func (f *fixture) another(installation string) *fixture {
	f.t.Helper()
	other := *f
	other.engine, other.events = newFakeEngine(), events.NewFakeRecorder(100)
	theirs := agent
	theirs.Installation = installation
	env.Manager(f.t, f.namespace, func(mgr manager.Manager) error {
		r := New(mgr.GetClient(), mgr.GetAPIReader(), other.engine, other.events, theirs, clock.RealClock{})
		return r.SetupWithManager(f.t.Context(), mgr, source.Channel(other.engine.changes, &handler.EnqueueRequestForObject{}), ready)
	})
	return &other
}

// made tells which installation has made each pod that is not going.
func (f *fixture) made() (map[string]string, error) {
	list := &corev1.PodList{}
	err := f.client.List(f.t.Context(), list, client.InNamespace(f.namespace))
	made := map[string]string{}
	for _, pod := range list.Items {
		if pod.DeletionTimestamp.IsZero() {
			made[pod.Name] = pod.Labels[v1alpha1.Installation]
		}
	}
	return made, err
}

func TestAPoolOfAnotherInstallationIsLeftAlone(t *testing.T) {
	f := start(t, nil)
	f.create(f.pool().Replicas(1).Obj())
	f.expectPods("demo-0")
	f.bind("demo-0")
	f.ready("demo-0")
	f.Eventually(f.condition(v1alpha1.PoolProgressing)).Should(HavePrefix("False Stable"))
	pool, err := f.get()
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(pool.Annotations).To(HaveKeyWithValue(v1alpha1.Installation, "test"))
	f.Expect(f.pod("demo-0").Labels).To(HaveKeyWithValue(v1alpha1.Installation, "test"))

	other := f.another("other")
	other.Eventually(other.events.Events).Should(Receive(Equal("Warning OtherInstallation The WorkerPool belongs to the operator in namespace test, " +
		"by its annotation workerpool.dev/installation. The operator in namespace other leaves it alone.")))
	f.Consistently(func(g Gomega) {
		now, err := f.get()
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(now.ResourceVersion).To(Equal(pool.ResourceVersion), "somebody writes")
		g.Expect(f.pod("demo-0").DeletionTimestamp).To(BeNil())
		g.Expect(other.engine.poolOf(f.key())).To(Equal(engine.PoolConfig{}))
	}, "2s").Should(Succeed())
	f.change(func(pool *v1alpha1.WorkerPool) { pool.Spec.Replicas = new(int32(2)) })
	f.expectPods("demo-0", "demo-1")
	f.Expect(f.made()).To(Equal(map[string]string{"demo-0": "test", "demo-1": "test"}))
	other.Expect(other.events.Events).NotTo(Receive(), "it is told once an hour")
}

func TestAPoolMovesToTheInstallationThatItsAnnotationNames(t *testing.T) {
	f := start(t, nil)
	f.create(f.pool().Replicas(1).Obj())
	f.expectPods("demo-0")
	f.bind("demo-0")
	f.ready("demo-0")
	pod := f.pod("demo-0")
	f.Eventually(f.told(pod.UID)).Should(Equal("there"))
	other := f.another("other")

	f.change(func(pool *v1alpha1.WorkerPool) { pool.Annotations[v1alpha1.Installation] = "other" })
	f.Eventually(f.engine.isRemoved(f.key())).Should(BeTrue())
	other.Eventually(other.engine.isStarted(f.key())).Should(BeTrue())
	other.Eventually(other.told(pod.UID)).Should(Equal("draining"), "it runs what the other has sent it")
	f.Eventually(f.told(pod.UID)).Should(Equal("draining"))
	f.Eventually(f.made).Should(Equal(map[string]string{"demo-1": "other"}))
	f.Expect(f.pod("demo-0").DeletionGracePeriodSeconds).To(HaveValue(Equal(int64(300))))
	f.kill("demo-0")
	other.Eventually(other.told(pod.UID)).Should(Equal("gone"))
	f.Eventually(f.told(pod.UID)).Should(Equal("gone"))
	f.Consistently(f.made, "1s").Should(Equal(map[string]string{"demo-1": "other"}))
}

func TestTwoInstallationsNeverBothTakeAPool(t *testing.T) {
	f := start(t, nil)
	f.another("other")
	const many = 10
	for i := range many {
		f.create(testutil.MakePool(f.namespace, fmt.Sprintf("p%d", i)).Replicas(1).Obj())
	}
	f.Eventually(func(g Gomega) {
		made, err := f.made()
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(made).To(HaveLen(many))
	}).Should(Succeed())
	f.Consistently(func(g Gomega) {
		made, err := f.made()
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(made).To(HaveLen(many))
		pools := &v1alpha1.WorkerPoolList{}
		g.Expect(f.client.List(t.Context(), pools, client.InNamespace(f.namespace))).To(Succeed())
		for i := range pools.Items {
			g.Expect(made[pools.Items[i].Name+"-0"]).To(Equal(pools.Items[i].Annotations[v1alpha1.Installation]))
		}
	}, "2s").Should(Succeed())
}

// An earlier version of the operator has made the pool and its workers.
func TestWorkersWithoutAnInstallationAreAdoptedWithTheirPool(t *testing.T) {
	g := NewWithT(t)
	pool := testutil.MakePool("ns", "demo").UID("pool").Obj()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: "demo-0", Labels: map[string]string{v1alpha1.LabelPool: "demo"},
		OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(pool, v1alpha1.GroupVersion.WithKind("WorkerPool"))},
	}}
	pool.Annotations = map[string]string{v1alpha1.Installation: "test"}
	g.Expect(isWorker(pool, pod)).To(BeTrue())
	pod.Labels[v1alpha1.Installation] = "test"
	g.Expect(isWorker(pool, pod)).To(BeTrue())
	pod.Labels[v1alpha1.Installation] = "other"
	g.Expect(isWorker(pool, pod)).To(BeFalse())
}

func TestThatAPoolIsAnothersIsToldOnceAnHour(t *testing.T) {
	g := NewWithT(t)
	var o others
	key, now := client.ObjectKey{Namespace: "ns", Name: "demo"}, time.Unix(1, 0)
	g.Expect(o.tell(key, now)).To(BeTrue())
	g.Expect(o.tell(key, now.Add(tellAgain-1))).To(BeFalse())
	g.Expect(o.tell(key, now.Add(tellAgain))).To(BeTrue())
	o.forget(key)
	g.Expect(o.tell(key, now)).To(BeTrue())
}
