package workerpool

import (
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/engine"
	"github.com/workerpool-dev/workerpool/pkg/worker"
)

func (f *fixture) key() types.NamespacedName {
	return types.NamespacedName{Namespace: f.namespace, Name: "demo"}
}

func TestWorkersAreMade(t *testing.T) {
	f := start(t, nil)
	f.create(f.pool().Replicas(3).Obj())
	f.expectPods("demo-0", "demo-1", "demo-2")

	pod := f.pod("demo-0")
	pool, err := f.get()
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(metav1.IsControlledBy(pod, pool)).To(BeTrue())
	f.Expect(pod.Spec.Containers[0].Command).To(Equal([]string{"/workerpool/agent", "run"}))
	f.Eventually(f.condition(v1alpha1.PoolReady)).Should(Equal("False WorkersNotReady: 0 of 3 workers are ready."))
	f.Eventually(f.condition(v1alpha1.PoolProgressing)).Should(Equal("True WorkersStarting: 0 of 3 workers are ready."))

	f.ready("demo-0", "demo-1", "demo-2")
	f.Eventually(f.condition(v1alpha1.PoolReady)).Should(Equal("True AllWorkersReady: 3 of 3 workers are ready."))
	f.Eventually(f.condition(v1alpha1.PoolProgressing)).Should(Equal("False Stable: All workers are as wanted."))
	f.Eventually(f.condition(v1alpha1.PoolQueueFull)).Should(Equal("False Room: The queue has room."))
	pool, err = f.get()
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(pool.Status.Ready).To(Equal("3/3"))
	f.Expect(pool.Status.Selector).To(Equal("workerpool.dev/pool=demo"))
	f.Expect(pool.Status.UpdatedReplicas).To(HaveValue(Equal(int32(3))))
}

func TestPoolWithoutWorkersIsReady(t *testing.T) {
	f := start(t, nil)
	f.create(f.pool().Replicas(0).Obj())
	f.Eventually(f.condition(v1alpha1.PoolReady)).Should(HavePrefix("True AllWorkersReady"))
	f.expectPods()
}

func TestOneWorkerIsMadeIfNoNumberIsSaid(t *testing.T) {
	f := start(t, nil)
	f.create(f.pool().Obj())
	f.expectPods("demo-0")
}

// What kubectl scale does.
func TestScale(t *testing.T) {
	f := start(t, nil)
	f.create(f.pool().Replicas(2).Obj())
	f.expectPods("demo-0", "demo-1")
	f.ready("demo-0", "demo-1")
	f.engine.setPod(f.pod("demo-1"), engine.PodSnapshot{Connected: true, Busy: true})
	idle := f.pod("demo-0")

	scale := func(n int32) {
		pool, err := f.get()
		f.Expect(err).NotTo(HaveOccurred())
		body := &autoscalingv1.Scale{ObjectMeta: metav1.ObjectMeta{Namespace: pool.Namespace, Name: pool.Name}, Spec: autoscalingv1.ScaleSpec{Replicas: n}}
		f.Expect(f.client.SubResource("scale").Update(t.Context(), pool, client.WithSubResourceBody(body))).To(Succeed())
	}
	scale(4)
	f.expectPods("demo-0", "demo-1", "demo-2", "demo-3")
	scale(1)
	f.expectPods("demo-1")
	f.Expect(f.engine.isDrained(idle)()).To(BeTrue(), "a worker must be drained before it is deleted")
}

func TestDeletedWorkerIsReplaced(t *testing.T) {
	f := start(t, nil)
	f.create(f.pool().Replicas(1).Obj())
	f.expectPods("demo-0")
	before := f.pod("demo-0").UID
	f.kill("demo-0")
	f.expectAnother(before)
}

func TestEndedWorkerIsReplaced(t *testing.T) {
	f := start(t, nil)
	f.create(f.pool().Replicas(1).Obj())
	f.expectPods("demo-0")
	before := f.pod("demo-0").UID
	f.setStatus("demo-0", corev1.PodStatus{Phase: corev1.PodFailed, Reason: "Evicted"})
	f.expectAnother(before)
}

