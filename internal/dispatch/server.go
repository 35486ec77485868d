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

	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	grpcstatus "google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
	"github.com/workerpool-dev/workerpool/internal/engine"
	"github.com/workerpool-dev/workerpool/internal/metrics"
)

const (
	// protocol is the version of the wire that is spoken here.
	protocol = 1
	// maxMessageBytes bounds what an agent may send at once: 1,000 results and what runs. TestTheLargestMessageOfAnAgent
	// has the sum.
	maxMessageBytes = 13 << 19
	// maxHeaderBytes bounds what comes with a call: the token, and what HTTP/2 and gRPC add.
	maxHeaderBytes = maxTokenBytes + 4<<10
	// bufferBytes is what a session keeps to read with, and windowBytes what an agent may send ahead.
	bufferBytes = 4 << 10
	windowBytes = 64 << 10
	// helloTimeout bounds authentication and the wait for the first message.
	helloTimeout = 10 * time.Second
	// stopTimeout bounds the wait for sessions to end.
	stopTimeout = 2 * time.Second

	// workRate and workBurst bound what a session may have taken in: work a second, and at once. An agent that works off
	// 4,000 tasks a second does not meet them; one that does is read more slowly.
	workRate  = 20_000
	workBurst = 20_000
	// runningShare is how many entries of what runs, which each report repeats, are as much work as a result.
	runningShare = 16
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
	// Look reads the agent's pod live.
	Look(ctx context.Context, identity Identity) (Sight, error)
}

// Server serves the sessions of one leader.
type Server struct {
	dispatchpb.UnimplementedDispatchServer

	engine   Engine
	auth     Authenticator
	epoch    engine.Epoch
	held     func() bool
	tls      *tls.Config
	refusals *metrics.Refusals
	pods     *pods
	stopped  chan struct{}
}

// NewServer returns a server for a leader of the given epoch; Serve makes it listen. Held tells whether no other
// process can lead: as long as it is false, nothing that an agent says is taken in.
func NewServer(
	eng Engine, auth Authenticator, epoch engine.Epoch, held func() bool, config *tls.Config, refusals *metrics.Refusals,
) *Server {
	return &Server{
		engine: eng, auth: auth, epoch: epoch, held: held, tls: config, refusals: refusals,
		pods:    &pods{look: auth.Look, clock: time.Now, known: map[types.UID]*acquaintance{}},
		stopped: make(chan struct{}),
	}
}

// Serve accepts sessions until the context ends. It closes the listener, and returns when all
// sessions have ended: from then on this leader is silent.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	server := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(s.tls)),
		grpc.MaxRecvMsgSize(maxMessageBytes),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.StaticStreamWindowSize(windowBytes),
		grpc.StaticConnWindowSize(windowBytes),
		grpc.ConnectionTimeout(helloTimeout),
		// Thousands of sessions are idle for most of the time: a buffer for large messages would be most of their memory.
		grpc.ReadBufferSize(bufferBytes),
		grpc.MaxConcurrentStreams(1), // one connection is one agent
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: engine.SilenceTimeout, Timeout: engine.SilenceTimeout}),
	)
	dispatchpb.RegisterDispatchServer(server, s)
	served := make(chan error, 1)
	go func() { served <- server.Serve(newDoor(listener, s.refusals)) }()
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
	peer := connOf(stream.Context())
	g, err := s.greet(stream, peer)
	if err != nil {
		return err
	}
	defer s.bid(g, peer)
	sess := newSession()
	if !s.held() {
		return errUnheld
	}
	if err := s.welcome(stream); err != nil {
		return err
	}
	if err := sess.owe(g.hello.Results); err != nil {
		return err
	}
	if err := s.engine.Connect(sess, g.hello); err != nil {
		return refusal(err)
	}
	peer.complete()
	g.hello = engine.Hello{} // it may be large
	defer s.engine.Disconnect(sess)
	ended := make(chan error, 2)
	go func() { ended <- sess.send(stream) }()
	heard := make(chan struct{}, 1)
	go func() { ended <- s.receive(stream, peer, sess, heard) }()
	defer sess.Close("")
	return s.watch(sess, heard, ended)
}

// greeting is an agent that is authenticated, alone in its pod, and has said Hello.
type greeting struct {
	pod   *acquaintance
	hello engine.Hello
}

// bid ends what greet has begun.
func (s *Server) bid(g *greeting, peer *conn) {
	peer.leave()
	s.pods.leave(g.pod)
}

