package simulated

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/internal/certs"
	pb "github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
)

// Work is what the agents' attempts do, in place of processes.
type Work interface {
	// Begin is called when an attempt starts in a pod. It has ended called at the attempt's end, with the exit code, by
	// another goroutine; after the attempt was ended by its agent that does nothing.
	Begin(pod types.NamespacedName, a *pb.Assignment, ended func(exitCode int32))
	// End is called when an attempt has ended, in whatever way.
	End(pod types.NamespacedName, a *pb.Assignment)
}

// agent speaks the wire as the real one does, and starts no process.
type agent struct {
	pod      types.NamespacedName
	instance string
	slots    int
	// address, roots and token are as the pod's environment and volume have them; dial reaches the address.
	address string
	roots   *x509.CertPool
	token   bearer
	dial    func(ctx context.Context, address string) (net.Conn, error)
	work    Work
	// welcomed is called when a leader has accepted the agent.
	welcomed func()
	// stop ends the agent when it has drained.
	stop context.CancelFunc

	mu sync.Mutex
	// epoch is the highest of a leader that was accepted. fence ends what is not recorded when no leader has been
	// heard for its time.
	epoch   *pb.Epoch
	fence   *time.Timer
	fenced  time.Duration
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
	exitCode       int32
	recorded       bool
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
		err := a.converse(ctx) // whatever it was, the next try tells
		if code := grpcstatus.Code(err); code == codes.Unauthenticated || code == codes.PermissionDenied {
			a.endAll(func(*attempt) bool { return true })
		}
		select {
		case <-time.After(redialPause):
		case <-ctx.Done():
		}
	}
	a.endAll(func(*attempt) bool { return true })
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
	if err := a.accept(m.GetWelcome()); err != nil {
		return err
	}
	a.welcomed()
	heartbeat := m.GetWelcome().GetHeartbeatInterval().AsDuration()
	sending.Go(func() { a.report(ctx, stream, heartbeat) })
	for err == nil {
		a.hear()
		a.act(m)
		m, err = stream.Recv()
	}
	return fmt.Errorf("receive: %w", err)
}

// accept takes the sender of a Welcome for the leader, unless it met a later one before.
func (a *agent) accept(welcome *pb.Welcome) error {
	if welcome == nil {
		return errors.New("the first message is no Welcome")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	epoch := welcome.GetEpoch()
	if before(epoch, a.epoch) {
		return fmt.Errorf("refuse a leader: epoch %v is lower than %v", epoch, a.epoch)
	}
	a.epoch, a.fenced = epoch, welcome.GetFenceTimeout().AsDuration()
	return nil
}

func before(a, b *pb.Epoch) bool {
	return cmp.Or(cmp.Compare(a.GetLeaseCreatedMicros(), b.GetLeaseCreatedMicros()),
		cmp.Compare(a.GetLeaseTransitions(), b.GetLeaseTransitions())) < 0
}

// hear begins the fence's time anew.
func (a *agent) hear() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.fence != nil {
		a.fence.Stop()
	}
	a.fence = time.AfterFunc(a.fenced, func() { a.endAll(func(at *attempt) bool { return !at.recorded }) })
}

// endAll cuts attempts off.
func (a *agent) endAll(which func(*attempt) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for k, at := range a.running {
		if which(at) {
			a.endLocked(k, pb.Outcome_OUTCOME_INTERRUPTED, 0)
		}
	}
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
		Epoch: a.epoch,
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
			Token: at.assignment.GetToken(), JobName: at.assignment.GetJobName(), Outcome: at.outcome, ExitCode: at.exitCode,
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
		a.endLocked(keyOf(kill.GetToken()), pb.Outcome_OUTCOME_KILLED, 0)
	}
	for _, token := range m.GetRecorded() {
		if at := a.running[keyOf(token)]; at != nil {
			at.recorded = true
		}
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
	a.work.Begin(a.pod, assignment, func(exitCode int32) {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.endLocked(k, pb.Outcome_OUTCOME_EXITED, exitCode)
	})
}

func (a *agent) endLocked(k key, outcome pb.Outcome, exitCode int32) {
	at := a.running[k]
	if at == nil {
		return
	}
	delete(a.running, k)
	at.ended, at.outcome, at.exitCode = time.Now(), outcome, exitCode
	a.work.End(a.pod, at.assignment)
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