// expectAnother waits until the only pod of the pool is another than this.
func (f *fixture) expectAnother(before types.UID) {
	f.t.Helper()
	f.Eventually(func(g Gomega) {
		list := &corev1.PodList{}
		g.Expect(f.client.List(f.t.Context(), list, client.InNamespace(f.namespace))).To(Succeed())
		g.Expect(list.Items).To(HaveLen(1))
		g.Expect(list.Items[0].UID).NotTo(Equal(before))
	}).Should(Succeed())
}

func TestLostWorkerIsReplaced(t *testing.T) {
	f := start(t, nil)
	f.create(f.pool().Replicas(1).Obj())
	f.expectPods("demo-0")
	f.bind("demo-0")
	f.engine.set(t.Context(), f.key(), func(s *engine.PoolSnapshot) {
		s.Pods = map[types.UID]engine.PodSnapshot{f.pod("demo-0").UID: {Lost: true}}
	})
	f.expectPods("demo-1")
	f.Expect(f.pod("demo-0").DeletionGracePeriodSeconds).To(HaveValue(Equal(int64(1))))
	f.Eventually(f.events.Events).Should(Receive(Equal("Warning WorkerLost Worker demo-0 was not heard of for too long and is replaced.")))
	f.Consistently(f.events.Events, "2s").ShouldNot(Receive(), "a worker is lost once")
}

func TestALostWorkerThatTheCacheNeverShowsIsBuriedOnceALiveReadSaysThatItIsGone(t *testing.T) {
	f := start(t, nil)
	f.create(f.pool().Replicas(1).Obj())
	f.expectPods("demo-0")
	f.bind("demo-0")
	f.engine.set(t.Context(), f.key(), func(s *engine.PoolSnapshot) {
		s.Pods = map[types.UID]engine.PodSnapshot{"gone": {Name: "demo-1", Lost: true}, "replaced": {Name: "demo-0", Lost: true}, "odd": {Name: "other", Lost: true}}
	})
	f.Eventually(f.engine.isBuried("gone")).Should(BeTrue())
	f.Eventually(f.engine.isBuried("replaced")).Should(BeTrue())
	f.Expect(f.engine.isBuried("odd")()).To(BeFalse())
	f.Expect(f.engine.isBuried(f.pod("demo-0").UID)()).To(BeFalse())
}

func TestAWorkerThatCanRunNothingIsReplacedAndThatIsTold(t *testing.T) {
	f := start(t, nil)
	f.create(f.pool().Replicas(1).Obj())
	f.expectPods("demo-0")
	f.bind("demo-0")
	f.ready("demo-0")
	uid := f.pod("demo-0").UID
	f.engine.set(t.Context(), f.key(), func(s *engine.PoolSnapshot) {
		s.Pods = map[types.UID]engine.PodSnapshot{uid: {Connected: true, Draining: true, Spent: true, ResetFailure: "the agent can't use its folder: no"}}
	})
	f.Eventually(f.events.Events).Should(Receive(Equal("Warning ResetFailed Worker demo-0 is replaced, because the agent can't use its folder: no")))
	f.expectPods("demo-1")
}

func TestAWorkerThatCouldNotBeResetIsReplacedAndThatIsToldOnce(t *testing.T) {
	f := start(t, nil)
	f.create(f.pool().Replicas(1).Obj())
	f.expectPods("demo-0")
	f.bind("demo-0")
	f.ready("demo-0")
	uid := f.pod("demo-0").UID
	says := func(does engine.PodSnapshot) {
		f.engine.set(t.Context(), f.key(), func(s *engine.PoolSnapshot) { s.Pods = map[types.UID]engine.PodSnapshot{uid: does} })
	}
	failed := engine.PodSnapshot{Connected: true, Busy: true, Draining: true, Spent: true, ResetFailure: "exit code 1: rm: no"}
	says(failed)
	f.Eventually(f.events.Events).Should(Receive(Equal(
		"Warning ResetFailed Worker demo-0 is replaced, because its resetCommand has failed: exit code 1: rm: no")))
	f.expectPods("demo-0", "demo-1")
	failed.Busy = false
	says(failed)
	f.expectPods("demo-1")
	f.Consistently(f.events.Events, "2s").ShouldNot(Receive(), "it is told once")
}

