package serving

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/workerpool-dev/workerpool/internal/certs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what should come within a moment.
const patience = 10 * time.Second

const places = 16

// serve answers on a port of this machine, and returns its address.
func serve(t *testing.T, handler http.Handler) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := NewServer(handler)
	server.ReadHeaderTimeout = time.Hour // nothing here may depend on it
	run(t, server, Listen(listener, places))
	return listener.Addr().String()
}

// run serves until the test ends, and then waits for all connections.
func run(t *testing.T, server *http.Server, listener net.Listener) {
	t.Helper()
	var serving sync.WaitGroup
	server.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			serving.Add(1)
		case http.StateClosed:
			serving.Done()
		}
	}
	serving.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() { _ = server.Close(); serving.Wait() })
}

// dial connects from an address of this machine, and says something.
func dial(t *testing.T, from, to, said string) net.Conn {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := dialer.DialContext(t.Context(), "tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, _ = io.WriteString(conn, said) // it may be closed by now
	return conn
}

const request = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

// status is that of the answer to a request.
func status(t *testing.T, conn net.Conn) int {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// expectClosed fails if a connection is open.
func expectClosed(t *testing.T, conn net.Conn) {
	t.Helper()
	if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection is open")
	}
}

var ok = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})

func TestConnectionsAreBoundedAndKeepNobodyOut(t *testing.T) {
	for name, said := range map[string]string{
		"that ask nothing": "", "that have sent a byte": "G", "with endless headers": "GET / HTTP/1.1\r\nHost: x\r\nA: ",
	} {
		t.Run(name, func(t *testing.T) {
			address := serve(t, ok)
			var flood []net.Conn
			for range 10 * places {
				flood = append(flood, dial(t, "127.0.0.2", address, said))
			}
			for _, from := range []string{"127.0.0.3", "127.0.0.2"} {
				if got := status(t, dial(t, from, address, request)); got != http.StatusOK {
					t.Errorf("from %s the status is %d", from, got)
				}
			}
			for _, conn := range flood[:9*places] {
				expectClosed(t, conn)
			}
		})
	}
}

func TestRequestsThatAreBeingAnsweredAreBounded(t *testing.T) {
	asked, ended := make(chan struct{}, 10*places), make(chan struct{}, 10*places)
	address := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-r.Context().Done()
		ended <- struct{}{}
	}))
	for range 3 * places {
		dial(t, "127.0.0.2", address, request)
		<-asked
	}
	for range 2 * places {
		<-ended
	}
}

func TestAnAdmittedConnectionIsClosedForNoOther(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan struct{})
	address := serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		Admit(r)
		close(asked)
		<-answer
	}))
	admitted := dial(t, "127.0.0.2", address, request)
	<-asked
	first := dial(t, "127.0.0.2", address, "")
	for range places {
		dial(t, "127.0.0.2", address, "")
	}
	expectClosed(t, first)
	close(answer)
	if got := status(t, admitted); got != http.StatusOK {
		t.Errorf("the status is %d", got)
	}
}

func TestALongHeaderIsRefused(t *testing.T) {
	conn := dial(t, "127.0.0.2", serve(t, ok), "GET / HTTP/1.1\r\nHost: x\r\nA: "+strings.Repeat("a", 4*maxHeaderBytes))
	if got := status(t, conn); got != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("the status is %d", got)
	}
	expectClosed(t, conn)
}

func TestAConnectionServesOneRequest(t *testing.T) {
	conn := dial(t, "127.0.0.2", serve(t, ok), request)
	if got := status(t, conn); got != http.StatusOK {
		t.Errorf("the status is %d", got)
	}
	_, _ = io.WriteString(conn, request)
	if n, err := io.Copy(io.Discard, conn); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d bytes answered a second request: %v", n, err)
	}
}

func TestARequestWithContentIsNotWaitedFor(t *testing.T) {
	conn := dial(t, "127.0.0.2", serve(t, ok), "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nx")
	if got := status(t, conn); got != http.StatusRequestEntityTooLarge {
		t.Errorf("the status is %d", got)
	}
	expectClosed(t, conn)
}

// pipes is a listener whose connections have clocks that a test can turn.
type pipes chan net.Conn

// Accept is net.Listener's.
func (p pipes) Accept() (net.Conn, error) {
	conn, ok := <-p
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}

// Close is net.Listener's.
func (p pipes) Close() error { close(p); return nil }

// Addr is net.Listener's.
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// lasted is how long a connection lasts that a client uses so.
func lasted(t *testing.T, secure *tls.Config, handler http.Handler, use func(net.Conn)) (duration time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ends := make(pipes)
		listener := net.Listener(ends)
		if secure != nil {
			listener = tls.NewListener(ends, secure)
		}
		run(t, NewServer(handler), listener)
		near, far := net.Pipe()
		began := time.Now()
		ends <- near
		use(far)
		duration = time.Since(began)
		_ = far.Close()
	})
	return duration
}

// listen reads until the end.
func listen(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

// trickle sends a byte a second of a header, until it can't.
func trickle(conn net.Conn) {
	for _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nA: "); err == nil; _, err = io.WriteString(conn, "a") {
		time.Sleep(time.Second)
	}
}

// sip reads a byte a second of an answer, until there are no more.
func sip(conn net.Conn) {
	_, err := io.WriteString(conn, request)
	for ; err == nil; _, err = conn.Read(make([]byte, 1)) {
		time.Sleep(time.Second)
	}
}

func TestSlowConnectionsEnd(t *testing.T) {
	ca, err := certs.NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	secure := &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: certs.NewServer(ca, time.Now).GetCertificate}
	long := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 1<<20)) })
	for name, c := range map[string]struct {
		secure *tls.Config
		use    func(net.Conn)
		want   time.Duration
	}{
		"no TLS handshake":                       {secure, listen, askWithin},
		"no request":                             {nil, listen, askWithin},
		"a header of a byte a second":            {nil, trickle, askWithin},
		"an answer that is read a byte a second": {nil, sip, answerWithin},
	} {
		t.Run(name, func(t *testing.T) {
			if got := lasted(t, c.secure, long, c.use); got < c.want || got > c.want+2*time.Second {
				t.Errorf("it lasted %v, want %v", got, c.want)
			}
		})
	}
}
