package simulated

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"
)

// NewProxy stands between the operator and the API server until the end of the test, and returns its URL. Each
// answer is shown to see, which may change it, before it goes to the operator. Around, if not nil, is a handler around
// the proxy's own.
func NewProxy(t testing.TB, config *rest.Config, see func(*http.Response), around func(http.Handler) http.Handler) (address string) {
	t.Helper()
	transport, err := rest.TransportFor(config)
	if err != nil {
		t.Fatalf("make a transport: %v", err)
	}
	server, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		t.Fatalf("find the API server: %v", err)
	}
	var handler http.Handler = &httputil.ReverseProxy{
		Rewrite:        func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: server.Scheme, Host: server.Host}) },
		Transport:      transport,
		FlushInterval:  -1,
		ModifyResponse: func(r *http.Response) error { see(r); return nil },
		ErrorHandler:   func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	if around != nil {
		handler = around(handler)
	}
	listener := httptest.NewServer(handler)
	t.Cleanup(func() {
		listener.CloseClientConnections()
		listener.Close()
	})
	return listener.URL
}

// ResourceOf a path of the API: what follows its group, version and namespace, without the name.
func ResourceOf(path string) string {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	skip := 2
	if parts[0] == "apis" {
		skip = 3
	}
	if len(parts) > skip+2 && parts[skip] == "namespaces" {
		skip += 2
	}
	if len(parts) <= skip {
		return path
	}
	resource := parts[skip]
	if len(parts) > skip+2 {
		resource += "/" + parts[skip+2]
	}
	return resource
}

// late is a stream whose bytes come a while after they were sent, in order.
type late struct {
	io.Closer

	chunks chan chunk
	left   []byte
	closed chan struct{}
	once   sync.Once
}

type chunk struct {
	data []byte
	due  time.Time
	err  error
}

// maxLate bounds what is held back, in pieces; a stream that has more to say waits.
const maxLate = 1 << 14

// Delay has what a body says come so much later.
func Delay(body io.ReadCloser, lag time.Duration) io.ReadCloser {
	l := &late{Closer: body, chunks: make(chan chunk, maxLate), closed: make(chan struct{})}
	go func() {
		buffer := make([]byte, 32<<10)
		for {
			n, err := body.Read(buffer)
			select {
			case l.chunks <- chunk{data: slices.Clone(buffer[:n]), due: time.Now().Add(lag), err: err}:
			case <-l.closed:
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return l
}

// Read is io.Reader's.
func (l *late) Read(p []byte) (int, error) {
	if len(l.left) == 0 {
		select {
		case c := <-l.chunks:
			if err := l.hold(c); err != nil {
				return 0, err
			}
		case <-l.closed:
			return 0, io.ErrClosedPipe
		}
	}
	n := copy(p, l.left)
	l.left = l.left[n:]
	return n, nil
}

// hold waits until a chunk is due. The error that ended the stream comes with its last chunk, which is empty.
func (l *late) hold(c chunk) error {
	timer := time.NewTimer(time.Until(c.due))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.closed:
		return io.ErrClosedPipe
	}
	l.left = c.data
	if len(c.data) == 0 {
		return c.err
	}
	return nil
}

// Close is io.Closer's.
func (l *late) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Closer.Close()
}
