package workerpool

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/engine"
	"github.com/workerpool-dev/workerpool/internal/podspec"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

// world is a cluster with one pool, in which nothing happens but what a test says: pods become ready,
// the cache catches up, jobs come and go. The Reconciler under test is the real one, without its
// writes of status.
type world struct {
	t          *testing.T
	pool       *v1alpha1.WorkerPool
	reconciler *Reconciler
	clock      *clocktesting.FakeClock

	// mu guards pods and uids: the Reconciler makes and deletes several pods at once.
	mu sync.Mutex
	// pods are those that the API server has; cache is what the Reconciler sees of them.
	pods, cache map[string]*corev1.Pod
	// uids is the number of pods that there have been.
	uids map[string]int
	// does is what the engine says that workers do.
	does map[types.UID]engine.PodSnapshot
	// told is what the engine was last told of the pods.
	told []engine.WorkerPod
	// down is the error of each live read; nil if there is none. gets counts them.
	down error
	gets atomic.Int64
	log  []string
	// status is that of the pool as it would be written.
	status v1alpha1.WorkerPoolStatus
	// meanwhile is called after a plan, before it is carried out, and deleting with each pod that is to be deleted: what
	// it returns is whether the pod is deleted, and the answer.
	meanwhile func()
	deleting  func(name string) (deleted bool, err error)
}

func newWorld(t *testing.T, replicas int32) *world {
	w := &world{
		t:     t,
		pool:  testutil.MakePool("ns", "demo").UID("pool").Replicas(replicas).Obj(),
		clock: clocktesting.NewFakeClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)),
		pods:  map[string]*corev1.Pod{}, cache: map[string]*corev1.Pod{},
		uids: map[string]int{}, does: map[types.UID]engine.PodSnapshot{},
		meanwhile: func() {}, deleting: func(string) (bool, error) { return true, nil },
	}
	api := &worldClient{world: w}
	w.reconciler = New(api, api, w, &events.FakeRecorder{}, podspec.Agent{}, w.clock)
	return w
}

// reconcile does once what Reconcile does, and returns what it intended.
func (w *world) reconcile() []Intent {
	w.t.Helper()
	cached := w.pool.DeepCopy()
	podspec.Reduce(cached)
	s, err := w.reconciler.observe(w.t.Context(), cached)
	if err != nil {
		w.t.Fatalf("observe: %v", err)
	}
	w.reconciler.tellEngine(s)
	s.autoscale()
	intents := Plan(s.state())
	w.check(s.state(), intents)
	for _, i := range intents {
		w.logf("%s %s (%s)", i.Action, podspec.Name("demo", i.Ordinal), i.Reason)
	}
	before := w.counted()
	w.meanwhile()
	if err := w.reconciler.execute(w.t.Context(), s, intents); err != nil && !errors.Is(err, errNotNow) {
		w.t.Fatalf("execute: %v", err)
	}
	w.reconciler.explain(s)
	w.status = s.status()
	if after := w.counted(); after > before && after > s.replicas()+s.state().Surge {
		w.t.Fatalf("%d workers were made %d, for %d wanted", before, after, s.replicas())
	}
	return intents
}

// settle lets the cache catch up and reconciles until nothing is left to do without a change from
// outside.
func (w *world) settle() {
	w.t.Helper()
	for range 1000 {
		w.catchUp()
		if len(w.reconcile()) == 0 {
			return
		}
	}
	w.t.Fatal("the pool does not come to rest")
}

// check fails the test if a plan does what it must not, whatever the cache was like.
func (w *world) check(s State, intents []Intent) {
	w.t.Helper()
	byUID := map[types.UID]Worker{}
	live, idle, ready := 0, 0, 0
	for _, worker := range s.Workers {
		byUID[worker.UID] = worker
		if worker.live() {
			live++
			if !worker.Busy {
				idle++
			}
			if worker.Ready {
				ready++
			}
		}
	}
	for _, i := range intents {
		target := byUID[i.UID]
		switch {
		case i.Action == Create:
			live++
		case target.Terminating && i.Action == Delete:
			w.t.Fatalf("%s is deleted twice", target.Name)
		case target.live():
			live--
			if target.Ready {
				ready--
			}
			if i.Reason == "outdated" && target.Ready && ready < s.Replicas-s.Unavailable {
				w.t.Fatalf("the rollout removed %s and left %d ready of %d", target.Name, ready, s.Replicas)
			}
			if i.Reason == "surplus" && target.Busy && idle > 0 && !target.Cordoned {
				w.t.Fatalf("%s is busy and was removed while %d idle workers were left", target.Name, idle)
			}
			if !target.Busy {
				idle--
			}
		}
	}
	if live > s.Replicas+s.Surge {
		w.t.Fatalf("%d workers for %d wanted", live, s.Replicas)
	}
}

func (w *world) logf(format string, args ...any) { w.log = append(w.log, fmt.Sprintf(format, args...)) }

// note says in the log what the test does.
func (w *world) note(format string, args ...any) { w.logf("# "+format, args...) }