// 200 characters of the agent's, of 4 bytes each, and the longest name of a worker.
func TestTheEventOfAFailedResetFitsIntoWhatTheAPITakes(t *testing.T) {
	r := &Reconciler{recorder: events.NewFakeRecorder(1)}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "u", Name: strings.Repeat("n", 63)}}
	s := &scope{pool: &v1alpha1.WorkerPool{}, pods: []*corev1.Pod{pod}, memory: newMemory("p")}
	s.snapshot.Pods = map[types.UID]engine.PodSnapshot{"u": {ResetFailure: strings.Repeat("😀", 200)}}
	r.resetsFailed(s)
	NewWithT(t).Expect(len(<-r.recorder.(*events.FakeRecorder).Events)).To(BeNumerically("<=", 1024))
}

func TestPoolGoesAfterItsWorkers(t *testing.T) {
	f := start(t, nil)
	pool := f.pool().Replicas(1).Obj()
	f.create(pool)
	f.expectPods("demo-0")
	f.bind("demo-0")
	worker := f.pod("demo-0")

	f.Expect(f.client.Delete(t.Context(), pool)).To(Succeed())
	f.expectPods()
	f.Eventually(f.engine.isRemoved(f.key())).Should(BeTrue())
	f.Expect(f.engine.isDrained(worker)()).To(BeTrue())
	f.Expect(f.pod("demo-0").DeletionGracePeriodSeconds).To(HaveValue(Equal(int64(300))))
	f.Eventually(f.condition(v1alpha1.PoolReady)).Should(Equal("False WorkersDraining: The pool is being deleted."))

	f.kill("demo-0")
	f.Eventually(f.gone).Should(BeTrue())
}

// gone tells whether the pool of the test does not exist any more.
func (f *fixture) gone() bool {
	_, err := f.get()
	return apierrors.IsNotFound(err)
}

func TestPoolGoesAtOnceWithItsNamespace(t *testing.T) {
	f := start(t, nil)
	pool := f.pool().Replicas(1).Obj()
	f.create(pool)
	f.expectPods("demo-0")
	f.bind("demo-0")
	f.Expect(f.client.Delete(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: f.namespace}})).To(Succeed())
	f.Expect(f.client.Delete(t.Context(), pool)).To(Succeed())
	f.Eventually(f.gone).Should(BeTrue())

	// Its worker is still there, and known to the engine until it has gone too.
	f.Expect(f.engine.workersOf(f.key())()).To(ConsistOf(HaveField("Name", "demo-0")))
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: "demo-0"}}
	f.Expect(f.client.Delete(t.Context(), pod, client.GracePeriodSeconds(0))).To(Succeed())
	f.Eventually(f.engine.workersOf(f.key())).Should(BeEmpty())
}

