package dispatch

import (
	"context"
	"fmt"
	"net"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
	"github.com/workerpool-dev/workerpool/internal/engine"
)

func TestWelcomeComesFirstAndTellsTheEpoch(t *testing.T) {
	o := newOperator(t)
	token := engine.Token{Job: jobUID, Index: 2, Try: 3, Epoch: leaderEpoch}
	o.onConnect = func(s engine.Session, _ engine.Hello) error {
		s.Send(engine.Command{Sequence: 7, Recorded: []engine.Token{token}})
		return nil
	}
	o.serve()
	stream := o.greet(o.dial(o.ca))

	welcome := o.receive(stream).GetWelcome()
	if e := welcome.GetEpoch(); e.GetLeaseCreatedMicros() != 1234 || e.GetLeaseTransitions() != 5 {
		t.Errorf("welcomed by epoch %v, want that of the leader", e)
	}
	got := [3]time.Duration{
		welcome.GetHeartbeatInterval().AsDuration(), welcome.GetSilenceTimeout().AsDuration(), welcome.GetFenceTimeout().AsDuration(),
	}
	if want := [3]time.Duration{engine.HeartbeatInterval, engine.SilenceTimeout, engine.FenceTimeout}; got != want {
		t.Errorf("welcomed with times %v, want %v", got, want)
	}
	next := o.receive(stream)
	if next.GetSequence() != 7 || len(next.GetRecorded()) != 1 || next.GetRecorded()[0].GetJobUid() != jobUID {
		t.Errorf("after the Welcome came %v, want what Connect has sent", next)
	}
}

func TestHelloReachesTheEngineWithTheIdentityOfTheToken(t *testing.T) {
	o := newOperator(t).serve()
	stream := o.open(o.dial(o.ca), "Bearer good")
	wire := toToken(engine.Token{Job: jobUID, Try: 1, Epoch: leaderEpoch})
	o.send(stream, helloMessage(&dispatchpb.Hello{
		Protocol: 1, Instance: "i1", Draining: true, Resetting: 1, ResetFailure: "exit code 1", Trouble: "full",
		Running: []*dispatchpb.Running{{Token: wire, JobName: "job", StartedAgo: durationpb.New(time.Minute)}},
		Results: []*dispatchpb.Result{{Token: wire, JobName: "done", Outcome: dispatchpb.Outcome_OUTCOME_EXITED, ExitCode: 3}},
	}))

	token := engine.Token{Job: jobUID, Try: 1, Epoch: leaderEpoch}
	want := engine.Hello{
		Pool: someone.Pool, PoolUID: "pool-uid", Pod: podUID, PodName: "pool-0", Instance: "i1", Draining: true, Trouble: "full",
		Resets:  engine.Resets{Running: 1, Failure: "exit code 1"},
		Running: []engine.Running{{Token: token, JobName: "job", StartedAgo: time.Minute}},
		Results: []engine.Result{{Token: token, JobName: "done", Outcome: engine.Exited, ExitCode: 3}},
	}
	if got := <-o.hellos; !reflect.DeepEqual(got, want) {
		t.Errorf("Connect was told %+v, want %+v", got, want)
	}
}

func TestReportsReachTheEngineInOrder(t *testing.T) {
	o := newOperator(t).serve()
	stream := o.greet(o.dial(o.ca))
	for seen := range uint64(100) {
		o.send(stream, reportMessage(&dispatchpb.Report{Seen: seen, Draining: seen%2 == 1}))
	}
	for seen := range uint64(100) {
		if got, want := <-o.reports, (engine.Report{Seen: seen, Draining: seen%2 == 1}); !reflect.DeepEqual(got, want) {
			t.Fatalf("report %+v, want %+v", got, want)
		}
	}
}

// Many sessions, because the ends of a session's goroutines race with each other.
func TestCloseEndsTheSessionAsAborted(t *testing.T) {
	o := newOperator(t).serve()
	conn := o.dial(o.ca)
	for i := range 200 {
		stream := o.greet(conn)
		o.receive(stream)
		session := <-o.sessions
		session.Close(fmt.Sprint("reason ", i))
		session.Close("another reason")
		err := end(stream)
		if grpcstatus.Code(err) != codes.Aborted || grpcstatus.Convert(err).Message() != fmt.Sprint("reason ", i) {
			t.Errorf("the session has ended with %v, want Aborted for the first reason", err)
		}
		if ended := <-o.disconnected; ended != session {
			t.Error("another session was disconnected")
		}
		if t.Failed() {
			return
		}
	}
}

