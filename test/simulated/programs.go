package simulated

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// kwokVariable names the program that `make kwok` builds.
	kwokVariable = "KWOK"
	// serviceName is that of the Service that the operator's agents dial.
	serviceName = "workerpool-dispatch"
	// leaderIP is the operator's: an address set aside for documentation, because a Service has no endpoints on loopback.
	leaderIP = "192.0.2.1"
)

// ErrNoKwok means that kwok was not found.
var ErrNoKwok = errors.New(kwokVariable + " must name the program kwok: `make test` sets it")

// Build makes the operator's program, in a folder of the caller's. It returns ErrNoKwok if the other program that the
// simulation needs is not there.
func Build(folder string) (manager string, err error) {
	if os.Getenv(kwokVariable) == "" {
		return "", ErrNoKwok
	}
	return BuildOperator(folder)
}

// BuildOperator is Build for tests that have no nodes.
func BuildOperator(folder string) (manager string, err error) {
	manager = filepath.Join(folder, "manager")
	build := exec.Command("go", "build", "-o", manager, "github.com/workerpool-dev/workerpool/cmd/manager") //nolint:noctx // it ends with the test
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the operator: %w\n%s", err, out)
	}
	return manager, nil
}

// Program is one run of a program.
type Program struct {
	process *os.Process
	ended   chan struct{}
	// err is set before ended is closed.
	err error
}

// Start runs a program that writes to a log. It ends with the test's process at the latest.
func Start(command *exec.Cmd, log *os.File) (*Program, error) {
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", command.Path, err)
	}
	p := &Program{process: command.Process, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		p.err = command.Wait()
	}()
	return p, nil
}

// Ended is closed when the program has ended; Err tells how, then.
func (p *Program) Ended() <-chan struct{} { return p.ended }

// PID is the number of its process.
func (p *Program) PID() int { return p.process.Pid }

// Err is nil if the program has ended well. It must not be called before it has ended.
func (p *Program) Err() error { return p.err }

// Signal sends a signal and waits until the program has ended.
func (p *Program) Signal(signal os.Signal) {
	_ = p.process.Signal(signal) // it may have ended by itself
	<-p.ended
}

// Operator is how the operator's program is run.
type Operator struct {
	// Namespace is the operator's own. Agents dial the Service there; the operator answers at Address, on loopback.
	Namespace, Service, Address string

	manager, kubeconfig string
}

// NewOperator prepares a namespace for an operator whose API server is at a URL.
func NewOperator(t testing.TB, c client.Client, namespace, manager, url string) *Operator {
	t.Helper()
	dispatch := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: serviceName},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "grpc", Port: 9443}}},
	}
	if err := c.Create(t.Context(), dispatch); err != nil {
		t.Fatalf("create the service that agents dial: %v", err)
	}
	return &Operator{
		Namespace: namespace, Service: net.JoinHostPort(dispatch.Spec.ClusterIP, "9443"), Address: FreeAddress(t), manager: manager,
		kubeconfig: Kubeconfig(t, "operator", &clientcmdapi.Cluster{Server: url}, &clientcmdapi.AuthInfo{}),
	}
}

// Start runs the operator. Of several arguments for the same flag the last counts.
func (o *Operator) Start(log *os.File, arguments ...string) (*Program, error) {
	arguments = append([]string{
		"--dispatch-bind-address=" + o.Address, "--metrics-bind-address=0", "--health-probe-bind-address=0",
	}, arguments...)
	command := exec.Command(o.manager, arguments...) //nolint:noctx // Signal ends it
	command.Env = append(os.Environ(), "KUBECONFIG="+o.kubeconfig, "POD_NAMESPACE="+o.Namespace, "POD_NAME=operator",
		"POD_IP="+leaderIP, "AGENT_IMAGE=workerpool:test")
	return Start(command, log)
}

//go:embed stages.yaml
var stages []byte

// StartKwok makes nodes with a label and starts their kubelets.
func StartKwok(t testing.TB, c client.Client, config *rest.Config, label string, log *os.File) *Program {
	t.Helper()
	for i := range nodeCount {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName(label, i), Labels: map[string]string{nodeLabel: label}}}
		if err := c.Create(t.Context(), node); err != nil {
			t.Fatalf("create a node: %v", err)
		}
	}
	file := filepath.Join(t.TempDir(), "stages.yaml")
	if err := os.WriteFile(file, stages, 0o600); err != nil {
		t.Fatal(err)
	}
	cluster := &clientcmdapi.Cluster{Server: config.Host, CertificateAuthorityData: config.CAData}
	user := &clientcmdapi.AuthInfo{ClientCertificateData: config.CertData, ClientKeyData: config.KeyData}
	command := exec.Command(os.Getenv(kwokVariable), //nolint:gosec,noctx // the Makefile names it, and Signal ends it
		"--kubeconfig="+Kubeconfig(t, "kwok", cluster, user), "--config="+file,
		"--manage-nodes-with-label-selector="+nodeLabel+"="+label, "--node-lease-duration-seconds=0", "-v=WARN")
	command.Env = append(os.Environ(), "KWOK_WORKDIR="+t.TempDir())
	p, err := Start(command, log)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// FreeAddress is one on loopback that nobody listens on.
func FreeAddress(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// Kubeconfig writes a file that leads to a cluster, and returns its path.
func Kubeconfig(t testing.TB, name string, cluster *clientcmdapi.Cluster, user *clientcmdapi.AuthInfo) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	err := clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters: map[string]*clientcmdapi.Cluster{name: cluster}, AuthInfos: map[string]*clientcmdapi.AuthInfo{name: user},
		Contexts: map[string]*clientcmdapi.Context{name: {Cluster: name, AuthInfo: name}}, CurrentContext: name,
	}, file)
	if err != nil {
		t.Fatalf("write a kubeconfig: %v", err)
	}
	return file
}

// Tail is the end of a log: of the lines that contain a text the last ones, at most so many.
func Tail(t testing.TB, file, text string, most int) string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Error(err)
	}
	var lines []string
	for line := range bytes.Lines(content) {
		if bytes.Contains(line, []byte(text)) {
			lines = append(lines, string(line))
		}
	}
	return strings.Join(lines[max(0, len(lines)-most):], "")
}
