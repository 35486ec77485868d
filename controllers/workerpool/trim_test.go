package workerpool

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/yaml"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/podspec"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

// The cache has little of a pool. What others have stored in it is there at the end of its life as it was at the
// beginning.
func TestNothingOfAPoolIsLostByWhatTheOperatorWrites(t *testing.T) {
	f := start(t, nil)
	pool := f.pool().Replicas(1).Obj()
	pool.Labels, pool.Annotations = map[string]string{"team": "a"}, map[string]string{"note": "x"}
	pool.Finalizers = []string{"example.com/first", "example.com/second"}
	pool.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "ConfigMap", Name: "owner", UID: "1"}}
	pool.Spec.Template.Labels = map[string]string{"part": "template"}
	pool.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "A", Value: "b"}}
	f.create(pool)
	f.expectPods("demo-0")
	f.Expect(f.pod("demo-0").Labels).To(HaveKeyWithValue("part", "template"))
	f.Expect(f.pod("demo-0").Spec.Containers[0].Env).To(ContainElement(corev1.EnvVar{Name: "A", Value: "b"}))
	f.ready("demo-0")
	f.Eventually(f.condition(v1alpha1.PoolReady)).Should(HavePrefix("True"))
	f.Expect(f.client.Delete(t.Context(), pool)).To(Succeed())
	f.Eventually(func() bool {
		now, err := f.get()
		f.Expect(err).NotTo(HaveOccurred())
		return controllerutil.ContainsFinalizer(now, v1alpha1.Finalizer)
	}).Should(BeFalse())

	got, err := f.get()
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(got.Finalizers).To(ConsistOf("example.com/first", "example.com/second"))
	f.Expect(got.Labels).To(Equal(pool.Labels))
	f.Expect(got.OwnerReferences).To(Equal(pool.OwnerReferences))
	f.Expect(got.Annotations).To(Equal(map[string]string{"note": "x", v1alpha1.Installation: agent.Installation}))
	f.Expect(got.Spec).To(Equal(pool.Spec))
	got.Finalizers = nil
	f.Expect(f.client.Update(t.Context(), got)).To(Succeed())
}

// An update writes the whole object, and what is cached is not whole.
func TestTheOperatorMayUpdateNothingThatItCaches(t *testing.T) {
	g := NewWithT(t)
	manifest, err := os.ReadFile(filepath.Join("..", "..", "config", "rbac", "role.yaml"))
	g.Expect(err).NotTo(HaveOccurred())
	role := &rbacv1.ClusterRole{}
	g.Expect(yaml.Unmarshal(manifest[:firstDocument(manifest)], role)).To(Succeed())
	found := false
	for _, rule := range role.Rules {
		for _, of := range rule.Resources {
			cached := slices.Contains([]string{"pods", "jobs", "workerpools"}, strings.TrimSuffix(of, "/status"))
			found = found || cached
			if cached && (slices.Contains(rule.Verbs, "update") || slices.Contains(rule.Verbs, "*")) {
				t.Errorf("it may update %s", of)
			}
		}
	}
	g.Expect(found).To(BeTrue())
}

func TestAPodIsCachedWithAllThatIsReadOfIt(t *testing.T) {
	g := NewWithT(t)
	pool := testutil.MakePool("default", "demo").Obj()
	pool.UID, pool.Annotations = "pool", map[string]string{v1alpha1.Installation: agent.Installation}
	pool.Spec.Template.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi")}
	pod := podspec.Pod(pool, 3, agent)
	pod.UID, pod.ResourceVersion, pod.CreationTimestamp = "pod", "7", metav1.Unix(1, 0)
	pod.DeletionTimestamp = new(metav1.Unix(2, 0))
	long := strings.Repeat("x", 1<<16)
	pod.Annotations["large"], pod.Labels["other"] = long, "x"
	pod.Spec.Volumes, pod.Spec.Containers[0].Env = nil, []corev1.EnvVar{{Name: "LARGE", Value: long}}
	ended := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 9, Reason: "OOMKilled", FinishedAt: metav1.Unix(3, 0)}}
	pod.Status = corev1.PodStatus{
		Phase:      corev1.PodRunning,
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, Message: long}, {Type: "Other", Message: long}},
		ContainerStatuses: []corev1.ContainerStatus{
			{Name: "first", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}},
			{Name: "stuck", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: long}}},
			{Name: "worker", RestartCount: 4, ContainerID: "c", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}, LastTerminationState: ended},
			{Name: "stuck too", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}},
		},
	}
	whole := pod.DeepCopy()
	for range 2 { // the informer may do it again
		_, err := TrimPod(pod)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(isWorker(pool, pod)).To(BeTrue())
		g.Expect(ownerOf(pod)).To(Equal([]string{"pool"}))
		g.Expect([]any{pod.UID, pod.ResourceVersion, pod.CreationTimestamp, pod.DeletionTimestamp}).
			To(Equal([]any{whole.UID, whole.ResourceVersion, whole.CreationTimestamp, whole.DeletionTimestamp}))
		g.Expect(pod.Labels).To(HaveKeyWithValue(v1alpha1.LabelTemplateHash, podspec.Hash(pool)))
		g.Expect(podspec.KeepsProofs(pod)).To(BeTrue())
		g.Expect(deathOf(pod)).To(Equal(deathOf(whole)))
		g.Expect(resourcesOf(pod)).To(Equal(resourcesOf(whole)))
		g.Expect(conditionOf(pod, corev1.PodReady).Status).To(Equal(corev1.ConditionTrue))
		g.Expect(podspec.AgentStatus(pod)).To(HaveField("ContainerID", "c"))
		reason, message := obstacleOf(pod)
		wantReason, wantMessage := obstacleOf(whole)
		g.Expect([]string{reason, shorten(message)}).To(Equal([]string{wantReason, shorten(wantMessage)}))
		if text, err := yaml.Marshal(pod); err != nil || len(text) > 6<<10 {
			t.Errorf("%d bytes are left, %v:\n%s", len(text), err, text)
		}
	}
}

