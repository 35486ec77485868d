package workerpool

import (
	"errors"
	"fmt"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/engine"
	"github.com/workerpool-dev/workerpool/internal/podspec"
)

// setAside takes a pod out of the pool's hands.
func (f *fixture) setAside(name string, change func(*corev1.Pod)) *corev1.Pod {
	f.t.Helper()
	pod := f.pod(name)
	base := pod.DeepCopy()
	change(pod)
	f.Expect(f.client.Patch(f.t.Context(), pod, client.MergeFrom(base))).To(Succeed())
	return pod
}

func withoutOwner(pod *corev1.Pod) { pod.OwnerReferences = nil }

func TestAPodThatWasSetAsideCountsUntilItIsGone(t *testing.T) {
	for name, change := range map[string]func(*corev1.Pod){
		"without its label":              func(pod *corev1.Pod) { delete(pod.Labels, v1alpha1.LabelPool) },
		"with the label of another pool": func(pod *corev1.Pod) { pod.Labels[v1alpha1.LabelPool] = "other" },
		"without its owner":              withoutOwner,
		"with another owner": func(pod *corev1.Pod) {
			pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "r", UID: "r", Controller: new(true)}}
		},
		"without any of it": func(pod *corev1.Pod) { pod.Labels, pod.OwnerReferences = nil, nil },
	} {
		t.Run(name, func(t *testing.T) {
			f := start(t, nil)
			f.create(f.pool().Replicas(2).Obj())
			f.expectPods("demo-0", "demo-1")
			f.bind("demo-0")
			f.bind("demo-1")
			f.ready("demo-0", "demo-1")
			f.Eventually(f.engine.workersOf(f.key())).Should(HaveLen(2))
			pod := f.setAside("demo-0", change)

			f.Eventually(f.told(pod.UID)).Should(Equal("draining"))
			f.Eventually(func() *metav1.Time { return f.pod("demo-0").DeletionTimestamp }).ShouldNot(BeNil())
			f.Expect(f.pod("demo-0").DeletionGracePeriodSeconds).To(HaveValue(Equal(int64(300))), "what it runs may end")
			f.Eventually(f.events.Events).Should(Receive(HavePrefix("Warning WorkerChanged Worker demo-0 is replaced")))
			f.Expect(f.engine.isDrained(pod)()).To(BeTrue())
			f.Eventually(f.pods).Should(ContainElement("demo-2"))
			f.Consistently(f.told(pod.UID), "3s").Should(Equal("draining"), "it is there")
			f.Expect(f.events.Events).NotTo(Receive())

			f.kill("demo-0")
			f.Eventually(f.told(pod.UID)).Should(Equal("gone"))
			f.Eventually(f.engine.isBuried(pod.UID)).Should(BeTrue())
		})
	}
}

// told tells what the engine was last told of a pod.
func (f *fixture) told(pod types.UID) func() string {
	return func() string {
		for _, w := range f.engine.workersOf(f.key())() {
			switch {
			case w.UID == pod && w.Terminating:
				return "draining"
			case w.UID == pod:
				return "there"
			}
		}
		return "gone"
	}
}

// What `kubectl delete --cascade=orphan` has the garbage collector do.
func TestAPoolIsNotGoneBeforeThePodsThatWereTakenFromIt(t *testing.T) {
	f := start(t, nil)
	pool := f.pool().Replicas(1).Obj()
	pool.Finalizers = []string{metav1.FinalizerOrphanDependents}
	f.create(pool)
	f.expectPods("demo-0")
	f.bind("demo-0")
	f.ready("demo-0")
	pod := f.pod("demo-0")
	f.Eventually(f.told(pod.UID)).Should(Equal("there"))
	f.setAside("demo-0", withoutOwner)
	f.Expect(f.client.Delete(t.Context(), pool)).To(Succeed())
	f.change(func(pool *v1alpha1.WorkerPool) { pool.Finalizers = []string{v1alpha1.Finalizer} })
	f.Eventually(func() *metav1.Time { return f.pod("demo-0").DeletionTimestamp }).ShouldNot(BeNil())
	f.Consistently(f.told(pod.UID), "2s").Should(Equal("draining"))
	f.Expect(f.gone()).To(BeFalse())
	f.kill("demo-0")
	f.Eventually(f.told(pod.UID)).Should(Equal("gone"))
	f.Eventually(f.gone).Should(BeTrue())
}

