package agent

import (
	"context"
	"encoding/pem"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	pb "github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
)

func TestNoWorkBeforeTheServerAnswers(t *testing.T) {
	o := newOperator(t)
	server := newJobServer(t, func(http.ResponseWriter, *http.Request) {})
	server.close()
	_, _, _ = runAgent(t, httpConfig(t, o, server), &lockedBuffer{})
	s := o.accepted() // the session does not wait
	if !s.hello.GetDraining() {
		t.Errorf("hello %v, want no work taken in", s.hello)
	}
	server.open()
	s.until("work taken in", func(r *pb.Report) bool { return !r.GetDraining() })
	if r := s.run(post("a")); r.GetHttpStatus() != 200 {
		t.Errorf("%v", r)
	}
	s.settle(tokenFor("a"))
}

func TestAnAgentThatDrainsDoesNotWaitForTheServer(t *testing.T) {
	o := newOperator(t)
	server := newJobServer(t, func(http.ResponseWriter, *http.Request) {})
	c := httpConfig(t, o, server)
	_, stop, _ := runAgent(t, c, &lockedBuffer{})
	s := o.accepted()
	s.run(post("a"))
	stop()
	server.close()
	a, _, done := runAgent(t, c, &lockedBuffer{})
	a.Drain()
	s = o.accepted()
	if len(s.hello.GetResults()) != 1 || !s.hello.GetDraining() {
		t.Errorf("hello %v", s.hello)
	}
	s.settle(tokenFor("a"))
	ends(t, done)
}

// ask sends a request to the agent's health server.
func ask(ctx context.Context, a *Agent, path, key string) int {
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, path, nil)
	r.Header.Set(drainHeader, key)
	a.health.handler().ServeHTTP(w, r)
	return w.Code
}

func TestReadyWhileTheServerAnswers(t *testing.T) {
	o := newOperator(t)
	server := newJobServer(t, func(http.ResponseWriter, *http.Request) {})
	a, _, _ := runAgent(t, httpConfig(t, o, server), &lockedBuffer{})
	ready := func() bool { return ask(t.Context(), a, "/readyz", "") == http.StatusOK }
	s := o.next()
	if ready() {
		t.Error("ready before the first session")
	}
	s.welcome(5)
	waitFor(t, "readiness", ready)
	s.over <- nil
	o.next()
	if !ready() {
		t.Error("not ready while the operator is away")
	}
	server.close()
	if ready() || ask(t.Context(), a, "/healthz", "") != http.StatusOK {
		t.Error("ready while the server does not answer, or not healthy")
	}
	server.open()
	if !ready() {
		t.Error("not ready again")
	}
}

// drainAsked asks an agent to drain, as the kubelet does, and returns what comes with the answer.
func drainAsked(t *testing.T, a *Agent) <-chan int {
	t.Helper()
	answer := make(chan int, 1)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); answer <- ask(ctx, a, "/drain", "key") }()
	t.Cleanup(func() { cancel(); <-ended })
	return answer
}

func TestDrainAnswersWhenAllIsDoneAndStored(t *testing.T) {
	o := newOperator(t)
	begun, goOn := make(chan struct{}), make(chan struct{})
	server := newJobServer(t, func(w http.ResponseWriter, _ *http.Request) {
		close(begun)
		<-goOn
		_, _ = io.WriteString(w, "done")
	})
	a, _, done := runAgent(t, httpConfig(t, o, server), &lockedBuffer{})
	s := o.accepted()
	s.assign(post("a"))
	wait(t, "the request", begun)
	answer := drainAsked(t, a)
	s.until("draining", (*pb.Report).GetDraining)
	s.assign(post("refused"))
	s.until("the refusal", func(r *pb.Report) bool { return r.GetSeen() == s.sequence && len(r.GetRunning()) == 1 })
	noAnswer(t, answer, "while a request runs")
	close(goOn)
	if r := s.result(tokenFor("a")); r.GetHttpStatus() != 200 || string(r.GetOutput()) != "done" {
		t.Errorf("%v", r)
	}
	noAnswer(t, answer, "before its result is stored")
	s.settle(tokenFor("a"))
	if code := answered(t, answer); code != http.StatusOK {
		t.Errorf("status %d", code)
	}
	if code := answered(t, drainAsked(t, a)); code != http.StatusOK {
		t.Errorf("asked again: status %d", code)
	}

	// It stays, in session, until it is told to end.
	s.until("a later report", (*pb.Report).GetDraining)
	select {
	case err := <-done:
		t.Errorf("the agent has ended: %v", err)
	default:
	}
	a.Drain()
	ends(t, done)
}

// answered returns the status that a request for a drain was answered with.
func answered(t *testing.T, answer <-chan int) int {
	t.Helper()
	select {
	case code := <-answer:
		return code
	case <-time.After(patience):
		t.Fatal("no answer")
		return 0
	}
}

// ends waits until an agent's Run has returned nil.
func ends(t *testing.T, done <-chan error) {
	t.Helper()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("the agent does not end")
	}
}

func noAnswer(t *testing.T, answer <-chan int, when string) {
	t.Helper()
	select {
	case code := <-answer:
		t.Errorf("answered with %d %s", code, when)
	default:
	}
}

