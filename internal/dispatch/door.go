package dispatch

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/peer"

	"github.com/workerpool-dev/workerpool/internal/fair"
	"github.com/workerpool-dev/workerpool/internal/metrics"
	"github.com/workerpool-dev/workerpool/internal/serving"
)

const (
	// maxStrangers bounds the connections on which no agent is authenticated. An honest agent's is among them for
	// some milliseconds.
	maxStrangers = 512
	// strangerTimeout is how long a connection may be one of them. It covers a greeting.
	strangerTimeout = helloTimeout + time.Second
	// strangerBytes is what a stranger may send in that time. An agent sends the beginning of its Hello, up to the
	// window of a stream, before it knows that it is authenticated.
	strangerBytes = 128 << 10

	// smallBytes is what an agent may send while none of its messages is complete. For a larger message it needs one
	// of largeMessages places, for at most largeTimeout: the memory of large messages is bounded by them.
	smallBytes    = 128 << 10
	largeMessages = 16
	largeTimeout  = 5 * time.Second
)

var (
	errTooMuch = errors.New("the peer has sent too much without authentication")
	errSlow    = errors.New("a large message has taken too long")
)

// door is a listener that keeps its connections few and small as long as nobody is authenticated on them. Once an
// agent is, its connection counts no more: there is one session a pod.
type door struct {
	net.Listener

	refusals *metrics.Refusals
	large    *fair.Semaphore[string]

	// mu guards the phases of all connections. The places of strangers have a lock of their own.
	mu        sync.Mutex
	strangers *serving.Places
}

func newDoor(listener net.Listener, refusals *metrics.Refusals) *door {
	return &door{
		Listener: listener, refusals: refusals,
		large: fair.NewSemaphore[string](largeMessages), strangers: serving.NewPlaces(maxStrangers),
	}
}

// Accept is net.Listener's.
func (d *door) Accept() (net.Conn, error) {
	raw, err := d.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return d.enter(raw), nil
}

// enter lets a connection in. Another may lose its place for it.
func (d *door) enter(raw net.Conn) *conn {
	ctx, cancel := context.WithCancelCause(context.Background())
	c := &conn{Conn: raw, door: d, address: serving.Host(raw.RemoteAddr().String()), ctx: ctx, cancel: cancel}
	d.mu.Lock()
	c.estrangeLocked()
	lost := d.strangers.Take(c, c.address)
	d.mu.Unlock()
	if lost != nil {
		d.refusals.Count(metrics.RefusedConnection)
		_ = lost.Close()
	}
	return c
}

func (d *door) removeLocked(c *conn) {
	if c.stranger {
		c.stranger = false
		c.deadline.Stop()
		d.strangers.Leave(c)
	}
}

// conn is one connection. It bounds what is read from the peer and not looked at yet.
type conn struct {
	net.Conn

	door    *door
	address string
	// ctx ends when the connection is closed.
	ctx    context.Context //nolint:containedctx // Read has none
	cancel context.CancelCauseFunc

	// The door's mu guards the rest.

	// stranger: nobody is authenticated. deadline closes the connection then.
	stranger bool
	deadline *time.Timer
	// tenant is the namespace of the agent, unless it is a stranger.
	tenant string
	// unread is the number of bytes that came since the last complete message.
	unread int
	// large: the connection has a place for a large message, which is holder's, until slow closes it.
	large  bool
	holder string
	slow   *time.Timer
	// closed connections are in no list, and have no place.
	closed bool
}

// RemoteAddr is net.Conn's. It leads a session to its connection.
func (c *conn) RemoteAddr() net.Addr { return remote{c.Conn.RemoteAddr(), c} }

type remote struct {
	net.Addr
	conn *conn
}

// connOf is the connection that a stream is on.
func connOf(ctx context.Context) *conn {
	p, _ := peer.FromContext(ctx)
	return p.Addr.(remote).conn
}

// Read is net.Conn's.
func (c *conn) Read(p []byte) (int, error) {
	if err := c.mayRead(); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(p)
	c.door.mu.Lock()
	defer c.door.mu.Unlock()
	c.unread += n
	return n, err
}

// mayRead waits until there is room for what the peer sends.
func (c *conn) mayRead() error {
	d := c.door
	d.mu.Lock()
	stranger, large, unread, tenant := c.stranger, c.large, c.unread, c.tenant
	d.mu.Unlock()
	switch {
	case stranger && unread >= strangerBytes:
		d.refusals.Count(metrics.RefusedConnection)
		return errTooMuch
	case stranger, large, unread < smallBytes:
		return nil
	}
	if err := d.large.Acquire(c.ctx, tenant); err != nil {
		return context.Cause(c.ctx)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if c.closed || c.unread < smallBytes {
		d.large.Release(tenant) // the last message was complete after all
		return nil
	}
	c.large, c.holder = true, tenant
	c.slow = time.AfterFunc(largeTimeout, func() {
		d.refusals.Count(metrics.RefusedSlow)
		c.cancel(errSlow)
		_ = c.Close()
	})
	return nil
}

// admit makes the connection one of an agent of this tenant.
func (c *conn) admit(tenant string) {
	c.door.mu.Lock()
	defer c.door.mu.Unlock()
	c.door.removeLocked(c)
	c.tenant = tenant
}

// leave makes it a stranger's again, when the agent's session has ended.
func (c *conn) leave() {
	c.door.mu.Lock()
	defer c.door.mu.Unlock()
	c.completeLocked()
	if !c.closed && !c.stranger {
		c.estrangeLocked()
		c.door.strangers.Return(c, c.address)
	}
}

func (c *conn) estrangeLocked() {
	c.stranger = true
	c.deadline = time.AfterFunc(strangerTimeout, func() { _ = c.Close() })
}

// complete tells that a message of the peer was taken in, with all that came before.
func (c *conn) complete() {
	c.door.mu.Lock()
	defer c.door.mu.Unlock()
	c.completeLocked()
}

func (c *conn) completeLocked() {
	c.unread = 0
	if c.large {
		c.large = false
		c.slow.Stop()
		c.door.large.Release(c.holder)
	}
}

// Close is net.Conn's.
func (c *conn) Close() error {
	c.cancel(net.ErrClosed)
	c.door.mu.Lock()
	c.closed = true
	c.door.removeLocked(c)
	c.completeLocked()
	c.door.mu.Unlock()
	return c.Conn.Close()
}
