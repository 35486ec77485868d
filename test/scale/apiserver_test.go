package scale

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/workerpool-dev/workerpool/test/simulated"
)

// front stands between the operator and the API server. It counts the requests, and has the operator see
// changes of pods late; reads and writes it passes on at once.
type front struct {
	url string

	mu       sync.Mutex
	requests map[string]int
}

// newFront serves until the end of the test.
func newFront(t testing.TB, config *rest.Config, lag time.Duration) *front {
	t.Helper()
	f := &front{requests: map[string]int{}}
	f.url = simulated.NewProxy(t, config, func(r *http.Response) {
		f.note(r)
		if lag > 0 && r.Request.URL.Path == "/api/v1/pods" && r.Request.URL.Query().Get("watch") != "" {
			r.Body = simulated.Delay(r.Body, lag)
		}
	}, nil)
	return f
}

// note counts a request as `POST pods 201`. One that the API server has no time for is made again, and counts then.
func (f *front) note(r *http.Response) {
	if r.StatusCode == http.StatusTooManyRequests {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests[fmt.Sprint(r.Request.Method, " ", simulated.ResourceOf(r.Request.URL.Path), " ", r.StatusCode)]++
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