// scale sets the wanted number of workers.
func (w *world) scale(n int32) {
	w.pool.Spec.Replicas = new(n)
	w.pool.Generation++
	w.note("scale to %d", n)
}

// rollOut changes the template.
func (w *world) rollOut(image string) {
	w.pool.Spec.Template.Spec.Containers[0].Image = image
	w.pool.Generation++
	w.note("image %s", image)
}

// ready makes a pod ready and its agent connected.
func (w *world) ready(name string) {
	pod := w.pods[name].DeepCopy()
	pod.Spec.NodeName = "node"
	pod.Status.Phase = corev1.PodRunning
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: podspec.JobContainer(pod).Name, State: running}}
	w.pods[name] = pod
	w.set(name, engine.PodSnapshot{Connected: true})
}

// allReady makes all pods ready that are not going.
func (w *world) allReady() {
	for name, pod := range w.pods {
		if pod.DeletionTimestamp.IsZero() && pod.Status.Phase == "" && metav1.IsControlledBy(pod, w.pool) {
			w.ready(name)
		}
	}
	w.note("all workers become ready")
}

// set changes what a worker does.
func (w *world) set(name string, is engine.PodSnapshot) {
	is.Name = name
	w.does[w.pods[name].UID] = is
}

// end makes a pod end by itself.
func (w *world) end(name string) {
	pod := w.pods[name].DeepCopy()
	pod.Status.Phase, pod.Status.Conditions = corev1.PodFailed, nil
	w.pods[name] = pod
	w.note("%s ends", name)
}

// sweep removes the pods that are going, as the kubelet does once they have stopped.
func (w *world) sweep() {
	for name, pod := range w.pods {
		if !pod.DeletionTimestamp.IsZero() {
			delete(w.pods, name)
			delete(w.does, pod.UID)
		}
	}
}

// catchUp makes the cache show what there is.
func (w *world) catchUp() { w.cache = maps.Clone(w.pods) }

// catchUpWith shows one pod, or its absence, to the cache.
func (w *world) catchUpWith(name string) {
	if pod := w.pods[name]; pod != nil {
		w.cache[name] = pod
	} else {
		delete(w.cache, name)
	}
}

// counted is the number of pods that the pool counts on.
func (w *world) counted() int {
	return len(slices.DeleteFunc(w.live(), func(name string) bool { return w.does[w.pods[name].UID].Lost }))
}

// live are the names of the pool's pods that are not going, sorted.
func (w *world) live() []string {
	var names []string
	for name, pod := range w.pods {
		if pod.DeletionTimestamp.IsZero() && !terminated(pod) && metav1.IsControlledBy(pod, w.pool) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// The world is the engine of its Reconciler.

func (w *world) SetPool(engine.PoolConfig)                                  {}
func (w *world) SetWorkers(_ types.NamespacedName, pods []engine.WorkerPod) { w.told = pods }
func (w *world) Pool(types.NamespacedName) (Pool, bool)                     { return w, true }
func (w *world) Start() error                                               { return nil }
func (w *world) Close()                                                     {}
func (w *world) Kill()                                                      {}
func (w *world) Gone(types.UID)                                             {}
func (w *world) Explain(string, string)                                     {}
func (w *world) Snapshot() engine.PoolSnapshot                              { return engine.PoolSnapshot{Pods: w.does} }

// Cordon is the engine's.
func (w *world) Cordon(victims []engine.Victim) map[types.UID]bool {
	done, cordoned := map[types.UID]bool{}, map[types.UID]bool{}
	for _, v := range victims {
		is, known := w.does[v.Pod]
		done[v.Pod] = !known || (!v.Idle || !is.Busy) && (!v.Lost || is.Lost)
		cordoned[v.Pod] = done[v.Pod]
	}
	for uid, is := range w.does {
		is.Cordoned = cordoned[uid]
		w.does[uid] = is
	}
	return done
}

// errNotNow is what the API server says when it fails.
var errNotNow = errors.New("not now")

func (w *world) add(pod *corev1.Pod) { w.pods[pod.Name] = pod }
func notFound(name string) error     { return apierrors.NewNotFound(pods, name) }

var pods = schema.GroupResource{Resource: "pods"}

// worldClient lists pods from the cache; all else reaches the API server.
type worldClient struct {
	client.Client
	world *world
}

func (c *worldClient) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	for _, pod := range c.world.cache {
		if ownerOf(pod) != nil {
			list.(*corev1.PodList).Items = append(list.(*corev1.PodList).Items, *pod)
		}
	}
	return nil
}

func (c *worldClient) Get(_ context.Context, key client.ObjectKey, o client.Object, _ ...client.GetOption) error {
	if pool, ok := o.(*v1alpha1.WorkerPool); ok {
		c.world.pool.DeepCopyInto(pool)
		return nil
	}
	c.world.gets.Add(1)
	pod := c.world.pods[key.Name]
	switch {
	case c.world.down != nil:
		return c.world.down
	case pod == nil:
		return notFound(key.Name)
	}
	pod.DeepCopyInto(o.(*corev1.Pod))
	return nil
}

func (c *worldClient) Create(_ context.Context, o client.Object, _ ...client.CreateOption) error {
	w := c.world
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pods[o.GetName()] != nil {
		return apierrors.NewAlreadyExists(pods, o.GetName())
	}
	w.uids[o.GetName()]++
	o.SetCreationTimestamp(metav1.NewTime(w.clock.Now()))
	o.SetUID(types.UID(fmt.Sprintf("%s#%d", o.GetName(), w.uids[o.GetName()])))
	w.add(o.(*corev1.Pod).DeepCopy())
	return nil
}

func (c *worldClient) Delete(_ context.Context, o client.Object, opts ...client.DeleteOption) error {
	w := c.world
	options := client.DeleteOptions{}
	options.ApplyOptions(opts)
	w.mu.Lock()
	defer w.mu.Unlock()
	pod := w.pods[o.GetName()]
	switch {
	case pod == nil:
		return notFound(o.GetName())
	case *options.Preconditions.UID != pod.UID:
		return apierrors.NewConflict(pods, o.GetName(), fmt.Errorf("the UID is %s", pod.UID))
	}
	deleted, err := w.deleting(o.GetName())
	if deleted {
		pod = pod.DeepCopy()
		pod.DeletionTimestamp = new(metav1.NewTime(w.clock.Now()))
		w.add(pod)
	}
	return err
}

// TestAnyLifeEndsAsWanted lets all that can happen happen, in an order that a seed decides, with a
// cache that is behind. check looks at each plan; at the end all must be as wanted.
func TestAnyLifeEndsAsWanted(t *testing.T) {
	for seed := range uint64(300) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			w := newWorld(t, int32(random.IntN(6)))
			w.unreliable(random)
			surge := random.IntN(3)
			w.pool.Spec.Update = v1alpha1.UpdateSpec{MaxSurge: new(int32(surge)), MaxUnavailable: new(int32(random.IntN(3) + max(0, 1-surge)))}
			w.add(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "demo-1", UID: "foreign"}})
			for range 200 {
				w.step(random)
			}
			w.finish()
		})
	}
}

