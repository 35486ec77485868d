package workerpool

import (
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/engine"
)

// TestStatusIsWrittenAtMostOnceASecond calls the Reconciler by hand, with a clock that stands still.
func TestStatusIsWrittenAtMostOnceASecond(t *testing.T) {
	f := newFixture(t, nil)
	clk := clocktesting.NewFakeClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	mgr := env.Manager(t, f.namespace, func(mgr manager.Manager) error { return Index(t.Context(), mgr.GetFieldIndexer()) })
	r := f.reconciler(mgr, clk)
	f.create(f.pool().Replicas(0).Obj())
	reconcileNow := func() reconcile.Result {
		t.Helper()
		f.caughtUp(mgr.GetClient())
		result, err := r.Reconcile(t.Context(), reconcile.Request{NamespacedName: f.key()})
		f.Expect(err).NotTo(HaveOccurred())
		return result
	}
	processed := func(n uint64) {
		f.engine.snapshots[f.key()] = engine.PoolSnapshot{Processed: n}
	}
	written := func() int64 {
		pool, err := f.get()
		f.Expect(err).NotTo(HaveOccurred())
		return ptr.Deref(pool.Status.ProcessedJobs, -1)
	}
	reconcileNow()
	processed(1)
	reconcileNow()
	f.Expect(written()).To(Equal(int64(1)), "the first write is not held up")

	processed(2)
	clk.Step(700 * time.Millisecond)
	f.Expect(reconcileNow().RequeueAfter).To(Equal(300 * time.Millisecond))
	f.Expect(written()).To(Equal(int64(1)))
	processed(3)
	clk.Step(300 * time.Millisecond)
	f.Expect(reconcileNow().RequeueAfter).To(BeZero())
	f.Expect(written()).To(Equal(int64(3)))

	processed(0)
	clk.Step(time.Second)
	reconcileNow()
	f.Expect(written()).To(Equal(int64(3)), "a counter must not run backwards")
}

// caughtUp waits until a cache shows the pool as it is.
func (f *fixture) caughtUp(cached client.Client) {
	f.t.Helper()
	f.Eventually(func(g Gomega) {
		pool, err := f.get()
		g.Expect(err).NotTo(HaveOccurred())
		seen := &v1alpha1.WorkerPool{}
		g.Expect(cached.Get(f.t.Context(), f.key(), seen)).To(Succeed())
		g.Expect(seen.ResourceVersion).To(Equal(pool.ResourceVersion))
	}).Should(Succeed())
}

func TestObstacleOfAPod(t *testing.T) {
	waiting := func(reason, message string) corev1.ContainerState {
		return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
	}
	for name, tc := range map[string]struct {
		status          corev1.PodStatus
		reason, message string
	}{
		"nothing": {},
		"a container that is being made": {
			status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{State: waiting("ContainerCreating", "")}}},
		},
		"an init container that crashes": {
			status: corev1.PodStatus{InitContainerStatuses: []corev1.ContainerStatus{{
				Name: "workerpool-agent", State: waiting("CrashLoopBackOff", "back-off 10s"),
				LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 2, Reason: "Error", Message: "no space"}},
			}}},
			reason:  v1alpha1.ReasonWorkerCannotStart,
			message: `container "workerpool-agent": CrashLoopBackOff: back-off 10s (it ended with exit code 2: Error: no space)`,
		},
		"a gate that holds the scheduling": {
			status: corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonSchedulingGated}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			reason, message := obstacleOf(&corev1.Pod{Status: tc.status})
			if reason != tc.reason || message != tc.message {
				t.Errorf("got %q %q, want %q %q", reason, message, tc.reason, tc.message)
			}
		})
	}
}

func TestLongMessagesAreShortened(t *testing.T) {
	g := NewWithT(t)
	g.Expect(shorten(strings.Repeat("ä", messageLimit))).To(HaveLen(2 * messageLimit))
	g.Expect([]rune(shorten(strings.Repeat("ä", messageLimit+1)))).To(HaveLen(messageLimit))
}