// A namespace that goes deletes its pods first, and the pool once they are gone.
func TestAWorkerIsNotDrainedWhereItsNamespaceGoes(t *testing.T) {
	f := start(t, nil)
	f.create(f.pool().Replicas(2).Obj())
	f.expectPods("demo-0", "demo-1")
	for _, name := range []string{"demo-0", "demo-1"} {
		f.bind(name)
		f.ready(name)
		f.engine.setPod(f.pod(name), engine.PodSnapshot{Name: name, Connected: true, Busy: true})
	}
	f.Expect(*f.pod("demo-0").Spec.TerminationGracePeriodSeconds).To(BeNumerically("==", 300))
	f.Expect(f.client.Delete(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: f.namespace}})).To(Succeed())
	f.Expect(f.client.Delete(t.Context(), f.pod("demo-0"))).To(Succeed())

	grace := func(name string) func() *int64 {
		return func() *int64 { return f.pod(name).DeletionGracePeriodSeconds }
	}
	f.Eventually(grace("demo-0")).Should(HaveValue(BeNumerically("==", 1)))
	f.Eventually(grace("demo-1")).Should(HaveValue(BeNumerically("==", 1)))
	f.Eventually(f.engine.isRemoved(f.key())).Should(BeTrue())
	f.Eventually(f.engine.isKilled(f.key())).Should(BeTrue())
	f.Expect(f.events.Events).NotTo(Receive(), "an event can't be made there")
}

func TestAWorkerThatSomebodyDeletesIsDrainedWhereItsNamespaceStays(t *testing.T) {
	f := start(t, nil)
	f.create(f.pool().Replicas(1).Obj())
	f.expectPods("demo-0")
	f.bind("demo-0")
	f.ready("demo-0")
	f.Expect(f.client.Delete(t.Context(), f.pod("demo-0"))).To(Succeed())
	f.expectPods("demo-1") // its successor: it was looked at
	f.Expect(f.pod("demo-0").DeletionGracePeriodSeconds).To(HaveValue(BeNumerically("==", 300)))
}

func TestNoWorkerIsMadeWhereTheNamespaceGoes(t *testing.T) {
	f := newFixture(t, nil)
	f.create(f.pool().Replicas(1).Obj())
	f.Expect(f.client.Delete(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: f.namespace}})).To(Succeed())
	env.Manager(t, f.namespace, func(mgr manager.Manager) error {
		return f.reconciler(mgr, clock.RealClock{}).SetupWithManager(t.Context(), mgr, source.Channel(f.engine.changes, &handler.EnqueueRequestForObject{}), ready)
	})
	f.Eventually(f.engine.isRemoved(f.key())).Should(BeTrue())
	f.Expect(f.events.Events).NotTo(Receive(), "an event can't be made there")
}

func TestForeignPodIsLeftAloneAndReported(t *testing.T) {
	f := start(t, nil)
	foreign := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: "demo-0"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}},
	}
	f.create(foreign)
	f.create(f.pool().Replicas(2).Obj())
	f.expectPods("demo-1", "demo-2")
	f.ready("demo-1", "demo-2")
	const message = "A pod that is not the pool's has the name demo-0: another name is used."
	f.Eventually(f.condition(v1alpha1.PoolProgressing)).Should(Equal("False NameTaken: " + message))
	f.Eventually(f.events.Events).Should(Receive(Equal("Warning NameTaken " + message)))
	f.Eventually(f.condition(v1alpha1.PoolReady)).Should(HavePrefix("True"))
	f.Expect(f.pod("demo-0").UID).To(Equal(foreign.UID))

	f.change(func(pool *v1alpha1.WorkerPool) { pool.Spec.Replicas = new(int32(3)) })
	f.expectPods("demo-1", "demo-2", "demo-3")
	f.ready("demo-3")
	f.Eventually(f.condition(v1alpha1.PoolProgressing)).Should(Equal("False NameTaken: " + message))
	f.Expect(f.events.Events).NotTo(Receive(), "it was told already")
}

