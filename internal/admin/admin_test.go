package admin

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// dial connects from an address of this machine, and says something.
func dial(t *testing.T, from, to, said string) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).DialContext(t.Context(), "tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, _ = io.WriteString(conn, said) // it may be closed by now
	return conn
}

// get is the status that a probe gets.
func get(t *testing.T, from, address, path string) int {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(dial(t, from, address, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n")), nil)
	if err != nil {
		t.Errorf("no answer: %v", err)
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

func TestHealth(t *testing.T) {
	var warm atomic.Bool
	s := &starter{t: t}
	err := ServeHealth(s, "127.0.0.1:0", func(*http.Request) error {
		if !warm.Load() {
			return errors.New("the caches are not filled yet")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		warm bool
		path string
		want int
	}{
		{false, "/healthz", http.StatusOK}, {false, "/readyz", http.StatusInternalServerError}, {true, "/readyz", http.StatusOK},
		{true, "/metrics", http.StatusNotFound}, {true, "/debug/pprof/", http.StatusNotFound},
	} {
		warm.Store(c.warm)
		if got := get(t, here, s.address, c.path); got != c.want {
			t.Errorf("%s is %d, want %d", c.path, got, c.want)
		}
	}
}

// Each port is open to any pod. The kubelet comes from another address, the node's.
func TestAThousandEndlessHeadersAreCutOffAndAProbeGetsThrough(t *testing.T) {
	health, profiles := &starter{t: t}, &starter{t: t}
	if err := ServeHealth(health, "127.0.0.1:0", func(*http.Request) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if err := ServeProfiles(profiles, "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	for address, path := range map[string]string{health.address: "/readyz", profiles.address: "/debug/pprof/cmdline"} {
		var conns []net.Conn
		for range 1000 {
			conns = append(conns, dial(t, here, address, "GET / HTTP/1.1\r\nHost: x\r\nA: "))
		}
		if got := get(t, elsewhere, address, path); got != http.StatusOK {
			t.Errorf("%s is %d", path, got)
		}
		for _, conn := range conns[:len(conns)-maxConnections] {
			if _, err := conn.Read(make([]byte, 1)); err == nil || isTimeout(err) {
				t.Fatalf("more than %d connections are open: %v", maxConnections, err)
			}
		}
	}
}

func isTimeout(err error) bool {
	var e net.Error
	return errors.As(err, &e) && e.Timeout()
}

func TestConnectionsToTheMetricsAreBoundedAndKeepNoReaderOut(t *testing.T) {
	f := setup(t)
	reader := f.account(true)
	f.awaitRights(reader)
	const flood = 5 * maxConnections
	closed := make(chan struct{}, flood)
	var dialling sync.WaitGroup
	for range 8 {
		dialling.Go(func() {
			for range flood / 8 {
				conn := tls.Client(dial(t, here, f.address, ""), &tls.Config{InsecureSkipVerify: true})
				_, _ = io.WriteString(conn, "GET /metrics HTTP/1.1\r\nHost: x\r\nA: ")
				go func() {
					if _, err := io.Copy(io.Discard, conn); !isTimeout(err) {
						closed <- struct{}{}
					}
				}()
			}
		})
	}
	dialling.Wait()
	if got := f.read(elsewhere, "Bearer "+reader); got.status != http.StatusOK {
		t.Errorf("the reader got %d", got.status)
	}
	deadline := time.After(patience)
	for range flood - maxConnections {
		select {
		case <-closed:
		case <-deadline:
			t.Fatal("the connections are not bounded")
		}
	}
}

// A connection speaks HTTP/1.1: one of HTTP/2 would have many requests.
func TestTheMetricsHaveOneRequestAConnection(t *testing.T) {
	f := setup(t)
	conn, err := tls.Dial("tcp", f.address, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := conn.ConnectionState().NegotiatedProtocol; got != "http/1.1" {
		t.Errorf("it speaks %q", got)
	}
}

// The Lease is released after the servers have stopped: nobody may hold that up.
func TestAServerStopsWhateverItsConnectionsDo(t *testing.T) {
	s, asked := &starter{t: t}, make(chan struct{})
	err := ServeHealth(s, "127.0.0.1:0", func(r *http.Request) error {
		close(asked)
		<-r.Context().Done()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	dial(t, here, s.address, "GET /readyz HTTP/1.1\r\nHost: x\r\n")
	dial(t, here, s.address, "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
	<-asked
	stopped := make(chan struct{})
	go func() { s.stop(); close(stopped) }()
	select {
	case <-stopped:
	case <-time.After(patience):
		t.Fatal("the server does not stop")
	}
}

func TestNothingIsServedNowhere(t *testing.T) {
	for _, address := range []string{"", Nowhere} {
		s := &starter{t: t}
		err := errors.Join(ServeHealth(s, address, nil), ServeProfiles(s, address),
			ServeMetrics(s, address, nil, NewReaders(nil, nil, time.Now)))
		if err != nil || s.address != "" {
			t.Errorf("%q: served at %q, error %v", address, s.address, err)
		}
	}
}