func TestAnAgentThatGoesAwayIsDisconnected(t *testing.T) {
	o := newOperator(t).serve()
	conn := o.dial(o.ca)
	o.receive(o.greet(conn))
	session := <-o.sessions
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if ended := <-o.disconnected; ended != session {
		t.Error("another session was disconnected")
	}
	session.Send(engine.Command{Sequence: 1}) // of an engine that does not know yet: it does not block
	session.Close("late")
}

func TestTheEndOfTheLeadEndsItsSessions(t *testing.T) {
	o := newOperator(t).serve()
	conn := o.dial(o.ca)
	connected, waiting := o.greet(conn), o.open(o.dial(o.ca), "Bearer pod another")
	o.receive(connected)
	session := <-o.sessions
	o.stop()
	o.wantEnd(connected, codes.Unavailable)
	if err := <-o.served; err != nil {
		t.Errorf("Serve: %v", err)
	}
	o.wantEnd(waiting, codes.Unavailable)
	select {
	case ended := <-o.disconnected:
		if ended != session {
			t.Error("another session was disconnected")
		}
	default:
		t.Error("Serve has returned before the engine was told that the session has ended")
	}
	if _, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", o.address); err == nil {
		t.Error("the listener is open still")
	}
}

// A process that was stopped may find out late that another leads.
func TestNothingIsTakenInWhenTheLeaseMayBeAnothers(t *testing.T) {
	o := newOperator(t).serve()
	conn := o.dial(o.ca)
	stream := o.greet(conn)
	<-o.hellos
	o.unheld.Store(true)
	o.send(stream, reportMessage(&dispatchpb.Report{Seen: 1}))
	o.wantEnd(stream, codes.Unavailable)
	o.wantEnd(o.greet(conn), codes.Unavailable)
	if n := len(o.reports) + len(o.hellos); n > 0 {
		t.Errorf("the engine was told %d times", n)
	}

	o.unheld.Store(false)
	o.greet(conn)
	<-o.hellos
}

func TestServeSaysThatItsListenerHasFailed(t *testing.T) {
	o := newOperator(t)
	listener := bufconn.Listen(1)
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	if err := NewServer(o, o, leaderEpoch, o.held, testProver.key, nil, newRefusals(t)).Serve(t.Context(), listener); err == nil {
		t.Error("Serve on a closed listener returned no error")
	}
}

func TestTheEnginesRefusals(t *testing.T) {
	for refusal, want := range map[error]codes.Code{
		engine.ErrConnected:   codes.AlreadyExists,
		engine.ErrUnknownPool: codes.Unavailable,
	} {
		t.Run(refusal.Error(), func(t *testing.T) {
			o := newOperator(t)
			o.onConnect = func(engine.Session, engine.Hello) error { return fmt.Errorf("pod pool-0: %w", refusal) }
			o.serve()
			o.wantEnd(o.greet(o.dial(o.ca)), want)
			o.stop()
			if err := <-o.served; err != nil {
				t.Errorf("Serve: %v", err)
			}
			if len(o.disconnected) != 0 {
				t.Error("a session that was refused was disconnected")
			}
		})
	}
}

