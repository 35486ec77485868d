package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"

	pb "github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
)

const (
	// maxLogged is how much of an answer's body is logged, in bytes. What comes after it is read, so that
	// the server can finish and its end is in the result, but not kept.
	maxLogged = 1 << 20
	// maxHeader bounds an answer's header, in bytes.
	maxHeader = 64 << 10
)

// exchange is a request whose connection stands.
type exchange struct {
	conn   *net.TCPConn
	cancel context.CancelFunc
}

// end cuts the connection at once. A grace would be in vain: nothing can ask a server to hurry.
func (e exchange) end(time.Duration, time.Time) bool {
	// The server learns of it at once, and not when it has read what was sent.
	_ = e.conn.SetLinger(0)
	e.cancel()
	return true
}

// request makes an attempt's request and fills in its result. It returns false if the server has
// certainly seen nothing of it, because it could not be reached: the attempt was not run.
func (a *Agent) request(at *attempt, r *result) bool {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	req, err := a.newRequest(ctx, at.assignment)
	if err != nil {
		r.endedBy(pb.Outcome_OUTCOME_CANNOT_START, err.Error(), a.now())
		return true
	}
	conn, err := a.connect(ctx)
	if err != nil {
		a.loseServer(err)
		outcome := a.endingOf(at)
		r.endedBy(outcome, err.Error(), a.now())
		return outcome != pb.Outcome_OUTCOME_UNSPECIFIED
	}
	defer conn.Close()
	req.URL.Host = conn.RemoteAddr().String()
	r.started = a.now()
	a.started(at, exchange{conn, cancel})
	status, err := a.exchange(req, conn, at.assignment, r)
	a.answered(at, r, status, err)
	return true
}

// newRequest fails for what can't be a request.
func (a *Agent) newRequest(ctx context.Context, assignment *pb.Assignment) (*http.Request, error) {
	h := assignment.GetHttp()
	switch {
	case h == nil:
		return nil, errors.New("the worker runs no commands: it serves HTTP")
	case a.HTTPPort == 0:
		return nil, errors.New("the worker serves no HTTP: it runs commands")
	}
	if strings.Contains(h.GetPath(), "#") {
		return nil, errors.New("http.path has a number sign")
	}
	target, err := url.ParseRequestURI(h.GetPath())
	if err != nil {
		return nil, fmt.Errorf("http.path: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, h.GetMethod(), "", bytes.NewReader(h.GetBody()))
	if err != nil {
		return nil, fmt.Errorf("http.method: %w", err)
	}
	req.URL = target
	req.URL.Scheme = "http"
	for _, header := range h.GetHeaders() {
		if !httpguts.ValidHeaderFieldName(header.GetName()) || !httpguts.ValidHeaderFieldValue(header.GetValue()) {
			return nil, fmt.Errorf("http.headers: %q can't be sent: its name or its value has a character that no header may have", header.GetName())
		}
		req.Header.Add(header.GetName(), header.GetValue())
	}
	if _, ok := req.Header["User-Agent"]; !ok {
		req.Header.Set("User-Agent", "workerpool-agent")
	}
	token := assignment.GetToken()
	req.Header.Set("Workerpool-Job", assignment.GetJobName())
	req.Header.Set("Workerpool-Uid", token.GetJobUid())
	req.Header.Set("Workerpool-Index", strconv.Itoa(int(token.GetIndex())))
	req.Header.Set("Workerpool-Attempt", strconv.Itoa(int(token.GetTry())))
	return req, nil
}

// exchange sends a request over a connection that is for it alone, and reads the answer into the result. An
// error means that there is no whole answer; the result has no status then.
//
// A connection that is used again could have been closed by the server just then. Nobody could tell
// whether the server has seen the request. A new connection costs a fifth of a millisecond, on both sides together.
func (a *Agent) exchange(req *http.Request, conn net.Conn, assignment *pb.Assignment, r *result) (status string, err error) {
	transport := &http.Transport{
		DialContext:            func(context.Context, string, string) (net.Conn, error) { return conn, nil },
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeader,
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return "", fmt.Errorf("no answer: %w", err)
	}
	defer resp.Body.Close()
	if r.output, err = a.readBody(req.Context(), assignment, resp.Body); err != nil {
		return "", fmt.Errorf("the answer of status %d broke off: %w", resp.StatusCode, err)
	}
	r.httpStatus = int32(resp.StatusCode)
	return resp.Status, nil
}

// readBody logs a body's lines and returns its tail. It takes no more memory for a longer body.
func (a *Agent) readBody(ctx context.Context, assignment *pb.Assignment, body io.Reader) ([]byte, error) {
	o := newOutput(a.lines)
	defer context.AfterFunc(ctx, func() { close(o.abandon) })()
	buf := buffers.Get().(*[maxPiece + 1]byte)
	defer buffers.Put(buf)
	s := &splitter{buf: buf[:], output: o, assignment: assignment, stream: "response"}
	defer func() { s.end() }()
	for logged := 0; ; {
		n, err := body.Read(s.free())
		if logged < maxLogged {
			s.took(n)
			logged += n
		} else {
			o.tail.write(s.free()[:n])
		}
		if errors.Is(err, io.EOF) {
			return o.tail.bytes(), nil
		}
		if err != nil {
			return o.tail.bytes(), err
		}
	}
}

// answered says how a request has ended. A whole answer counts even if the agent was about to cut the
// connection. One that breaks while the worker is told to end was likely broken by that: it is no failure.
func (a *Agent) answered(at *attempt, r *result, status string, err error) {
	a.mu.Lock()
	outcome, message, draining := a.endedLocked(at), at.message, a.table.draining
	a.mu.Unlock()
	switch now := a.now(); {
	case err == nil && r.httpStatus/100 == 2:
		r.endedBy(pb.Outcome_OUTCOME_RESPONDED, "", now)
	case err == nil:
		r.endedBy(pb.Outcome_OUTCOME_RESPONDED, status, now)
	case outcome != pb.Outcome_OUTCOME_EXITED:
		r.endedBy(outcome, message, now)
	case draining:
		r.endedBy(pb.Outcome_OUTCOME_INTERRUPTED, err.Error(), now)
	default:
		r.endedBy(pb.Outcome_OUTCOME_RESPONDED, err.Error(), now)
	}
}
