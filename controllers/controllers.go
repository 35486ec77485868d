// Package controllers wires the controllers to the engine.
package controllers

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/controllers/job"
	"github.com/workerpool-dev/workerpool/controllers/workerpool"
	"github.com/workerpool-dev/workerpool/internal/engine"
	"github.com/workerpool-dev/workerpool/internal/podspec"
	"github.com/workerpool-dev/workerpool/internal/status"
	"github.com/workerpool-dev/workerpool/internal/tolerant"
	"github.com/workerpool-dev/workerpool/internal/trigger"
)

const (
	// poolInterval is how often a pool is looked at, at the most, because of what its Jobs do.
	poolInterval = 500 * time.Millisecond
	// retentionInterval is how often a pool's finished Jobs are counted, at the most.
	retentionInterval = 5 * time.Second
)

// Outbox carries the engine's decisions to the controllers and to the status writer.
type Outbox struct {
	*status.Writer

	Jobs  trigger.Source[job.Request]
	Pools trigger.Source[ctrl.Request]
}

var _ engine.Outbox = (*Outbox)(nil)

// Look is engine.Outbox's.
func (o *Outbox) Look(ref engine.JobRef) {
	o.Jobs.Add(job.Request{NamespacedName: ref.NamespacedName, UID: ref.UID})
}

// Load is engine.Outbox's.
func (o *Outbox) Load(ref engine.JobRef) {
	o.Jobs.Add(job.Request{NamespacedName: ref.NamespacedName, UID: ref.UID, Cause: job.Wanted})
}

// PoolOpened is engine.Outbox's.
func (o *Outbox) PoolOpened(pool types.NamespacedName) {
	o.Jobs.Add(job.Request{NamespacedName: pool, Cause: job.PoolOpened})
}

// PoolChanged is engine.Outbox's.
func (o *Outbox) PoolChanged(pool types.NamespacedName) {
	o.Pools.AddAfter(ctrl.Request{NamespacedName: pool}, poolInterval)
}

// Cached are the options of the cache that the controllers read.
func Cached() map[client.Object]cache.ByObject {
	cached := workerpool.Cached()
	cached[&v1alpha1.Job{}] = cache.ByObject{Transform: job.Trim}
	return cached
}

// Setup adds all controllers to the manager. Those that need what is in memory wait for ready.
func Setup(
	ctx context.Context, mgr ctrl.Manager, eng *engine.Engine, out *Outbox, agent podspec.Agent, ready func(context.Context) error,
) (*workerpool.Reconciler, error) {
	live := tolerant.Reader{Reader: mgr.GetAPIReader()}
	jobs := &job.Reconciler{Client: mgr.GetClient(), Live: live, Engine: ours{eng, mgr.GetClient(), agent.Installation}}
	if err := jobs.SetupWithManager(mgr, &out.Jobs, ready); err != nil {
		return nil, err
	}
	realClock := clock.RealClock{}
	invalid := &job.InvalidReconciler{Client: mgr.GetClient(), Live: live, Clock: realClock}
	if err := invalid.SetupWithManager(mgr); err != nil {
		return nil, err
	}
	expiry := &job.ExpiryReconciler{Client: mgr.GetClient(), Counter: eng, Clock: realClock, Installation: agent.Installation}
	if err := expiry.SetupWithManager(mgr); err != nil {
		return nil, err
	}
	retention := &job.RetentionReconciler{
		Client: mgr.GetClient(), Counter: eng, Clock: realClock, Interval: retentionInterval, Installation: agent.Installation,
	}
	if err := retention.SetupWithManager(mgr); err != nil {
		return nil, err
	}
	pools := workerpool.New(
		mgr.GetClient(), live, workerpool.InMemory{Engine: eng}, mgr.GetEventRecorder("workerpool"), agent, realClock)
	return pools, pools.SetupWithManager(ctx, mgr, &out.Pools, ready)
}

// Load fills the engine from the cache: pools and their workers first, then what they are to run.
func Load(ctx context.Context, c client.Reader, pools *workerpool.Reconciler, eng *engine.Engine, installation string) error {
	if err := pools.Load(ctx); err != nil {
		return err
	}
	return job.Load(ctx, c, ours{eng, c, installation})
}
