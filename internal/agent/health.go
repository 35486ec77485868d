package agent

import (
	"context"
	"crypto/subtle"
	"net/http"
	"sync/atomic"
)

// drainHeader has the key of a request to /drain: the port can be reached from all over the cluster, and
// not everybody there may take a worker out of service.
const drainHeader = "Workerpool-Drain-Key"

// health answers the kubelet.
type health struct {
	// ready is set with the first accepted session and never unset: a worker stays ready while the
	// operator is away.
	ready atomic.Bool
	// server returns why the job container's server can't be reached. It is nil where there is none.
	server func(context.Context) error
	// drain has no more work taken in. What it returns is closed when there is none left. It is nil where
	// only the agent's own end does that.
	drain    func() <-chan struct{}
	drainKey string
}

func (h *health) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.HandleFunc("GET /readyz", h.serveReady)
	if h.drain != nil {
		mux.HandleFunc("GET /drain", h.serveDrain)
	}
	return mux
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
// has patience.
func (h *health) serveDrain(w http.ResponseWriter, r *http.Request) {
	if subtle.ConstantTimeCompare([]byte(r.Header.Get(drainHeader)), []byte(h.drainKey)) == 0 {
		http.Error(w, drainHeader+" is not this worker's", http.StatusForbidden)
		return
	}
	select {
	case <-h.drain():
	case <-r.Context().Done():
	}
}
