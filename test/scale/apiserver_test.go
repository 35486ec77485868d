package scale

import (
	"fmt"
	"io"
	"maps"
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

// front stands between the operator and the API server. It counts the requests, and has the operator see
// changes of pods late; reads and writes it passes on at once.
type front struct {
	url string

	mu       sync.Mutex
	requests map[string]int
}

// newFront serves until the end of the test.
func newFront(t *testing.T, config *rest.Config, lag time.Duration) *front {
	t.Helper()
	transport, err := rest.TransportFor(config)
	if err != nil {
		t.Fatalf("make a transport: %v", err)
	}
	server, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		t.Fatalf("find the API server: %v", err)
	}
	f := &front{requests: map[string]int{}}
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: server.Scheme, Host: server.Host}) },
		Transport:     transport,
		FlushInterval: -1,
		ModifyResponse: func(r *http.Response) error {
			f.note(r)
			if lag > 0 && r.Request.URL.Path == "/api/v1/pods" && r.Request.URL.Query().Get("watch") != "" {
				r.Body = delay(r.Body, lag)
			}
			return nil
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	listener := httptest.NewServer(proxy)
	t.Cleanup(func() {
		listener.CloseClientConnections()
		listener.Close()
	})
	f.url = listener.URL
	return f
}

// note counts a request as `POST pods 201`. One that the API server has no time for is made again, and counts then.
func (f *front) note(r *http.Response) {
	if r.StatusCode == http.StatusTooManyRequests {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests[fmt.Sprint(r.Request.Method, " ", resourceOf(r.Request.URL.Path), " ", r.StatusCode)]++
}

// resourceOf a path of the API: what follows its group, version and namespace, without the name.
func resourceOf(path string) string {
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

// count is how many requests there were whose kind begins so.
func (f *front) count(kind string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	sum := 0
	for k, n := range f.requests {
		if strings.HasPrefix(k, kind) {
			sum += n
		}
	}
	return sum
}

// String lists the requests by kind.
func (f *front) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var text strings.Builder
	total := 0
	for _, kind := range slices.Sorted(maps.Keys(f.requests)) {
		total += f.requests[kind]
		fmt.Fprintf(&text, "  %6d %s\n", f.requests[kind], kind)
	}
	return fmt.Sprintf("%d requests of the operator:\n%s", total, &text)
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

func delay(body io.ReadCloser, lag time.Duration) io.ReadCloser {
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
