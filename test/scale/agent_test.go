package scale

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/workerpool-dev/workerpool/internal/certs"
	pb "github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
)

// agent speaks the wire as the real one does, and starts no process: an attempt ends, with exit code 0, when its
// work says so.
type agent struct {
	instance string
	slots    int
	// address, roots and token are as the pod's environment and volume have them; dial reaches the address.
	address string
	roots   *x509.CertPool
	token   bearer
	dial    func(ctx context.Context, address string) (net.Conn, error)
	// work begins an attempt and has ended called at its end.
	work func(a *pb.Assignment, ended func())
	// welcomed is called when a leader has accepted the agent.
	welcomed func()
	// stop ends the agent when it has drained.
	stop context.CancelFunc

	mu      sync.Mutex
	running map[key]*attempt
	results map[key]*attempt
	// sent are the results that this session has been told.
	sent     map[key]bool
	seen     uint64
	draining bool
	drained  bool
	changed  chan struct{}
}

// key is a token that can be compared.
type key struct {
	job                  string
	index, try           int32
	created, transitions int64
}

func keyOf(t *pb.Token) key {
	return key{t.GetJobUid(), t.GetIndex(), t.GetTry(), t.GetEpoch().GetLeaseCreatedMicros(), t.GetEpoch().GetLeaseTransitions()}
}

type attempt struct {
	assignment     *pb.Assignment
	started, ended time.Time
	outcome        pb.Outcome
}

// bearer is the token of a session.
type bearer string

// GetRequestMetadata is credentials.PerRPCCredentials'.
func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

// RequireTransportSecurity is credentials.PerRPCCredentials'.
func (b bearer) RequireTransportSecurity() bool { return true }

// redialPause is from one session to the next.
const redialPause = 500 * time.Millisecond

// run keeps a session until the context ends. Once it has drained the agent ends it itself.
func (a *agent) run(ctx context.Context) {
	for ctx.Err() == nil {
		_ = a.converse(ctx) // whatever it was, the next try tells
		select {
		case <-time.After(redialPause):
		case <-ctx.Done():
		}
	}
}

func (a *agent) converse(ctx context.Context) error {
	conn, err := grpc.NewClient("passthrough:///"+a.address,
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
			RootCAs: a.roots, ServerName: certs.ServerName, MinVersion: tls.VersionTLS13,
		})),
		grpc.WithPerRPCCredentials(a.token),
		grpc.WithContextDialer(a.dial),
		grpc.WithDisableServiceConfig(),
	)
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	stream, err := pb.NewDispatchClient(conn).Session(ctx)
	if err != nil {
		cancel()
		return fmt.Errorf("open a session: %w", err)
	}
	var sending sync.WaitGroup
	defer sending.Wait()
	defer cancel()
	if err := stream.Send(a.hello()); err != nil {
		return fmt.Errorf("say Hello: %w", err)
	}
	m, err := stream.Recv()
	if err != nil {
		return fmt.Errorf("be welcomed: %w", err)
	}
	if m.GetWelcome() == nil {
		return errors.New("the first message is no Welcome")
	}
	a.welcomed()
	heartbeat := m.GetWelcome().GetHeartbeatInterval().AsDuration()
	sending.Go(func() { a.report(ctx, stream, heartbeat) })
	for err == nil {
		a.act(m)
		m, err = stream.Recv()
	}
	return fmt.Errorf("receive: %w", err)
}

// report says what has changed, and at each heartbeat all that runs.
func (a *agent) report(ctx context.Context, stream pb.Dispatch_SessionClient, heartbeat time.Duration) {
	ticker := time.NewTicker(heartbeat)
	defer ticker.Stop()
	for {
		a.mu.Lock()
		running, results := a.stateLocked()
		report := &pb.Report{Seen: a.seen, Running: running, Results: results, Draining: a.draining}
		a.mu.Unlock()
		if stream.Send(&pb.AgentMessage{Message: &pb.AgentMessage_Report{Report: report}}) != nil {
			return
		}
		select {
		case <-a.changed:
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

func (a *agent) hello() *pb.AgentMessage {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seen, a.sent = 0, map[key]bool{}
	running, results := a.stateLocked()
	return &pb.AgentMessage{Message: &pb.AgentMessage_Hello{Hello: &pb.Hello{
		Protocol: 1, AgentVersion: "simulated", Instance: a.instance, Running: running, Results: results, Draining: a.draining,
	}}}
}

// stateLocked is all that runs, and the results that the session does not know yet.
func (a *agent) stateLocked() (running []*pb.Running, results []*pb.Result) {
	now := time.Now()
	for _, at := range a.running {
		running = append(running, &pb.Running{
			Token: at.assignment.GetToken(), JobName: at.assignment.GetJobName(), StartedAgo: durationpb.New(now.Sub(at.started)),
		})
	}
	for k, at := range a.results {
		if a.sent[k] {
			continue
		}
		a.sent[k] = true
		results = append(results, &pb.Result{
			Token: at.assignment.GetToken(), JobName: at.assignment.GetJobName(), Outcome: at.outcome,
			StartedAgo: durationpb.New(now.Sub(at.started)), EndedAgo: durationpb.New(now.Sub(at.ended)),
		})
	}
	return running, results
}

func (a *agent) act(m *pb.OperatorMessage) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, token := range m.GetSettled() {
		delete(a.results, keyOf(token))
	}
	for _, assignment := range m.GetAssignments() {
		a.assignLocked(assignment)
	}
	for _, kill := range m.GetKills() {
		a.endLocked(keyOf(kill.GetToken()), pb.Outcome_OUTCOME_KILLED)
	}
	a.seen = m.GetSequence()
	a.changedLocked()
}

// assignLocked starts an attempt, if it is not known and there is a free slot. If not, the next report tells.
func (a *agent) assignLocked(assignment *pb.Assignment) {
	k := keyOf(assignment.GetToken())
	if a.draining || a.running[k] != nil || a.results[k] != nil || len(a.running) >= a.slots {
		return
	}
	a.running[k] = &attempt{assignment: assignment, started: time.Now()}
	a.work(assignment, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.endLocked(k, pb.Outcome_OUTCOME_EXITED)
	})
}

func (a *agent) endLocked(k key, outcome pb.Outcome) {
	at := a.running[k]
	if at == nil {
		return
	}
	delete(a.running, k)
	at.ended, at.outcome = time.Now(), outcome
	a.results[k] = at
	a.changedLocked()
}

// drain is SIGTERM: nothing new is taken, and the agent ends when nothing runs and all results are stored. It
// returns whether something ran, or was not stored, at the first time.
func (a *agent) drain() (busy bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.draining {
		return false
	}
	a.draining = true
	a.changedLocked()
	return !a.drained
}

// hasDrained returns whether the agent has ended by itself.
func (a *agent) hasDrained() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.drained
}

func (a *agent) changedLocked() {
	if a.draining && len(a.running) == 0 && len(a.results) == 0 {
		a.drained = true
		a.stop()
	}
	select {
	case a.changed <- struct{}{}:
	default:
	}
}
