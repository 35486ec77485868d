// Package scale tests the operator with many workers: the real program, API server and etcd, on simulated
// nodes. kwok plays their kubelets; the agents in the pods are simulated too, and speak the real wire.
package scale

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	toolswatch "k8s.io/client-go/tools/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	pb "github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
	"github.com/workerpool-dev/workerpool/internal/testutil"
	"github.com/workerpool-dev/workerpool/test/simulated"
)

const (
	poolName = "demo"
	// patience is how long anything may take on a busy machine. Nothing waits for it to pass.
	patience = 2 * time.Minute
)

var (
	env *testutil.Environment
	// manager is the operator's program.
	manager string
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	folder, err := os.MkdirTemp("", "scale")
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

// fixture is one operator with one pool, called demo, which has no workers at first.
type fixture struct {
	t         testing.TB
	client    client.WithWatch
	namespace string
	front     *front
	nodes     *simulated.Nodes
	audit     *simulated.Audit
	// operator is the process.
	operator *simulated.Program
}

// setup starts an operator that sees changes of pods so late, and nodes whose agents do this work.
func setup(t testing.TB, lag time.Duration, work simulated.Work) *fixture {
	t.Helper()
	config := rest.CopyConfig(env.Config)
	config.QPS = -1
	c, err := client.NewWithWatch(config, client.Options{Scheme: testutil.Scheme()})
	if err != nil {
		t.Fatalf("make a client: %v", err)
	}
	f := &fixture{t: t, client: c, namespace: env.Namespace(t, nil), front: newFront(t, config, lag)}
	f.audit = simulated.Follow(poolName, f.watch())
	f.run("kwok", func(log *os.File) *simulated.Program { return simulated.StartKwok(t, c, config, f.namespace, log) })
	operator := f.startOperator()
	f.nodes = &simulated.Nodes{
		Client: c, Label: f.namespace, Work: work, Operator: func() *simulated.Operator { return operator },
	}
	f.nodes.Simulate(t, f.watch())
	f.create(testutil.MakePool(f.namespace, poolName).Replicas(0).Capacity(5000).Retain(0).Obj())
	return f
}

func (f *fixture) create(o client.Object) {
	f.t.Helper()
	if err := f.client.Create(f.t.Context(), o); err != nil {
		f.t.Fatalf("create %T: %v", o, err)
	}
}

// watch shows all changes of the test's pods, of which there are none yet. Where the API server ends it, as it does
// with those who read slowly, it goes on after the last change that it has shown.
func (f *fixture) watch() watch.Interface {
	f.t.Helper()
	list := &corev1.PodList{}
	if err := f.client.List(f.t.Context(), list, client.InNamespace(f.namespace)); err != nil {
		f.t.Fatalf("list the pods: %v", err)
	}
	from := func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
		return f.client.Watch(ctx, &corev1.PodList{}, &client.ListOptions{Namespace: f.namespace, Raw: &options})
	}
	w, err := toolswatch.NewRetryWatcherWithContext(f.t.Context(), list.ResourceVersion, &cache.ListWatch{WatchFuncWithContext: from})
	if err != nil {
		f.t.Fatalf("watch the pods: %v", err)
	}
	return w
}

// startOperator returns once the operator leads.
func (f *fixture) startOperator() *simulated.Operator {
	f.t.Helper()
	operator := simulated.NewOperator(f.t, f.client, env.Namespace(f.t, nil), manager, f.front.url)
	slices, err := f.client.Watch(f.t.Context(), &discoveryv1.EndpointSliceList{}, client.InNamespace(operator.Namespace))
	if err != nil {
		f.t.Fatalf("watch the endpoints: %v", err)
	}
	defer slices.Stop()
	f.run("operator", func(log *os.File) *simulated.Program {
		var err error
		if f.operator, err = operator.Start(log); err != nil {
			f.t.Fatal(err)
		}
		return f.operator
	})
	select {
	case <-slices.ResultChan():
	case <-time.After(patience):
		f.t.Fatal("the operator does not lead")
	}
	return operator
}

// run keeps a program until the end of the test, however that comes; should the test fail, the end of the program's
// log is shown.
func (f *fixture) run(name string, start func(log *os.File) *simulated.Program) {
	f.t.Helper()
	log, err := os.Create(filepath.Join(f.t.TempDir(), name+".log"))
	if err != nil {
		f.t.Fatal(err)
	}
	program := start(log)
	go func() {
		<-program.Ended()
		f.audit.Fail("%s has ended: %v", name, program.Err()) // after the test nobody asks
	}()
	f.t.Cleanup(func() {
		program.Signal(syscall.SIGTERM)
		log.Close()
		if f.t.Failed() {
			f.t.Logf("%s:\n%s", name, simulated.Tail(f.t, log.Name(), "", 20))
		}
	})
}

// scale asks for so many workers, in one write.
func (f *fixture) scale(replicas int) {
	f.t.Helper()
	pool := &v1alpha1.WorkerPool{ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: poolName}}
	patch := fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas)
	if err := f.client.Patch(f.t.Context(), pool, client.RawPatch(types.MergePatchType, patch)); err != nil {
		f.t.Fatalf("scale the pool: %v", err)
	}
}

// noWork is that of agents that are to get none: it never ends.
type noWork struct{}

// Begin is simulated.Work's.
func (noWork) Begin(types.NamespacedName, *pb.Assignment, func(int32)) {}

// End is simulated.Work's.
func (noWork) End(types.NamespacedName, *pb.Assignment) {}

// deletePool ends the pool, and waits until it is gone: so is what the operator holds for it.
func (f *fixture) deletePool() {
	f.t.Helper()
	pools, stop := f.watchPool()
	defer stop()
	pool := &v1alpha1.WorkerPool{ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: poolName}}
	if err := f.client.Delete(f.t.Context(), pool); err != nil {
		f.t.Fatalf("delete the pool: %v", err)
	}
	for event := range pools {
		if event.Type == watch.Deleted {
			return
		}
	}
	f.t.Fatalf("the pool is not gone after %v", patience)
}

// watchPool shows the pool as it is and as it becomes, for as long as anything may take.
func (f *fixture) watchPool() (events <-chan watch.Event, stop func()) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), patience)
	w, err := f.client.Watch(ctx, &v1alpha1.WorkerPoolList{}, client.InNamespace(f.namespace))
	if err != nil {
		cancel()
		f.t.Fatalf("watch the pool: %v", err)
	}
	return w.ResultChan(), cancel
}
