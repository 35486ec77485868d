package process

import (
	"io"
	"net"
	"sync"
	"testing"
)

// link is the operators' way to the API server, which can be cut: it is then as if no API server ran.
type link struct {
	t *testing.T
	// address is where operators find the API server, server where that is.
	address, server string

	mu       sync.Mutex
	listener net.Listener
	conns    map[net.Conn]bool
	running  sync.WaitGroup
}

func newLink(t *testing.T, server string) *link {
	t.Helper()
	l := &link{t: t, address: "127.0.0.1:0", server: server, conns: map[net.Conn]bool{}}
	l.mend()
	t.Cleanup(func() { l.cut(); l.running.Wait() })
	return l
}

// mend has the API server reached, at the same address as before.
func (l *link) mend() {
	l.t.Helper()
	listener, err := net.Listen("tcp", l.address)
	if err != nil {
		l.t.Fatal(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.listener, l.address = listener, listener.Addr().String()
	l.running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			l.running.Go(func() { l.join(listener, conn) })
		}
	})
}

// cut ends all connections, and refuses others.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.listener.Close()
	for conn := range l.conns {
		_ = conn.Close()
	}
}

// join passes on what either end of a connection says.
func (l *link) join(listener net.Listener, near net.Conn) {
	defer near.Close()
	far, err := net.Dial("tcp", l.server)
	if err != nil {
		return
	}
	defer far.Close()
	l.mu.Lock()
	if l.listener != listener {
		l.mu.Unlock()
		return
	}
	l.conns[near], l.conns[far] = true, true
	l.mu.Unlock()
	l.running.Go(func() {
		_, _ = io.Copy(far, near)
		_ = far.Close()
	})
	_, _ = io.Copy(near, far)
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, near)
	delete(l.conns, far)
}
