package agent

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
)

// patience bounds every wait of a test: it is for a machine that is busy, not for what is tested.
const patience = 30 * time.Second

// operator is a leader that does what a test says.
type operator struct {
	pb.UnimplementedDispatchServer
	t       testing.TB
	address string
	ca      *x509.CertPool
	// caPEM is the same.
	caPEM    string
	sessions chan *session

	mu sync.Mutex
	// refuse answers the next sessions, if not nil.
	refuse error
	// tokens are the bearer tokens seen.
	tokens []string
}

// session is one that an agent has begun; its Hello is read, and nothing answered.
type session struct {
	t      testing.TB
	stream pb.Dispatch_SessionServer
	hello  *pb.Hello
	// reports has what came after the Hello; it is closed when the stream has ended.
	reports chan *pb.Report
	// over ends the session with its error.
	over     chan error
	sequence uint64
}

func newOperator(t testing.TB) *operator {
	t.Helper()
	certificate, ca := newCertificate(t)
	o := &operator{t: t, ca: ca, caPEM: pemOf(certificate), sessions: make(chan *session, 16)}
	server := grpc.NewServer(grpc.MaxRecvMsgSize(16<<20), grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{certificate},
		MinVersion:   tls.VersionTLS13,
	})))
	pb.RegisterDispatchServer(server, o)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o.address = listener.Addr().String()
	served := make(chan struct{})
	go func() { defer close(served); _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Stop(); <-served })
	return o
}

func newCertificate(t testing.TB) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "operator"},
		DNSNames:              []string{serverName},
		NotAfter:              time.Now().Add(time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func pemOf(certificate tls.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Certificate[0]}))
}

func (o *operator) Session(stream pb.Dispatch_SessionServer) error {
	md, _ := metadata.FromIncomingContext(stream.Context())
	o.mu.Lock()
	refuse := o.refuse
	o.tokens = append(o.tokens, md.Get("authorization")...)
	o.mu.Unlock()
	if refuse != nil {
		return refuse
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	s := &session{t: o.t, stream: stream, hello: first.GetHello(), reports: make(chan *pb.Report, 1<<16), over: make(chan error, 1)}
	go func() {
		defer close(s.reports)
		for {
			m, err := stream.Recv()
			if err != nil {
				return
			}
			s.reports <- m.GetReport()
		}
	}()
	o.sessions <- s
	select {
	case err := <-s.over:
		return err
	case <-stream.Context().Done():
		return status.FromContextError(stream.Context().Err()).Err()
	}
}

// setRefuse has the following sessions refused; nil ends that.
func (o *operator) setRefuse(code codes.Code) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.refuse = status.Error(code, "as the test wants")
	if code == codes.OK {
		o.refuse = nil
	}
}

// next waits for a session.
func (o *operator) next() *session {
	o.t.Helper()
	select {
	case s := <-o.sessions:
		if s.hello == nil {
			o.t.Fatal("the first message is no Hello")
		}
		return s
	case <-time.After(patience):
		o.t.Fatal("no session")
		return nil
	}
}

// accepted waits for a session and welcomes it.
func (o *operator) accepted() *session {
	o.t.Helper()
	s := o.next()
	s.welcome(5)
	return s
}

func (s *session) send(m *pb.OperatorMessage) {
	s.t.Helper()
	s.sequence++
	m.Sequence = s.sequence
	if err := s.stream.Send(m); err != nil {
		s.t.Fatal(err)
	}
}

func (s *session) welcome(transitions int64) {
	s.t.Helper()
	s.send(&pb.OperatorMessage{Welcome: &pb.Welcome{
		Epoch:             &pb.Epoch{LeaseCreatedMicros: 1, LeaseTransitions: transitions},
		HeartbeatInterval: durationpb.New(20 * time.Millisecond),
		SilenceTimeout:    durationpb.New(patience),
		FenceTimeout:      durationpb.New(patience),
	}})
}

func (s *session) assign(assignments ...*pb.Assignment) {
	s.t.Helper()
	s.send(&pb.OperatorMessage{Assignments: assignments})
}

