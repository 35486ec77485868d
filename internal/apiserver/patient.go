// Package apiserver is how the operator reaches the API server.
package apiserver

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
)

// retryInterval is how often it is tried whether the API server is there again.
const retryInterval = 250 * time.Millisecond

// patient has reads wait for an API server that can't be reached, in place of failing. Whoever reads for a cache would
// look again after pauses that grow to a minute: for so long a leader would know nothing of what there is, once the API
// server is back. And a process that starts would end, and be started again after pauses as long.
type patient struct {
	next http.RoundTripper
	// ctx is the process's. Nothing waits beyond its end.
	ctx context.Context //nolint:containedctx // some requests have none that ends
	log logr.Logger
	// away is set while the API server can't be reached.
	away atomic.Bool
}

// Patient wraps a transport. Its requests of the method GET wait for a connection until their own context ends, or
// ctx. What has been sent is never sent again: all other errors are returned.
func Patient(ctx context.Context, log logr.Logger) func(http.RoundTripper) http.RoundTripper {
	return func(next http.RoundTripper) http.RoundTripper { return &patient{next: next, ctx: ctx, log: log} }
}

// RoundTrip is http.RoundTripper's.
func (p *patient) RoundTrip(r *http.Request) (*http.Response, error) {
	for {
		response, err := p.next.RoundTrip(r)
		unreachable := Unreachable(err)
		p.tell(unreachable, err)
		if !unreachable || r.Method != http.MethodGet || !p.pause(r.Context()) {
			return response, err
		}
	}
}

// Unreachable returns whether a request has failed before there was a connection to send it over.
func Unreachable(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// pause returns false if there is nothing to wait for any more.
func (p *patient) pause(ctx context.Context) bool {
	timer := time.NewTimer(retryInterval)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
	case <-p.ctx.Done():
	}
	return false
}

// tell logs once that the API server can't be reached, and once that it can be again.
func (p *patient) tell(unreachable bool, err error) {
	switch {
	case unreachable && p.away.CompareAndSwap(false, true):
		p.log.Info("Waiting for the API server", "error", err.Error())
	case err == nil && p.away.CompareAndSwap(true, false):
		p.log.Info("The API server is there again")
	}
}