// unreliable has workers get something to do or come back while they are about to be deleted, and deletions fail, with
// and without effect.
func (w *world) unreliable(random *rand.Rand) {
	w.meanwhile = func() {
		for _, uid := range slices.Sorted(maps.Keys(w.does)) {
			if is := w.does[uid]; random.IntN(8) == 0 && !is.Cordoned {
				is.Busy, is.Connected, is.Lost = true, true, false
				w.does[uid] = is
			}
		}
	}
	w.deleting = func(string) (bool, error) {
		switch random.IntN(6) {
		case 0:
			return false, errNotNow
		case 1:
			return true, errNotNow
		}
		return true, nil
	}
}

// step lets one thing happen.
func (w *world) step(random *rand.Rand) {
	name := podspec.Name("demo", random.IntN(8))
	pod := w.pods[name]
	ours := pod != nil && metav1.IsControlledBy(pod, w.pool)
	switch random.IntN(12) {
	case 0, 1, 2:
		w.reconcile()
	case 3, 4, 5:
		w.catchUpWith(name)
	case 6:
		w.clock.Step(time.Duration(random.IntN(8)) * time.Second)
	case 7:
		if random.IntN(5) == 0 {
			w.scale(int32(random.IntN(7)))
		}
	case 8:
		if random.IntN(8) == 0 {
			w.rollOut(fmt.Sprintf("busybox:%d", random.IntN(3)))
		}
	case 9:
		if ours && pod.DeletionTimestamp.IsZero() && !terminated(pod) {
			w.ready(name)
			w.set(name, engine.PodSnapshot{Connected: true, Busy: random.IntN(2) == 0, Spent: random.IntN(10) == 0})
		}
	case 10:
		w.sweep()
	case 11:
		switch {
		case !ours || random.IntN(3) > 0:
		case random.IntN(2) == 0:
			w.end(name)
		default:
			w.set(name, engine.PodSnapshot{Lost: true})
		}
	}
}

// finish lets all settle without further faults and checks what is left.
func (w *world) finish() {
	w.t.Helper()
	w.meanwhile, w.deleting = func() {}, deleted
	want := int(*w.pool.Spec.Replicas)
	for range 100 {
		w.clock.Step(time.Minute)
		w.allReady()
		for uid, does := range w.does {
			does.Busy = false
			w.does[uid] = does
		}
		w.sweep()
		w.settle()
	}
	got := w.live()
	if len(got) != want {
		w.t.Fatalf("%d workers are left of %d wanted: %v\n%s", len(got), want, got, strings.Join(w.log, "\n"))
	}
	for _, name := range got {
		if pod := w.pods[name]; pod.Labels[v1alpha1.LabelTemplateHash] != podspec.Hash(w.pool) {
			w.t.Errorf("%s is out of date", name)
		}
		if w.does[w.pods[name].UID].Cordoned {
			w.t.Errorf("%s takes no Jobs", name)
		}
	}
	if w.pods["demo-1"].UID != "foreign" {
		w.t.Error("the pod that is not the pool's was touched")
	}
}
