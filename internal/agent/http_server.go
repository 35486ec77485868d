package agent

import (
	"context"
	"net"
	"strconv"
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

// serverHosts are the addresses that the job container's server may listen on.
func (a *Agent) serverHosts() []string { return append([]string{"127.0.0.1", "::1"}, a.PodIPs...) }

// connect opens a connection to the job container's server, first where it has answered last. Its error is about the first
// address that was tried.
func (a *Agent) connect(ctx context.Context) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, maxConnect)
	defer cancel()
	hosts, last := a.serverHosts(), int(a.serverAt.Load())
	var first error
	for i := range hosts {
		at := (last + i) % len(hosts)
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(hosts[at], strconv.Itoa(a.HTTPPort)))
		if err == nil {
			a.serverAt.Store(int32(at))
			return conn.(*net.TCPConn), nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
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
		a.setWaiting(a.health.server(ctx))
	}
}

// awaitServer has work taken in once the server answers, and again after it was away. The session does not wait for that,
// lest a worker be given up because what it loads takes long.
func (a *Agent) awaitServer(ctx context.Context) {
	if a.health.server == nil {
		return
	}
	answers := func() bool {
		err := a.health.server(ctx)
		if ctx.Err() == nil {
			a.setWaiting(err)
		}
		return err == nil
	}
	for poll(ctx, longestPause, answers) {
		a.wake()
		select {
		case <-a.serverGone:
		case <-ctx.Done():
			return
		}
	}
}

// loseServer has no work taken in until the server answers again.
func (a *Agent) loseServer(err error) {
	a.setWaiting(err)
	notify(a.serverGone)
}

// setWaiting notes why the server can't be reached, nil if it can.
func (a *Agent) setWaiting(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.table.waiting = err
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