// greet authenticates the agent and reads its first message, in bounded time.
func (s *Server) greet(stream dispatchpb.Dispatch_SessionServer, peer *conn) (*greeting, error) {
	greeted := make(chan *greeting)
	refused := make(chan error, 1)
	ctx, cancel := context.WithTimeout(stream.Context(), helloTimeout)
	defer cancel()
	go func() {
		g, err := s.hello(ctx, stream, peer)
		if err != nil {
			refused <- err
			return
		}
		select {
		case greeted <- g:
		case <-ctx.Done(): // it came too late
			s.bid(g, peer)
		}
	}()
	select {
	case g := <-greeted:
		return g, nil
	case err := <-refused:
		return nil, err
	case <-ctx.Done():
		return nil, grpcstatus.Error(codes.DeadlineExceeded, "no Hello came in time")
	case <-s.stopped:
		return nil, errStopping
	}
}

// hello lets one greeting of each pod at a time come as far as its first message, which may be large.
func (s *Server) hello(ctx context.Context, stream dispatchpb.Dispatch_SessionServer, peer *conn) (_ *greeting, err error) {
	token, err := bearer(ctx)
	if err != nil {
		return nil, err
	}
	identity, err := s.auth.Authenticate(ctx, token)
	if err != nil {
		s.refusals.Count(reasonOf(err))
		return nil, err
	}
	pod, err := s.pods.enter(identity.PodUID)
	if err != nil {
		s.refusals.Count(metrics.RefusedSecond)
		return nil, err
	}
	g := &greeting{pod: pod}
	peer.admit(identity.Pool.Namespace)
	defer func() {
		if err != nil {
			s.bid(g, peer)
		}
	}()
	first, err := stream.Recv()
	if err != nil {
		return nil, err
	}
	if g.hello, err = firstOf(identity, first); err != nil {
		s.refusals.Count(metrics.RefusedMessage)
		return nil, err
	}
	if err := s.pods.recognise(ctx, pod, identity, g.hello.Instance, peer.address); err != nil {
		s.noteMoved(pod, identity, peer, err)
		return nil, err
	}
	return g, nil
}

// noteMoved counts and logs that a session was refused because another than the pod's agent may have begun it.
func (s *Server) noteMoved(pod *acquaintance, identity Identity, peer *conn, err error) {
	if !errors.Is(err, errElsewhere) && !errors.Is(err, errNoRestart) {
		return
	}
	s.refusals.Count(metrics.RefusedMoved)
	if !errors.Is(err, pod.said) {
		pod.said = err
		logf.Log.WithName("dispatch").Info("Refused a session", "pod", klog.KRef(identity.Pool.Namespace, identity.PodName),
			"address", peer.address, "reason", grpcstatus.Convert(err).Message())
	}
}

// firstOf reads an agent's first message.
func firstOf(identity Identity, first *dispatchpb.AgentMessage) (engine.Hello, error) {
	hello := first.GetHello()
	switch {
	case hello == nil:
		return engine.Hello{}, grpcstatus.Error(codes.InvalidArgument, "the first message must be a Hello")
	case hello.GetProtocol() != protocol:
		return engine.Hello{}, grpcstatus.Errorf(codes.FailedPrecondition,
			"the agent speaks version %d of the protocol, and this operator version %d", hello.GetProtocol(), protocol)
	}
	return fromHello(identity, hello)
}

// reasonOf tells why a token gave no session.
func reasonOf(err error) metrics.Refusal {
	if errors.Is(err, errOften) {
		return metrics.RefusedOften
	}
	return metrics.RefusedToken
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

// receive takes in what an agent reports. What is too much for now stays with the agent: as long as nothing is read, its
// stream is full, and it gathers its news in one report.
func (s *Server) receive(stream dispatchpb.Dispatch_SessionServer, peer *conn, sess *session, heard chan<- struct{}) error {
	work := rate.NewLimiter(workRate, workBurst)
	for {
		message, err := stream.Recv()
		if err != nil {
			return err
		}
		select {
		case heard <- struct{}{}:
		default:
		}
		report, err := fromReport(message.GetReport())
		if err == nil {
			err = sess.owe(report.Results)
		}
		if err != nil {
			s.refusals.Count(metrics.RefusedMessage)
			return err
		}
		if !s.held() {
			return errUnheld
		}
		s.engine.Report(sess, report)
		peer.complete()
		if err := work.WaitN(stream.Context(), 1+len(report.Results)+len(report.Running)/runningShare); err != nil {
			return err
		}
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
