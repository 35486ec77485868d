// Package workerpool keeps the pods of WorkerPools: as many as wanted, made from the present
// template, none removed that is still needed. It tells the engine about pools and pods, and users
// about both, in the WorkerPool's status.
package workerpool

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/engine"
	"github.com/workerpool-dev/workerpool/internal/podspec"
)

// +kubebuilder:rbac:groups=workerpool.dev,resources=workerpools,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=workerpool.dev,resources=workerpools/status,verbs=patch
// +kubebuilder:rbac:groups=workerpool.dev,resources=workerpools/finalizers,verbs=update
// +kubebuilder:rbac:groups="",resources=pods,verbs=get;list;watch;create;delete
// +kubebuilder:rbac:groups="",resources=namespaces,verbs=get
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Engine is what the controller needs of the pools in memory. Its methods do not block.
type Engine interface {
	// SetPool makes a pool known, or changes its settings. It may be repeated.
	SetPool(pool engine.PoolConfig)
	// SetWorkers tells which pods a pool has, all of them. One that is left out is gone for sure.
	SetWorkers(key types.NamespacedName, workers []engine.WorkerPod)
	// Pool returns a pool, and false if it is not known.
	Pool(key types.NamespacedName) (Pool, bool)
}

// Pool is one pool in memory. Its methods do not block and may be repeated.
type Pool interface {
	// Start begins dispatch. It returns worker.ErrStopped after Close.
	Start() error
	// Close ends dispatch: queued Jobs wait for a pool of that name again, and what runs goes on.
	Close()
	// Kill ends what runs at once.
	Kill()
	// Cordon declares which workers are about to be deleted, all of them, and returns those that may be: a worker is not
	// if it turns out not to be as it was thought to be. All others serve again.
	Cordon(victims []engine.Victim) map[types.UID]bool
	// Explain declares why queued Jobs do not start, for people; the reason is empty if they only wait for their turn.
	Explain(reason, message string)
	// Gone says that a worker's pod does not exist any more, though no list of pods has shown that.
	Gone(pod types.UID)
	// Snapshot returns what the pool does.
	Snapshot() engine.PoolSnapshot
}

const (
	// ownerIndex finds pods by the UID of the WorkerPool that owns them.
	ownerIndex = "workerpool.dev/owner"

	concurrentReconciles = 4
)

// Reconciler brings WorkerPools to what their specs say.
type Reconciler struct {
	client    client.Client
	apiReader client.Reader
	engine    Engine
	recorder  events.EventRecorder
	agent     podspec.Agent
	clock     clock.Clock
	memories  memories
	others    others
}

// New makes a Reconciler. Its client reads pods and pools from a cache that has the index of
// SetupWithManager; apiReader reads from the API server itself.
func New(
	c client.Client, apiReader client.Reader, eng Engine, recorder events.EventRecorder, agent podspec.Agent, clk clock.Clock,
) *Reconciler {
	return &Reconciler{client: c, apiReader: apiReader, engine: eng, recorder: recorder, agent: agent, clock: clk}
}

// Trust sets the certificates, in PEM, that agents in new pods are to trust. It is called before pods are made.
func (r *Reconciler) Trust(ca string) { r.agent.CA = ca }

// SetupWithManager adds the controller to a manager. The manager's cache may leave out pods without
// the label LabelPool. Changes are the pools whose snapshot has changed. Ready is waited for before
// anything is reconciled.
func (r *Reconciler) SetupWithManager(ctx context.Context, mgr manager.Manager, changes source.Source, ready func(context.Context) error) error {
	if err := Index(ctx, mgr.GetFieldIndexer()); err != nil {
		return err
	}
	gated := reconcile.Func(func(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
		if err := ready(ctx); err != nil {
			return reconcile.Result{}, err
		}
		return r.Reconcile(ctx, req)
	})
	err := builder.ControllerManagedBy(mgr).
		Named("workerpool").
		For(&v1alpha1.WorkerPool{}, builder.WithPredicates(predicate.ResourceVersionChangedPredicate{})).
		Owns(&corev1.Pod{}, builder.WithPredicates(predicate.ResourceVersionChangedPredicate{})).
		WatchesRawSource(changes).
		WithOptions(controller.Options{MaxConcurrentReconciles: concurrentReconciles}).
		Complete(gated)
	if err != nil {
		return fmt.Errorf("build the controller of WorkerPools: %w", err)
	}
	return nil
}

