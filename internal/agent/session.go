package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
)

const (
	protocol = 1
	// serverName is in the operator's certificate, wherever it is dialled.
	serverName = "dispatch.workerpool.dev"
	// maxReceived bounds a message of the operator, in bytes, all its assignments together. A larger one ends the
	// session, so the operator must not send any.
	maxReceived = 16 << 20
	// A Welcome that does not tell gives these.
	defaultHeartbeat = time.Second
	defaultSilence   = 5 * time.Second
)

var errSilent = errors.New("nothing was heard for too long")

// serve keeps a session until the context ends.
func (a *Agent) serve(ctx context.Context) {
	var said string
	for address, tries := 0, 0; ctx.Err() == nil; tries++ {
		accepted, err := a.converse(ctx, a.Addresses[address%len(a.Addresses)])
		if ctx.Err() != nil {
			return
		}
		if accepted {
			said, tries = "", 0
		} else {
			address++
		}
		if text := err.Error(); text != said {
			// Said once, not each second for as long as the operator is away.
			a.log.Warn("No session with the operator", "error", err)
			said = text
		}
		if disowned(err) {
			a.endAll()
		}
		select {
		case <-time.After(a.pause(tries)):
		case <-ctx.Done():
		}
	}
}

// disowned returns whether the operator has said that the agent is nobody.
func disowned(err error) bool {
	code := status.Code(err)
	return code == codes.Unauthenticated || code == codes.PermissionDenied
}

// pause is from one try to reach the operator to the next.
func (a *Agent) pause(tries int) time.Duration {
	longest := min(float64(a.timing.retryMin)*math.Pow(2, float64(tries)), float64(a.timing.retryMax))
	return time.Duration(longest * (0.8 + 0.2*a.chance()))
}

// bearer is the token of a session.
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

func (b bearer) RequireTransportSecurity() bool { return true }

// dial prepares a connection; it is made with the first call. The token is read before, since a token
// that can't be read must not look like one that the operator has refused.
func (a *Agent) dial(address string) (*grpc.ClientConn, error) {
	content, err := os.ReadFile(a.TokenFile)
	if err != nil {
		return nil, fmt.Errorf("read the token: %w", err)
	}
	conn, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
			RootCAs:    a.CA,
			ServerName: serverName,
			MinVersion: tls.VersionTLS13,
		})),
		grpc.WithPerRPCCredentials(bearer(strings.TrimSpace(string(content)))),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxReceived)),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return (&net.Dialer{Timeout: a.timing.answer}).DialContext(ctx, "tcp", address)
		}),
		// The container's environment is the user's: its proxy and settings are not for this.
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
	)
	if err != nil {
		return nil, fmt.Errorf("dial the operator: %w", err)
	}
	return conn, nil
}

// converse holds one session and returns why it has ended, and whether its leader was accepted.
func (a *Agent) converse(ctx context.Context, address string) (accepted bool, err error) {
	conn, err := a.dial(address)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(a.timing.connect, func() { cancel(errSilent) })
	defer watchdog.Stop()

	stream, err := pb.NewDispatchClient(conn).Session(ctx)
	if err != nil {
		return false, reason(ctx, err)
	}
	watchdog.Reset(a.timing.welcome)
	if err := stream.Send(a.hello()); err != nil {
		_, err = stream.Recv()
		return false, reason(ctx, err)
	}
	first, err := stream.Recv()
	if err != nil {
		return false, reason(ctx, err)
	}
	terms, err := a.accept(first)
	if err != nil {
		return false, err
	}
	a.log.Info("Session with the operator", "address", address)
	var sending sync.WaitGroup
	defer sending.Wait()
	defer cancel(nil)
	sending.Go(func() { a.send(ctx, stream, terms.heartbeat) })
	return true, reason(ctx, a.receive(ctx, stream, first, terms.silence, watchdog))
}

