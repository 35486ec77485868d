// Package invalid tests the operator, as a process, on an API server that stores Jobs and WorkerPools which Go can't
// decode: its schemas are as wide as those that are generated from our types alone, and wider.
package invalid

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/testutil"
	"github.com/workerpool-dev/workerpool/test/simulated"
)

// patience is how long anything may take on a busy machine.
const patience = time.Minute

var (
	env *testutil.Environment
	// manager is the operator's program.
	manager string
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	folder, err := os.MkdirTemp("", "invalid")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(folder)
	if manager, err = simulated.BuildOperator(folder); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return testutil.Run(m, &env, nil)
}

// world is the API server with wide schemas, and two namespaces: one has what can't be decoded, the other has not.
type world struct {
	Gomega
	t          *testing.T
	bad, other string
	// operator is nil until it is first started. All that are started are one installation.
	operator *simulated.Operator
}

func setup(t *testing.T) *world {
	t.Helper()
	g := NewWithT(t)
	g.SetDefaultEventuallyTimeout(patience)
	w := &world{Gomega: g, t: t, bad: env.Namespace(t, nil), other: env.Namespace(t, nil)}
	for _, crd := range []string{"jobs.workerpool.dev", "workerpools.workerpool.dev"} {
		w.widen(crd)
	}
	// The API server takes a moment to use a new schema.
	w.Eventually(func() error { return env.Client.Create(t.Context(), w.badJob("probe"), client.DryRunAll) }).Should(Succeed())
	w.Eventually(func() error { return env.Client.Create(t.Context(), w.badPool("probe"), client.DryRunAll) }).Should(Succeed())
	return w
}

// widen has a kind's schema take any text for a time, and any number for a port.
func (w *world) widen(crd string) {
	w.t.Helper()
	w.Eventually(func() error {
		o := &unstructured.Unstructured{}
		o.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"})
		if err := env.Client.Get(w.t.Context(), client.ObjectKey{Name: crd}, o); err != nil {
			return err
		}
		widen(o.Object["spec"])
		return env.Client.Update(w.t.Context(), o)
	}).Should(Succeed())
}

func widen(node any) {
	switch node := node.(type) {
	case map[string]any:
		if node["format"] == "date-time" {
			delete(node, "format")
			delete(node, "pattern")
			delete(node, "x-kubernetes-validations")
			if node["type"] == "string" {
				node["maxLength"] = int64(64)
			}
		}
		if node["x-kubernetes-int-or-string"] == true {
			delete(node, "maximum")
			delete(node, "minimum")
		}
		for _, child := range node {
			widen(child)
		}
	case []any:
		for _, child := range node {
			widen(child)
		}
	}
}

// startOperator starts an operator, which stop ends, or the end of the test. Should the test fail, the end of its log is
// shown.
func (w *world) startOperator() (stop func()) {
	w.t.Helper()
	if w.operator == nil {
		url := simulated.NewProxy(w.t, env.Config, func(*http.Response) {}, nil)
		w.operator = simulated.NewOperator(w.t, env.Client, env.Namespace(w.t, nil), manager, url)
	}
	log, err := os.Create(filepath.Join(w.t.TempDir(), "operator.log"))
	w.Expect(err).NotTo(HaveOccurred())
	program, err := w.operator.Start(log)
	w.Expect(err).NotTo(HaveOccurred())
	w.t.Cleanup(func() {
		program.Signal(syscall.SIGKILL) // one whose caches are never filled does not end otherwise
		log.Close()
		if w.t.Failed() {
			w.t.Logf("operator:\n%s", simulated.Tail(w.t, log.Name(), "", 40))
		}
	})
	return func() { program.Signal(syscall.SIGTERM) }
}

func object(kind, namespace, name string, spec map[string]any) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	o.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(kind))
	o.SetNamespace(namespace)
	o.SetName(name)
	return o
}

func (w *world) badJob(name string) *unstructured.Unstructured {
	return object("Job", w.bad, name, map[string]any{"pool": "good", "command": []any{"true"}, "startAfter": "2020-01-01t00:00:00z"})
}

func (w *world) badPool(name string) *unstructured.Unstructured {
	return object("WorkerPool", w.bad, name, map[string]any{
		"replicas": int64(2), "template": map[string]any{"spec": podWith(int64(3_000_000_000))},
	})
}

// podWith a sidecar that has this port.
func podWith(port any) map[string]any {
	return map[string]any{
		"containers": []any{map[string]any{"name": "worker", "image": "busybox:1"}},
		"initContainers": []any{map[string]any{
			"name": "sidecar", "image": "busybox:1", "restartPolicy": "Always",
			"livenessProbe": map[string]any{"httpGet": map[string]any{"port": port}},
		}},
	}
}

func (w *world) create(objects ...client.Object) {
	w.t.Helper()
	for _, o := range objects {
		w.Expect(env.Client.Create(w.t.Context(), o)).To(Succeed())
	}
}

// stored returns what is stored, however that may be.
func (w *world) stored(kind, namespace, name string) func() (map[string]any, error) {
	return func() (map[string]any, error) {
		o := object(kind, namespace, name, nil)
		err := env.Client.Get(w.t.Context(), client.ObjectKeyFromObject(o), o)
		return o.Object, err
	}
}

// patch merges a change into what is stored; status has the change go to the status.
func (w *world) patch(kind, name, body string, status bool) {
	w.t.Helper()
	o, patch := object(kind, w.bad, name, nil), client.RawPatch(types.MergePatchType, []byte(body))
	if status {
		w.Expect(env.Client.Status().Patch(w.t.Context(), o, patch)).To(Succeed())
	} else {
		w.Expect(env.Client.Patch(w.t.Context(), o, patch)).To(Succeed())
	}
}

// pods returns the UIDs of a pool's pods.
func (w *world) pods(pool string) func() ([]types.UID, error) {
	return func() ([]types.UID, error) {
		list := &corev1.PodList{}
		err := env.Client.List(w.t.Context(), list, client.InNamespace(w.bad), client.MatchingLabels{v1alpha1.LabelPool: pool})
		var uids []types.UID
		for i := range list.Items {
			uids = append(uids, list.Items[i].UID)
		}
		return uids, err
	}
}

// deletePool has a pool go, and waits until it is gone.
func (w *world) deletePool(name string) {
	w.t.Helper()
	pool := object("WorkerPool", w.bad, name, nil)
	w.Expect(env.Client.Delete(w.t.Context(), pool)).To(Succeed())
	w.Eventually(func() bool {
		_, err := w.stored("WorkerPool", w.bad, name)()
		return apierrors.IsNotFound(err)
	}).Should(BeTrue(), "the pool must go")
}