// A namespace that enforces the restricted standard refuses the plain template and takes one that
// complies: what the operator adds complies.
func TestRefusedWorkersAreReportedUntilTheTemplateIsMended(t *testing.T) {
	f := start(t, map[string]string{"pod-security.kubernetes.io/enforce": "restricted"})
	f.create(f.pool().Replicas(2).Obj())
	f.Eventually(f.condition(v1alpha1.PoolProgressing)).Should(And(
		HavePrefix(`False WorkerNotCreated: pods "demo-0" is forbidden: violates PodSecurity "restricted`),
		Not(ContainSubstring("workerpool-agent")),
	))
	f.Eventually(f.events.Events).Should(Receive(HavePrefix("Warning WorkerNotCreated pods \"demo-0\" is forbidden")))
	f.Eventually(f.explained).Should(Equal(v1alpha1.ReasonNotCreated))
	f.expectPods()

	f.change(func(pool *v1alpha1.WorkerPool) {
		pool.Spec.Template.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{
			AllowPrivilegeEscalation: new(false),
			Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			RunAsNonRoot:             new(true),
			SeccompProfile:           &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		}
	})
	f.expectPods("demo-0", "demo-1")
	f.Eventually(f.condition(v1alpha1.PoolProgressing)).Should(HavePrefix("True WorkersStarting"))
}

func TestObstaclesAreReported(t *testing.T) {
	f := start(t, nil)
	f.create(f.pool().Replicas(2).Obj())
	f.expectPods("demo-0", "demo-1")
	f.setStatus("demo-1", corev1.PodStatus{Conditions: []corev1.PodCondition{{
		Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable,
		Message: "0/1 nodes are available: 1 Insufficient cpu.",
	}}})
	f.Eventually(f.condition(v1alpha1.PoolProgressing)).Should(Equal(
		"False Unschedulable: 1 of 2 workers are held up: 0/1 nodes are available: 1 Insufficient cpu."))
	f.Eventually(f.explained).Should(Equal(v1alpha1.ReasonUnschedulable))

	f.setStatus("demo-0", corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{
		Name: "worker", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{
			Reason: "ImagePullBackOff", Message: `Back-off pulling image "busybox:1"`,
		}},
	}}})
	f.Eventually(f.condition(v1alpha1.PoolProgressing)).Should(Equal(
		`False WorkerCannotStart: 1 of 2 workers are held up: container "worker": ImagePullBackOff: Back-off pulling image "busybox:1"`))
	f.Eventually(f.explained).Should(Equal(v1alpha1.ReasonWorkerCannotStart))
}

func TestEngineIsTold(t *testing.T) {
	f := start(t, nil)
	demo := f.pool().Replicas(1).Slots(3).Capacity(7).Template(func(template *corev1.PodTemplateSpec) {
		template.Spec.Containers[0].Resources.Requests = corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("1500m"), corev1.ResourceMemory: resource.MustParse("96Mi"),
		}
	}).Obj()
	demo.Spec.JobDefaults = &v1alpha1.JobDefaults{MaxRetries: new(int32(2))}
	demo.Spec.Recycle = &v1alpha1.RecycleSpec{MaxJobs: new(int32(9)), ResetCommand: []string{"rm", "x"}}
	f.create(demo)
	f.expectPods("demo-0")
	pod := f.pod("demo-0")
	resources := worker.ResourceLimits{CPU: 1.5, Memory: 64 << 20}
	want := engine.WorkerPod{UID: pod.UID, Name: "demo-0", Slots: 3, Handler: v1alpha1.HandlerExec, Resources: resources}
	f.Eventually(f.engine.workersOf(f.key())).Should(Equal([]engine.WorkerPod{want}))
	f.Expect(f.engine.poolOf(f.key())).To(Equal(engine.PoolConfig{
		Key: f.key(), UID: demo.UID, Capacity: 7, Aging: 300 * time.Second, Handler: v1alpha1.HandlerExec, Slots: 3, Resources: resources,
		LostAfter: time.Minute, MaxAttempts: 9, Reset: &engine.ResetCommand{Argv: []string{"rm", "x"}, Timeout: time.Minute},
		Defaults: v1alpha1.JobDefaults{MaxRetries: new(int32(2))},
	}))
	f.change(func(pool *v1alpha1.WorkerPool) { pool.Spec.Recycle.ResetTimeoutSeconds = new(int32(5)) })
	f.Eventually(func() time.Duration { return f.engine.poolOf(f.key()).Reset.Timeout }).Should(Equal(5 * time.Second))
	f.Eventually(f.engine.isStarted(f.key())).Should(BeTrue())
	f.Expect(f.engine.isRemoved(f.key())()).To(BeFalse())

	f.bind("demo-0")
	f.setStatus("demo-0", corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{
		{Name: "worker", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}},
	}})
	want.Started = true
	f.Eventually(f.engine.workersOf(f.key())).Should(Equal([]engine.WorkerPod{want}))
	f.Expect(f.client.Delete(t.Context(), pod)).To(Succeed())
	want.Terminating = true
	f.Eventually(f.engine.workersOf(f.key())).Should(ContainElement(want))
}

