// Package scale tests the operator with many workers: the real program, API server and etcd, on simulated
// nodes. kwok plays their kubelets; the agents in the pods are simulated too, and speak the real wire.
package scale

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	toolswatch "k8s.io/client-go/tools/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	pb "github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

const (
	poolName = "demo"
	// patience is how long anything may take on a busy machine. Nothing waits for it to pass.
	patience = 2 * time.Minute
	// kwokVariable names the program that `make kwok` builds.
	kwokVariable = "KWOK"
	// serviceName is that of the Service that the operator's agents dial.
	serviceName = "workerpool-dispatch"
	// leaderIP is the operator's: an address set aside for documentation, because a Service has no endpoints on loopback.
	leaderIP = "192.0.2.1"
)

var (
	env *testutil.Environment
	// manager is the operator's program.
	manager string
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if os.Getenv(kwokVariable) == "" {
		fmt.Fprintln(os.Stderr, kwokVariable+` must name the program kwok: "make test-scale" sets it`)
		return 1
	}
	folder, err := os.MkdirTemp("", "scale")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(folder)
	manager = filepath.Join(folder, "manager")
	build := exec.Command("go", "build", "-o", manager, "github.com/workerpool-dev/workerpool/cmd/manager")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the operator: %v\n%s", err, out)
		return 1
	}
	return testutil.Run(m, &env)
}

// fixture is one operator with one pool, called demo, which has no workers at first.
type fixture struct {
	t         *testing.T
	client    client.WithWatch
	namespace string
	front     *front
	nodes     *nodes
	audit     *audit
}

// setup starts an operator that sees changes of pods so late, and nodes whose agents do this work.
func setup(t *testing.T, lag time.Duration, work func(a *pb.Assignment, ended func())) *fixture {
	t.Helper()
	config := rest.CopyConfig(env.Config)
	config.QPS = -1
	c, err := client.NewWithWatch(config, client.Options{Scheme: testutil.Scheme()})
	if err != nil {
		t.Fatalf("make a client: %v", err)
	}
	f := &fixture{t: t, client: c, namespace: env.Namespace(t, nil), front: newFront(t, config, lag)}
	f.audit = follow(poolName, f.watch())
	f.startKwok(config)
	service, operator := f.startOperator()
	f.nodes = simulate(t, &nodes{client: c, namespace: f.namespace, service: service, operator: operator, work: work}, f.watch())
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

// startKwok makes nodes and starts their kubelets.
func (f *fixture) startKwok(config *rest.Config) {
	f.t.Helper()
	for i := range nodeCount {
		f.create(&corev1.Node{ObjectMeta: metav1.ObjectMeta{
			Name: nodeName(f.namespace, i), Labels: map[string]string{nodeLabel: f.namespace},
		}})
	}
	cluster := &clientcmdapi.Cluster{Server: config.Host, CertificateAuthorityData: config.CAData}
	user := &clientcmdapi.AuthInfo{ClientCertificateData: config.CertData, ClientKeyData: config.KeyData}
	command := exec.Command(os.Getenv(kwokVariable),
		"--kubeconfig="+f.kubeconfig("kwok", cluster, user), "--config=testdata/stages.yaml",
		"--manage-nodes-with-label-selector="+nodeLabel+"="+f.namespace, "--node-lease-duration-seconds=0", "-v=WARN")
	command.Env = append(os.Environ(), "KWOK_WORKDIR="+f.t.TempDir())
	f.start("kwok", command)
}

// startOperator returns once the operator leads. Agents dial the service, and the operator answers at an
// address on loopback.
func (f *fixture) startOperator() (service, operator string) {
	f.t.Helper()
	namespace := env.Namespace(f.t, nil)
	dispatch := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: serviceName},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "grpc", Port: 9443}}},
	}
	f.create(dispatch)
	operator = f.freeAddress()
	command := exec.Command(manager,
		"--dispatch-bind-address="+operator, "--metrics-bind-address=0", "--health-probe-bind-address=0")
	config := f.kubeconfig("operator", &clientcmdapi.Cluster{Server: f.front.url}, &clientcmdapi.AuthInfo{})
	command.Env = append(os.Environ(), "KUBECONFIG="+config, "POD_NAMESPACE="+namespace, "POD_NAME=operator",
		"POD_IP="+leaderIP, "AGENT_IMAGE=workerpool:test")
	slices, err := f.client.Watch(f.t.Context(), &discoveryv1.EndpointSliceList{}, client.InNamespace(namespace))
	if err != nil {
		f.t.Fatalf("watch the endpoints: %v", err)
	}
	defer slices.Stop()
	f.start("operator", command)
	select {
	case <-slices.ResultChan():
	case <-time.After(patience):
		f.t.Fatal("the operator does not lead")
	}
	return net.JoinHostPort(dispatch.Spec.ClusterIP, "9443"), operator
}

// freeAddress is one on loopback that nobody listens on.
func (f *fixture) freeAddress() string {
	f.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func (f *fixture) kubeconfig(name string, cluster *clientcmdapi.Cluster, user *clientcmdapi.AuthInfo) string {
	f.t.Helper()
	file := filepath.Join(f.t.TempDir(), name)
	err := clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters: map[string]*clientcmdapi.Cluster{name: cluster}, AuthInfos: map[string]*clientcmdapi.AuthInfo{name: user},
		Contexts: map[string]*clientcmdapi.Context{name: {Cluster: name, AuthInfo: name}}, CurrentContext: name,
	}, file)
	if err != nil {
		f.t.Fatalf("write a kubeconfig: %v", err)
	}
	return file
}

// start runs a program until the end of the test, however that comes; should the test fail, the end of the program's
// log is shown.
func (f *fixture) start(name string, command *exec.Cmd) {
	f.t.Helper()
	log, err := os.Create(filepath.Join(f.t.TempDir(), name+".log"))
	if err != nil {
		f.t.Fatal(err)
	}
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		f.t.Fatalf("start %s: %v", name, err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.audit.fail("%s has ended: %v", name, command.Wait()) // after the test nobody asks
	}()
	f.t.Cleanup(func() {
		_ = command.Process.Signal(syscall.SIGTERM)
		<-ended
		log.Close()
		if f.t.Failed() {
			f.t.Logf("%s:\n%s", name, tail(f.t, log.Name()))
		}
	})
}

// tail is the end of a file, of at most 20 lines.
func tail(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Error(err)
	}
	lines := strings.SplitAfter(string(content), "\n")
	return strings.Join(lines[max(0, len(lines)-21):], "")
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
func noWork(*pb.Assignment, func()) {}

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
