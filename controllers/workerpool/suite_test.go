package workerpool

import (
	"context"
	"fmt"
	"maps"
	"os"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/engine"
	"github.com/workerpool-dev/workerpool/internal/podspec"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

var env *testutil.Environment

func TestMain(m *testing.M) { os.Exit(testutil.Run(m, &env, Cached())) }

// patience is how long a test waits for what should come within a moment.
const patience = 10 * time.Second

var agent = podspec.Agent{Installation: "test", Image: "workerpool:test", Addresses: []string{"10.0.0.1:443"}, CA: "ca"}

// fixture is a running controller of the pools in one namespace.
type fixture struct {
	Gomega
	t         *testing.T
	client    client.Client
	namespace string
	engine    *fakeEngine
	events    *events.FakeRecorder
}

// start runs the controller in a new namespace with these labels.
func start(t *testing.T, labels map[string]string) *fixture {
	t.Helper()
	f := newFixture(t, labels)
	env.Manager(t, f.namespace, func(mgr manager.Manager) error {
		return f.reconciler(mgr, clock.RealClock{}).SetupWithManager(t.Context(), mgr, source.Channel(f.engine.changes, &handler.EnqueueRequestForObject{}), ready)
	})
	return f
}

func newFixture(t *testing.T, labels map[string]string) *fixture {
	t.Helper()
	g := NewWithT(t)
	g.SetDefaultEventuallyTimeout(patience)
	return &fixture{
		Gomega: g, t: t, client: env.Client, namespace: env.Namespace(t, labels),
		engine: newFakeEngine(), events: events.NewFakeRecorder(100),
	}
}

func (f *fixture) reconciler(mgr manager.Manager, clk clock.Clock) *Reconciler {
	return New(mgr.GetClient(), mgr.GetAPIReader(), f.engine, f.events, agent, clk)
}

// pool begins the pool of the test, called demo.
func (f *fixture) pool() *testutil.PoolBuilder { return testutil.MakePool(f.namespace, "demo") }

func (f *fixture) create(o client.Object) {
	f.t.Helper()
	f.Expect(f.client.Create(f.t.Context(), o)).To(Succeed())
}

// get reads the pool of the test.
func (f *fixture) get() (*v1alpha1.WorkerPool, error) {
	pool := &v1alpha1.WorkerPool{}
	return pool, f.client.Get(f.t.Context(), client.ObjectKey{Namespace: f.namespace, Name: "demo"}, pool)
}

func ready(context.Context) error { return nil }

// change changes the pool of the test.
func (f *fixture) change(change func(*v1alpha1.WorkerPool)) {
	f.t.Helper()
	f.Eventually(func() error {
		pool, err := f.get()
		if err != nil {
			return err
		}
		change(pool)
		return f.client.Update(f.t.Context(), pool)
	}).Should(Succeed())
}

// condition of the pool in words: `True Reason: message`.
func (f *fixture) condition(kind string) func() (string, error) {
	return func() (string, error) {
		pool, err := f.get()
		if err != nil {
			return "", err
		}
		c := meta.FindStatusCondition(pool.Status.Conditions, kind)
		if c == nil {
			return "none", nil
		}
		if c.ObservedGeneration != pool.Generation || pool.Status.ObservedGeneration != pool.Generation {
			return "of an older generation", nil
		}
		return fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message), nil
	}
}

// pods are the names of the pods of the namespace that are not going, and have our label.
func (f *fixture) pods() ([]string, error) {
	list := &corev1.PodList{}
	err := f.client.List(f.t.Context(), list, client.InNamespace(f.namespace), client.MatchingLabels{v1alpha1.LabelPool: "demo"})
	var names []string
	for _, pod := range list.Items {
		if pod.DeletionTimestamp.IsZero() {
			names = append(names, pod.Name)
		}
	}
	return names, err
}

// expectPods waits until these pods are there and no others.
func (f *fixture) expectPods(names ...string) {
	f.t.Helper()
	if len(names) == 0 {
		f.Eventually(f.pods).Should(BeEmpty())
		return
	}
	f.Eventually(f.pods).Should(ConsistOf(names))
}

func (f *fixture) pod(name string) *corev1.Pod {
	f.t.Helper()
	pod := &corev1.Pod{}
	f.Expect(f.client.Get(f.t.Context(), client.ObjectKey{Namespace: f.namespace, Name: name}, pod)).To(Succeed())
	return pod
}

// bind puts a pod onto a node, where it stays after its deletion until it is killed.
func (f *fixture) bind(name string) {
	f.t.Helper()
	binding := &corev1.Binding{Target: corev1.ObjectReference{Kind: "Node", Name: "node"}}
	f.Expect(f.client.SubResource("binding").Create(f.t.Context(), f.pod(name), binding)).To(Succeed())
}

// kill removes a pod as the kubelet does once it has stopped.
func (f *fixture) kill(name string) {
	f.t.Helper()
	f.Expect(f.client.Delete(f.t.Context(), f.pod(name), client.GracePeriodSeconds(0))).To(Succeed())
}

// setStatus of a pod, as the scheduler and the kubelet would.
func (f *fixture) setStatus(name string, status corev1.PodStatus) {
	f.t.Helper()
	pod := f.pod(name)
	pod.Status = status
	f.Expect(f.client.Status().Update(f.t.Context(), pod)).To(Succeed())
}

// ready makes pods ready, and their agents connected.
func (f *fixture) ready(names ...string) {
	f.t.Helper()
	for _, name := range names {
		f.engine.setPod(f.pod(name), engine.PodSnapshot{Name: name, Connected: true})
		f.setStatus(name, corev1.PodStatus{
			Phase:      corev1.PodRunning,
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
		})
	}
}

