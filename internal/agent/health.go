package agent

import (
	"net/http"
	"sync/atomic"
)

// health answers the kubelet's probes.
type health struct {
	// ready is set with the first accepted session and never unset: a worker stays ready while the
	// operator is away.
	ready atomic.Bool
}

func (h *health) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !h.ready.Load() {
			http.Error(w, "no session with the operator yet", http.StatusServiceUnavailable)
		}
	})
	return mux
}
