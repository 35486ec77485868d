package workerpool

import (
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/workerpool-dev/workerpool/internal/podspec"
)

// The command of docs/operations.md. An upgrade of the operator alone replaces no worker, so one with a fault in its agent
// would serve on.
func TestARestartReplacesWorkersAndGivesThemTheAgentOfTheOperator(t *testing.T) {
	f := newFixture(t, nil)
	f.create(f.pool().Replicas(1).Obj())
	made, err := f.get()
	f.Expect(err).NotTo(HaveOccurred())
	before := podspec.Pod(made, 0, podspec.Agent{Image: "workerpool:before", CA: "ca"})
	f.create(before)
	f.ready("demo-0")
	env.Manager(t, f.namespace, func(mgr manager.Manager) error {
		return f.reconciler(mgr, clock.RealClock{}).SetupWithManager(t.Context(), mgr, source.Channel(f.engine.changes, &handler.EnqueueRequestForObject{}), ready)
	})
	f.Consistently(f.pods, "2s").Should(ConsistOf("demo-0"), "another image of the operator replaces no worker")
	f.Expect(imagesOf(f.pod("demo-0"))).To(ContainElement("workerpool:before"))

	restart := `{"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":"2026-01-01T00:00:00Z"}}}}}`
	f.Expect(f.client.Patch(t.Context(), made, client.RawPatch(types.MergePatchType, []byte(restart)))).To(Succeed())
	f.expectPods("demo-0", "demo-1")
	f.ready("demo-1")
	f.expectPods("demo-1")
	images := imagesOf(f.pod("demo-1"))
	f.Expect(images).To(ContainElement(agent.Image))
	f.Expect(images).NotTo(ContainElement("workerpool:before"))
	f.Expect(f.pod("demo-1").Annotations).To(HaveKey("kubectl.kubernetes.io/restartedAt"))
}

func imagesOf(pod *corev1.Pod) []string {
	var images []string
	for i := range pod.Spec.InitContainers {
		images = append(images, pod.Spec.InitContainers[i].Image)
	}
	for i := range pod.Spec.Containers {
		images = append(images, pod.Spec.Containers[i].Image)
	}
	return images
}