// Index adds what the Reconciler finds pods by to a cache.
func Index(ctx context.Context, indexer client.FieldIndexer) error {
	if err := indexer.IndexField(ctx, &corev1.Pod{}, ownerIndex, ownerOf); err != nil {
		return fmt.Errorf("index pods by owner: %w", err)
	}
	return nil
}

func ownerOf(o client.Object) []string {
	owner := metav1.GetControllerOf(o)
	if owner == nil || owner.Kind != "WorkerPool" || owner.APIVersion != v1alpha1.GroupVersion.String() {
		return nil
	}
	return []string{string(owner.UID)}
}

// Load tells the engine about all pools and their pods.
func (r *Reconciler) Load(ctx context.Context) error {
	list := &v1alpha1.WorkerPoolList{}
	if err := r.client.List(ctx, list); err != nil {
		return fmt.Errorf("list the pools: %w", err)
	}
	for i := range list.Items {
		if !list.Items[i].InstalledBy(r.agent.Installation) {
			continue // it is another's, or is to be adopted first
		}
		s, err := r.observe(ctx, &list.Items[i])
		if err != nil {
			return err
		}
		r.tellEngine(s)
		s.target = int(ptr.Deref(s.pool.Status.DesiredReplicas, 0)) // until it is known what its Jobs want
		r.explain(s)
	}
	return nil
}

// Reconcile brings one WorkerPool a step nearer to its spec.
func (r *Reconciler) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	pool := &v1alpha1.WorkerPool{}
	if err := r.client.Get(ctx, req.NamespacedName, pool); apierrors.IsNotFound(err) {
		r.others.forget(req.NamespacedName)
		return r.leave(ctx, req.NamespacedName)
	} else if err != nil {
		return reconcile.Result{}, fmt.Errorf("get the pool: %w", err)
	}
	if r.anothers(pool) {
		return r.leaveAlone(ctx, pool)
	}
	r.others.forget(req.NamespacedName)
	if adopted, err := r.adopt(ctx, pool); adopted || err != nil {
		return conflictIsLater(err)
	}

	s, err := r.observe(ctx, pool)
	if err != nil {
		return reconcile.Result{}, err
	}
	if going, err := r.namespaceGoing(ctx, s); err != nil {
		return reconcile.Result{}, err
	} else if going {
		return r.endWithNamespace(ctx, s)
	}
	if done, err := r.finish(ctx, s); done || err != nil {
		return conflictIsLater(err)
	}
	r.tellEngine(s)
	s.autoscale()
	r.resetsFailed(s)
	if err := r.execute(ctx, s, s.withinLimits(Plan(s.state()), r.agent)); err != nil {
		return conflictIsLater(err)
	}
	r.explain(s)
	if err := r.writeStatus(ctx, s); err != nil {
		return conflictIsLater(err)
	}
	return again(s.waits...), nil
}

// conflictRetry is the pause after a write that another one came before. Once the cache shows that one, it brings a
// reconcile at once; until then each try would be refused.
const conflictRetry = time.Second

// conflictIsLater turns a lost race into another try: the cache is behind, and nothing is wrong.
func conflictIsLater(err error) (reconcile.Result, error) {
	if apierrors.IsConflict(err) {
		return again(conflictRetry), nil
	}
	return reconcile.Result{}, client.IgnoreNotFound(err)
}
