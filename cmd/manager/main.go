// The manager is the operator: it keeps worker pools and dispatches Jobs to them.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/discovery"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/controllers"
	"github.com/workerpool-dev/workerpool/internal/admin"
	"github.com/workerpool-dev/workerpool/internal/apiserver"
	"github.com/workerpool-dev/workerpool/internal/certs"
	"github.com/workerpool-dev/workerpool/internal/config"
	"github.com/workerpool-dev/workerpool/internal/dispatch"
	"github.com/workerpool-dev/workerpool/internal/engine"
	"github.com/workerpool-dev/workerpool/internal/issuer"
	"github.com/workerpool-dev/workerpool/internal/leader"
	"github.com/workerpool-dev/workerpool/internal/metrics"
	"github.com/workerpool-dev/workerpool/internal/podspec"
	"github.com/workerpool-dev/workerpool/internal/status"
	"github.com/workerpool-dev/workerpool/internal/tolerant"
)

const (
	leaseName       = "workerpool-controller-manager"
	caSecretName    = "workerpool-ca"
	dispatchService = "workerpool-dispatch"
	dispatchPort    = "grpc"
	// stopTimeout leaves the kubelet's grace period some room.
	stopTimeout = 10 * time.Second
	// The operator's requests to the API server are bounded by its own design, and by the API
	// server's priority and fairness; the client's limit only guards against a loop gone wild.
	clientQPS   = 1000
	clientBurst = 2000
)

func main() {
	if err := run(); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "manager:", err)
		os.Exit(1)
	}
}

func run() error {
	settings, err := config.FromProcess()
	if err != nil {
		return err
	}
	ctrl.SetLogger(zap.New(zap.UseFlagOptions(&settings.Log)))
	ctx := ctrl.SetupSignalHandler()
	restConfig, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	restConfig.QPS, restConfig.Burst = clientQPS, clientBurst
	// Not over the connections that wait: who can't renew in time must end.
	lease, err := leader.NewLease(restConfig, types.NamespacedName{Namespace: settings.Namespace, Name: leaseName}, clock.RealClock{})
	if err != nil {
		return err
	}
	restConfig = rest.CopyConfig(restConfig)
	restConfig.Wrap(apiserver.Patient(ctx, ctrl.Log))
	mgr, err := newManager(restConfig, lease)
	if err != nil {
		return err
	}
	if err := setup(ctx, mgr, lease, settings); err != nil {
		return err
	}
	return mgr.Start(ctx)
}

// newManager makes the manager. Its client writes only while this process leads.
func newManager(restConfig *rest.Config, lease *leader.Lease) (ctrl.Manager, error) {
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))
	informers, err := tolerant.Informers(restConfig, scheme)
	if err != nil {
		return nil, err
	}
	return ctrl.NewManager(restConfig, ctrl.Options{
		Scheme: scheme,
		NewClient: func(restConfig *rest.Config, options client.Options) (client.Client, error) {
			return newFenced(restConfig, options, lease)
		},
		Cache: cache.Options{
			NewInformer:      informers,
			DefaultTransform: cache.TransformStripManagedFields(),
			ByObject:         controllers.Cached(),
		},
		Client: client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.Secret{}, &corev1.Service{}}}},
		// The manager's own servers have no bounds: admin has others.
		Metrics:                             metricsserver.Options{BindAddress: admin.Nowhere},
		HealthProbeBindAddress:              admin.Nowhere,
		LeaderElection:                      true,
		LeaderElectionResourceLockInterface: lease,
		LeaderElectionReleaseOnCancel:       true,
		LeaseDuration:                       new(leader.LeaseDuration),
		RenewDeadline:                       new(leader.RenewDeadline),
		RetryPeriod:                         new(leader.RetryPeriod),
		GracefulShutdownTimeout:             new(stopTimeout),
	})
}

// newFenced makes a client that writes only while this process leads.
func newFenced(restConfig *rest.Config, options client.Options, lease *leader.Lease) (client.Client, error) {
	restConfig = rest.CopyConfig(restConfig)
	restConfig.Wrap(lease.Fence)
	options.HTTPClient = nil // it would not be fenced
	return client.New(restConfig, options)
}

// newWriter makes what stores statuses, over a client of its own: see leader.InTime.
func newWriter(mgr ctrl.Manager, lease *leader.Lease, lead *leader.Leader) (*status.Writer, error) {
	statuses, err := newFenced(leader.InTime(mgr.GetConfig()), client.Options{Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper()}, lease)
	if err != nil {
		return nil, err
	}
	return status.New(status.Config{
		Client: statuses, Live: tolerant.Reader{Reader: mgr.GetAPIReader()}, Leading: lead.Leading, Clock: clock.RealClock{},
		Recorder: mgr.GetEventRecorder("workerpool"),
	}), nil
}

