// Package faults tests the operator against an API server that fails: at each write of a scenario in turn, and at its
// watches. The operator, the API server and etcd are the real programs; between them is a proxy that answers with
// errors, cuts connections, and has the operator killed. Then the world must converge as if nothing had been.
package faults

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	toolswatch "k8s.io/client-go/tools/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/testutil"
	"github.com/workerpool-dev/workerpool/test/simulated"
)

// patience is how long anything may take. A write that fails may be tried again after 30 s.
const (
	patience = time.Minute
	// slowPatience is for what each kill puts off.
	slowPatience = 3 * time.Minute
)

var (
	env *testutil.Environment
	// manager is the operator's program.
	manager string

	seed  = flag.Uint64("faults.seed", 1, "Which of the writes of a kind are hit, and in which scenario.")
	all   = flag.Bool("faults.all", false, "Hit each kind of write in each scenario that has it, and not in one of them only.")
	lanes = flag.Int("faults.lanes", 20, "How many cases go at the same time, of those that do not mostly wait.")
	only  = flag.String("faults.only", "", "Run this case only: its name is that of the test that failed.")
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	flag.Parse()
	folder, err := os.MkdirTemp("", "faults")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(folder)
	if manager, err = simulated.Build(folder); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return testutil.Run(m, &env, nil)
}

// harness is an operator behind the proxy, with simulated nodes.
type harness struct {
	t      *testing.T
	client client.WithWatch
	proxy  *proxy
	ledger *ledger
	nodes  *simulated.Nodes
	// url is the proxy's, and metrics where the operator serves them.
	url, metrics string

	// lane is taken while a scenario is played.
	lane chan struct{}

	mu     sync.Mutex
	worlds map[string]*world
	// operator is the one that has workers; operators has all, by their own namespaces.
	operator  *operator
	operators map[string]*operator
}

// setup has nodes and no operator yet.
func setup(t *testing.T) *harness {
	t.Helper()
	config := rest.CopyConfig(env.Config)
	config.QPS = -1
	c, err := client.NewWithWatch(config, client.Options{Scheme: testutil.Scheme()})
	if err != nil {
		t.Fatalf("make a client: %v", err)
	}
	h := &harness{t: t, client: c, ledger: newLedger(), lane: make(chan struct{}, *lanes), worlds: map[string]*world{}, operators: map[string]*operator{}, metrics: simulated.FreeAddress(t)}
	h.ledger.changed = h.onLedger
	h.proxy = &proxy{began: time.Now(), watches: newWatches(), records: map[string]*record{}, kill: h.kill}
	h.url = simulated.NewProxy(t, config, func(r *http.Response) { h.proxy.watches.see(r) }, h.proxy.around)
	h.allowScraping()
	h.startKwok(config)
	h.nodes = &simulated.Nodes{Client: c, Label: h.name(), Work: h.ledger, Operator: h.address}
	h.nodes.Simulate(t, h.watch(&corev1.PodList{}))
	for _, list := range []client.ObjectList{&corev1.PodList{}, &v1alpha1.JobList{}, &v1alpha1.WorkerPoolList{}} {
		go h.follow(h.watch(list))
	}
	return h
}

// name of the test, as an object may have it.
func (h *harness) name() string { return fmt.Sprintf("faults-%x", h.proxy.began.UnixNano()) }

func (h *harness) allowScraping() {
	h.t.Helper()
	role := &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: h.name()},
		Rules:      []rbacv1.PolicyRule{{Verbs: []string{"get"}, NonResourceURLs: []string{"/metrics"}}},
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: h.name()},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: h.name()},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: "system:serviceaccounts"}},
	}
	for _, o := range []client.Object{role, binding} {
		if err := h.client.Create(h.t.Context(), o); err != nil {
			h.t.Fatalf("allow scraping: %v", err)
		}
	}
}

func (h *harness) startKwok(config *rest.Config) {
	h.t.Helper()
	log, err := os.Create(filepath.Join(h.t.TempDir(), "kwok.log"))
	if err != nil {
		h.t.Fatal(err)
	}
	kwok := simulated.StartKwok(h.t, h.client, config, h.name(), log)
	h.t.Cleanup(func() {
		kwok.Signal(syscall.SIGTERM)
		log.Close()
	})
}

// lead runs the operator that the workers are for.
func (h *harness) lead(t *testing.T) {
	t.Helper()
	o := h.startOperator(t, h.newOperator(t), "--metrics-bind-address="+h.metrics)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.operator = o
}

