// Package dispatch is the operator's end of the wire: it serves the sessions of agents and
// translates between their messages and the engine.
package dispatch

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
	"github.com/workerpool-dev/workerpool/internal/engine"
)

const (
	// protocol is the version of the wire that is spoken here.
	protocol = 1
	// maxMessageBytes bounds what an agent may send at once: a spool of 1,000 results.
	maxMessageBytes = 16 << 20
	// bufferBytes is what a session keeps to read with.
	bufferBytes = 4 << 10
	// helloTimeout bounds authentication and the wait for the first message.
	helloTimeout = 10 * time.Second
	// stopTimeout bounds the wait for sessions to end.
	stopTimeout = 2 * time.Second
)

// Engine is what sessions need of the pools in memory.
type Engine interface {
	Connect(s engine.Session, hello engine.Hello) error
	Report(s engine.Session, report engine.Report)
	Disconnect(s engine.Session)
}

// Authenticator finds out who an agent is.
type Authenticator interface {
	// Authenticate returns the pod and the pool that the bearer token belongs to. Errors carry a gRPC
	// status: Unauthenticated and PermissionDenied tell the agent that it is nobody here.
	Authenticate(ctx context.Context, token string) (Identity, error)
}

// Server serves the sessions of one leader.
type Server struct {
	dispatchpb.UnimplementedDispatchServer

	engine  Engine
	auth    Authenticator
	epoch   engine.Epoch
	held    func() bool
	key     []byte
	tls     *tls.Config
	stopped chan struct{}
}

// NewServer returns a server for a leader of the given epoch; Serve makes it listen. Held tells whether no other
// process can lead: as long as it is false, nothing that an agent says is taken in. The key is that of all leaders of the
// installation: with it an attempt is shown to have been given to its pod.
func NewServer(eng Engine, auth Authenticator, epoch engine.Epoch, held func() bool, key []byte, config *tls.Config) *Server {
	return &Server{engine: eng, auth: auth, epoch: epoch, held: held, key: key, tls: config, stopped: make(chan struct{})}
}

// Serve accepts sessions until the context ends. It closes the listener, and returns when all
// sessions have ended: from then on this leader is silent.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	server := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(s.tls)),
		grpc.MaxRecvMsgSize(maxMessageBytes),
		// Thousands of sessions are idle for most of the time: a buffer for large messages would be most of their memory.
		grpc.ReadBufferSize(bufferBytes),
		grpc.MaxConcurrentStreams(4), // one connection is one agent, whose last stream may not have ended yet
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: engine.SilenceTimeout, Timeout: engine.SilenceTimeout}),
	)
	dispatchpb.RegisterDispatchServer(server, s)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serving sessions: %w", err)
	case <-ctx.Done():
	}
	close(s.stopped) // the sessions end by themselves, so that agents learn why
	force := time.AfterFunc(stopTimeout, server.Stop)
	defer force.Stop()
	server.GracefulStop()
	if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serving sessions: %w", err)
	}
	return nil
}

// Session is one agent's session, from its Hello to its end.
func (s *Server) Session(stream dispatchpb.Dispatch_SessionServer) error {
	hello, err := s.greet(stream)
	if err != nil {
		return err
	}
	sess := newSession(prover{s.key, hello.Pod})
	if !s.held() {
		return errUnheld
	}
	if err := s.welcome(stream); err != nil {
		return err
	}
	if err := s.engine.Connect(sess, hello); err != nil {
		return refusal(err)
	}
	defer s.engine.Disconnect(sess)
	ended := make(chan error, 2)
	go func() { ended <- sess.send(stream) }()
	heard := make(chan struct{}, 1)
	go func() { ended <- s.receive(stream, sess, heard) }()
	defer sess.Close("")
	return s.watch(sess, heard, ended)
}

// greet authenticates the agent and reads its first message, in bounded time.
func (s *Server) greet(stream dispatchpb.Dispatch_SessionServer) (engine.Hello, error) {
	type greeting struct {
		hello engine.Hello
		err   error
	}
	greeted := make(chan greeting, 1)
	ctx, cancel := context.WithTimeout(stream.Context(), helloTimeout)
	defer cancel()
	go func() {
		hello, err := s.hello(ctx, stream)
		greeted <- greeting{hello, err}
	}()
	select {
	case g := <-greeted:
		return g.hello, g.err
	case <-ctx.Done():
		return engine.Hello{}, grpcstatus.Error(codes.DeadlineExceeded, "no Hello came in time")
	case <-s.stopped:
		return engine.Hello{}, errStopping
	}
}

func (s *Server) hello(ctx context.Context, stream dispatchpb.Dispatch_SessionServer) (engine.Hello, error) {
	token, err := bearer(ctx)
	if err != nil {
		return engine.Hello{}, err
	}
	identity, err := s.auth.Authenticate(ctx, token)
	if err != nil {
		return engine.Hello{}, err
	}
	first, err := stream.Recv()
	if err != nil {
		return engine.Hello{}, err
	}
	hello := first.GetHello()
	switch {
	case hello == nil:
		return engine.Hello{}, grpcstatus.Error(codes.InvalidArgument, "the first message must be a Hello")
	case hello.GetProtocol() != protocol:
		return engine.Hello{}, grpcstatus.Errorf(codes.FailedPrecondition,
			"the agent speaks version %d of the protocol, and this operator version %d", hello.GetProtocol(), protocol)
	}
	return fromHello(identity, hello, prover{s.key, identity.PodUID})
}

// errUnheld ends the sessions of a process that was stopped for so long that another may lead.
var errUnheld = grpcstatus.Error(codes.Unavailable, "this operator may not lead any more")

var errStopping = grpcstatus.Error(codes.Unavailable, "this operator is stopping")

func refusal(err error) error {
	if errors.Is(err, engine.ErrConnected) {
		return grpcstatus.Error(codes.AlreadyExists, err.Error())
	}
	return grpcstatus.Error(codes.Unavailable, err.Error())
}

func (s *Server) receive(stream dispatchpb.Dispatch_SessionServer, sess *session, heard chan<- struct{}) error {
	for {
		message, err := stream.Recv()
		if err != nil {
			return err
		}
		select {
		case heard <- struct{}{}:
		default:
		}
		report, err := fromReport(message.GetReport(), sess.prover)
		if err != nil {
			return err
		}
		if !s.held() {
			return errUnheld
		}
		s.engine.Report(sess, report)
	}
}

// watch returns when the session is to end: the stream has, the agent is silent, or either side of
// the operator wants it.
func (s *Server) watch(sess *session, heard <-chan struct{}, ended <-chan error) error {
	silence := time.NewTimer(engine.SilenceTimeout)
	defer silence.Stop()
	for {
		select {
		case <-heard:
			silence.Reset(engine.SilenceTimeout)
		case <-silence.C:
			return grpcstatus.Error(codes.DeadlineExceeded, "the agent has not been heard")
		case err := <-ended:
			return err
		case <-sess.closed:
			return sess.aborted()
		case <-s.stopped:
			return errStopping
		}
	}
}