// A reference may have any length, and thousands of pods one each.
func TestAPodWithAnOwnerThatCanBeNoPoolIsCachedWithoutIt(t *testing.T) {
	pod := podspec.Pod(testutil.MakePool("default", "demo").Obj(), 0, agent)
	pod.OwnerReferences[0].Name = strings.Repeat("x", 1<<20)
	if _, err := TrimPod(pod); err != nil || len(pod.OwnerReferences) > 0 {
		t.Errorf("%d owners, %v", len(pod.OwnerReferences), err)
	}
}

// Each part that may be large is, in lists and in events.
func TestLargePoolsAndPodsTakeLittleMemory(t *testing.T) {
	const n, most = 30, 16 << 10
	f := newFixture(t, nil)
	large := func(bytes int) string { return strings.Repeat("x", bytes) }
	put := func(name string) {
		pool := testutil.MakePool(f.namespace, name).Replicas(0).Obj()
		pool.Annotations = map[string]string{"large": large(200 << 10)}
		for i := range 1000 {
			pool.Finalizers = append(pool.Finalizers, fmt.Sprintf("example.com/%s-%d", large(50), i))
		}
		pool.Spec.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "LARGE", Value: large(400 << 10)}}
		f.create(pool)
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			Namespace: f.namespace, Name: name, Labels: map[string]string{v1alpha1.LabelPool: name}, Annotations: pool.Annotations,
		}}
		for i := range 1000 {
			pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: fmt.Sprint("c", i), Image: large(300)})
		}
		f.create(pod)
	}
	for i := range n {
		put(fmt.Sprint("listed-", i))
	}
	before := heap()
	c, err := cache.New(env.Config, cache.Options{
		Scheme: testutil.Scheme(), DefaultNamespaces: map[string]cache.Config{f.namespace: {}}, ByObject: Cached(),
	})
	f.Expect(err).NotTo(HaveOccurred())
	var done sync.WaitGroup
	done.Go(func() { _ = c.Start(t.Context()) })
	t.Cleanup(done.Wait)
	for _, kind := range []client.Object{&v1alpha1.WorkerPool{}, &corev1.Pod{}} {
		_, err := c.GetInformer(t.Context(), kind)
		f.Expect(err).NotTo(HaveOccurred())
	}
	f.Expect(c.WaitForCacheSync(t.Context())).To(BeTrue())
	has := func(want int) {
		t.Helper()
		f.Eventually(func() []int {
			pools, pods := &v1alpha1.WorkerPoolList{}, &corev1.PodList{}
			f.Expect(c.List(t.Context(), pools, client.UnsafeDisableDeepCopy)).To(Succeed())
			f.Expect(c.List(t.Context(), pods, client.UnsafeDisableDeepCopy)).To(Succeed())
			return []int{len(pools.Items), len(pods.Items)}
		}).Should(Equal([]int{want, want}))
	}
	has(n)
	listed := (heap() - before) / n
	for i := range n {
		put(fmt.Sprint("watched-", i))
	}
	has(2 * n)
	both := (heap() - before) / (2 * n)
	t.Logf("a pool and a pod take %d bytes together from lists, and %d with those of events", listed, both)
	if slack := int64(6<<20) / n; listed > most+slack || both > most+slack { // the caches themselves take some
		t.Errorf("%d and %d bytes", listed, both)
	}
	runtime.KeepAlive(c)
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}
