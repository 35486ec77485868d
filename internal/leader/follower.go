package leader

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
)

// Follower tells whether this process could take over quickly: its caches are filled. It is a manager.Runnable,
// which the manager starts then, and whoever leads.
type Follower struct{ warm atomic.Bool }

// NeedLeaderElection is manager.LeaderElectionRunnable's.
func (f *Follower) NeedLeaderElection() bool { return false }

// Start is manager.Runnable's.
func (f *Follower) Start(ctx context.Context) error {
	f.warm.Store(true)
	<-ctx.Done()
	return nil
}

// Check is healthz.Checker's, for /readyz: a rollout must not end the leader before another can follow.
func (f *Follower) Check(*http.Request) error {
	if !f.warm.Load() {
		return errors.New("the caches are not filled yet")
	}
	return nil
}
