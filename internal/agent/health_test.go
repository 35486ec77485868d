package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"
)

// serveHealth returns the address of a server that is ready.
func serveHealth(t *testing.T, h *health) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, bounded := h.newServer(listener)
	server.ReadHeaderTimeout = time.Hour // nothing here may depend on it
	server.WriteTimeout = time.Millisecond
	served := make(chan struct{})
	go func() { defer close(served); _ = server.Serve(bounded) }()
	t.Cleanup(func() { _ = server.Close(); <-served })
	h.ready.Store(true)
	return listener.Addr().String()
}

// dialHealth connects from an address of this machine, and asks for a path.
func dialHealth(t *testing.T, from, address, path string) net.Conn {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := dialer.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path); err != nil {
		t.Fatal(err)
	}
	return conn
}

// The kubelet waits for a drain for as long as it takes, whatever others do meanwhile.
func TestOtherConnectionsDoNotEndTheKubeletsRequestForADrain(t *testing.T) {
	told, idle := make(chan struct{}), make(chan struct{})
	h := &health{told: told, idle: idle, toldWithin: time.Hour}
	address := serveHealth(t, h)
	kubelet := dialHealth(t, "127.0.0.2", address, "/drain")
	waitFor(t, "the request", func() bool {
		h.waiting.mu.Lock()
		defer h.waiting.mu.Unlock()
		return h.waiting.hosts["127.0.0.2"] != nil
	})
	var others []net.Conn
	for i := range 10 * maxConnections {
		conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 3, byte(i))}}).DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		others = append(others, conn)
	}
	for _, conn := range others[:9*maxConnections] {
		_ = conn.SetDeadline(time.Now().Add(patience))
		if _, err := conn.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("the connections are not bounded")
		}
	}
	close(told)
	close(idle)
	answer, err := http.ReadResponse(bufio.NewReader(kubelet), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Errorf("status %d", answer.StatusCode)
	}
}

func TestRequestsForADrainKeepOutNoOtherHosts(t *testing.T) {
	told, idle := make(chan struct{}), make(chan struct{})
	h := &health{told: told, idle: idle, toldWithin: time.Hour}
	from := func(ctx context.Context, host string) <-chan int {
		r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/drain", nil)
		r.RemoteAddr = net.JoinHostPort(host, "1")
		w, answer := httptest.NewRecorder(), make(chan int, 1)
		go func() { h.handler().ServeHTTP(w, r); answer <- w.Code }()
		waitFor(t, "the request", func() bool {
			h.waiting.mu.Lock()
			defer h.waiting.mu.Unlock()
			return h.waiting.hosts[host] != nil || len(h.waiting.hosts) == maxWaiting
		})
		return answer
	}
	ctx, cancel := context.WithCancel(t.Context())
	kubelet := from(t.Context(), "10.0.0.1")
	var others []<-chan int
	for i := range maxWaiting + 10 {
		others = append(others, from(ctx, fmt.Sprint("10.1.0.", i)))
		if i > 0 && i < maxWaiting-1 {
			// One more of the same host ends that before.
			again := from(ctx, fmt.Sprint("10.1.0.", i))
			answered(t, others[i])
			others[i] = again
		}
	}
	if code := answered(t, others[len(others)-1]); code != http.StatusServiceUnavailable {
		t.Errorf("one too many: %d", code)
	}
	noAnswer(t, kubelet, "before the word")
	close(told)
	noAnswer(t, kubelet, "before the end")
	close(idle)
	if code := answered(t, kubelet); code != http.StatusOK {
		t.Errorf("status %d", code)
	}
	cancel()
	for _, o := range others[:maxWaiting-1] {
		answered(t, o)
	}
	if len(h.waiting.hosts) != 0 {
		t.Errorf("%d hosts wait", len(h.waiting.hosts))
	}
}
