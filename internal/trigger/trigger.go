// Package trigger lets the inside of the operator ask a controller for a reconcile.
package trigger

import (
	"context"
	"sync"
	"time"

	"k8s.io/client-go/util/workqueue"
)

// Source is a source of requests for a controller. Its methods do not block.
type Source[R comparable] struct {
	// mu guards what follows.
	mu    sync.Mutex
	queue workqueue.TypedRateLimitingInterface[R]
	// early are requests that came before the controller was started.
	early []R
}

// Start is source.TypedSource's.
func (s *Source[R]) Start(_ context.Context, queue workqueue.TypedRateLimitingInterface[R]) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = queue
	for _, request := range s.early {
		queue.Add(request)
	}
	s.early = nil
	return nil
}

// Add asks for a reconcile now.
func (s *Source[R]) Add(request R) { s.AddAfter(request, 0) }

// AddAfter asks for a reconcile after a while. Of several for the same request, the earliest counts,
// so that a request made often is carried out once in that while.
func (s *Source[R]) AddAfter(request R, after time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.queue == nil:
		s.early = append(s.early, request)
	case after == 0:
		s.queue.Add(request)
	default:
		s.queue.AddAfter(request, after)
	}
}
