package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/test/chaos/check"
	"github.com/workerpool-dev/workerpool/test/chaos/ledger"
)

const (
	operatorNamespace = "workerpool-system"
	operatorName      = "workerpool-controller-manager"
	// bridge has the node's address, which pods reach.
	bridge = "198.18.0.1"
	// callTimeout is that of one request: an API server that is away must not hold up what else is done.
	callTimeout = 5 * time.Second
)

// world is the cluster, what is seen of it, and what was done to it.
type world struct {
	settings
	client.WithWatch

	ledger *ledger.Ledger
	seen   *sight
	node   string
	image  string

	// calm: no fault of the control plane is to begin.
	calm atomic.Bool

	mu     sync.Mutex
	faults []check.Fault
	// effective counts the faults that have taken effect under load.
	effective map[check.Kind]int
}

func newWorld(ctx context.Context, s settings) (*world, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return nil, err
	}
	config.QPS, config.Timeout = -1, 0
	w := &world{settings: s, effective: map[check.Kind]int{}}
	if w.WithWatch, err = client.NewWithWatch(config, client.Options{Scheme: scheme}); err != nil {
		return nil, err
	}
	if w.image, err = w.script(ctx, "program", "localhost/workerpool/chaos:1", s.worker); err != nil {
		return nil, err
	}
	nodes := &corev1.NodeList{}
	if err := w.List(ctx, nodes); err != nil || len(nodes.Items) == 0 {
		return nil, fmt.Errorf("no node: %w", err)
	}
	w.node = nodes.Items[0].Name
	if w.ledger, err = ledger.Listen(bridge + ":0"); err != nil {
		return nil, err
	}
	w.seen = look(ctx, w, namespaces(s.seed))
	return w, nil
}

func (w *world) close() {
	w.seen.close()
	w.ledger.Close()
}

// script runs cluster.sh, and returns what it prints.
func (w *world) script(ctx context.Context, args ...string) (string, error) {
	return output(ctx, w.cluster, args...)
}

// output of a program; its errors are part of the error.
func output(ctx context.Context, name string, args ...string) (string, error) {
	var wrong strings.Builder
	command := exec.CommandContext(ctx, name, args...)
	command.Stderr = &wrong
	out, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(wrong.String()))
	}
	return strings.TrimSpace(string(out)), nil
}

// mend undoes all that faults do, and waits until the cluster and the operator are well.
func (w *world) mend(ctx context.Context) error {
	err := errors.Join(
		w.goOn(), removePartition(ctx), w.do(ctx, "mend"), w.do(ctx, "kubectl", "uncordon", w.node))
	healthy := await(ctx, 2*time.Minute, func() bool { return w.operatorIsWell(ctx) })
	if !healthy {
		err = errors.Join(err, errors.New("the operator does not become available"))
	}
	return err
}

// do runs a verb of cluster.sh, or kubectl.
func (w *world) do(ctx context.Context, args ...string) error {
	var err error
	if args[0] == "kubectl" {
		_, err = output(ctx, args[0], args[1:]...)
	} else {
		_, err = w.script(ctx, args...)
	}
	return err
}

// operatorIsWell tells whether the operator has all its replicas. Those that crash again and again are replaced: their
// next start would be minutes away.
func (w *world) operatorIsWell(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	d := &appsv1.Deployment{}
	if w.Get(ctx, client.ObjectKey{Namespace: operatorNamespace, Name: operatorName}, d) != nil {
		return false
	}
	if d.Status.ReadyReplicas == *d.Spec.Replicas && d.Status.Replicas == *d.Spec.Replicas {
		return true
	}
	pods := &corev1.PodList{}
	if w.List(ctx, pods, client.InNamespace(operatorNamespace)) != nil {
		return false
	}
	for i := range pods.Items {
		for _, c := range pods.Items[i].Status.ContainerStatuses {
			if c.State.Waiting != nil && c.State.Waiting.Reason == "CrashLoopBackOff" && pods.Items[i].DeletionTimestamp == nil {
				_ = w.Delete(ctx, &pods.Items[i])
			}
		}
	}
	return false
}

// leave mends the cluster, takes the load away, and waits until it is gone.
func (w *world) leave(ctx context.Context) error {
	err := w.mend(ctx)
	for _, name := range namespaces(w.seed) {
		namespace := &corev1.Namespace{}
		namespace.Name = name
		err = errors.Join(err, client.IgnoreNotFound(w.Delete(ctx, namespace)))
	}
	if !await(ctx, patience, func() bool {
		return !slices.ContainsFunc(namespaces(w.seed), func(name string) bool {
			return !apierrors.IsNotFound(w.Get(ctx, client.ObjectKey{Name: name}, &corev1.Namespace{}))
		})
	}) {
		err = errors.Join(err, errors.New("the load's namespaces are not gone yet"))
	}
	return err
}

// leader is the name of the operator's pod that leads.
func (w *world) leader(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	lease := &coordinationv1.Lease{}
	if err := w.Get(ctx, client.ObjectKey{Namespace: operatorNamespace, Name: operatorName}, lease); err != nil {
		return "", err
	}
	if lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "" {
		return "", errors.New("nobody leads")
	}
	return *lease.Spec.HolderIdentity, nil
}

// remember a fault, whether or not it has taken effect: it may explain something.
func (w *world) remember(f check.Fault) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults = append(w.faults, f)
}

func (w *world) allFaults() []check.Fault {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]check.Fault(nil), w.faults...)
}
