package agent

import (
	"fmt"
	"time"
)

// leader is what the agent knows of who leads. Its owner guards it.
type leader struct {
	// highest is the highest epoch accepted; nil if none, or forgotten.
	highest *epoch
	// heard is when the last message of an acceptable leader came; at first, when the agent started.
	heard time.Time
	// fence is how long after heard the unrecorded attempts are killed.
	fence time.Duration
	// forget is how long after heard the highest epoch no longer counts.
	forget time.Duration
}

// known returns the highest epoch that still counts, nil if none.
func (l *leader) known(now time.Time) *epoch {
	if now.Sub(l.heard) >= l.forget {
		l.highest = nil
	}
	return l.highest
}

// accept takes e for the leader's epoch from now on. It refuses one lower than the highest known.
func (l *leader) accept(e epoch, fence time.Duration, now time.Time) error {
	if highest := l.known(now); highest != nil && e.compare(*highest) < 0 {
		return fmt.Errorf("epoch %v is lower than %v", e, *highest)
	}
	l.highest, l.heard, l.fence = &e, now, fence
	return nil
}

// hear notes a message of the accepted leader.
func (l *leader) hear(now time.Time) { l.heard = now }

// fenced returns whether attempts that are not recorded must not run any longer, and else in how long.
func (l *leader) fenced(now time.Time) (bool, time.Duration) {
	left := l.fence - now.Sub(l.heard)
	return left <= 0, left
}