func TestWhatDoesNotBelongOnTheWireIsRefused(t *testing.T) {
	good := toToken(engine.Token{Job: jobUID, Try: 1})
	hello := func(change func(*dispatchpb.Hello)) *dispatchpb.AgentMessage {
		h := &dispatchpb.Hello{Protocol: 1}
		change(h)
		return helloMessage(h)
	}
	cases := map[string]struct {
		first *dispatchpb.AgentMessage
		want  codes.Code
	}{
		"a Report first":   {reportMessage(&dispatchpb.Report{}), codes.InvalidArgument},
		"nothing first":    {&dispatchpb.AgentMessage{}, codes.InvalidArgument},
		"no protocol":      {hello(func(h *dispatchpb.Hello) { h.Protocol = 0 }), codes.FailedPrecondition},
		"another protocol": {hello(func(h *dispatchpb.Hello) { h.Protocol = 2 }), codes.FailedPrecondition},
		"a long instance":  {hello(func(h *dispatchpb.Hello) { h.Instance = strings.Repeat("i", 65) }), codes.InvalidArgument},
		"a token without a job": {hello(func(h *dispatchpb.Hello) {
			h.Running = []*dispatchpb.Running{{Token: toToken(engine.Token{Try: 1}), JobName: "job"}}
		}), codes.InvalidArgument},
		"try 0": {hello(func(h *dispatchpb.Hello) {
			h.Running = []*dispatchpb.Running{{Token: toToken(engine.Token{Job: jobUID}), JobName: "job"}}
		}), codes.InvalidArgument},
		"a negative index": {hello(func(h *dispatchpb.Hello) {
			h.Running = []*dispatchpb.Running{{Token: toToken(engine.Token{Job: jobUID, Try: 1, Index: -1}), JobName: "job"}}
		}), codes.InvalidArgument},
		"a negative epoch": {hello(func(h *dispatchpb.Hello) {
			h.Running = []*dispatchpb.Running{{Token: toToken(engine.Token{Job: "j", Try: 1, Epoch: engine.Epoch{Transitions: -1}}), JobName: "job"}}
		}), codes.InvalidArgument},
		"no token": {hello(func(h *dispatchpb.Hello) {
			h.Running = []*dispatchpb.Running{{JobName: "job"}}
		}), codes.InvalidArgument},
		"a job without a name": {hello(func(h *dispatchpb.Hello) {
			h.Running = []*dispatchpb.Running{{Token: good}}
		}), codes.InvalidArgument},
		"a long name": {hello(func(h *dispatchpb.Hello) {
			h.Running = []*dispatchpb.Running{{Token: good, JobName: strings.Repeat("n", 254)}}
		}), codes.InvalidArgument},
		"an unknown outcome": {hello(func(h *dispatchpb.Hello) {
			h.Results = []*dispatchpb.Result{{Token: good, JobName: "job", Outcome: 99}}
		}), codes.InvalidArgument},
		"too many running": {hello(func(h *dispatchpb.Hello) {
			h.Running = make([]*dispatchpb.Running, 1025)
			for i := range h.GetRunning() {
				h.Running[i] = &dispatchpb.Running{Token: good, JobName: "job"}
			}
		}), codes.InvalidArgument},
		"too many results": {hello(func(h *dispatchpb.Hello) {
			h.Results = make([]*dispatchpb.Result, 2049)
			for i := range h.GetResults() {
				h.Results[i] = &dispatchpb.Result{Token: good, JobName: "job", Outcome: dispatchpb.Outcome_OUTCOME_EXITED}
			}
		}), codes.InvalidArgument},
	}
	o := newOperator(t).serve()
	conn := o.dial(o.ca)
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			stream := o.open(conn, "Bearer good")
			o.send(stream, c.first)
			if _, err := stream.Recv(); grpcstatus.Code(err) != c.want {
				t.Errorf("the answer is %v, want %v", err, c.want)
			}
		})
	}
	if len(o.hellos) != 0 {
		t.Error("the engine was told of a Hello that was refused")
	}
}

// A later version may say more: fields that are not known are left alone.
func TestWhatALaterVersionSaysBesideIsIgnored(t *testing.T) {
	o := newOperator(t).serve()
	stream := o.open(o.dial(o.ca), "Bearer good")
	unknown := protowire.AppendString(protowire.AppendTag(nil, 1000, protowire.BytesType), "later")
	hello, report := &dispatchpb.Hello{Protocol: 1, Instance: "i1"}, &dispatchpb.Report{Seen: 7}
	hello.ProtoReflect().SetUnknown(unknown)
	report.ProtoReflect().SetUnknown(unknown)
	o.send(stream, helloMessage(hello))
	o.send(stream, reportMessage(report))
	if got := <-o.hellos; got.Instance != "i1" {
		t.Errorf("the engine was told %+v", got)
	}
	if got := <-o.reports; got.Seen != 7 {
		t.Errorf("the engine was told %+v", got)
	}
}

func TestALaterMessageThatIsNoReportEndsTheSession(t *testing.T) {
	o := newOperator(t).serve()
	conn := o.dial(o.ca)
	for name, message := range map[string]*dispatchpb.AgentMessage{
		"a second Hello": helloMessage(&dispatchpb.Hello{Protocol: 1}),
		"a bad result":   reportMessage(&dispatchpb.Report{Results: []*dispatchpb.Result{{}}}),
	} {
		t.Run(name, func(*testing.T) {
			stream := o.greet(conn)
			o.send(stream, message)
			o.wantEnd(stream, codes.InvalidArgument)
			<-o.disconnected
		})
	}
	if len(o.reports) != 0 {
		t.Error("the engine was told of a report that was refused")
	}
}

func TestAnAgentNeedsOneBearerToken(t *testing.T) {
	o := newOperator(t).serve()
	conn := o.dial(o.ca)
	for name, authorization := range map[string][]string{
		"none": nil, "two": {"Bearer good", "Bearer good"}, "another scheme": {"Basic good"}, "empty": {"Bearer "}, "unknown": {"Bearer bad"},
		"too long": {"Bearer " + strings.Repeat("t", maxTokenBytes+1)},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := o.open(conn, authorization...).Recv()
			if grpcstatus.Code(err) != codes.Unauthenticated {
				t.Errorf("the answer is %v, want Unauthenticated", err)
			}
		})
	}
}

