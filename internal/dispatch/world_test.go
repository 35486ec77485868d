package dispatch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/workerpool-dev/workerpool/internal/certs"
	"github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
	"github.com/workerpool-dev/workerpool/internal/engine"
	"github.com/workerpool-dev/workerpool/internal/metrics"
)

// UIDs, as the API server makes them.
const (
	jobUID = "4b0b0a52-3c44-4c35-9f4e-2f1d1a4a3b11"
	podUID = "0d5b7c2e-94a1-4f0c-8a53-6a0b1f3c9d02"
)

var (
	leaderEpoch = engine.Epoch{LeaseCreated: 1234, Transitions: 5}
	someone     = Identity{
		Pool: types.NamespacedName{Namespace: "ns", Name: "pool"}, PoolUID: "pool-uid", PodName: "pool-0", PodUID: podUID,
	}
)

// operator is a Server on loopback, with its engine and its authenticator.
type operator struct {
	t       *testing.T
	address string
	ca      *certs.CA
	// stop ends the server's context; served has what Serve returned.
	stop   context.CancelFunc
	served chan error

	// onConnect, if not nil, answers Connect.
	onConnect func(s engine.Session, hello engine.Hello) error
	// onAuthenticate, if not nil, answers Authenticate.
	onAuthenticate func(ctx context.Context) (Identity, error)
	// onLook, if not nil, answers Look.
	onLook func() (Sight, error)

	hellos       chan engine.Hello
	sessions     chan engine.Session
	reports      chan engine.Report
	disconnected chan engine.Session
	server       *Server
	// unheld: the Lease was not renewed for too long.
	unheld atomic.Bool
}

// Connect is Engine's.
func (o *operator) Connect(s engine.Session, hello engine.Hello) error {
	o.hellos <- hello
	if o.onConnect != nil {
		if err := o.onConnect(s, hello); err != nil {
			return err
		}
	}
	o.sessions <- s
	return nil
}

// Report is Engine's.
func (o *operator) Report(_ engine.Session, report engine.Report) { o.reports <- report }

// Disconnect is Engine's.
func (o *operator) Disconnect(s engine.Session) { o.disconnected <- s }

// Authenticate is Authenticator's.
func (o *operator) Authenticate(ctx context.Context, token string) (Identity, error) {
	if o.onAuthenticate != nil {
		return o.onAuthenticate(ctx)
	}
	if token == "good" {
		return someone, nil
	}
	if uid, ok := strings.CutPrefix(token, "pod "); ok { // another worker, of another namespace
		identity := someone
		identity.Pool.Namespace, identity.PodUID = "elsewhere", types.UID(uid)
		return identity, nil
	}
	return Identity{}, grpcstatus.Error(codes.Unauthenticated, "who?")
}

// Look is Authenticator's.
func (o *operator) Look(context.Context, Identity) (Sight, error) {
	if o.onLook != nil {
		return o.onLook()
	}
	return Sight{Runs: true}, nil
}

func (o *operator) held() bool { return !o.unheld.Load() }

func newCA(t *testing.T) *certs.CA {
	t.Helper()
	ca, err := certs.EnsureCA(t.Context(), fake.NewClientBuilder().Build(), types.NamespacedName{Namespace: "ns", Name: "ca"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func newRefusals(t *testing.T) *metrics.Refusals {
	t.Helper()
	refusals, err := metrics.NewRefusals(prometheus.NewPedanticRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return refusals
}

func newOperator(t *testing.T) *operator {
	t.Helper()
	return &operator{
		t: t, ca: newCA(t), served: make(chan error, 1),
		hellos: make(chan engine.Hello, 300), sessions: make(chan engine.Session, 300),
		reports: make(chan engine.Report, 300), disconnected: make(chan engine.Session, 300),
	}
}

// serve listens on loopback until the test ends.
func (o *operator) serve() *operator {
	o.t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(o.t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		o.t.Fatal(err)
	}
	o.address = listener.Addr().String()
	o.serveOn(listener)
	return o
}

func (o *operator) serveOn(listener net.Listener) {
	config := &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: certs.NewServer(o.ca, time.Now).GetCertificate}
	server := NewServer(o, o, leaderEpoch, o.held, config, newRefusals(o.t))
	o.server = server
	ctx, stop := context.WithCancel(context.Background())
	o.stop = stop
	go func() {
		o.served <- server.Serve(ctx, listener)
		close(o.served)
	}()
	o.t.Cleanup(func() {
		stop()
		if err := <-o.served; err != nil {
			o.t.Errorf("Serve: %v", err)
		}
	})
}

// dial makes a connection that trusts the CA.
func (o *operator) dial(ca *certs.CA, opts ...grpc.DialOption) *grpc.ClientConn {
	o.t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca.PEM) {
		o.t.Fatal("the CA's PEM holds no certificate")
	}
	config := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: roots, ServerName: certs.ServerName}
	opts = append(opts, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	conn, err := grpc.NewClient("passthrough:///"+o.address, opts...)
	if err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

type agentStream = grpc.BidiStreamingClient[dispatchpb.AgentMessage, dispatchpb.OperatorMessage]

// open begins a session, with these authorizations.
func (o *operator) open(conn *grpc.ClientConn, authorization ...string) agentStream {
	o.t.Helper()
	ctx := metadata.NewOutgoingContext(o.t.Context(), metadata.MD{"authorization": authorization})
	stream, err := dispatchpb.NewDispatchClient(conn).Session(ctx)
	if err != nil {
		o.t.Fatal(err)
	}
	return stream
}

// greet begins a session with a Hello that is right.
func (o *operator) greet(conn *grpc.ClientConn) agentStream {
	o.t.Helper()
	stream := o.open(conn, "Bearer good")
	o.send(stream, helloMessage(&dispatchpb.Hello{Protocol: 1, Instance: "i1"}))
	return stream
}

func helloMessage(h *dispatchpb.Hello) *dispatchpb.AgentMessage {
	return &dispatchpb.AgentMessage{Message: &dispatchpb.AgentMessage_Hello{Hello: h}}
}

func reportMessage(r *dispatchpb.Report) *dispatchpb.AgentMessage {
	return &dispatchpb.AgentMessage{Message: &dispatchpb.AgentMessage_Report{Report: r}}
}

func (o *operator) send(stream agentStream, message *dispatchpb.AgentMessage) {
	o.t.Helper()
	if err := stream.Send(message); err != nil {
		o.t.Fatal(err)
	}
}

func (o *operator) receive(stream agentStream) *dispatchpb.OperatorMessage {
	o.t.Helper()
	message, err := stream.Recv()
	if err != nil {
		o.t.Fatal(err)
	}
	return message
}

// end reads until the session ends, and returns how.
func end(stream agentStream) error {
	for {
		if _, err := stream.Recv(); err != nil {
			return err
		}
	}
}

// wantEnd reads until the session ends, as it should.
func (o *operator) wantEnd(stream agentStream, want codes.Code) {
	o.t.Helper()
	if err := end(stream); grpcstatus.Code(err) != want {
		o.t.Errorf("the session has ended with %v, want %v", err, want)
	}
}
