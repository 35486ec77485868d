// Package leader is what the leading operator does, in order: it reads its epoch, waits until its
// caches are no older than its lead, fills the engine, and then serves until the lead ends.
package leader

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/sync/errgroup"
	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/workerpool-dev/workerpool/internal/engine"
)

// Config of a Leader.
type Config struct {
	// Client reads from the caches, and writes.
	Client client.Client
	// Live reads past the caches.
	Live  client.Reader
	Lease types.NamespacedName
	// Held tells whether no other process can have the Lease, without a request.
	Held   func() bool
	Engine *engine.Engine
	Clock  clock.WithTicker

	// Load fills the engine from the caches.
	Load func(ctx context.Context) error
	// Write stores statuses until the context ends.
	Write func(ctx context.Context)
	// Serve accepts sessions until the context ends, and returns when all have ended.
	Serve func(ctx context.Context, epoch engine.Epoch, listener net.Listener) error
	// ListenAddress is where sessions are served.
	ListenAddress string
	// Publish makes this process the one that agents reach. It may be repeated.
	Publish func(ctx context.Context) error
}

// +kubebuilder:rbac:groups=coordination.k8s.io,namespace=workerpool-system,resources=leases,verbs=get

// Leader is a manager.Runnable that runs while this process leads.
type Leader struct {
	Config

	ready chan struct{}
	epoch engine.Epoch
}

// New returns a Leader.
func New(config Config) *Leader {
	return &Leader{Config: config, ready: make(chan struct{})}
}

// NeedLeaderElection is manager.LeaderElectionRunnable's.
func (l *Leader) NeedLeaderElection() bool { return true }

// Ready waits until the engine is filled: no controller may act on it before.
func (l *Leader) Ready(ctx context.Context) error {
	select {
	case <-l.ready:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Start leads until the context ends. When it returns no session is open and no write under way.
func (l *Leader) Start(ctx context.Context) error {
	if err := l.TakeOver(ctx); err != nil {
		return err
	}
	return l.run(ctx)
}

// TakeOver makes this process able to lead, once it has won its Lease: it has its epoch then, caches that are no
// older than its lead, and an engine that is filled from them. It waits by its clock alone.
func (l *Leader) TakeOver(ctx context.Context) error {
	started := l.Clock.Now()
	epoch, err := l.readEpoch(ctx)
	if err != nil {
		return err
	}
	if !l.Held() {
		return fmt.Errorf("the epoch that was read may be another leader's: %w", errUnheld)
	}
	l.epoch = epoch
	if err := l.catchUp(ctx); err != nil {
		return err
	}
	l.Engine.Begin(epoch)
	if err := l.Load(ctx); err != nil {
		return fmt.Errorf("filling the engine: %w", err)
	}
	l.Engine.Loaded()
	close(l.ready)
	logf.FromContext(ctx).Info("Took the lead", "leaseTransitions", epoch.Transitions, "took", l.Clock.Since(started).String())
	return nil
}

func (l *Leader) run(ctx context.Context) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", l.ListenAddress)
	if err != nil {
		return fmt.Errorf("listening for agents: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { l.Write(ctx); return nil })
	group.Go(func() error { return l.Serve(ctx, l.epoch, listener) })
	group.Go(func() error { return l.keep(ctx) })
	group.Go(func() error { return l.tick(ctx) })
	return group.Wait()
}

// keepInterval is how often a leader looks at what makes it the leader.
const keepInterval = 5 * time.Second

// keep makes this process the one that agents reach, also where somebody undoes that, and ends the lead once the Lease is
// another than the one that was won.
func (l *Leader) keep(ctx context.Context) error {
	if err := l.Publish(ctx); err != nil {
		return err
	}
	ticker := l.Clock.NewTicker(keepInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C():
		case <-ctx.Done():
			return nil
		}
		if err := l.Leading(ctx); errors.Is(err, errMeddled) {
			return err
		}
		if err := l.Publish(ctx); err != nil && ctx.Err() == nil {
			logf.FromContext(ctx).Error(err, "Failed to publish the leader's address again")
		}
	}
}

// tick has the engine act on what time brings. A process that was stopped, and may not lead any more, ends before that:
// its engine would take all workers for lost.
func (l *Leader) tick(ctx context.Context) error {
	ticker := l.Clock.NewTicker(engine.TickInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C():
			if !l.Held() {
				return errUnheld
			}
			l.Engine.Tick()
		case <-ctx.Done():
			return nil
		}
	}
}

// readEpoch reads the Lease that this process has won, past any cache.
func (l *Leader) readEpoch(ctx context.Context) (engine.Epoch, error) {
	lease := &coordinationv1.Lease{}
	if err := l.Live.Get(ctx, l.Lease, lease); apierrors.IsNotFound(err) {
		return engine.Epoch{}, fmt.Errorf("reading the lease: %w: %w", errMeddled, err)
	} else if err != nil {
		return engine.Epoch{}, fmt.Errorf("reading the lease: %w", err)
	}
	epoch := engine.Epoch{LeaseCreated: lease.CreationTimestamp.UnixMicro()}
	if lease.Spec.LeaseTransitions != nil {
		epoch.Transitions = int64(*lease.Spec.LeaseTransitions)
	}
	return epoch, nil
}

// Leading returns nil if the Lease is still that of this lead, by a live look.
func (l *Leader) Leading(ctx context.Context) error {
	epoch, err := l.readEpoch(ctx)
	if err != nil {
		return err
	}
	if epoch != l.epoch {
		return fmt.Errorf("the lease has changed hands, %v, not %v: %w", epoch, l.epoch, errMeddled)
	}
	return nil
}