func TestAnAgentRefusesTheCertificateOfAnotherCA(t *testing.T) {
	o := newOperator(t).serve()
	_, err := dispatchpb.NewDispatchClient(o.dial(newCA(t))).Session(t.Context())
	if grpcstatus.Code(err) != codes.Unavailable {
		t.Errorf("the error is %v, want Unavailable", err)
	}
	if !strings.Contains(fmt.Sprint(err), "unknown authority") {
		t.Errorf("the error %v does not name an unknown authority", err)
	}
}

// inBubble runs a test with an operator in a synctest bubble, where time is not waited for, and
// gives it a connection.
func inBubble(t *testing.T, setUp func(*operator), test func(*testing.T, *operator, *grpc.ClientConn)) {
	synctest.Test(t, func(t *testing.T) {
		o := newOperator(t)
		setUp(o)
		listener := bufconn.Listen(1 << 20)
		o.serveOn(listener)
		dialer := func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }
		test(t, o, o.dial(o.ca, grpc.WithContextDialer(dialer)))
	})
}

func TestASilentAgentIsDisconnected(t *testing.T) {
	inBubble(t, func(*operator) {}, func(t *testing.T, o *operator, conn *grpc.ClientConn) {
		stream := o.greet(conn)
		o.receive(stream)
		time.Sleep(engine.SilenceTimeout - time.Second)
		o.send(stream, reportMessage(&dispatchpb.Report{}))
		heard := time.Now()
		o.wantEnd(stream, codes.DeadlineExceeded)
		if silence := time.Since(heard); silence != engine.SilenceTimeout {
			t.Errorf("the session has ended after a silence of %v, want %v", silence, engine.SilenceTimeout)
		}
	})
}

func TestAnIdleSessionIsPinged(t *testing.T) {
	inBubble(t, func(*operator) {}, func(t *testing.T, o *operator, conn *grpc.ClientConn) {
		stream := o.greet(conn)
		o.receive(stream)
		(<-o.sessions).Send(engine.Command{Sequence: 9})
		o.receive(stream)
		synctest.Wait()
		start := time.Now()
		if ping := o.receive(stream); ping.GetSequence() != 9 {
			t.Errorf("the ping %v is not of the last command's sequence", ping)
		}
		if after := time.Since(start); after > engine.HeartbeatInterval {
			t.Errorf("a ping came after %v, want at most %v", after, engine.HeartbeatInterval)
		}
	})
}

func TestSettledResultsAreToldWithTheNextCommandOrSoon(t *testing.T) {
	for name, tc := range map[string]struct {
		next  []engine.Assignment
		after time.Duration
	}{
		"nothing comes":      {after: settledDelay},
		"an assignment does": {next: []engine.Assignment{{Token: engine.Token{Job: "b", Try: 1}, JobName: "b"}}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(*operator) {}, func(t *testing.T, o *operator, conn *grpc.ClientConn) {
				stream := o.greet(conn)
				o.receive(stream)
				session := <-o.sessions
				start := time.Now()
				session.Send(engine.Command{Sequence: 1, Settled: []engine.Token{{Job: "a", Try: 1}}})
				session.Send(engine.Command{Sequence: 2, Assignments: tc.next, Settled: []engine.Token{{Job: "c", Try: 1}}})
				m := o.receive(stream)
				if len(m.GetSettled()) != 2 || len(m.GetAssignments()) != len(tc.next) || m.GetSequence() != 2 {
					t.Errorf("received %v", m)
				}
				if after := time.Since(start); after != tc.after {
					t.Errorf("it came after %v, want %v", after, tc.after)
				}
			})
		})
	}
}

func TestAnAgentThatSaysNoHelloIsGivenUp(t *testing.T) {
	inBubble(t, func(*operator) {}, func(t *testing.T, o *operator, conn *grpc.ClientConn) {
		start := time.Now()
		o.wantEnd(o.open(conn, "Bearer good"), codes.DeadlineExceeded)
		if after := time.Since(start); after != helloTimeout {
			t.Errorf("given up after %v, want %v", after, helloTimeout)
		}
	})
}

func TestAnAuthenticationThatHangsIsGivenUp(t *testing.T) {
	hang := func(o *operator) {
		o.onAuthenticate = func(ctx context.Context) (Identity, error) {
			<-ctx.Done()
			return Identity{}, grpcstatus.Error(codes.DeadlineExceeded, "no answer")
		}
	}
	inBubble(t, hang, func(_ *testing.T, o *operator, conn *grpc.ClientConn) {
		o.wantEnd(o.greet(conn), codes.DeadlineExceeded)
	})
}