func TestTroubleIsToldOnce(t *testing.T) {
	type progress struct{ reason, message string }
	well, starting := progress{v1alpha1.ReasonStable, ""}, progress{v1alpha1.ReasonStarting, ""}
	quota, forbidden := progress{v1alpha1.ReasonNotCreated, "quota"}, progress{v1alpha1.ReasonNotCreated, "forbidden"}
	pull, backOff := progress{v1alpha1.ReasonWorkerCannotStart, "pull"}, progress{v1alpha1.ReasonWorkerCannotStart, "back-off"}
	limit := progress{v1alpha1.ReasonLimit, "64Mi"}
	for name, tc := range map[string]struct {
		before progress
		now    []progress
		told   []string
	}{
		"new trouble":                      {starting, []progress{quota}, []string{"quota"}},
		"what is not trouble":              {starting, []progress{well, {v1alpha1.ReasonUnschedulable, ""}}, nil},
		"what was told by another leader":  {quota, []progress{quota, starting, quota}, nil},
		"again while it is tried again":    {well, []progress{pull, backOff, starting, pull}, []string{"pull"}},
		"again after all was well":         {well, []progress{pull, well, starting, pull}, []string{"pull", "pull"}},
		"again where only a name is taken": {well, []progress{limit, {v1alpha1.ReasonNameTaken, ""}, limit}, []string{"64Mi", "64Mi"}},
		"another trouble":                  {well, []progress{quota, forbidden, limit, backOff}, []string{"quota", "forbidden", "64Mi", "back-off"}},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			recorder := events.NewFakeRecorder(len(tc.now))
			r, m := &Reconciler{recorder: recorder}, newMemory("pool")
			before := tc.before
			for _, now := range tc.now {
				r.progressChanged(poolThat(now.reason, now.message), m, poolThat(before.reason, before.message).Status.Conditions)
				before = now
			}
			close(recorder.Events)
			var told []string
			for event := range recorder.Events {
				told = append(told, event[strings.LastIndex(event, " ")+1:])
			}
			g.Expect(told).To(Equal(tc.told))
		})
	}
}

// poolThat has a condition Progressing like this.
func poolThat(reason, message string) *v1alpha1.WorkerPool {
	return &v1alpha1.WorkerPool{Status: v1alpha1.WorkerPoolStatus{Conditions: []metav1.Condition{
		{Type: v1alpha1.PoolProgressing, Reason: reason, Message: message},
	}}}
}

func TestFailedCreatesArePaused(t *testing.T) {
	g := NewWithT(t)
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	m := newMemory("pool")
	var pauses []time.Duration
	for range 8 {
		m.failed("quota", 1, now)
		pauses = append(pauses, m.pause(1, now))
	}
	s := time.Second
	g.Expect(pauses).To(Equal([]time.Duration{s, 2 * s, 4 * s, 8 * s, 16 * s, 32 * s, 60 * s, 60 * s}))
	g.Expect(m.pause(2, now)).To(BeZero(), "a changed spec must be tried at once")
	g.Expect(m.pause(1, now.Add(time.Minute))).To(BeZero())
}

func TestMemoryIsOfOnePool(t *testing.T) {
	g := NewWithT(t)
	var m memories
	key := types.NamespacedName{Name: "demo"}
	m.of(key, "a").deleted["pod"] = true
	g.Expect(m.of(key, "a").deleted).To(HaveKey(types.UID("pod")))
	g.Expect(m.of(key, "b").deleted).To(BeEmpty(), "a new pool of the same name starts afresh")
	m.forget(key)
	g.Expect(m.pools).To(BeEmpty())
}

func TestATakenNameIsToldOnce(t *testing.T) {
	f := newFixture(t, nil)
	clk := clocktesting.NewFakeClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	mgr := env.Manager(t, f.namespace, func(mgr manager.Manager) error { return Index(t.Context(), mgr.GetFieldIndexer()) })
	r := f.reconciler(mgr, clk)
	pool := f.pool().Obj()
	f.create(pool)
	s := &scope{pool: pool, key: f.key(), memory: newMemory(pool.UID)}
	foreign := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: "demo-0"}, Spec: pool.Spec.Template.Spec}
	look := func(told int) {
		t.Helper()
		s.now = clk.Now()
		f.Expect(r.checkTaken(t.Context(), s, 0)).To(Succeed())
		f.Expect(f.events.Events).To(HaveLen(told))
		clk.Step(takenRecheck)
	}
	f.create(foreign.DeepCopy())
	look(1)
	look(1)
	f.kill("demo-0")
	look(1)
	f.create(foreign.DeepCopy())
	look(2)
}
