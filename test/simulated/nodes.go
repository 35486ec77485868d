package simulated

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/podspec"
)

const (
	nodeCount = 10
	// nodeLabel tells kwok which nodes are its own.
	nodeLabel = "simulated"
	// killAhead is how long before the grace of a pod is over its processes are killed: by kwok's clock, it ends up to a
	// second early.
	killAhead = 1500 * time.Millisecond
	// requestsAtOnce bounds what the simulated nodes ask the API server for at once.
	requestsAtOnce = 16
)

// Nodes are what a cluster has beside its API server and kwok: a scheduler, what the kubelets do with
// processes, and the agents in the pods.
type Nodes struct {
	// Client reaches the API server.
	Client client.Client
	// Label is that of the nodes that StartKwok has made.
	Label string
	// Operator tells where agents dial and where that leads. It may change.
	Operator func() *Operator
	// Work is the agents'.
	Work Work

	ctx      context.Context //nolint:containedctx // that of the simulation, for all that it starts
	running  sync.WaitGroup
	requests chan struct{}

	mu     sync.Mutex
	bound  map[types.UID]bool
	agents map[types.UID]*agent
	// isolated are the pods that nobody can reach, and connections the latest of each other one.
	isolated    map[types.UID]bool
	connections map[types.UID]net.Conn
	// held, if not nil, is what processes wait for before they end.
	held chan struct{}
	// drainedBusy counts the agents that were told to end while they had something to do.
	drainedBusy int
	problems    []string
}

// Simulate plays the nodes for the pods of a watch, until the test ends.
func (n *Nodes) Simulate(t testing.TB, events watch.Interface) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	n.ctx, n.requests = ctx, make(chan struct{}, requestsAtOnce)
	n.bound, n.agents = map[types.UID]bool{}, map[types.UID]*agent{}
	n.isolated, n.connections = map[types.UID]bool{}, map[types.UID]net.Conn{}
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		for event := range events.ResultChan() {
			if pod, ok := event.Object.(*corev1.Pod); ok {
				n.see(pod, event.Type == watch.Deleted)
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		events.Stop()
		<-watching
		n.running.Wait()
	})
}

func (n *Nodes) see(pod *corev1.Pod, gone bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a := n.agents[pod.UID]
	switch {
	case gone && a != nil:
		if !a.hasDrained() {
			if !n.isolated[pod.UID] {
				n.problemLocked("pod %s/%s was removed under its agent", pod.Namespace, pod.Name)
			}
			a.stop()
		}
		delete(n.agents, pod.UID)
		delete(n.connections, pod.UID)
		return
	case gone:
		return
	case pod.Spec.NodeName == "" && !n.bound[pod.UID]:
		n.bound[pod.UID] = true
		n.ask("bind", func() error { return n.bind(pod) })
	case a == nil && pod.Status.Phase == corev1.PodRunning:
		a = n.newAgentLocked(pod)
	}
	if a == nil || pod.DeletionTimestamp == nil {
		return
	}
	if a.drain() {
		n.drainedBusy++
	}
	// Processes end before their pod is removed.
	time.AfterFunc(time.Until(pod.DeletionTimestamp.Add(-killAhead)), a.stop)
}

// ask makes a request for a pod, which may be gone by now.
func (n *Nodes) ask(what string, request func() error) {
	n.running.Go(func() {
		n.requests <- struct{}{}
		err := request()
		<-n.requests
		if err != nil && n.ctx.Err() == nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.problemLocked("%s: %v", what, err)
		}
	})
}

func (n *Nodes) problemLocked(format string, args ...any) {
	if len(n.problems) < 10 {
		n.problems = append(n.problems, fmt.Sprintf(format, args...))
	}
}

// Trouble is what should not have happened, and how many agents were busy when they were told to end.
func (n *Nodes) Trouble() (problems []string, drainedBusy int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.problems, n.drainedBusy
}

