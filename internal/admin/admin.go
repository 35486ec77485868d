// Package admin serves what is asked about the operator itself: whether it is alive and ready, its metrics, and its
// profiles. Any pod may be able to ask.
package admin

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/workerpool-dev/workerpool/internal/certs"
	"github.com/workerpool-dev/workerpool/internal/serving"
)

const (
	metricsPath = "/metrics"
	// maxConnections bounds those to each port.
	maxConnections = 128
	// maxScrapes is how many readers may be answered at once.
	maxScrapes = 8
	// shutdownTimeout is how long the end of the process may wait for answers: the Lease is released after that.
	shutdownTimeout = 250 * time.Millisecond
)

// Nowhere in place of an address has nothing served. The empty address does so too.
const Nowhere = "0"

// Adder is a manager. It starts servers before all else, whoever leads, and stops them last.
type Adder interface {
	Add(runnable manager.Runnable) error
}

// ServeHealth answers /healthz as long as the process does, and /readyz as the check says.
func ServeHealth(mgr Adder, address string, ready healthz.Checker) error {
	mux := http.NewServeMux()
	mux.Handle("GET /healthz", healthz.CheckHandler{Checker: healthz.Ping})
	mux.Handle("GET /readyz", healthz.CheckHandler{Checker: ready})
	return serve(mgr, "health", address, serving.NewServer(mux), nil)
}

// ServeMetrics serves what is gathered to readers, over TLS. The certificate is made here, by a CA that nobody trusts.
func ServeMetrics(mgr Adder, address string, gatherer prometheus.Gatherer, readers *Readers) error {
	ca, err := certs.NewCA(readers.clock())
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("GET "+metricsPath, readers.guard(promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes})))
	server := serving.NewServer(mux)
	server.MaxHeaderBytes = maxTokenBytes + 4<<10
	return serve(mgr, "metrics", address, server, &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"http/1.1"}, // HTTP/2 would have many requests on one connection
		GetCertificate: certs.NewServer(ca, readers.clock).GetCertificate,
	})
}

// ServeProfiles serves /debug/pprof, to whoever can reach it.
func ServeProfiles(mgr Adder, address string) error {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return serve(mgr, "profiles", address, serving.NewServer(mux), nil)
}

func serve(mgr Adder, name, address string, server *http.Server, secure *tls.Config) error {
	if address == "" || address == Nowhere {
		return nil
	}
	raw, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("listening for %s: %w", name, err)
	}
	listener := serving.Listen(raw, maxConnections)
	if secure != nil {
		listener = tls.NewListener(listener, secure)
	}
	return mgr.Add(&manager.Server{Name: name, Server: server, Listener: listener, ShutdownTimeout: new(shutdownTimeout)})
}
