package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// fault is what happens to one write.
type fault string

const (
	conflict      fault = "409"
	throttled     fault = "429"
	internalError fault = "500"
	// resetBefore cuts the connection before the write takes effect.
	resetBefore fault = "reset-before"
	// timeoutBefore answers late, as the API server does that has given a write up.
	timeoutBefore fault = "timeout-before"
	// timeoutAfter has the write take effect, and then nothing is heard until the connection is cut.
	timeoutAfter fault = "timeout-after"
	// killBefore and killAfter end the operator, before the write takes effect and after.
	killBefore fault = "kill-before"
	killAfter  fault = "kill-after"
)

var faults = []fault{conflict, throttled, internalError, resetBefore, timeoutBefore, timeoutAfter, killBefore, killAfter}

func (f fault) kills() bool { return f == killBefore || f == killAfter }

// stall is how long a write that times out is not answered: less than it would be, so that the test is not longer.
const stall = 1200 * time.Millisecond

// strike is a fault at the nth write of a kind, from 1.
type strike struct {
	kind  string
	nth   int
	fault fault
	// struck is set when it has happened.
	struck bool
}

func (s *strike) String() string { return fmt.Sprintf("%s#%d/%s", s.kind, s.nth, s.fault) }

// record is what the proxy knows of a namespace.
type record struct {
	writes   map[string]int
	strikes  []*strike
	timeline []string
	// kills are how often the operator was killed since.
	kills int
}

// maxTimeline bounds the timeline of a namespace: longer ones are of loops.
const maxTimeline = 400

// proxy is what the operator takes for its API server.
type proxy struct {
	began time.Time
	// kill ends the operator soon: that of a namespace, if it has one of its own.
	kill    func(namespace string)
	watches *watches

	mu      sync.Mutex
	records map[string]*record
}

// follow begins the record of a namespace.
func (p *proxy) follow(namespace string, strikes ...*strike) *record {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := &record{writes: map[string]int{}, strikes: strikes}
	p.records[namespace] = r
	return r
}

// look calls f with the records guarded.
func (p *proxy) look(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

func (p *proxy) note(namespace, format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.noteLocked(p.records[namespace], format, args...)
}

func (p *proxy) noteLocked(r *record, format string, args ...any) {
	if r != nil && len(r.timeline) < maxTimeline {
		r.timeline = append(r.timeline, fmt.Sprintf("%8.3f %s", time.Since(p.began).Seconds(), fmt.Sprintf(format, args...)))
	}
}

// noteAll tells all namespaces that the operator was killed.
func (p *proxy) noteAll(what string, kills int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.records {
		r.kills += kills
		p.noteLocked(r, "%s", what)
	}
}

// around decides about each request before the handler that passes it on.
func (p *proxy) around(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		r.Header.Set("Accept-Encoding", "identity") // watches are read on the way
		asked := parse(r, body)
		switch {
		case asked.verb == "watch" && p.watches.refuse(asked.resource, r):
			answer(w, http.StatusGone, metav1.StatusReasonExpired, "too old resource version")
		case asked.verb == "watch":
			next.ServeHTTP(w, r)
		case asked.verb == "get" && asked.name != "" && p.watches.blind(asked.resource):
			p.note(asked.namespace, "get %s %s: 500", asked.resource, asked.name)
			answer(w, http.StatusInternalServerError, metav1.StatusReasonInternalError, "etcd has no leader")
		case asked.verb == "get":
			if asked.name != "" {
				p.note(asked.namespace, "get %s %s", asked.resource, asked.name)
			}
			next.ServeHTTP(w, r)
		default:
			p.write(w, r, next, &asked)
		}
	})
}

// write does to a write what is to happen to it.
func (p *proxy) write(w http.ResponseWriter, r *http.Request, next http.Handler, asked *request) {
	f := p.strike(asked)
	p.note(asked.namespace, "%s (%s) %s", asked.kind(), asked.name, f)
	left := r.Context()
	var got *httptest.ResponseRecorder
	if f == "" || f == timeoutAfter || f == killAfter {
		got = httptest.NewRecorder()
		if f != "" { // it takes effect, though the client may be gone by then
			r = r.WithContext(context.WithoutCancel(r.Context()))
		}
		next.ServeHTTP(got, r)
		if f == "" && got.Code >= 300 || f != "" {
			p.note(asked.namespace, "    answer to %s: %d %s", asked.kind(), got.Code, reasonOf(got.Body.Bytes()))
		}
	}
	switch f {
	case "":
		maps.Copy(w.Header(), got.Header())
		w.WriteHeader(got.Code)
		_, _ = w.Write(got.Body.Bytes())
	case conflict:
		answer(w, http.StatusConflict, metav1.StatusReasonConflict, "the object has been modified; please apply your changes to the latest version")
	case throttled:
		w.Header().Set("Retry-After", "1")
		answer(w, http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests, "the server has received too many requests")
	case internalError:
		answer(w, http.StatusInternalServerError, metav1.StatusReasonInternalError, "etcdserver: leader changed")
	case timeoutBefore:
		wait(left, stall)
		answer(w, http.StatusGatewayTimeout, metav1.StatusReasonTimeout, "request did not complete within the allotted timeout")
	case timeoutAfter:
		wait(left, stall)
		panic(http.ErrAbortHandler)
	case resetBefore:
		panic(http.ErrAbortHandler)
	case killBefore, killAfter:
		p.kill(asked.namespace)
		<-left.Done()
		panic(http.ErrAbortHandler)
	}
}

// strike counts a write, and returns what is to happen to it.
func (p *proxy) strike(asked *request) fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := p.records[asked.namespace]
	if r == nil {
		return ""
	}
	kind := asked.kind()
	r.writes[kind]++
	for _, s := range r.strikes {
		if s.kind == kind && s.nth == r.writes[kind] && !s.struck {
			s.struck = true
			return s.fault
		}
	}
	return ""
}

// wait returns when the time is over, or the client has given up.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func answer(w http.ResponseWriter, code int, reason metav1.StatusReason, message string) {
	body, err := json.Marshal(status(code, reason, message))
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(body)
}

func status(code int, reason metav1.StatusReason, message string) *metav1.Status {
	return &metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusFailure, Code: int32(code), Reason: reason, Message: message,
	}
}

func reasonOf(body []byte) string {
	s := metav1.Status{}
	if json.Unmarshal(body, &s) != nil || s.Kind != "Status" {
		return ""
	}
	return strings.TrimSpace(string(s.Reason) + " " + s.Message)
}

// key is a name in a namespace.
func key(namespace, name string) types.NamespacedName {
	return types.NamespacedName{Namespace: namespace, Name: name}
}