func TestDrainNeedsTheKey(t *testing.T) {
	o := newOperator(t)
	a, _, _ := runAgent(t, httpConfig(t, o, newJobServer(t, func(http.ResponseWriter, *http.Request) {})), &lockedBuffer{})
	s := o.accepted()
	for _, key := range []string{"", "other", "key2"} {
		if code := ask(t.Context(), a, "/drain", key); code != http.StatusForbidden {
			t.Errorf("with the key %q: %d", key, code)
		}
	}
	if r := s.run(post("a")); r.GetHttpStatus() != 200 {
		t.Errorf("%v", r)
	}
	exec, _, _ := runAgent(t, testConfig(t, o), &lockedBuffer{})
	if code := ask(t.Context(), exec, "/drain", ""); code != http.StatusNotFound {
		t.Errorf("where commands run: %d", code)
	}
}

func TestDrainedAgentIsToldToEndAtAnyTime(t *testing.T) {
	o := newOperator(t)
	begun, goOn := make(chan struct{}), make(chan struct{})
	server := newJobServer(t, func(http.ResponseWriter, *http.Request) { close(begun); <-goOn })
	a, _, done := runAgent(t, httpConfig(t, o, server), &lockedBuffer{})
	s := o.accepted()
	s.assign(post("a"))
	wait(t, "the request", begun)
	answer := drainAsked(t, a)
	s.until("draining", (*pb.Report).GetDraining)
	a.Drain()
	close(goOn)
	s.result(tokenFor("a"))
	s.settle(tokenFor("a"))
	ends(t, done)
	if code := answered(t, answer); code != http.StatusOK {
		t.Errorf("status %d", code)
	}
}

// The kubelet asks for a drain also when it ends the job container because its liveness probe has failed.
func TestWorkIsTakenAgainWhenTheServerWasOnlyStartedAgain(t *testing.T) {
	o := newOperator(t)
	server := newJobServer(t, func(http.ResponseWriter, *http.Request) {})
	a, err := New(httpConfig(t, o, server), io.Discard, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var failures atomic.Int32
	a.health.server = func(ctx context.Context) error {
		err := a.probeServer(ctx)
		if err != nil {
			failures.Add(1)
		}
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- a.Run(ctx) }()
	t.Cleanup(func() { cancel(); ends(t, ended) })

	s := o.accepted()
	for _, name := range []string{"a", "b"} {
		if code := answered(t, drainAsked(t, a)); code != http.StatusOK {
			t.Fatalf("status %d", code)
		}
		s.until("draining", (*pb.Report).GetDraining)
		server.close()
		before := failures.Load()
		waitFor(t, "the agent to see it", func() bool { return failures.Load() > before })
		server.open()
		s.until("no draining", func(r *pb.Report) bool { return !r.GetDraining() })
		if r := s.run(post(name)); r.GetHttpStatus() != 200 {
			t.Errorf("%v", r)
		}
		s.settle(tokenFor(name))
	}
}

func TestARequestThatBreaksInADrainIsInterrupted(t *testing.T) {
	o := newOperator(t)
	begun := make(chan struct{})
	server := newJobServer(t, func(_ http.ResponseWriter, r *http.Request) { close(begun); <-r.Context().Done() })
	a, _, _ := runAgent(t, httpConfig(t, o, server), &lockedBuffer{})
	s := o.accepted()
	s.assign(call("a", http.MethodGet, "/"))
	wait(t, "the request", begun)
	drainAsked(t, a)
	s.until("draining", (*pb.Report).GetDraining)
	server.close()
	if r := s.result(tokenFor("a")); r.GetOutcome() != pb.Outcome_OUTCOME_INTERRUPTED || !strings.HasPrefix(r.GetMessage(), "no answer: ") {
		t.Errorf("%v", r)
	}
}

func TestConfigOfHTTP(t *testing.T) {
	certificate, _ := newCertificate(t)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]})
	environ := []string{
		"WORKERPOOL_ADDRESSES=10.0.0.1:9443", "WORKERPOOL_CA=" + string(ca), "WORKERPOOL_TOKEN_FILE=/token",
		"WORKERPOOL_SPOOL_DIR=/workerpool/spool", "WORKERPOOL_SLOTS=3",
	}
	with := func(more ...string) (Config, error) {
		return ConfigFromEnviron(append(slices.Clip(environ), more...))
	}
	if c, err := with("WORKERPOOL_HTTP_PORT=8080", "WORKERPOOL_DRAIN_KEY=key"); err != nil || c.HTTPPort != 8080 || c.DrainKey != "key" {
		t.Errorf("config %+v, error %v", c, err)
	}
	for _, wrong := range []string{"WORKERPOOL_HTTP_PORT=8080", "WORKERPOOL_HTTP_PORT=65536", "WORKERPOOL_HTTP_PORT=http"} {
		if _, err := with(wrong); err == nil {
			t.Errorf("%s alone is taken", wrong)
		}
	}
}

func TestADrainEndsWithAnAttemptThatIsNotRun(t *testing.T) {
	o := newOperator(t)
	a, stop, _ := runAgent(t, httpConfig(t, o, newJobServer(t, func(http.ResponseWriter, *http.Request) {})), &lockedBuffer{})
	o.accepted()
	stop()
	at, _ := a.table.assign(post("a"))
	drained := a.hold()
	select {
	case <-drained:
		t.Fatal("drained while there is an attempt")
	default:
	}
	a.drop(at, false)
	wait(t, "the end of the drain", drained)
	wait(t, "the attempt's end", at.done)
}