func TestWorkersBeyondTheLimitsAreNotMadeAndThePoolSaysSo(t *testing.T) {
	f := start(t, nil)
	demo := f.pool().Replicas(3).Template(func(template *corev1.PodTemplateSpec) {
		template.Spec.Containers[0].Resources.Requests = corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("500m"), corev1.ResourceMemory: resource.MustParse("100Mi"),
		}
	}).Obj()
	demo.Spec.Limits = &v1alpha1.PoolLimits{CPU: new(resource.MustParse("10")), Memory: new(resource.MustParse("250Mi")), Files: new(int32(50))}
	f.create(demo)
	f.expectPods("demo-0", "demo-1")
	f.Eventually(f.condition(v1alpha1.PoolLimitReached)).Should(HavePrefix(
		"True LimitReached: With another worker the pool's pods would request 300Mi of memory together, and spec.limits.memory is 250Mi."))
	f.Eventually(f.condition(v1alpha1.PoolProgressing)).Should(HavePrefix("False LimitReached: With another worker"))
	f.Eventually(func() engine.PoolConfig { return f.engine.poolOf(f.key()) }).Should(And(
		HaveField("Limits", worker.ResourceLimits{CPU: 10, Memory: 250 << 20, Files: 50}),
		HaveField("Requested", worker.ResourceUsage{CPU: 1, Memory: 200 << 20}),
	))

	pool, err := f.get()
	f.Expect(err).NotTo(HaveOccurred())
	pool.Spec.Limits.Memory = new(resource.MustParse("300Mi"))
	f.Expect(f.client.Update(t.Context(), pool)).To(Succeed())
	f.expectPods("demo-0", "demo-1", "demo-2")
	f.Eventually(f.condition(v1alpha1.PoolLimitReached)).Should(HavePrefix("False WithinLimits"))
}

func TestAWorkerThatAloneIsBeyondTheLimitsIsNotMade(t *testing.T) {
	f := start(t, nil)
	demo := f.pool().Replicas(1).Template(func(template *corev1.PodTemplateSpec) {
		template.Spec.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2")}
	}).Obj()
	demo.Spec.Limits = &v1alpha1.PoolLimits{CPU: new(resource.MustParse("1500m"))}
	f.create(demo)
	f.Eventually(f.condition(v1alpha1.PoolLimitReached)).Should(HavePrefix(
		"True LimitReached: A worker requests 2 of cpu, and spec.limits.cpu is 1500m."))
	f.expectPods()
}