// bind is the scheduler's part.
func (n *Nodes) bind(pod *corev1.Pod) error {
	ordinal, ok := podspec.Ordinal(pod.Labels[v1alpha1.LabelPool], pod.Name)
	if !ok {
		return fmt.Errorf("pod %s has no ordinal", pod.Name)
	}
	return n.Client.SubResource("binding").Create(n.ctx, pod, &corev1.Binding{
		Target: corev1.ObjectReference{Kind: "Node", Name: nodeName(n.Label, ordinal%nodeCount)},
	})
}

func nodeName(namespace string, i int) string { return fmt.Sprintf("%s-%d", namespace, i) }

// newAgentLocked starts the process of a pod.
func (n *Nodes) newAgentLocked(pod *corev1.Pod) *agent {
	ca := ""
	for _, arg := range podspec.JobContainer(pod).Args {
		if value, ok := strings.CutPrefix(arg, "--ca="); ok {
			ca = value
		}
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(ca)) {
		n.problemLocked("pod %s has no CA", pod.Name)
	}
	ctx, stop := context.WithCancel(n.ctx)
	a := &agent{
		pod: client.ObjectKeyFromObject(pod), instance: string(pod.UID), slots: podspec.Slots(pod),
		address: n.Operator().Service, roots: roots, work: n.Work, stop: stop,
		dial:     func(ctx context.Context, address string) (net.Conn, error) { return n.dial(ctx, pod.UID, address) },
		welcomed: sync.OnceFunc(func() { n.ask("make ready", func() error { return n.patch(pod, ready) }) }),
		running:  map[key]*attempt{}, results: map[key]*attempt{}, changed: make(chan struct{}, 1),
	}
	n.agents[pod.UID] = a
	n.running.Go(func() {
		defer stop()
		n.ask("make a token", func() error { return n.start(ctx, pod, a) })
		<-ctx.Done()
		if a.hasDrained() && n.mayEnd() {
			n.ask("end", func() error { return n.patch(pod, succeeded) })
		}
	})
	return a
}

// Hold keeps processes from ending until the release.
func (n *Nodes) Hold() (release func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.held = make(chan struct{})
	return func() { close(n.held) }
}

// mayEnd waits while processes are kept from ending. It is false if the test ends before.
func (n *Nodes) mayEnd() bool {
	n.mu.Lock()
	held := n.held
	n.mu.Unlock()
	if held == nil {
		return true
	}
	select {
	case <-held:
		return true
	case <-n.ctx.Done():
		return false
	}
}

// start runs an agent, once there is a token for it, in the background.
func (n *Nodes) start(ctx context.Context, pod *corev1.Pod, a *agent) error {
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		Audiences:      []string{podspec.Audience},
		BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
	}}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Spec.ServiceAccountName}}
	if err := n.Client.SubResource("token").Create(n.ctx, account, request); err != nil {
		return err
	}
	a.token = bearer(request.Status.Token)
	n.running.Go(func() { a.run(ctx) })
	return nil
}

// dial leads from the Service that agents dial to the operator.
func (n *Nodes) dial(ctx context.Context, pod types.UID, address string) (net.Conn, error) {
	operator := n.Operator()
	if address != operator.Service {
		return nil, fmt.Errorf("nobody is at %s", address)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", operator.Address)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.isolated[pod] {
		return nil, errors.Join(errors.New("the network is down"), conn.Close())
	}
	n.connections[pod] = conn
	return conn, nil
}

// Isolate has the agent of a pod reach nobody, from now on.
func (n *Nodes) Isolate(pod types.UID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.isolated[pod] = true
	if conn := n.connections[pod]; conn != nil {
		_ = conn.Close()
	}
}

const (
	ready     = `{"status":{"conditions":[{"type":"Ready","status":"True"},{"type":"ContainersReady","status":"True"}]}}`
	succeeded = `{"status":{"phase":"Succeeded","conditions":[{"type":"Ready","status":"False"}]}}`
)

// patch the status of a pod, as the kubelet does, if it is that very pod still.
func (n *Nodes) patch(pod *corev1.Pod, status string) error {
	uid := fmt.Sprintf(`{"metadata":{"uid":%q},`, pod.UID)
	return n.Client.Status().Patch(n.ctx, pod.DeepCopy(), client.RawPatch(types.StrategicMergePatchType, []byte(uid+status[1:])))
}
