package agent

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
)

// jobServer is the server of a job container. It can be closed, and opened again on its port.
type jobServer struct {
	t       testing.TB
	host    string
	port    int
	handler http.HandlerFunc
	// connected is closed with the first connection.
	connected chan struct{}
	once      sync.Once
	close     func()
}

func newJobServer(t testing.TB, handler http.HandlerFunc) *jobServer {
	t.Helper()
	return newJobServerOn(t, "127.0.0.1", handler)
}

// newJobServerOn listens on this address alone.
func newJobServerOn(t testing.TB, host string, handler http.HandlerFunc) *jobServer {
	t.Helper()
	s := &jobServer{t: t, host: host, handler: handler, connected: make(chan struct{})}
	// The system gives the ports from 32768 on to anybody, and so while the server is closed.
	const first, many = 20000, 12000
	for i := 0; s.close == nil; i++ {
		s.port = first + (os.Getpid()+i)%many
		if listener, err := net.Listen("tcp", s.address()); err == nil {
			s.serve(listener)
		} else if i == many {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { s.close() })
	return s
}

func (s *jobServer) address() string { return net.JoinHostPort(s.host, strconv.Itoa(s.port)) }

func (s *jobServer) serve(listener net.Listener) {
	server := &http.Server{Handler: s.handler, ReadHeaderTimeout: patience, ConnState: func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.once.Do(func() { close(s.connected) })
		}
	}}
	served := make(chan struct{})
	go func() { defer close(served); _ = server.Serve(listener) }()
	s.close = func() { _ = server.Close(); <-served }
}

func (s *jobServer) open() {
	s.t.Helper()
	listener, err := net.Listen("tcp", s.address())
	if err != nil {
		s.t.Fatal(err)
	}
	s.serve(listener)
}

// httpConfig is that of an agent beside a server.
func httpConfig(t testing.TB, o *operator, s *jobServer) Config {
	t.Helper()
	c := testConfig(t, o)
	c.HTTPPort, c.HealthAddress, c.DrainSocket = s.port, "127.0.0.1:0", filepath.Join(filepath.Dir(c.SpoolDir), "drain")
	return c
}

// startHTTP runs an agent beside a server, with a session.
func startHTTP(t testing.TB, handler http.HandlerFunc) (*session, *lockedBuffer) {
	t.Helper()
	o, log := newOperator(t), &lockedBuffer{}
	runAgent(t, httpConfig(t, o, newJobServer(t, handler)), log)
	return o.accepted(), log
}

// call is a job that is a request.
func call(name, method, path string, body ...byte) *pb.Assignment {
	return &pb.Assignment{Token: tokenFor(name), JobName: name, Http: &pb.HttpRequest{Method: method, Path: path, Body: body}}
}

func post(name string) *pb.Assignment { return call(name, http.MethodPost, "/"+name, 'x') }

func TestResultOfARequest(t *testing.T) {
	tests := map[string]struct {
		status  int
		message string
	}{
		"ok":       {200, ""},
		"accepted": {202, ""},
		"empty":    {204, ""},
		"moved":    {302, "302 Found"},
		"missing":  {404, "404 Not Found"},
		"busy":     {429, "429 Too Many Requests"},
		"down":     {503, "503 Service Unavailable"},
	}
	s, _ := startHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(r.URL.Path, "/")
		w.Header().Set("Location", "/ok")
		w.WriteHeader(tests[name].status)
		fmt.Fprintln(w, "said", name)
	})
	for name, test := range tests {
		r := s.run(post(name))
		output := "said " + name + "\n"
		if test.status == http.StatusNoContent {
			output = ""
		}
		if r.GetOutcome() != pb.Outcome_OUTCOME_RESPONDED || int(r.GetHttpStatus()) != test.status ||
			r.GetMessage() != test.message || string(r.GetOutput()) != output || r.GetExitCode() != 0 {
			t.Errorf("%s: %v", name, r)
		}
		if r.GetStartedAgo().AsDuration() <= r.GetEndedAgo().AsDuration() {
			t.Errorf("started %v, ended %v ago", r.GetStartedAgo(), r.GetEndedAgo())
		}
	}
}