func TestWhatTheEngineDoesIsShown(t *testing.T) {
	f := start(t, nil)
	f.create(f.pool().Replicas(1).Capacity(2).Obj())
	f.expectPods("demo-0")
	f.engine.set(t.Context(), f.key(), func(s *engine.PoolSnapshot) {
		s.Workers, s.Queued, s.Active, s.Waiting, s.Processed, s.Failed = 1, 2, 1, 5, 10, 3
		s.Used, s.Capacity = worker.ResourceUsage{CPU: 0.25, Memory: 64 << 20}, worker.ResourceLimits{CPU: 2, Memory: 1 << 30}
	})
	f.Eventually(f.condition(v1alpha1.PoolQueueFull)).Should(HavePrefix("True CapacityReached: Jobs wait because the queue holds its capacity of 2"))
	pool, err := f.get()
	f.Expect(err).NotTo(HaveOccurred())
	status := pool.Status
	f.Expect([]int64{int64(*status.Workers), *status.QueueSize, *status.ActiveJobs, *status.ProcessedJobs, *status.FailedJobs}).
		To(Equal([]int64{1, 2, 1, 10, 3}))
	f.Expect(status.Resources).To(Equal(&v1alpha1.PoolResources{
		Used:     &v1alpha1.ResourceAmounts{CPU: new(resource.MustParse("250m")), Memory: new(resource.MustParse("64Mi"))},
		Capacity: &v1alpha1.ResourceAmounts{CPU: new(resource.MustParse("2")), Memory: new(resource.MustParse("1Gi"))},
	}))
}

// What the Jobs of a pool with autoscaling want of workers is what it has, and shows.
func TestAPoolIsScaledByWhatItsJobsWant(t *testing.T) {
	f := start(t, nil)
	demo := f.pool().Autoscaling(0, 5).Obj()
	demo.Spec.Autoscaling.ScaleDownDelaySeconds = new(int32(0))
	f.create(demo)
	want := func(waiting, running float64) {
		f.engine.set(t.Context(), f.key(), func(s *engine.PoolSnapshot) {
			s.Demand = engine.Demand{Known: true, Waiting: waiting, Running: running, TaskTime: time.Hour}
		})
	}
	f.Eventually(f.condition(v1alpha1.PoolReady)).Should(HavePrefix("True AllWorkersReady: 0 of 0 workers are ready."))
	want(2, 0)
	f.expectPods("demo-0", "demo-1")
	want(9, 1)
	f.expectPods("demo-0", "demo-1", "demo-2", "demo-3", "demo-4")
	f.Eventually(func() int32 {
		pool, err := f.get()
		f.Expect(err).NotTo(HaveOccurred())
		return *pool.Status.DesiredReplicas
	}).Should(BeEquivalentTo(5))
	want(0, 0)
	f.expectPods()
	f.Eventually(f.condition(v1alpha1.PoolReady)).Should(HavePrefix("True AllWorkersReady: 0 of 0 workers are ready."))
}

// A pool that is scaled by hand again has what is said, and remembers nothing of before.
func TestAutoscalingMayBeTurnedOnAndOff(t *testing.T) {
	f := start(t, nil)
	f.create(f.pool().Replicas(2).Obj())
	f.expectPods("demo-0", "demo-1")
	change := func(change func(*v1alpha1.WorkerPoolSpec)) {
		f.Eventually(func() error {
			pool, err := f.get()
			f.Expect(err).NotTo(HaveOccurred())
			change(&pool.Spec)
			return f.client.Update(t.Context(), pool)
		}).Should(Succeed())
	}
	change(func(s *v1alpha1.WorkerPoolSpec) {
		s.Replicas, s.Autoscaling = nil, &v1alpha1.AutoscalingSpec{MinReplicas: new(int32(3)), MaxReplicas: 4}
	})
	f.expectPods("demo-0", "demo-1", "demo-2")
	change(func(s *v1alpha1.WorkerPoolSpec) { s.Replicas, s.Autoscaling = new(int32(1)), nil })
	f.expectPods("demo-0")
	f.Eventually(f.condition(v1alpha1.PoolReady)).Should(ContainSubstring("of 1 worker"))
	change(func(s *v1alpha1.WorkerPoolSpec) {
		s.Replicas, s.Autoscaling = nil, &v1alpha1.AutoscalingSpec{MaxReplicas: 2}
	})
	f.Eventually(func() int64 {
		pool, err := f.get()
		f.Expect(err).NotTo(HaveOccurred())
		return pool.Status.ObservedGeneration
	}).Should(BeEquivalentTo(4))
	f.expectPods("demo-0")
}
