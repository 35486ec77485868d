package testutil

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kuberuntime "k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// assetsVariable names the folder of etcd and kube-apiserver.
const assetsVariable = "KUBEBUILDER_ASSETS"

// ErrNoAssets means that the API server's programs were not found.
var ErrNoAssets = errors.New(assetsVariable + " must name a folder with etcd and kube-apiserver: `make test` sets it")

// startTimeout is generous, because tests of several packages start their servers at once.
const startTimeout = 2 * time.Minute

// Environment is an API server with our CRDs, and no other part of Kubernetes: no pod of it is ever
// scheduled, started or garbage-collected. A package starts one, in its TestMain.
type Environment struct {
	// Config reaches the server with all rights.
	Config *rest.Config
	// Client reads from the server, not from a cache.
	Client client.Client
	// Cached are the options of the caches of its managers.
	Cached map[client.Object]cache.ByObject

	server *envtest.Environment
}

// Scheme has the kinds of Kubernetes and our own.
func Scheme() *kuberuntime.Scheme {
	scheme := kuberuntime.NewScheme()
	for _, add := range []func(*kuberuntime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			panic(fmt.Sprintf("register kinds: %v", err))
		}
	}
	return scheme
}

// Run starts an environment, stores it in env, runs the tests and stops the environment. It returns
// the exit code for TestMain, and says on stderr what went wrong. The caches of managers have these options.
func Run(m *testing.M, env **Environment, cached map[client.Object]cache.ByObject) int {
	e, err := Start()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	e.Cached, *env = cached, e
	code := m.Run()
	if err := e.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// errorLogger prints errors to stderr, and nothing of all else that a controller has to say.
func errorLogger() logr.Logger {
	write := func(_, line string) { fmt.Fprintln(os.Stderr, line) }
	return funcr.New(write, funcr.Options{Verbosity: -1})
}

// Start starts an environment. It returns ErrNoAssets if the programs are not there.
func Start() (*Environment, error) {
	log.SetLogger(errorLogger())
	for _, program := range []string{"etcd", "kube-apiserver"} {
		if _, err := os.Stat(filepath.Join(os.Getenv(assetsVariable), program)); os.Getenv(assetsVariable) == "" || err != nil {
			return nil, ErrNoAssets
		}
	}
	server := &envtest.Environment{
		CRDDirectoryPaths:        []string{filepath.Join(root(), "config", "crd", "bases")},
		ErrorIfCRDPathMissing:    true,
		ControlPlaneStartTimeout: startTimeout,
		ControlPlaneStopTimeout:  startTimeout,
	}
	// Service accounts are checked as in a real cluster: pods with tokens are refused without.
	server.ControlPlane.GetAPIServer().Configure().Disable("disable-admission-plugins")
	restConfig, err := server.Start()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start the API server: %w", err), server.Stop())
	}
	c, err := client.New(restConfig, client.Options{Scheme: Scheme()})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a client: %w", err), server.Stop())
	}
	return &Environment{Config: restConfig, Client: c, server: server}, nil
}

// TokenKey is the key, in PEM, that the server signs the tokens of service accounts with.
func (e *Environment) TokenKey() ([]byte, error) {
	return os.ReadFile(filepath.Join(e.server.ControlPlane.GetAPIServer().CertDir, "sa-signer.key"))
}

// Stop ends the API server.
func (e *Environment) Stop() error {
	if err := e.server.Stop(); err != nil {
		return fmt.Errorf("stop the API server: %w", err)
	}
	return nil
}

// Namespace makes a namespace for one test, with these labels, and its default service account.
// Nothing deletes it: there is no controller that could empty it.
func (e *Environment) Namespace(t testing.TB, labelled map[string]string) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-", Labels: labelled}}
	if err := e.Client.Create(t.Context(), ns); err != nil {
		t.Fatalf("create a namespace: %v", err)
	}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: ns.Name, Name: "default"}}
	if err := e.Client.Create(t.Context(), account); err != nil {
		t.Fatalf("create a service account: %v", err)
	}
	return ns.Name
}

// Manager starts a manager whose cache has only the objects of one namespace, after setup has added
// controllers and indexes to it. It returns once the cache is filled, and stops the manager at the
// end of the test.
func (e *Environment) Manager(t *testing.T, namespace string, setup func(manager.Manager) error) manager.Manager {
	t.Helper()
	mgr, err := manager.New(e.Config, manager.Options{
		Scheme:     Scheme(),
		Metrics:    server.Options{BindAddress: "0"},
		Cache:      cache.Options{DefaultNamespaces: map[string]cache.Config{namespace: {}}, ByObject: e.Cached},
		Controller: config.Controller{SkipNameValidation: new(true)},
	})
	if err == nil {
		err = setup(mgr)
	}
	if err != nil {
		t.Fatalf("set up a manager: %v", err)
	}
	run(t, mgr)
	return mgr
}

func run(t *testing.T, mgr manager.Manager) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	go func() { stopped <- mgr.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-stopped; err != nil {
			t.Errorf("the manager ended with: %v", err)
		}
	})
	if !mgr.GetCache().WaitForCacheSync(ctx) {
		t.Fatal("the cache was not filled")
	}
}

// root is the folder of the module.
func root() string {
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		panic("the program does not know its sources")
	}
	return filepath.Join(filepath.Dir(file), "..", "..")
}
