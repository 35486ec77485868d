package process

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/client-go/rest"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/internal/testutil"
	"github.com/workerpool-dev/workerpool/test/simulated"
)

// world is one installation: its operators, one pool called demo with workers, and a ledger that Jobs write to.
type world struct {
	t      *testing.T
	env    *testutil.Environment
	client client.Client
	// system is the namespace of the operators, namespace that of the pool.
	system, namespace string
	link              *link
	operators         []*operator
	workers           []*worker
	// diskKiB, if not 0, is how large the disk of workers is that are started from now on.
	diskKiB int
	// ledger is a file that Jobs write to, gate a pipe that those that are held read from.
	ledger, gate string
}

// operator is one replica.
type operator struct {
	*program

	// address is where it serves agents while it leads; ip is what it publishes then.
	address, ip string
}

// newWorld has no operator and no pool yet. Its API server is its own: an installation is not alone beside another.
func newWorld(t *testing.T) *world {
	t.Helper()
	env, err := testutil.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := env.Stop(); err != nil {
			t.Error(err)
		}
	})
	config := rest.CopyConfig(env.Config)
	config.QPS = -1
	c, err := client.New(config, client.Options{Scheme: testutil.Scheme()})
	if err != nil {
		t.Fatalf("make a client: %v", err)
	}
	server, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		t.Fatalf("find the API server: %v", err)
	}
	folder := t.TempDir()
	w := &world{
		t: t, env: env, client: c, system: env.Namespace(t, nil), namespace: env.Namespace(t, nil), link: newLink(t, server.Host),
		ledger: filepath.Join(folder, "ledger"), gate: filepath.Join(folder, "gate"),
	}
	if err := os.WriteFile(w.ledger, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(w.gate, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.release) // what is held must not outlive the test
	w.create(&corev1.Service{
		ObjectMeta: objectMeta(w.system, serviceName),
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "grpc", Port: 9443}}},
	})
	for i := range 2 {
		w.operators = append(w.operators, &operator{address: simulated.FreeAddress(t), ip: fmt.Sprintf("192.0.2.%d", i+1)})
	}
	return w
}

func (w *world) create(o client.Object) {
	w.t.Helper()
	if err := w.client.Create(w.t.Context(), o); err != nil {
		w.t.Fatalf("create %T: %v", o, err)
	}
}

// startOperator runs a replica of this version.
func (w *world) startOperator(o *operator, of programs) {
	w.t.Helper()
	cmd := exec.Command(of.manager, "--dispatch-bind-address="+o.address, "--metrics-bind-address=0", "--health-probe-bind-address=0")
	cmd.Env = append(os.Environ(), "KUBECONFIG="+w.kubeconfig(), "POD_NAMESPACE="+w.system, "POD_NAME=operator",
		"POD_IP="+o.ip, "AGENT_IMAGE=workerpool:test")
	o.program = start(w.t, "operator-"+o.ip, cmd)
}

// kubeconfig leads to the API server over the link.
func (w *world) kubeconfig() string {
	w.t.Helper()
	return simulated.Kubeconfig(w.t, "operator",
		&clientcmdapi.Cluster{Server: "https://" + w.link.address, CertificateAuthorityData: w.env.Config.CAData},
		&clientcmdapi.AuthInfo{ClientCertificateData: w.env.Config.CertData, ClientKeyData: w.env.Config.KeyData})
}

// leader waits until one of these replicas has published its address, and returns it.
func (w *world) leader(among ...*operator) *operator {
	w.t.Helper()
	var found *operator
	w.await("a leader", func() bool {
		slice := &discoveryv1.EndpointSlice{}
		if w.get(w.system, serviceName, slice) != nil || len(slice.Endpoints) == 0 {
			return false
		}
		for _, o := range among {
			if slice.Endpoints[0].Addresses[0] == o.ip {
				found = o
			}
		}
		return found != nil
	})
	return found
}

// other is the replica beside this one.
func (w *world) other(o *operator) *operator {
	if w.operators[0] == o {
		return w.operators[1]
	}
	return w.operators[0]
}

func (w *world) lease() *coordinationv1.Lease {
	w.t.Helper()
	lease := &coordinationv1.Lease{}
	if err := w.get(w.system, leaseName, lease); err != nil {
		w.t.Fatalf("read the Lease: %v", err)
	}
	return lease
}

func (w *world) get(namespace, name string, o client.Object) error {
	return w.client.Get(w.t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, o)
}

// await polls: what it waits for tells nobody.
func (w *world) await(what string, is func() bool) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			w.t.Fatalf("no %s after %v", what, patience)
		}
	}
}

// entries are the lines of the ledger: "start NAME" and "end NAME".
func (w *world) entries() []string {
	w.t.Helper()
	content, err := os.ReadFile(w.ledger)
	if err != nil {
		w.t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(content), "\n"), "\n")
}
