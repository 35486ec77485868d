package agent

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
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
	if !s.hello.GetDraining() || !strings.Contains(s.hello.GetUnavailable(), "connection refused") {
		t.Errorf("hello %v, want no work taken in, and why", s.hello)
	}
	server.open()
	s.until("work taken in", func(r *pb.Report) bool { return !r.GetDraining() && r.GetUnavailable() == "" })
	if r := s.run(post("a")); r.GetHttpStatus() != 200 {
		t.Errorf("%v", r)
	}
	s.settle(tokenFor("a"))
}

// Whatever address of the pod a server listens on, it is found, and found again on another one.
func TestAServerIsFoundOnItsOneAddress(t *testing.T) {
	hosts := []string{"127.0.0.1", "127.0.0.2", "127.0.0.3"}
	if l, err := net.Listen("tcp", "[::1]:0"); err == nil { // not every machine has it
		_ = l.Close()
		hosts = append(hosts, "::1")
	}
	o := newOperator(t)
	server := newJobServerOn(t, hosts[0], func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Host) })
	c := httpConfig(t, o, server)
	c.PodIPs = []string{"127.0.0.2", "127.0.0.3"}
	a, _, _ := runAgent(t, c, &lockedBuffer{})
	s := o.accepted()
	for _, host := range append(hosts, hosts...) {
		server.close()
		server.host = host
		server.open()
		waitFor(t, "readiness", func() bool { return ask(t.Context(), a, "/readyz") == http.StatusOK })
		if r := s.run(call("at "+host+strconv.Itoa(int(s.sequence)), http.MethodGet, "/")); string(r.GetOutput()) != server.address() {
			t.Errorf("%s: %v", host, r)
		}
	}
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
func ask(ctx context.Context, a *Agent, path string) int {
	w := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, path, nil)
	a.health.handler().ServeHTTP(w, r)
	return w.Code
}

func TestReadyWhileTheServerAnswers(t *testing.T) {
	o := newOperator(t)
	server := newJobServer(t, func(http.ResponseWriter, *http.Request) {})
	a, _, _ := runAgent(t, httpConfig(t, o, server), &lockedBuffer{})
	ready := func() bool { return ask(t.Context(), a, "/readyz") == http.StatusOK }
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
	if ready() || ask(t.Context(), a, "/healthz") != http.StatusOK {
		t.Error("ready while the server does not answer, or not healthy")
	}
	server.open()
	if !ready() {
		t.Error("not ready again")
	}
}

// drainAsked tells an agent that its pod is to end and waits for it to drain, as the kubelet does, and returns what comes
// with the answer.
func drainAsked(t *testing.T, a *Agent) <-chan int {
	t.Helper()
	if err := AskToDrain(t.Context(), a.DrainSocket); err != nil {
		t.Fatal(err)
	}
	return drainWaited(t, a)
}

// drainWaited is a request for a drain of which the agent has not been told.
func drainWaited(t *testing.T, a *Agent) <-chan int {
	t.Helper()
	answer := make(chan int, 1)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); answer <- ask(ctx, a, "/drain") }()
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

// runToldWithin runs an agent beside a server that waits so long for the word that its pod is to end.
func runToldWithin(t *testing.T, o *operator, within time.Duration) *Agent {
	t.Helper()
	a, err := New(httpConfig(t, o, newJobServer(t, func(http.ResponseWriter, *http.Request) {})), io.Discard, discard)
	if err != nil {
		t.Fatal(err)
	}
	a.health.toldWithin = within
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- a.Run(ctx) }()
	t.Cleanup(func() { cancel(); ends(t, ended) })
	return a
}

// Anybody in the cluster can reach the port.
func TestARequestForADrainAloneChangesNothing(t *testing.T) {
	o := newOperator(t)
	a := runToldWithin(t, o, time.Millisecond)
	s := o.accepted()
	if code := answered(t, drainWaited(t, a)); code != http.StatusOK {
		t.Errorf("status %d", code)
	}
	if r := s.run(post("a")); r.GetHttpStatus() != 200 {
		t.Errorf("%v", r)
	}
	s.until("a report", func(r *pb.Report) bool {
		if r.GetDraining() {
			t.Error("it drains")
		}
		return true
	})
}

func TestTheWordThatThePodEndsMayComeAfterTheRequest(t *testing.T) {
	o := newOperator(t)
	a := runToldWithin(t, o, time.Hour)
	s := o.accepted()
	answer := drainWaited(t, a)
	noAnswer(t, answer, "before the word")
	if err := AskToDrain(t.Context(), a.DrainSocket); err != nil {
		t.Fatal(err)
	}
	if code := answered(t, answer); code != http.StatusOK {
		t.Errorf("status %d", code)
	}
	s.until("draining", (*pb.Report).GetDraining)
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

func TestNoWorkWhileTheServerIsAway(t *testing.T) {
	o := newOperator(t)
	server := newJobServer(t, func(http.ResponseWriter, *http.Request) {})
	runAgent(t, httpConfig(t, o, server), &lockedBuffer{})
	s := o.accepted()
	for _, name := range []string{"a", "b"} {
		server.close()
		s.assign(post(name))
		r := s.until("no work taken in", func(r *pb.Report) bool { return r.GetSeen() == s.sequence && r.GetDraining() })
		if len(r.GetRunning())+len(r.GetResults()) > 0 {
			t.Errorf("%v", r)
		}
		server.open()
		s.until("work taken in", func(r *pb.Report) bool { return !r.GetDraining() })
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

func TestADrainEndsWithAnAttemptThatIsNotRun(t *testing.T) {
	o := newOperator(t)
	a, stop, _ := runAgent(t, httpConfig(t, o, newJobServer(t, func(http.ResponseWriter, *http.Request) {})), &lockedBuffer{})
	o.accepted()
	stop()
	at, _ := a.table.assign(post("a"))
	a.hold()
	select {
	case <-a.idle:
		t.Fatal("drained while there is an attempt")
	default:
	}
	a.drop(at, false)
	wait(t, "the end of the drain", a.idle)
	wait(t, "the attempt's end", at.done)
}
