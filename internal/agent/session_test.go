package agent

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
)

func TestHelloAfterReconnectSaysAll(t *testing.T) {
	o := newOperator(t)
	runAgent(t, testConfig(t, o), &lockedBuffer{})
	s := o.accepted()
	if s.hello.GetProtocol() != 1 || s.hello.GetInstance() == "" || s.hello.GetEpoch() != nil || len(s.hello.GetRunning()) > 0 {
		t.Errorf("first hello %v", s.hello)
	}
	s.assign(shell("ends", "echo done; exit 3"), shell("stays", "exec sleep 1000"))
	s.result(tokenFor("ends"))
	s.running(tokenFor("stays"))
	s.over <- nil

	again := o.accepted().hello
	if again.GetInstance() != s.hello.GetInstance() || again.GetEpoch().GetLeaseTransitions() != 5 {
		t.Errorf("second hello %v", again)
	}
	if len(again.GetRunning()) != 1 || !runs(again.GetRunning(), tokenFor("stays")) {
		t.Errorf("running %v", again.GetRunning())
	}
	if len(again.GetResults()) != 1 || again.GetResults()[0].GetExitCode() != 3 || string(again.GetResults()[0].GetOutput()) != "done\n" {
		t.Errorf("results %v", again.GetResults())
	}
	if !slicesEqual(o.seenTokens(), "Bearer secret", "Bearer secret") {
		t.Errorf("tokens %q", o.seenTokens())
	}
}

func (o *operator) seenTokens() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]string(nil), o.tokens...)
}

func slicesEqual(got []string, want ...string) bool {
	return strings.Join(got, "|") == strings.Join(want, "|")
}

func TestSeenAndRefusedAssignments(t *testing.T) {
	o := newOperator(t)
	c := testConfig(t, o)
	c.Slots = 1
	runAgent(t, c, &lockedBuffer{})
	s := o.accepted()
	s.assign(shell("one", "exec sleep 1000"), shell("two", "exec sleep 1000"))
	r := s.until("the assignments", func(r *pb.Report) bool { return r.GetSeen() == 2 })
	if len(r.GetRunning()) != 1 || len(r.GetResults()) != 0 {
		t.Errorf("with one slot: %v", r)
	}
}

func TestSettledIsNotSaidAgain(t *testing.T) {
	o := newOperator(t)
	runAgent(t, testConfig(t, o), &lockedBuffer{})
	s := o.accepted()
	s.assign(shell("a", "true"))
	s.result(tokenFor("a"))
	s.settle(tokenFor("a"))
	s.until("the settlement", func(r *pb.Report) bool { return r.GetSeen() == 3 })
	s.over <- nil
	if again := o.accepted().hello; len(again.GetResults()) != 0 {
		t.Errorf("results %v", again.GetResults())
	}
}

func TestALeaderOfALowerEpochIsLeft(t *testing.T) {
	o := newOperator(t)
	runAgent(t, testConfig(t, o), &lockedBuffer{})
	s := o.accepted()
	s.assign(shell("a", "exec sleep 1000"))
	s.running(tokenFor("a"))
	s.over <- nil

	old := o.next()
	old.send(&pb.OperatorMessage{
		Welcome: &pb.Welcome{Epoch: &pb.Epoch{LeaseCreatedMicros: 1, LeaseTransitions: 4}},
		Kills:   []*pb.Kill{{Token: tokenFor("a")}},
	})
	old.closed()
	if again := o.accepted().hello; !runs(again.GetRunning(), tokenFor("a")) {
		t.Errorf("a deposed leader has killed: %v", again)
	}
}

func TestFenceKillsWhatIsNotRecorded(t *testing.T) {
	o := newOperator(t)
	runAgent(t, testConfig(t, o), &lockedBuffer{})
	s := o.next()
	s.send(&pb.OperatorMessage{Welcome: &pb.Welcome{
		Epoch:             &pb.Epoch{LeaseCreatedMicros: 1, LeaseTransitions: 5},
		HeartbeatInterval: durationpb.New(10 * time.Millisecond),
		SilenceTimeout:    durationpb.New(patience),
		FenceTimeout:      durationpb.New(500 * time.Millisecond),
	}})
	s.assign(shell("recorded", "exec sleep 1000"), shell("passing", "exec sleep 1000"))
	s.send(&pb.OperatorMessage{Recorded: []*pb.Token{tokenFor("recorded")}})
	// The operator says nothing more.
	r := s.result(tokenFor("passing"))
	if r.GetOutcome() != pb.Outcome_OUTCOME_INTERRUPTED {
		t.Errorf("result %v", r)
	}
	s.until("the recorded one running on", func(r *pb.Report) bool { return runs(r.GetRunning(), tokenFor("recorded")) })
}

