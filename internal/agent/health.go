package agent

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/workerpool-dev/workerpool/internal/serving"
)

// The port can be reached from all over the cluster. What others ask costs little, tells little and changes nothing.
const (
	// maxConnections bounds the connections, but for those that wait for a drain: these have a bound of their own.
	maxConnections = 64
	// toldWithin is how long a request for a drain waits for the word that the pod is to end: the kubelet runs both
	// hooks at once. Else the job container alone is ended, or a stranger asks.
	toldWithin = 5 * time.Second
)

// health answers the kubelet.
type health struct {
	// ready is set with the first accepted session and never unset: a worker stays ready while the
	// operator is away.
	ready atomic.Bool
	// server returns why the job container's server can't be reached. It is nil where there is none.
	server func(context.Context) error
	// told is closed when the pod is to end, idle when nothing is left to do then. They are nil where only the agent's
	// own end is waited for.
	told, idle <-chan struct{}
	toldWithin time.Duration

	waiting waiting
}

func (h *health) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.HandleFunc("GET /readyz", h.serveReady)
	if h.told != nil {
		mux.HandleFunc("GET /drain", h.serveDrain)
	}
	return mux
}

// newServer returns a server for the handler, and the listener with bounds that it is to serve.
func (h *health) newServer(listener net.Listener) (*http.Server, net.Listener) {
	return serving.NewServer(h.handler()), serving.Listen(listener, maxConnections)
}

func (h *health) serveReady(w http.ResponseWriter, r *http.Request) {
	if !h.ready.Load() {
		http.Error(w, "no session with the operator yet", http.StatusServiceUnavailable)
		return
	}
	if h.server == nil {
		return
	}
	if err := h.server(r.Context()); err != nil {
		http.Error(w, "the job container does not answer: "+err.Error(), http.StatusServiceUnavailable)
	}
}

// serveDrain answers when nothing runs and all results are stored, which may take as long as whoever asks
// has patience. It takes the word that the pod is to end from nobody who asks: that comes from within the pod.
func (h *health) serveDrain(w http.ResponseWriter, r *http.Request) {
	ctx, done, ok := h.waiting.begin(r)
	if !ok {
		http.Error(w, "too many wait", http.StatusServiceUnavailable)
		return
	}
	defer done()
	serving.Admit(r)
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{})
	timeout := time.NewTimer(h.toldWithin)
	defer timeout.Stop()
	select {
	case <-h.told:
	case <-timeout.C:
		return
	case <-ctx.Done():
		return
	}
	select {
	case <-h.idle:
	case <-ctx.Done():
	}
}

// waiting has the requests for a drain, by the host that they come from: each has one, the last. So those of others can't
// keep the kubelet's out.
type waiting struct {
	mu    sync.Mutex
	hosts map[string]*waiter
}

type waiter struct{ cancel context.CancelFunc }

// maxWaiting is how many hosts may wait at once.
const maxWaiting = 256

func (w *waiting) begin(r *http.Request) (ctx context.Context, done func(), ok bool) {
	host := serving.Host(r.RemoteAddr)
	ctx, cancel := context.WithCancel(r.Context())
	own := &waiter{cancel}
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.hosts[host]
	if before == nil && len(w.hosts) >= maxWaiting {
		cancel()
		return nil, nil, false
	}
	if before != nil {
		before.cancel()
	}
	if w.hosts == nil {
		w.hosts = map[string]*waiter{}
	}
	w.hosts[host] = own
	return ctx, func() {
		cancel()
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.hosts[host] == own {
			delete(w.hosts, host)
		}
	}, true
}