func TestTheRequestIsAsTheJobSays(t *testing.T) {
	seen := make(chan *http.Request, 1)
	s, _ := startHTTP(t, func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		seen <- r
	})
	a := call("a", http.MethodPut, "/render/%2Ffile?frame=1&size=a%20b", []byte("the body")...)
	a.Token.Index, a.Token.Try = 7, 3
	a.Http.Headers = []*pb.EnvVar{
		{Name: "content-type", Value: "text/plain"}, {Name: "X-Tag", Value: "1"}, {Name: "x-tag", Value: "2"},
		{Name: "workerpool-uid", Value: "another's"},
	}
	s.run(a)
	r := <-seen
	body, _ := io.ReadAll(r.Body)
	if r.Method != http.MethodPut || r.RequestURI != "/render/%2Ffile?frame=1&size=a%20b" || string(body) != "the body" || r.ContentLength != 8 {
		t.Errorf("%s %s %q", r.Method, r.RequestURI, body)
	}
	if r.Proto != "HTTP/1.1" || !r.Close || !strings.HasPrefix(r.Host, "127.0.0.1:") {
		t.Errorf("%s, close %t, host %s", r.Proto, r.Close, r.Host)
	}
	for name, want := range map[string]string{
		"Content-Type": "text/plain", "X-Tag": "1,2", "User-Agent": "workerpool-agent", "Accept-Encoding": "",
		"Workerpool-Job": "a", "Workerpool-Uid": "a", "Workerpool-Index": "7", "Workerpool-Attempt": "3",
	} {
		if got := strings.Join(r.Header[name], ","); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}

	plain := call("b", http.MethodGet, "/")
	plain.Http.Headers = []*pb.EnvVar{{Name: "User-Agent", Value: "own"}}
	s.run(plain)
	if r := <-seen; r.ContentLength != 0 || r.Header.Get("User-Agent") != "own" {
		t.Errorf("GET with a body of %d bytes, as %q", r.ContentLength, r.Header.Get("User-Agent"))
	}
}

func TestTheAnswersLinesAreLogged(t *testing.T) {
	s, log := startHTTP(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "one\ntwo") })
	s.run(post("a"))
	for _, line := range []string{"one", "two"} {
		if want := `,"job":"a","uid":"a","attempt":1,"index":0,"stream":"response","line":"` + line + `"}`; !strings.Contains(log.String(), want) {
			t.Errorf("no %s in %s", want, log)
		}
	}
}

func TestWhatIsNoRequestCannotStart(t *testing.T) {
	s, _ := startHTTP(t, func(http.ResponseWriter, *http.Request) {})
	with := func(a *pb.Assignment, name, value string) *pb.Assignment {
		a.Http.Headers = []*pb.EnvVar{{Name: "Fine", Value: "fine"}, {Name: name, Value: value}}
		return a
	}
	for _, test := range []struct {
		assignment *pb.Assignment
		want       string
	}{
		{shell("a", "true"), "the worker runs no commands: it serves HTTP"},
		{call("b", "NOT A METHOD", "/"), `http.method: net/http: invalid method "NOT A METHOD"`},
		{call("c", "GET", "/%zz"), `http.path: parse "/%zz": invalid URL escape "%zz"`},
		{call("d", "GET", "/a#b"), "http.path has a number sign"},
		{call("e", "GET", "/\x01"), `http.path: parse "/\x01": net/url: invalid control character in URL`},
		{with(post("f"), "A B", "c"), `http.headers: "A B" can't be sent: its name or its value has a character that no header may have`},
		{with(post("g"), "A", "b\x00"), `http.headers: "A" can't be sent: its name or its value has a character that no header may have`},
	} {
		if r := s.run(test.assignment); r.GetOutcome() != pb.Outcome_OUTCOME_CANNOT_START || r.GetMessage() != test.want {
			t.Errorf("%v, want %q", r, test.want)
		}
	}
	if r := start(t).run(post("a")); r.GetOutcome() != pb.Outcome_OUTCOME_CANNOT_START {
		t.Errorf("a request where commands run: %v", r)
	}
}

