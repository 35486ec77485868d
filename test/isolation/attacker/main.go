// The attacker program runs in the workers of a tenant that attacks. `attacker become` puts the program in the agent's
// place and has the container restart; as the agent it holds the worker's session and attacks until it is killed.
// `attacker forge` tries to take the session of the worker that it runs in while the agent lives.
package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	pb "github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
)

const (
	agentProgram = "/workerpool/agent"
	tokenFile    = "/var/run/secrets/workerpool.dev/token"
	// turn is how long each attack lasts before the next.
	turn = 5 * time.Second
)

func main() {
	command := "agent"
	if filepath.Base(os.Args[0]) != "agent" && len(os.Args) > 1 {
		command = os.Args[1]
	}
	ctx := context.Background()
	switch command {
	case "become":
		if err := become(); err != nil {
			fmt.Fprintln(os.Stderr, "attacker:", err)
			os.Exit(1)
		}
	case "forge":
		ctx, cancel := context.WithTimeout(ctx, turn)
		defer cancel()
		forge(ctx)
	default:
		for {
			for _, attack := range []func(context.Context){
				forge, claim, flood, greetLarge, openSessions, makeUpTokens, idle, idleAtWorkers,
			} {
				turn, cancel := context.WithTimeout(ctx, turn)
				attack(turn)
				cancel()
			}
		}
	}
}

// become puts this program in the agent's place and ends the agent.
func become() error {
	own, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	copied := agentProgram + ".new"
	if err := os.WriteFile(copied, own, 0o755); err != nil { //nolint:gosec // it is to be run
		return err
	}
	if err := os.Rename(copied, agentProgram); err != nil {
		return err
	}
	return syscall.Kill(1, syscall.SIGTERM)
}

// bearer is a token that is shown to the operator.
type bearer string

func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(b)}, nil
}

func (b bearer) RequireTransportSecurity() bool { return true }

// token is the worker's own.
func token() bearer {
	content, _ := os.ReadFile(tokenFile)
	return bearer(strings.TrimSpace(string(content)))
}

// dial prepares a connection to the operator. An attacker does not care whose certificate it sees.
func dial(as bearer) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+os.Getenv("ATTACK_SERVICE"),
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13})), //nolint:gosec // see above
		grpc.WithPerRPCCredentials(as), grpc.WithNoProxy(), grpc.WithDisableRetry(), grpc.WithDisableServiceConfig())
}

// session is a session with the operator.
type session struct {
	pb.Dispatch_SessionClient
	conn  *grpc.ClientConn
	epoch *pb.Epoch

	mu   sync.Mutex
	seen uint64
}

// greet tries to begin a session with a Hello, until the context ends.
func greet(ctx context.Context, hello *pb.Hello) (*session, error) {
	for ctx.Err() == nil {
		s, err := open(ctx, hello)
		if err == nil {
			return s, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil, ctx.Err()
}

func open(ctx context.Context, hello *pb.Hello) (*session, error) {
	conn, err := dial(token())
	if err != nil {
		return nil, err
	}
	stream, err := pb.NewDispatchClient(conn).Session(ctx)
	if err == nil {
		err = stream.Send(&pb.AgentMessage{Message: &pb.AgentMessage_Hello{Hello: hello}})
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	first, err := stream.Recv()
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	s := &session{Dispatch_SessionClient: stream, conn: conn, epoch: first.GetWelcome().GetEpoch()}
	go s.listen()
	return s, nil
}

// listen notes the sequence that an agent would echo.
func (s *session) listen() {
	for {
		m, err := s.Recv()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.seen = m.GetSequence()
		s.mu.Unlock()
	}
}

func (s *session) report(r *pb.Report) error {
	s.mu.Lock()
	r.Seen = s.seen
	s.mu.Unlock()
	return s.Send(&pb.AgentMessage{Message: &pb.AgentMessage_Report{Report: r}})
}

// target is an unfinished Job of the other tenant.
type target struct {
	Name string `json:"name"`
	UID  string `json:"uid"`
}

// ask the accomplice, who has a client of the API server.
func ask(ctx context.Context, path string, into any) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, os.Getenv("ATTACK_ACCOMPLICE")+path, http.NoBody) //nolint:gosec // the address is the test's
	if err != nil {
		return
	}
	answer, err := http.DefaultClient.Do(request) //nolint:gosec // the address is the test's
	if err != nil {
		return
	}
	defer func() { _ = answer.Body.Close() }()
	_ = json.NewDecoder(answer.Body).Decode(into)
}

// did tells the accomplice what was done.
func did(kind string, n int) {
	query := url.Values{"kind": {kind}, "n": {strconv.Itoa(n)}}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, os.Getenv("ATTACK_ACCOMPLICE")+"/did?"+query.Encode(), http.NoBody) //nolint:gosec // the address is the test's
	if err != nil {
		return
	}
	if answer, err := http.DefaultClient.Do(request); err == nil { //nolint:gosec // the address is the test's
		_, _ = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
	}
}