func TestSilenceEndsTheSession(t *testing.T) {
	o := newOperator(t)
	runAgent(t, testConfig(t, o), &lockedBuffer{})
	s := o.next()
	s.send(&pb.OperatorMessage{Welcome: &pb.Welcome{
		Epoch:          &pb.Epoch{LeaseCreatedMicros: 1, LeaseTransitions: 5},
		SilenceTimeout: durationpb.New(100 * time.Millisecond),
	}})
	s.closed()
	o.accepted()
}

// lateStream has one message, which comes when the clock has gone on.
type lateStream struct {
	pb.Dispatch_SessionClient
	late func() *pb.OperatorMessage
}

func (s lateStream) Recv() (*pb.OperatorMessage, error) { return s.late(), nil }

func TestAMessageThatCameTooLateIsNotActedOn(t *testing.T) {
	o := newOperator(t)
	a, stop, _ := runAgent(t, testConfig(t, o), &lockedBuffer{})
	o.accepted()
	stop()
	now := time.Unix(1000, 0)
	a.now = func() time.Time { return now }
	stream := lateStream{late: func() *pb.OperatorMessage {
		now = now.Add(6 * time.Second)
		return &pb.OperatorMessage{Sequence: 2, Assignments: []*pb.Assignment{shell("a", "true")}}
	}}
	watchdog := time.NewTimer(patience)
	defer watchdog.Stop()
	err := a.receive(t.Context(), stream, &pb.OperatorMessage{Sequence: 1}, 5*time.Second, watchdog)
	a.fence.Stop()
	if !errors.Is(err, errSilent) || a.seen != 1 || len(a.table.live) != 0 {
		t.Errorf("error %v, seen %d, live %v", err, a.seen, a.table.live)
	}
}

func TestPauses(t *testing.T) {
	a := &Agent{Config: Config{timing: defaultTiming()}, chance: func() float64 { return 1 }}
	if a.pause(0) != 100*time.Millisecond || a.pause(1) != 200*time.Millisecond || a.pause(1000) != 250*time.Millisecond {
		t.Errorf("pauses %v, %v, %v", a.pause(0), a.pause(1), a.pause(1000))
	}
	a.chance = func() float64 { return 0 }
	if a.pause(0) != 80*time.Millisecond {
		t.Errorf("the shortest pause is %v", a.pause(0))
	}
}

func TestAPingLeavesSeenAsItIs(t *testing.T) {
	o := newOperator(t)
	runAgent(t, testConfig(t, o), &lockedBuffer{})
	s := o.accepted()
	s.sequence = 41
	s.assign(shell("a", "exec sleep 1000"))
	s.sequence = 41
	s.send(&pb.OperatorMessage{})
	s.until("the assignment seen", func(r *pb.Report) bool { return r.GetSeen() == 42 && runs(r.GetRunning(), tokenFor("a")) })
}

func TestADisownedAgentKillsEverything(t *testing.T) {
	for _, code := range []codes.Code{codes.Unauthenticated, codes.PermissionDenied} {
		t.Run(code.String(), func(t *testing.T) {
			o := newOperator(t)
			runAgent(t, testConfig(t, o), &lockedBuffer{})
			s := o.accepted()
			s.assign(shell("a", "trap '' TERM; while :; do sleep 1; done"))
			s.send(&pb.OperatorMessage{Recorded: []*pb.Token{tokenFor("a")}})
			s.running(tokenFor("a"))
			o.setRefuse(code)
			s.over <- nil
			waitFor(t, "refusals", func() bool { return len(o.seenTokens()) > 2 })
			o.setRefuse(codes.OK)
			again := o.accepted()
			results := again.hello.GetResults()
			if len(results) == 0 {
				results = []*pb.Result{again.result(tokenFor("a"))}
			}
			if results[0].GetOutcome() != pb.Outcome_OUTCOME_INTERRUPTED {
				t.Errorf("result %v", results[0])
			}
		})
	}
}

func TestOtherErrorsKillNothing(t *testing.T) {
	for _, code := range []codes.Code{codes.AlreadyExists, codes.FailedPrecondition, codes.Unavailable, codes.Internal, codes.Unknown} {
		t.Run(code.String(), func(t *testing.T) {
			o := newOperator(t)
			runAgent(t, testConfig(t, o), &lockedBuffer{})
			s := o.accepted()
			s.assign(shell("a", "exec sleep 1000"))
			s.running(tokenFor("a"))
			o.setRefuse(code)
			s.over <- nil
			waitFor(t, "refusals", func() bool { return len(o.seenTokens()) > 2 })
			o.setRefuse(codes.OK)
			if again := o.accepted().hello; !runs(again.GetRunning(), tokenFor("a")) {
				t.Errorf("hello %v", again)
			}
		})
	}
}