// fakeEngine remembers what it was told, and says what a test lets it say.
type fakeEngine struct {
	changes chan event.GenericEvent

	mu        sync.Mutex
	pools     map[types.NamespacedName]engine.PoolConfig
	started   map[types.NamespacedName]bool
	removed   map[types.NamespacedName]bool
	killed    map[types.NamespacedName]bool
	workers   map[types.NamespacedName][]engine.WorkerPod
	buried    map[types.UID]bool
	drained   map[types.UID]bool
	snapshots map[types.NamespacedName]engine.PoolSnapshot
	explained map[types.NamespacedName]string
}

func newFakeEngine() *fakeEngine {
	return &fakeEngine{
		changes: make(chan event.GenericEvent),
		pools:   map[types.NamespacedName]engine.PoolConfig{},
		started: map[types.NamespacedName]bool{}, removed: map[types.NamespacedName]bool{}, killed: map[types.NamespacedName]bool{},
		workers: map[types.NamespacedName][]engine.WorkerPod{}, drained: map[types.UID]bool{}, buried: map[types.UID]bool{},
		snapshots: map[types.NamespacedName]engine.PoolSnapshot{}, explained: map[types.NamespacedName]string{},
	}
}

func (e *fakeEngine) SetPool(pool engine.PoolConfig) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.pools[pool.Key] = pool
}

// Pool knows pools that were never set too.
func (e *fakeEngine) Pool(key types.NamespacedName) (Pool, bool) { return fakePool{e, key}, true }

// fakePool is a pool of a fakeEngine.
type fakePool struct {
	engine *fakeEngine
	key    types.NamespacedName
}

func (p fakePool) Start() error {
	p.engine.mu.Lock()
	defer p.engine.mu.Unlock()
	p.engine.started[p.key] = true
	return nil
}

func (p fakePool) Close() {
	p.engine.mu.Lock()
	defer p.engine.mu.Unlock()
	p.engine.removed[p.key] = true
}

func (p fakePool) Kill() {
	p.engine.mu.Lock()
	defer p.engine.mu.Unlock()
	p.engine.killed[p.key] = true
}

// Cordon remembers all pods that were ever cordoned.
func (p fakePool) Cordon(victims []engine.Victim) map[types.UID]bool {
	p.engine.mu.Lock()
	defer p.engine.mu.Unlock()
	done := map[types.UID]bool{}
	for _, v := range victims {
		p.engine.drained[v.Pod], done[v.Pod] = true, true
	}
	return done
}

func (p fakePool) Explain(reason, _ string) {
	p.engine.mu.Lock()
	defer p.engine.mu.Unlock()
	p.engine.explained[p.key] = reason
}

func (p fakePool) Gone(pod types.UID) {
	p.engine.mu.Lock()
	defer p.engine.mu.Unlock()
	s := p.engine.snapshots[p.key]
	s.Pods = maps.Clone(s.Pods)
	delete(s.Pods, pod)
	p.engine.snapshots[p.key] = s
	p.engine.buried[pod] = true
}

func (p fakePool) Snapshot() engine.PoolSnapshot {
	p.engine.mu.Lock()
	defer p.engine.mu.Unlock()
	return p.engine.snapshots[p.key]
}

func (e *fakeEngine) SetWorkers(key types.NamespacedName, workers []engine.WorkerPod) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.workers[key] = workers
}

// set changes the snapshot of a pool and, where a controller listens, says so.
func (e *fakeEngine) set(ctx context.Context, key types.NamespacedName, change func(*engine.PoolSnapshot)) {
	e.mu.Lock()
	s := e.snapshots[key]
	change(&s)
	e.snapshots[key] = s
	e.mu.Unlock()
	pool := &v1alpha1.WorkerPool{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
	select {
	case e.changes <- event.GenericEvent{Object: pool}:
	case <-ctx.Done():
	}
}

// setPod changes what a worker of the pool demo does, without telling anyone.
func (e *fakeEngine) setPod(pod *corev1.Pod, does engine.PodSnapshot) {
	e.mu.Lock()
	defer e.mu.Unlock()
	key := types.NamespacedName{Namespace: pod.Namespace, Name: "demo"}
	s := e.snapshots[key]
	pods := map[types.UID]engine.PodSnapshot{pod.UID: does}
	for uid, known := range s.Pods {
		if uid != pod.UID {
			pods[uid] = known
		}
	}
	s.Pods = pods
	e.snapshots[key] = s
}

func (e *fakeEngine) poolOf(key types.NamespacedName) engine.PoolConfig {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.pools[key]
}

func (e *fakeEngine) isBuried(pod types.UID) func() bool {
	return func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.buried[pod]
	}
}

func (e *fakeEngine) isStarted(key types.NamespacedName) func() bool {
	return func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.started[key]
	}
}

func (e *fakeEngine) isRemoved(key types.NamespacedName) func() bool {
	return func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.removed[key]
	}
}

func (e *fakeEngine) isKilled(key types.NamespacedName) func() bool {
	return func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.killed[key]
	}
}

func (e *fakeEngine) isDrained(pod *corev1.Pod) func() bool {
	return func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.drained[pod.UID]
	}
}

func (e *fakeEngine) workersOf(key types.NamespacedName) func() []engine.WorkerPod {
	return func() []engine.WorkerPod {
		e.mu.Lock()
		defer e.mu.Unlock()
		return e.workers[key]
	}
}

// explained is why Jobs of the pool of the test wait.
func (f *fixture) explained() string {
	f.engine.mu.Lock()
	defer f.engine.mu.Unlock()
	return f.engine.explained[f.key()]
}