// newOperator prepares a namespace for an operator.
func (h *harness) newOperator(t *testing.T) *simulated.Operator {
	t.Helper()
	return simulated.NewOperator(t, h.client, env.Namespace(t, nil), manager, h.url)
}

func (h *harness) startOperator(t *testing.T, file *simulated.Operator, args ...string) *operator {
	t.Helper()
	o := startOperator(t, h.client, file, h.proxy.noteAll, args...)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.operators[file.Namespace] = o
	return o
}

func (h *harness) current() *operator {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.operator
}

func (h *harness) kill(namespace string) {
	h.mu.Lock()
	o := h.operators[namespace]
	if o == nil {
		o = h.operator
	}
	h.mu.Unlock()
	o.kill()
}

func (h *harness) address() *simulated.Operator { return h.current().file }

// watch shows all changes of objects of a kind, of pods those of workers only. Where the API server ends it, as it
// does with those who read slowly, it goes on after the last change that it has shown.
func (h *harness) watch(list client.ObjectList) watch.Interface {
	h.t.Helper()
	var options []client.ListOption
	if _, pods := list.(*corev1.PodList); pods {
		options = append(options, client.HasLabels{v1alpha1.LabelPool})
	}
	if err := h.client.List(h.t.Context(), list, options...); err != nil {
		h.t.Fatalf("list %T: %v", list, err)
	}
	from := func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
		return h.client.Watch(ctx, list.DeepCopyObject().(client.ObjectList), append(options, &client.ListOptions{Raw: &o})...)
	}
	w, err := toolswatch.NewRetryWatcherWithContext(h.t.Context(), list.GetResourceVersion(), &cache.ListWatch{WatchFuncWithContext: from})
	if err != nil {
		h.t.Fatalf("watch %T: %v", list, err)
	}
	return w
}

// follow shows each world what happens in it.
func (h *harness) follow(events watch.Interface) {
	for event := range events.ResultChan() {
		if o, ok := event.Object.(client.Object); !ok {
			h.t.Errorf("the test's watch has failed: %v", event.Object)
		} else if w := h.world(o.GetNamespace()); w != nil {
			w.see(event)
		}
	}
}

func (h *harness) world(namespace string) *world {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.worlds[namespace]
}

func (h *harness) onLedger(namespace, what string) {
	h.proxy.note(namespace, "  process: %s", what)
	if w := h.world(namespace); w != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.wakeLocked()
	}
}

// play runs a scenario in a namespace of its own, and returns what the operator has written there. The test fails if
// something does not hold that must; quiet, if not nil, is what may be written.
func (h *harness) play(t *testing.T, sc scenario, quiet map[string]int, strikes ...*strike) (written map[string]int) {
	t.Helper()
	if !sc.slow() {
		h.lane <- struct{}{}
		defer func() { <-h.lane }()
	}
	w := &world{
		t: t, h: h, namespace: env.Namespace(t, nil), patience: patience, audit: simulated.NewAudit(poolName), expected: map[string][]outcome{},
		jobs: map[string]*v1alpha1.Job{}, gone: map[string]bool{}, pods: map[string]*corev1.Pod{}, changed: make(chan struct{}),
	}
	if sc.slow() || len(strikes) > 0 && strikes[0].fault.kills() {
		w.patience = slowPatience
	}
	w.record = h.proxy.follow(w.namespace, strikes...)
	h.mu.Lock()
	h.worlds[w.namespace] = w
	h.mu.Unlock()
	if h.proxy.watches.failing() {
		w.slack = 8
	}
	if trouble := w.run(sc, quiet); trouble != "" || *only != "" {
		h.explain(t, w, trouble)
	}
	w.clear()
	return w.record.writes
}

// run returns why the scenario has failed; it is empty if it has not.
func (w *world) run(sc scenario, quiet map[string]int) (trouble failure) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case failure:
			trouble = r
		default:
			panic(r)
		}
	}()
	sc.play(w)
	w.settle()
	w.checkWrites(quiet)
	return ""
}

// explain tells what went wrong, and how to see it again.
func (h *harness) explain(t *testing.T, w *world, trouble failure) {
	t.Helper()
	h.proxy.look(func() {
		if trouble != "" {
			t.Error(trouble)
		}
		t.Logf("in namespace %s, with %v; the operator was killed or has ended %d times", w.namespace, w.record.strikes, w.record.kills)
		for _, line := range w.record.timeline {
			t.Log(line)
		}
	})
	t.Logf("the operator:\n%s", simulated.Tail(t, h.current().log.Name(), w.namespace, 30))
}