// Somebody has removed the finalizer by force, and the owner of the pods.
func TestPodsOfAPoolThatIsGoneAreDeletedAndCountUntilTheyAreGone(t *testing.T) {
	f := start(t, nil)
	pool := f.pool().Replicas(1).Obj()
	f.create(pool)
	f.expectPods("demo-0")
	f.bind("demo-0")
	f.ready("demo-0")
	pod := f.setAside("demo-0", withoutOwner)
	f.change(func(pool *v1alpha1.WorkerPool) { pool.Finalizers = nil })
	f.Expect(f.client.Delete(t.Context(), pool)).To(Succeed())
	f.Eventually(func() *metav1.Time { return f.pod("demo-0").DeletionTimestamp }).ShouldNot(BeNil())
	f.Consistently(f.told(pod.UID), "2s").Should(Equal("draining"))
	f.kill("demo-0")
	f.Eventually(f.told(pod.UID)).Should(Equal("gone"))
}

func TestNothingIsConcludedFromAPodThatCannotBeRead(t *testing.T) {
	w := newWorld(t, 2)
	w.settle()
	w.allReady()
	w.settle()
	uid := w.pods["demo-0"].UID
	delete(w.cache, "demo-0")
	w.down = errors.New("not now")
	if _, err := w.reconciler.observe(t.Context(), w.pool); !errors.Is(err, w.down) {
		t.Fatalf("observe: %v, want that the API server is away", err)
	}
	w.down = nil
	w.reconcile()
	if !w.knows(uid) || len(w.pods) != 2 {
		t.Errorf("told of %v, there are %d pods; the cache is behind, and nothing is gone", w.told, len(w.pods))
	}
	delete(w.pods, "demo-0")
	w.clock.Step(unseenRecheck)
	w.reconcile()
	if w.knows(uid) {
		t.Error("a pod that is gone is told as there")
	}
}

func TestAPodThatEndedOutOfSightIsGone(t *testing.T) {
	w := newWorld(t, 1)
	w.settle()
	w.allReady()
	w.settle()
	uid := w.pods["demo-0"].UID
	w.end("demo-0")
	delete(w.cache, "demo-0")
	w.reconcile()
	if w.knows(uid) {
		t.Error("a pod of which nothing runs is told as there")
	}
}

func (w *world) knows(uid types.UID) bool {
	for _, pod := range w.told {
		if pod.UID == uid {
			return true
		}
	}
	return false
}

// A tenant can set aside as many workers as the pool has.
func TestReadsOfPodsThatWereSetAsideAreBounded(t *testing.T) {
	w := newWorld(t, 0)
	const many = 3 * rereadsPerReconcile
	for i := range many {
		pod := podspec.Pod(w.pool, i, agent)
		pod.UID, pod.OwnerReferences = types.UID(fmt.Sprint(i)), nil
		w.add(pod)
		w.does[pod.UID] = engine.PodSnapshot{Name: pod.Name}
	}
	reads := func(after time.Duration, want int) {
		t.Helper()
		w.clock.Step(after)
		before := w.gets.Load()
		w.reconcile()
		if got := int(w.gets.Load() - before); got != want {
			t.Errorf("%d reads, want %d", got, want)
		}
		if len(w.told) != many {
			t.Fatalf("told of %d pods, want all %d that are there", len(w.told), many)
		}
	}
	reads(0, many)
	reads(unseenRecheck-1, 0)
	reads(1, rereadsPerReconcile)
	reads(0, rereadsPerReconcile)
	reads(0, rereadsPerReconcile)
	reads(0, 0)
}
