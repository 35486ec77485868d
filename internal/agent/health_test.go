package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
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
	server := h.newServer()
	server.ReadHeaderTimeout = time.Hour // nothing here may depend on it
	served := make(chan struct{})
	go func() { defer close(served); _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close(); <-served })
	h.ready.Store(true)
	return listener.Addr().String()
}

func dialHealth(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return conn
}

// statusOver makes a request over a connection, and returns the answer's status.
func statusOver(conn net.Conn, path string) (int, error) {
	if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

func TestConnectionsThatAskNothingAreBoundedAndKeepNobodyOut(t *testing.T) {
	address := serveHealth(t, &health{})
	var idle []net.Conn
	for range 10 * maxSilent {
		idle = append(idle, dialHealth(t, address))
	}
	if status, err := statusOver(dialHealth(t, address), "/readyz"); err != nil || status != http.StatusOK {
		t.Errorf("beside idle connections: %d, error %v", status, err)
	}
	for i, conn := range idle[:9*maxSilent] {
		if _, err := conn.Read(make([]byte, 1)); err == nil || isTimeout(err) {
			t.Fatalf("connection %d is open: %v", i, err)
		}
	}
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

func TestAConnectionServesOneRequest(t *testing.T) {
	conn := dialHealth(t, serveHealth(t, &health{}))
	if status, err := statusOver(conn, "/healthz"); err != nil || status != http.StatusOK {
		t.Fatalf("%d, error %v", status, err)
	}
	if status, err := statusOver(conn, "/healthz"); err == nil {
		t.Errorf("a second: %d", status)
	}
}

func TestARequestWithContentIsNotWaitedFor(t *testing.T) {
	conn := dialHealth(t, serveHealth(t, &health{}))
	if _, err := fmt.Fprint(conn, "GET /readyz HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nx"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("status %d", resp.StatusCode)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("the connection is open: %v", err)
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
