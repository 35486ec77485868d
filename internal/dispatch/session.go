package dispatch

import (
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
	"github.com/workerpool-dev/workerpool/internal/engine"
)

// session is the engine's way to one agent. What the engine sends while a message is under way is
// merged into the next one. It is bounded by what the agent has room for, because the engine sends
// no more than that.
type session struct {
	// mu guards what follows.
	mu       sync.Mutex
	pending  engine.Command
	sequence uint64
	// sent is the sequence up to which all has been taken to be sent.
	sent     uint64
	isClosed bool
	// owed is the number of results that the agent has told of and was not told to forget.
	owed int
	// later notifies when settled results alone have waited long enough; waits: it runs.
	later *time.Timer
	waits bool
	// reason is set before closed is closed, and may be read without mu after.
	reason string

	// wake has something in it while pending has.
	wake   chan struct{}
	closed chan struct{}
}

var _ engine.Session = (*session)(nil)

// settledDelay is how long an agent may be left to keep results that are settled: what it is told next within that
// time, and under load that is its next assignment, tells it that too.
const settledDelay = 100 * time.Millisecond

func newSession() *session {
	s := &session{wake: make(chan struct{}, 1), closed: make(chan struct{})}
	s.later = time.AfterFunc(settledDelay, s.notify)
	s.later.Stop()
	return s
}

// Send is engine.Session's.
func (s *session) Send(cmd engine.Command) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending.Assignments = append(s.pending.Assignments, cmd.Assignments...)
	s.pending.Kills = append(s.pending.Kills, cmd.Kills...)
	s.pending.Recorded = append(s.pending.Recorded, cmd.Recorded...)
	s.pending.Settled = append(s.pending.Settled, cmd.Settled...)
	s.owed = max(0, s.owed-len(cmd.Settled))
	s.sequence = cmd.Sequence
	if len(cmd.Assignments)+len(cmd.Kills)+len(cmd.Recorded) > 0 {
		s.notify()
	} else if !s.waits && !s.isClosed {
		s.waits = true
		s.later.Reset(settledDelay)
	}
}

// owe notes results that the agent has told of. It keeps 1,000 at most, and tells of each once.
func (s *session) owe(results []engine.Result) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owed += len(results); s.owed > maxResults {
		return grpcstatus.Errorf(codes.InvalidArgument, "%d results that are not settled are too many", s.owed)
	}
	return nil
}

// Close is engine.Session's.
func (s *session) Close(reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.isClosed {
		s.isClosed, s.reason = true, reason
		s.later.Stop()
		close(s.closed)
	}
}

// aborted is the end of a session that was closed.
func (s *session) aborted() error { return grpcstatus.Error(codes.Aborted, s.reason) }

// maxBatchBytes is how much assignments may have to be sent in one message with others. Agents take no
// message of more than a few times that, and one assignment has less than the API takes of a Job.
const maxBatchBytes = 1 << 20

// take returns the next message: what is pending, or a ping. What would be too much for one message is left
// for the next, and until it is sent the sequence stays: an agent that has seen a sequence has been sent all
// up to it.
func (s *session) take() *dispatchpb.OperatorMessage {
	s.mu.Lock()
	defer s.mu.Unlock()
	cmd := s.pending
	s.pending = engine.Command{}
	if s.waits {
		s.waits = false
		s.later.Stop()
	}
	if n := batch(cmd.Assignments); n < len(cmd.Assignments) {
		// What is said of assignments comes with the last of them, so that they are known by then.
		s.pending = engine.Command{Assignments: cmd.Assignments[n:], Kills: cmd.Kills, Recorded: cmd.Recorded}
		cmd = engine.Command{Assignments: cmd.Assignments[:n], Settled: cmd.Settled}
		s.notify()
	} else {
		s.sent = s.sequence
	}
	cmd.Sequence = s.sent
	return toMessage(cmd)
}

// batch is how many of the assignments are sent in one message: at least one, if there are any.
func batch(all []engine.Assignment) int {
	bytes := 0
	for i := range all {
		if bytes += all[i].Size(); bytes > maxBatchBytes && i > 0 {
			return i
		}
	}
	return len(all)
}

func (s *session) notify() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// send writes to the stream until the session is closed. It says something each heartbeat interval.
func (s *session) send(stream dispatchpb.Dispatch_SessionServer) error {
	ping := time.NewTicker(engine.HeartbeatInterval)
	defer ping.Stop()
	for {
		select {
		case <-s.wake:
		case <-ping.C:
		case <-s.closed:
			return s.aborted()
		}
		if err := stream.Send(s.take()); err != nil {
			return err
		}
	}
}

func (s *Server) welcome(stream dispatchpb.Dispatch_SessionServer) error {
	return stream.Send(&dispatchpb.OperatorMessage{Welcome: &dispatchpb.Welcome{
		Epoch:             toEpoch(s.epoch),
		HeartbeatInterval: durationpb.New(engine.HeartbeatInterval),
		SilenceTimeout:    durationpb.New(engine.SilenceTimeout),
		FenceTimeout:      durationpb.New(engine.FenceTimeout),
	}})
}