func TestAKillCutsTheRequestOffAtOnce(t *testing.T) {
	for name, answer := range map[string]string{"before the answer": "", "in the answer": "beginning"} {
		t.Run(name, func(t *testing.T) {
			begun, cut := make(chan struct{}), make(chan struct{})
			s, _ := startHTTP(t, func(w http.ResponseWriter, r *http.Request) {
				if answer != "" {
					_, _ = io.WriteString(w, answer)
					_ = http.NewResponseController(w).Flush()
				}
				close(begun)
				<-r.Context().Done()
				close(cut)
			})
			s.assign(call("a", http.MethodGet, "/"))
			wait(t, "the request", begun)
			s.running(tokenFor("a"))
			s.send(&pb.OperatorMessage{Kills: []*pb.Kill{{Token: tokenFor("a"), Grace: durationpb.New(2 * patience)}}})
			if r := s.result(tokenFor("a")); r.GetOutcome() != pb.Outcome_OUTCOME_KILLED || r.GetHttpStatus() != 0 || r.GetMessage() != "" {
				t.Errorf("%v", r)
			}
			wait(t, "the server to see it", cut)
		})
	}
}

func TestATimeoutCutsTheRequestOffAtOnce(t *testing.T) {
	s, _ := startHTTP(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	a := call("a", http.MethodGet, "/")
	a.Timeout, a.Grace = durationpb.New(50*time.Millisecond), durationpb.New(2*patience)
	if r := s.run(a); r.GetOutcome() != pb.Outcome_OUTCOME_TIMEOUT || r.GetHttpStatus() != 0 {
		t.Errorf("%v", r)
	}
}

// wait waits until c is closed.
func wait(t testing.TB, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatal("waited in vain for", what)
	}
}

func TestALongAnswerTakesNoMemory(t *testing.T) {
	line := bytes.Repeat([]byte("0123456789abcde\n"), 1<<16) // 1 MiB
	const lines = 256
	s, log := startHTTP(t, func(w http.ResponseWriter, _ *http.Request) {
		for range lines {
			_, _ = w.Write(line)
		}
		_, _ = io.WriteString(w, "the end")
	})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r := s.run(post("a"))
	runtime.ReadMemStats(&after)
	if r.GetHttpStatus() != 200 || len(r.GetOutput()) != tailBytes || !bytes.HasSuffix(r.GetOutput(), []byte("abcde\nthe end")) {
		t.Errorf("status %d, tail of %d bytes", r.GetHttpStatus(), len(r.GetOutput()))
	}
	if logged := strings.Count(log.String(), `"line":"0123456789abcde"`); logged < maxLogged/16-1 || logged > maxLogged/16+2048 {
		t.Errorf("%d lines are logged, want %d", logged, maxLogged/16)
	}
	// Most of it is the log's, which the test keeps.
	if taken := after.TotalAlloc - before.TotalAlloc; taken > lines<<20/2 {
		t.Errorf("%d MiB were allocated", taken>>20)
	}
}

func TestALongHeaderIsNoAnswer(t *testing.T) {
	s, _ := startHTTP(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 2*maxHeader)) })
	if r := s.run(post("a")); r.GetOutcome() != pb.Outcome_OUTCOME_RESPONDED || r.GetHttpStatus() != 0 || len(r.GetMessage()) > maxMessage {
		t.Errorf("%v", r)
	}
}

// A connection that breaks leaves open what the server has done: it is a failure, and nothing is sent
// twice in secret.
func TestABrokenConnectionIsAFailure(t *testing.T) {
	hijack := func(t *testing.T, w http.ResponseWriter, answer string) {
		conn, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = buf.WriteString(answer)
		_ = buf.Flush()
		_ = conn.Close()
	}
	for name, test := range map[string]struct{ answer, message, output string }{
		"no answer":      {"", "no answer: EOF", ""},
		"no HTTP":        {"220 smtp\r\n\r\n", `no answer: net/http: HTTP/1.x transport connection broken: malformed HTTP status code "smtp"`, ""},
		"half an answer": {"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", "the answer of status 200 broke off: unexpected EOF", "half"},
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			t.Run(name+" to "+method, func(t *testing.T) {
				var requests atomic.Int32
				s, _ := startHTTP(t, func(w http.ResponseWriter, _ *http.Request) {
					requests.Add(1)
					hijack(t, w, test.answer)
				})
				r := s.run(call("a", method, "/"))
				if r.GetOutcome() != pb.Outcome_OUTCOME_RESPONDED || r.GetHttpStatus() != 0 || r.GetMessage() != test.message || string(r.GetOutput()) != test.output {
					t.Errorf("%v", r)
				}
				if n := requests.Load(); n != 1 {
					t.Errorf("%d requests", n)
				}
			})
		}
	}
}

