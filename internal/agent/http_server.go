package agent

import (
	"context"
	"net"
	"strconv"
	"sync"
	"time"
)

const (
	// maxConnect bounds a try to reach the job container's server. It is on the same host: only one that
	// has many connections waiting takes any time.
	maxConnect = 5 * time.Second
	// serverPause is the first pause between two looks at the server, longestPause the last.
	serverPause  = 100 * time.Millisecond
	longestPause = time.Second
)

func (a *Agent) serverAddress() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(a.HTTPPort))
}

// connect opens a connection to the job container's server.
func (a *Agent) connect(ctx context.Context) (*net.TCPConn, error) {
	dialer := net.Dialer{Timeout: maxConnect}
	conn, err := dialer.DialContext(ctx, "tcp4", a.serverAddress())
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// probeServer returns why the job container's server can't be reached, if so.
func (a *Agent) probeServer(ctx context.Context) error {
	conn, err := a.connect(ctx)
	if err != nil {
		return err
	}
	return conn.Close()
}

// lookForServer has no work taken in before the job container's server answers.
func (a *Agent) lookForServer(ctx context.Context) {
	if a.health.server != nil {
		a.setWaiting(a.health.server(ctx) != nil)
	}
}

// awaitServer has work taken in once the server answers. The session does not wait for that, lest a worker
// be given up because what it loads takes long.
func (a *Agent) awaitServer(ctx context.Context) {
	if a.health.server != nil && poll(ctx, longestPause, func() bool { return a.health.server(ctx) == nil }) {
		a.setWaiting(false)
		a.wake()
	}
}

func (a *Agent) setWaiting(waiting bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.table.waiting = waiting
}

// poll waits until the condition holds, and looks more and more rarely. It returns false if the context
// has ended first.
func poll(ctx context.Context, longest time.Duration, condition func() bool) bool {
	for pause := serverPause; !condition(); pause = min(2*pause, longest) {
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return false
		}
	}
	return ctx.Err() == nil
}

// hold is a time in which the kubelet is about to end the job container and waits for its work to end.
type hold struct {
	// drained is closed when no work is left.
	drained chan struct{}
	once    sync.Once
}

func (h *hold) release() { h.once.Do(func() { close(h.drained) }) }

// hold has no more work taken in. What it returns is closed when nothing runs and all results are stored.
// The agent itself stays, for it would be started again: it ends by Drain. More calls change nothing.
func (a *Agent) hold() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.held == nil {
		a.held = &hold{drained: make(chan struct{})}
		notify(a.holds)
	}
	a.table.draining = true
	a.closeIfDrainedLocked()
	a.wake()
	return a.held.drained
}

// endHolds has the agent take work again after a hold that was not the worker's end: the kubelet holds a
// container that it only starts again, too, because its liveness probe has failed. That shows in the server:
// it goes away and comes back.
func (a *Agent) endHolds(ctx context.Context) {
	for {
		select {
		case <-a.holds:
		case <-ctx.Done():
			return
		}
		gone := func() bool { return a.health.server(ctx) != nil }
		back := func() bool { return a.health.server(ctx) == nil }
		if poll(ctx, serverPause, gone) && poll(ctx, longestPause, back) {
			a.endHold()
		}
	}
}

func (a *Agent) endHold() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.held.release()
	a.held = nil
	a.table.draining = a.leaving
	a.wake()
}