func (s *session) settle(tokens ...*pb.Token) {
	s.t.Helper()
	s.send(&pb.OperatorMessage{Settled: tokens})
}

// until returns the first report that satisfies the condition.
func (s *session) until(what string, ok func(*pb.Report) bool) *pb.Report {
	s.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case r, open := <-s.reports:
			if !open {
				s.t.Fatalf("the session ended before %s", what)
			}
			if ok(r) {
				return r
			}
		case <-timeout:
			s.t.Fatalf("no report of %s", what)
		}
	}
}

// result waits for the result of an attempt.
func (s *session) result(tok *pb.Token) *pb.Result {
	s.t.Helper()
	var found *pb.Result
	s.until("the result", func(r *pb.Report) bool {
		for _, result := range r.GetResults() {
			if tokenOf(result.GetToken()) == tokenOf(tok) {
				found = result
			}
		}
		return found != nil
	})
	return found
}

// running waits until an attempt runs.
func (s *session) running(tok *pb.Token) {
	s.t.Helper()
	s.until("the start", func(r *pb.Report) bool { return runs(r.GetRunning(), tok) })
}

func runs(running []*pb.Running, tok *pb.Token) bool {
	for _, r := range running {
		if tokenOf(r.GetToken()) == tokenOf(tok) && r.GetStartedAgo().AsDuration() > 0 {
			return true
		}
	}
	return false
}

// closed waits until the agent has ended the session.
func (s *session) closed() {
	s.t.Helper()
	select {
	case <-s.stream.Context().Done():
	case <-time.After(patience):
		s.t.Fatal("the agent has not ended the session")
	}
}

// tokenFor is the first attempt of a job's only task.
func tokenFor(job string) *pb.Token { return tokenTry(job, 1) }

func tokenTry(job string, try int32) *pb.Token {
	return &pb.Token{JobUid: job, Try: try, Epoch: &pb.Epoch{LeaseCreatedMicros: 1, LeaseTransitions: 5}}
}

func job(name string, argv ...string) *pb.Assignment {
	return &pb.Assignment{Token: tokenFor(name), JobName: name, Argv: argv}
}

func shell(name, script string) *pb.Assignment { return job(name, "sh", "-c", script) }

// testConfig is one that works; its folders are the test's.
func testConfig(t testing.TB, o *operator) Config {
	t.Helper()
	dir := t.TempDir()
	tokenFile := filepath.Join(dir, "token")
	if err := os.WriteFile(tokenFile, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := Config{
		Addresses: []string{o.address},
		CA:        o.ca,
		TokenFile: tokenFile,
		SpoolDir:  filepath.Join(dir, "spool"),
		Slots:     4,
		ReadyFile: filepath.Join(dir, "ready"),
		Environ:   []string{"PATH=" + os.Getenv("PATH"), "CONTAINER=yes", "WORKERPOOL_CA=own", markVariable + "=fake"},
		timing:    defaultTiming(),
	}
	// What is not to be waited for would fail a test.
	c.timing.drain, c.timing.clean = 2*patience, 2*patience
	c.timing.retryMin, c.timing.retryMax = time.Millisecond, 10*time.Millisecond
	return c
}

// runAgent runs an agent until the test ends, or until stop. Its Run's error comes on done.
func runAgent(t testing.TB, c Config, stdout io.Writer) (a *Agent, stop func(), done <-chan error) {
	t.Helper()
	a, err := New(c, stdout, discard)
	if err != nil {
		t.Fatal(err)
	}
	a.lines.rate = rate.Inf // what is fast is harder
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	stopped := make(chan struct{})
	go func() { defer close(stopped); ended <- a.Run(ctx) }()
	stop = func() {
		cancel()
		select {
		case <-stopped:
		case <-time.After(patience):
			t.Error("the agent does not stop")
		}
	}
	t.Cleanup(stop)
	return a, stop, ended
}

// lockedBuffer is a log that tests read.
type lockedBuffer struct {
	mu  sync.Mutex
	buf []byte
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf = append(b.buf, p...)
	return len(p), nil
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.buf)
}