// setup builds the operator out of its parts.
func setup(ctx context.Context, mgr ctrl.Manager, lease *leader.Lease, settings config.Config) error {
	direct, err := client.New(mgr.GetConfig(), client.Options{Scheme: mgr.GetScheme()})
	if err != nil {
		return err
	}
	inNamespace := func(name string) types.NamespacedName {
		return types.NamespacedName{Namespace: settings.Namespace, Name: name}
	}
	agent, err := describeAgent(ctx, direct, inNamespace(dispatchService), settings)
	if err != nil {
		return err
	}

	if err := warmUp(ctx, mgr); err != nil {
		return err
	}
	realClock := clock.RealClock{}
	out := &controllers.Outbox{}
	eng := engine.New(realClock.Now, rand.Float64, out)
	if err := metrics.Register(ctrlmetrics.Registry, eng); err != nil {
		return err
	}
	refusals, err := metrics.NewRefusals(ctrlmetrics.Registry)
	if err != nil {
		return err
	}
	keys, err := tokenKeys(mgr)
	if err != nil {
		return err
	}
	lead := leader.New(leader.Config{
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Lease: inNamespace(leaseName), Held: lease.Held, Engine: eng,
		Clock: realClock, ListenAddress: settings.DispatchAddress,
	})
	if out.Writer, err = newWriter(mgr, lease, lead); err != nil {
		return err
	}
	if err := out.Register(ctrlmetrics.Registry); err != nil {
		return err
	}
	lead.Write = func(ctx context.Context) { out.Run(ctx, eng) }
	lead.Publish = func(ctx context.Context) error {
		return leader.Publish(ctx, mgr.GetClient(), leader.Endpoint{
			Service: inNamespace(dispatchService), PortName: dispatchPort, Port: settings.DispatchPort, IP: settings.PodIP,
		})
	}
	// A leader may have replaced the CA since this process has started: each looks when it takes the lead.
	var ca *certs.CA
	lead.Serve = func(ctx context.Context, epoch engine.Epoch, listener net.Listener) error {
		auth := dispatch.NewTokenAuthenticator(mgr.GetClient(), mgr.GetClient(), mgr.GetAPIReader(), keys, time.Now)
		serving := &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: certs.NewServer(ca, time.Now).GetCertificate}
		return dispatch.NewServer(eng, auth, epoch, lease.Held, ca.TokenKey, serving, refusals).Serve(ctx, listener)
	}
	pools, err := controllers.Setup(ctx, mgr, eng, out, agent, lead.Ready)
	if err != nil {
		return err
	}
	lead.Load = func(ctx context.Context) (err error) {
		if ca, err = certs.EnsureCA(ctx, direct, inNamespace(caSecretName), time.Now()); err != nil {
			return err
		}
		pools.Trust(string(ca.PEM))
		return controllers.Load(ctx, mgr.GetClient(), pools, eng, settings.Namespace)
	}
	follower := &leader.Follower{}
	return errors.Join(mgr.Add(lead), mgr.Add(follower),
		admin.ServeHealth(mgr, settings.HealthAddress, follower.Check),
		admin.ServeMetrics(mgr, settings.MetricsAddress, ctrlmetrics.Registry, admin.NewReaders(direct, keys, time.Now)),
		admin.ServeProfiles(mgr, settings.ProfilingAddress))
}

// tokenKeys are those that the API server signs the tokens of service accounts with.
func tokenKeys(mgr ctrl.Manager) (*issuer.Keys, error) {
	c, err := discovery.NewDiscoveryClientForConfigAndClient(mgr.GetConfig(), mgr.GetHTTPClient())
	if err != nil {
		return nil, err
	}
	return &issuer.Keys{Fetch: func(ctx context.Context) ([]byte, error) {
		return c.RESTClient().Get().AbsPath("/openid/v1/jwks").DoRaw(ctx)
	}}, nil
}

// warmUp has the caches filled while another process leads, so that taking over is quick.
func warmUp(ctx context.Context, mgr ctrl.Manager) error {
	for _, kind := range []client.Object{&v1alpha1.WorkerPool{}, &v1alpha1.Job{}, &corev1.Pod{}} {
		if _, err := mgr.GetCache().GetInformer(ctx, kind, cache.BlockUntilSynced(false)); err != nil {
			return fmt.Errorf("watching %T: %w", kind, err)
		}
	}
	return nil
}

// describeAgent tells how worker pods get their agent, and how it finds the leader, but not which CA it trusts.
func describeAgent(ctx context.Context, c client.Client, service types.NamespacedName, settings config.Config) (podspec.Agent, error) {
	dispatch := &corev1.Service{}
	if err := c.Get(ctx, service, dispatch); err != nil {
		return podspec.Agent{}, fmt.Errorf("reading the service that agents dial (config/default has it): %w", err)
	}
	if len(dispatch.Spec.Ports) != 1 || dispatch.Spec.ClusterIP == "" || dispatch.Spec.ClusterIP == corev1.ClusterIPNone {
		return podspec.Agent{}, fmt.Errorf("service %s must have a cluster IP and one port", service)
	}
	port := fmt.Sprint(dispatch.Spec.Ports[0].Port)
	return podspec.Agent{
		Installation: settings.Namespace,
		Image:        settings.AgentImage,
		Addresses: []string{
			net.JoinHostPort(dispatch.Spec.ClusterIP, port),
			net.JoinHostPort(service.Name+"."+service.Namespace+".svc", port),
		},
	}, nil
}
