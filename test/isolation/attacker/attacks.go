package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
)

const (
	// parallel is how many do the same at once, and idleConnections how many connections are held.
	parallel        = 32
	idleConnections = 500
	largeBytes      = 15 << 20
)

// epochs that a forger tries: the present one, one to come and one that has gone.
func epochs(now *pb.Epoch) []*pb.Epoch {
	return []*pb.Epoch{
		now,
		{LeaseCreatedMicros: 9_000_000_000_000_000_000, LeaseTransitions: 1},
		{LeaseCreatedMicros: 1, LeaseTransitions: 1},
	}
}

// forge tells results of the other tenant's Jobs.
func forge(ctx context.Context) {
	s, err := greet(ctx, hello())
	if err != nil {
		return
	}
	defer func() { _ = s.conn.Close() }()
	for ctx.Err() == nil {
		var jobs []target
		ask(ctx, "/jobs", &jobs)
		report, sent := &pb.Report{}, 0
		for _, job := range jobs {
			for _, epoch := range epochs(s.epoch) {
				for try := range int32(3) {
					report.Results = append(report.Results, &pb.Result{
						Token:   &pb.Token{JobUid: job.UID, Try: try + 1, Epoch: epoch},
						JobName: job.Name, Outcome: pb.Outcome_OUTCOME_EXITED, Output: []byte("forged"),
						StartedAgo: durationpb.New(876_000 * time.Hour), EndedAgo: durationpb.New(876_000 * time.Hour),
					})
					sent++
				}
			}
		}
		if s.report(report) != nil {
			return
		}
		did("forged results", sent)
		time.Sleep(200 * time.Millisecond)
	}
}

// claim tells that the other tenant's Jobs run here.
func claim(ctx context.Context) {
	for n := 0; ctx.Err() == nil; n++ {
		s, err := greet(ctx, hello())
		if err != nil {
			return
		}
		var jobs []target
		ask(ctx, "/jobs", &jobs)
		report := &pb.Report{}
		for _, job := range jobs {
			report.Running = append(report.Running, &pb.Running{
				Token:   &pb.Token{JobUid: job.UID, Try: 1_000_000, Epoch: epochs(s.epoch)[n%3]},
				JobName: job.Name, StartedAgo: durationpb.New(time.Second), MemoryBytes: 1 << 60,
			})
		}
		_ = s.report(report)
		did("forged claims", len(jobs))
		time.Sleep(500 * time.Millisecond)
		_ = s.conn.Close()
	}
}

// flood tells results of Jobs that nobody knows.
func flood(ctx context.Context) {
	s, err := greet(ctx, hello())
	if err != nil {
		return
	}
	defer func() { _ = s.conn.Close() }()
	for ctx.Err() == nil {
		report := &pb.Report{}
		for range 2000 {
			report.Results = append(report.Results, &pb.Result{
				Token: &pb.Token{JobUid: uid(), Try: 1, Epoch: s.epoch}, JobName: "unknown", Outcome: pb.Outcome_OUTCOME_EXITED,
			})
		}
		did("unknown results", len(report.GetResults()))
		if s.report(report) != nil {
			return
		}
	}
}

// greetLarge greets with as much as it can, many at once.
func greetLarge(ctx context.Context) {
	large := hello()
	large.Results = []*pb.Result{{
		Token: &pb.Token{JobUid: uid(), Try: 1, Epoch: &pb.Epoch{LeaseCreatedMicros: 1}}, JobName: "large",
		Outcome: pb.Outcome_OUTCOME_EXITED, Output: make([]byte, largeBytes),
	}}
	atOnce(ctx, "large greetings", func() {
		if s, err := open(ctx, large); err == nil {
			_ = s.conn.Close()
		}
	})
}

// openSessions opens many sessions of one worker.
func openSessions(ctx context.Context) {
	atOnce(ctx, "second sessions", func() {
		if s, err := open(ctx, hello()); err == nil {
			time.Sleep(100 * time.Millisecond)
			_ = s.conn.Close()
		}
	})
}

// makeUpTokens greets with tokens that name a pod of somebody else.
func makeUpTokens(ctx context.Context) {
	part := base64.RawURLEncoding.EncodeToString
	atOnce(ctx, "made-up tokens", func() {
		claims := fmt.Sprintf(`{"aud":["dispatch.workerpool.dev"],"exp":9999999999,"kubernetes.io":{"namespace":"isolation-b","pod":{"name":"steady-0","uid":%q}}}`, uid())
		conn, err := dial(bearer(part([]byte(`{"alg":"RS256","kid":"x"}`)) + "." + part([]byte(claims)) + ".AAAA"))
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		if stream, err := pb.NewDispatchClient(conn).Session(ctx); err == nil {
			_, _ = stream.Recv()
		}
	})
}

// idle holds connections to the operator that say nothing after the handshake.
func idle(ctx context.Context) {
	hold(ctx, "idle connections", func(ctx context.Context) (net.Conn, error) {
		dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}} //nolint:gosec // an attacker does not care
		return dialer.DialContext(ctx, "tcp", os.Getenv("ATTACK_SERVICE"))
	})
}

// idleAtWorkers holds connections to the agents of the other tenant's workers.
func idleAtWorkers(ctx context.Context) {
	var workers []string
	ask(ctx, "/workers", &workers)
	var n atomic.Int64
	if len(workers) == 0 {
		return
	}
	hold(ctx, "idle connections to workers", func(ctx context.Context) (net.Conn, error) {
		worker := workers[int(n.Add(1))%len(workers)]
		return (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(worker, "9808"))
	})
}

// atOnce does the same many times at once, until the context ends.
func atOnce(ctx context.Context, kind string, do func()) {
	var all sync.WaitGroup
	var n atomic.Int64
	for range parallel {
		all.Go(func() {
			for ; ctx.Err() == nil; n.Add(1) {
				do()
			}
		})
	}
	all.Wait()
	did(kind, int(n.Load()))
}

// hold opens connections and keeps them until the context ends. One that is refused counts: it was tried.
func hold(ctx context.Context, kind string, dial func(context.Context) (net.Conn, error)) {
	var conns []net.Conn
	tried := 0
	for ; tried < idleConnections && ctx.Err() == nil; tried++ {
		each, cancel := context.WithTimeout(ctx, time.Second)
		if conn, err := dial(each); err == nil {
			conns = append(conns, conn)
		}
		cancel()
	}
	did(kind, tried)
	<-ctx.Done()
	for _, conn := range conns {
		_ = conn.Close()
	}
}

// instance is what this process calls itself, as an agent does: another is taken for a thief.
var instance = uid()

func hello() *pb.Hello { return &pb.Hello{Protocol: 1, Instance: instance} }

// uid is one that no object has.
func uid() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // it never fails
	s := hex.EncodeToString(b)
	return strings.Join([]string{s[:8], s[8:12], s[12:16], s[16:20], s[20:]}, "-")
}