func TestARequestThatReachesNobodyIsNotRun(t *testing.T) {
	o := newOperator(t)
	server := newJobServer(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "fine") })
	a, _, _ := runAgent(t, httpConfig(t, o, server), &lockedBuffer{})
	s := o.accepted()
	server.close()
	s.assign(post("a"))
	s.until("the attempt not run", func(r *pb.Report) bool {
		if len(r.GetResults()) > 0 || runs(r.GetRunning(), tokenFor("a")) {
			t.Fatalf("%v", r)
		}
		return r.GetSeen() == s.sequence && len(r.GetRunning()) == 0
	})
	server.open()
	s.until("work taken in", func(r *pb.Report) bool { return !r.GetDraining() })
	again := post("a")
	again.Token = tokenTry("a", 2)
	if r := s.run(again); r.GetHttpStatus() != 200 {
		t.Errorf("%v", r)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.table.count != 1 || len(a.spool.frames) != 1 {
		t.Errorf("%d results, %d of them spooled", a.table.count, len(a.spool.frames))
	}
}

func TestOneThatIsEndedBeforeItReachesTheServerHasAResult(t *testing.T) {
	o := newOperator(t)
	var requests atomic.Int32
	server := newJobServer(t, func(http.ResponseWriter, *http.Request) { requests.Add(1) })
	a, stop, _ := runAgent(t, httpConfig(t, o, server), &lockedBuffer{})
	o.accepted()
	stop()
	at, r := &attempt{assignment: post("a"), ending: pb.Outcome_OUTCOME_KILLED}, &result{}
	if !a.request(at, r) || r.outcome != pb.Outcome_OUTCOME_KILLED || r.httpStatus != 0 {
		t.Errorf("%v", r.outcome)
	}
	server.close()
	at, r = &attempt{assignment: post("a"), ending: pb.Outcome_OUTCOME_KILLED}, &result{}
	if !a.request(at, r) || r.outcome != pb.Outcome_OUTCOME_KILLED {
		t.Errorf("without a server: %v", r.outcome)
	}
	if n := requests.Load(); n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestManyRequestsAtOnce(t *testing.T) {
	var at, most atomic.Int32
	all := make(chan struct{})
	var once sync.Once
	s, _ := startHTTP(t, func(w http.ResponseWriter, r *http.Request) {
		n := at.Add(1)
		defer at.Add(-1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		if n == 4 {
			once.Do(func() { close(all) })
		}
		<-all
		_, _ = io.Copy(w, r.Body)
	})
	for i := range 4 {
		s.assign(call(fmt.Sprint(i), http.MethodPost, "/", fmt.Append(nil, i)...))
	}
	seen := map[string]bool{}
	s.until("all results", func(r *pb.Report) bool {
		for _, result := range r.GetResults() {
			seen[string(result.GetOutput())] = result.GetHttpStatus() == 200
		}
		return len(seen) == 4
	})
	if most.Load() != 4 {
		t.Errorf("%d at once", most.Load())
	}
}

func BenchmarkRequest(b *testing.B) {
	o := newOperator(b)
	server := newJobServer(b, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "fine\n") })
	a, stop, _ := runAgent(b, httpConfig(b, o, server), io.Discard)
	o.accepted()
	stop()
	assignment := post("a")
	b.ResetTimer()
	for b.Loop() {
		r := &result{}
		if !a.request(&attempt{assignment: assignment}, r) || r.httpStatus != 200 {
			b.Fatal(r.message)
		}
	}
}

// BenchmarkKeptConnection is what it would take if connections were used again.
func BenchmarkKeptConnection(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "fine\n") }))
	b.Cleanup(server.Close)
	transport := &http.Transport{DisableCompression: true}
	b.Cleanup(transport.CloseIdleConnections)
	for b.Loop() {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, server.URL, bytes.NewReader([]byte("x")))
		if err != nil {
			b.Fatal(err)
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
}