// reason prefers why the agent has ended a session to what came of it.
func reason(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// hello begins a session: it says all that is known. The messages of the session before were acted on,
// or never will be.
func (a *Agent) hello() *pb.AgentMessage {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.session++
	a.seen = 0
	now := a.now()
	hello := &pb.Hello{
		Protocol:     protocol,
		AgentVersion: a.Version,
		Instance:     a.instance,
		Running:      a.table.runningProto(now),
		Results:      resultsProto(a.table.unsent(a.session), now),
		Draining:     a.table.refuses(),
		Resetting:    uint32(a.table.resetting()),
		ResetFailure: a.table.resetFailure,
		Trouble:      a.table.disorder,
	}
	if highest := a.leader.known(now); highest != nil {
		hello.Epoch = highest.proto()
	}
	return &pb.AgentMessage{Message: &pb.AgentMessage_Hello{Hello: hello}}
}

// terms are what a Welcome sets for its session.
type terms struct{ heartbeat, silence time.Duration }

// accept takes the sender of a session's first message for the leader, or refuses it.
func (a *Agent) accept(first *pb.OperatorMessage) (terms, error) {
	welcome := first.GetWelcome()
	if welcome.GetEpoch() == nil {
		return terms{}, errors.New("the operator has sent no Welcome")
	}
	fence := orDefault(welcome.GetFenceTimeout(), a.timing.fence)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.leader.accept(epochOf(welcome.GetEpoch()), fence, a.now()); err != nil {
		return terms{}, fmt.Errorf("refuse a leader: %w", err)
	}
	a.fence.Reset(fence)
	a.ready()
	return terms{
		heartbeat: orDefault(welcome.GetHeartbeatInterval(), defaultHeartbeat),
		silence:   orDefault(welcome.GetSilenceTimeout(), defaultSilence),
	}, nil
}

func orDefault(d *durationpb.Duration, fallback time.Duration) time.Duration {
	if d.AsDuration() > 0 {
		return d.AsDuration()
	}
	return fallback
}

// receive acts on one message after the other, the first included, until the session ends.
//
// A message that comes after the silence may have been lying about since long before, if this process
// was stopped: it does not count.
func (a *Agent) receive(
	ctx context.Context, stream pb.Dispatch_SessionClient, m *pb.OperatorMessage, silence time.Duration, watchdog *time.Timer,
) error {
	last := a.now()
	for {
		watchdog.Reset(silence)
		a.hear(last)
		a.act(m)
		var err error
		if m, err = stream.Recv(); err != nil {
			return err
		}
		now := a.now()
		if ctx.Err() != nil || now.Sub(last) > silence {
			return errSilent
		}
		last = now
	}
}

func (a *Agent) hear(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.leader.hear(now)
	a.fence.Reset(a.leader.fence)
}

// send reports when something has changed, and every heartbeat, until the session ends. Only it sends
// after the Hello. An error it leaves to the receiver.
func (a *Agent) send(ctx context.Context, stream pb.Dispatch_SessionClient, heartbeat time.Duration) {
	ticker := time.NewTicker(heartbeat)
	defer ticker.Stop()
	begun := time.NewTimer(a.timing.begun)
	defer begun.Stop()
	waiting := true
	for {
		select {
		case <-a.begun:
			if !waiting {
				begun.Reset(a.timing.begun)
				waiting = true
			}
			continue
		case <-begun.C:
		case <-a.changed:
		case <-ticker.C:
			a.mend()
		case <-ctx.Done():
			return
		}
		begun.Stop()
		waiting = false
		if err := stream.Send(a.report()); err != nil {
			return
		}
	}
}

func (a *Agent) report() *pb.AgentMessage {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	return &pb.AgentMessage{Message: &pb.AgentMessage_Report{Report: &pb.Report{
		Seen:         a.seen,
		Running:      a.table.runningProto(now),
		Results:      resultsProto(a.table.unsent(a.session), now),
		Draining:     a.table.refuses(),
		Resetting:    uint32(a.table.resetting()),
		ResetFailure: a.table.resetFailure,
		Trouble:      a.table.disorder,
	}}}
}