func TestAMissingTokenIsNoRefusal(t *testing.T) {
	o := newOperator(t)
	c := testConfig(t, o)
	a, _, _ := runAgent(t, c, &lockedBuffer{})
	if err := os.Remove(c.TokenFile); err != nil {
		t.Fatal(err)
	}
	if _, err := a.converse(t.Context(), o.address); err == nil || disowned(err) {
		t.Errorf("error %v", err)
	}
}

// waitFor polls: what it waits for tells nobody.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("no %s", what)
		}
		<-tick.C
	}
}

func TestAnotherCAIsNotTrusted(t *testing.T) {
	o := newOperator(t)
	c := testConfig(t, o)
	_, c.CA = newCertificate(t)
	a, _, _ := runAgent(t, c, &lockedBuffer{})
	accepted, err := a.converse(t.Context(), o.address)
	if accepted || err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("accepted %v, error %v", accepted, err)
	}
	if disowned(err) {
		t.Error("a stranger's certificate counts as the operator's refusal")
	}
	if len(o.seenTokens()) != 0 {
		t.Error("the token was sent to a stranger")
	}
}

func TestTheNextAddressIsDialled(t *testing.T) {
	o := newOperator(t)
	c := testConfig(t, o)
	c.Addresses = []string{"127.0.0.1:1", o.address}
	runAgent(t, c, &lockedBuffer{})
	o.accepted()
}

// deaf is an address where nobody takes a connection, nor refuses one: its queue is full.
func deaf(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", name.(*unix.SockaddrInet4).Port)
	for {
		conn, err := net.DialTimeout("tcp", address, 50*time.Millisecond)
		if err != nil {
			return address
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
}

func TestAHostThatDoesNotAnswerIsNotWaitedForAsLongAsAnOperator(t *testing.T) {
	o := newOperator(t)
	c := testConfig(t, o)
	c.Addresses = []string{deaf(t), o.address}
	c.timing.answer, c.timing.connect = 10*time.Millisecond, 2*patience
	began := time.Now()
	runAgent(t, c, &lockedBuffer{})
	o.accepted()
	if took := time.Since(began); took > patience/3 { // gRPC gives up after 20 s by itself
		t.Errorf("it took %v to try the next address", took)
	}
}

func TestDrainWaitsUntilAllIsSettled(t *testing.T) {
	o := newOperator(t)
	a, _, done := runAgent(t, testConfig(t, o), &lockedBuffer{})
	s := o.accepted()
	s.assign(shell("a", "exit 4"))
	gate := t.TempDir() + "/gate"
	s.assign(&pb.Assignment{Token: tokenFor("b"), Argv: []string{"sh", "-c", "until test -e $GATE; do sleep 0.01; done"},
		Env: []*pb.EnvVar{{Name: "GATE", Value: gate}}})
	s.running(tokenFor("b"))
	a.Drain()
	a.Drain()
	s.until("draining", func(r *pb.Report) bool { return r.GetDraining() })
	s.assign(shell("late", "true"))
	r := s.until("the late one seen", func(r *pb.Report) bool { return r.GetSeen() == 4 })
	if runs(r.GetRunning(), tokenFor("late")) {
		t.Error("a draining agent has started an attempt")
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.result(tokenFor("b"))
	select {
	case err := <-done:
		t.Fatalf("ended with results that nobody has stored: %v", err)
	default:
	}
	s.settle(tokenFor("a"), tokenFor("b"))
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("does not end when drained")
	}
}

func TestResultsOutliveARestart(t *testing.T) {
	o := newOperator(t)
	c := testConfig(t, o)
	_, stop, _ := runAgent(t, c, &lockedBuffer{})
	s := o.accepted()
	s.assign(shell("kept", "echo out; exit 7"), shell("settled", "true"), shell("cut", "exec sleep 1000"))
	want := s.result(tokenFor("kept"))
	s.running(tokenFor("cut"))
	s.settle(tokenFor("settled"))
	s.until("the settlement", func(r *pb.Report) bool { return r.GetSeen() == 3 })
	stop()

	runAgent(t, c, &lockedBuffer{})
	hello := o.accepted().hello
	if hello.GetInstance() == s.hello.GetInstance() {
		t.Error("the instance is the same")
	}
	var got *pb.Result
	for _, r := range hello.GetResults() {
		switch r.GetToken().GetJobUid() {
		case "kept":
			got = r
		case "settled":
			t.Error("a settled result has come back")
		}
	}
	if got == nil {
		t.Fatalf("results %v", hello.GetResults())
	}
	if got.GetStartedAgo().AsDuration() < want.GetStartedAgo().AsDuration() || got.GetEndedAgo().AsDuration() > time.Hour {
		t.Errorf("started %v, ended %v ago", got.GetStartedAgo().AsDuration(), got.GetEndedAgo().AsDuration())
	}
	got.StartedAgo, got.EndedAgo = want.GetStartedAgo(), want.GetEndedAgo()
	if !proto.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
}
