package dispatch

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/workerpool-dev/workerpool/internal/certs"
	"github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
	"github.com/workerpool-dev/workerpool/internal/engine"
)

// from dials as if from this address, of which loopback has many.
func from(ip string) *net.Dialer {
	return &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
}

func dialFrom(ip string) grpc.DialOption {
	return grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		return from(ip).DialContext(ctx, "tcp", address)
	})
}

// heap is the memory in use.
func heap() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc + stats.StackInuse
}

func TestAFloodOfIdleConnectionsIsBoundedAndKeepsNobodyOut(t *testing.T) {
	o := newOperator(t).serve()
	config := &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, ServerName: certs.ServerName}
	const flood = 2 * maxStrangers
	before := heap()
	var mu sync.Mutex
	var open []net.Conn
	closed := make(chan struct{}, flood)
	var dialling sync.WaitGroup
	for i := range 32 {
		dialling.Go(func() {
			for range flood / 32 {
				conn, err := (&tls.Dialer{NetDialer: from(fmt.Sprintf("127.0.1.%d", i%2+1)), Config: config}).DialContext(t.Context(), "tcp", o.address)
				if err != nil {
					closed <- struct{}{} // while it shook hands
					continue
				}
				mu.Lock()
				open = append(open, conn)
				mu.Unlock()
				go func() {
					_, _ = io.Copy(io.Discard, conn)
					closed <- struct{}{}
				}()
			}
		})
	}
	dialling.Wait()
	t.Cleanup(func() {
		for _, conn := range open {
			_ = conn.Close()
		}
	})
	for range flood - maxStrangers {
		<-closed
	}
	// The test has the clients' ends in its memory too.
	if grown := int64(heap()) - int64(before); grown > 150<<20 {
		t.Errorf("%d connections took %d MiB", flood, grown>>20)
	}
	for i := range 3 {
		stream := o.greet(o.dial(o.ca, dialFrom(fmt.Sprintf("127.0.2.%d", i+1))))
		o.receive(stream)
		<-o.hellos
		(<-o.sessions).Close("")
		<-o.disconnected
	}
}

// preface is what an HTTP/2 client sends first: with it the connection is made, and nothing is asked for yet.
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"

func TestAConnectionOnWhichNobodyIsAuthenticatedIsClosed(t *testing.T) {
	inBubble(t, func(*operator) {}, func(t *testing.T, _ *operator, conn *grpc.ClientConn) {
		began := time.Now()
		conn.Connect()
		for state := conn.GetState(); state != connectivity.Ready; state = conn.GetState() {
			conn.WaitForStateChange(t.Context(), state)
		}
		// It answers pings, so that it is not taken for dead.
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		conn.WaitForStateChange(ctx, connectivity.Ready)
		if after := time.Since(began); after < helloTimeout || after > helloTimeout+2*time.Second {
			t.Errorf("it was closed after %v, want about %v", after, helloTimeout)
		}
	})
}

func TestAStrangerThatSendsMuchIsCutOff(t *testing.T) {
	o := newOperator(t)
	o.onAuthenticate = func(ctx context.Context) (Identity, error) {
		<-ctx.Done()
		return Identity{}, ctx.Err()
	}
	o.serve()
	config := &tls.Config{MinVersion: tls.VersionTLS13, InsecureSkipVerify: true, NextProtos: []string{"h2"}}
	conn, err := (&tls.Dialer{Config: config}).DialContext(t.Context(), "tcp", o.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() { _, _ = io.Copy(io.Discard, conn) }()
	if _, err := io.WriteString(conn, preface); err != nil {
		t.Fatal(err)
	}
	sent := 0
	for frame := append([]byte{0, 0, 8, 6, 1, 0, 0, 0, 0}, make([]byte, 8)...); sent < 64<<20; { // answers to pings
		n, err := conn.Write(slices.Repeat(frame, 100))
		sent += n
		if err != nil {
			return
		}
	}
	t.Errorf("%d bytes were taken from a stranger", sent)
}

func TestASecondGreetingOfAPodIsRefusedBeforeItsFirstMessage(t *testing.T) {
	o := newOperator(t).serve()
	first := o.open(o.dial(o.ca), "Bearer good")
	o.awaitPresent()
	o.wantEnd(o.open(o.dial(o.ca), "Bearer good"), codes.AlreadyExists)

	other := o.open(o.dial(o.ca), "Bearer pod another")
	o.send(other, helloMessage(&dispatchpb.Hello{Protocol: 1, Instance: "i2"}))
	o.receive(other)

	o.send(first, helloMessage(&dispatchpb.Hello{Protocol: 1, Instance: "i1"}))
	o.receive(first)
	o.wantEnd(o.open(o.dial(o.ca), "Bearer good"), codes.AlreadyExists)
}

// awaitPresent waits until a greeting is under way.
func (o *operator) awaitPresent() {
	o.t.Helper()
	for {
		p := o.server.pods
		p.mu.Lock()
		a := p.known[someone.PodUID]
		present := a != nil && a.present
		p.mu.Unlock()
		if present {
			return
		}
		runtime.Gosched()
	}
}

func TestAnAgentWhoseConnectionIsLostIsBackAtOnce(t *testing.T) {
	o := newOperator(t).serve()
	for range 50 {
		conn := o.dial(o.ca)
		o.receive(o.greet(conn))
		_ = conn.Close()
		<-o.disconnected
		// Its session is over for the engine, and so it is here, or will be by its next try.
		for {
			next := o.dial(o.ca)
			stream := o.greet(next)
			if _, err := stream.Recv(); err == nil {
				_ = next.Close()
				<-o.disconnected
				break
			} else if grpcstatus.Code(err) != codes.AlreadyExists {
				t.Fatal(err)
			}
		}
		for len(o.hellos) > 0 {
			<-o.hellos
			<-o.sessions
		}
	}
}

func TestAGreetingThatIsGivenUpLeavesItsPodFree(t *testing.T) {
	inBubble(t, func(*operator) {}, func(_ *testing.T, o *operator, conn *grpc.ClientConn) {
		o.wantEnd(o.open(conn, "Bearer good"), codes.DeadlineExceeded)
		synctest.Wait()
		o.receive(o.greet(conn))
	})
}

func TestLongHeadersAreRefused(t *testing.T) {
	o := newOperator(t).serve()
	conn := o.dial(o.ca)
	_, _ = o.open(conn, "Bearer bad").Recv() // the settings have come
	ctx := metadata.NewOutgoingContext(t.Context(), metadata.Pairs("long", strings.Repeat("x", 2*maxHeaderBytes)))
	_, err := dispatchpb.NewDispatchClient(conn).Session(ctx)
	if grpcstatus.Code(err) != codes.Internal || !strings.Contains(err.Error(), "maximum size") {
		t.Errorf("the error is %v, want that they are too long", err)
	}
}

// largestResult is a result that an agent makes, with all that it may hold.
func largestResult() *dispatchpb.Result {
	long := durationpb.New(1<<63 - 1)
	return &dispatchpb.Result{
		Token: &dispatchpb.Token{
			JobUid: jobUID, Index: 1<<31 - 1, Try: 1<<31 - 1,
			Epoch: &dispatchpb.Epoch{LeaseCreatedMicros: 1<<63 - 1, LeaseTransitions: 1<<63 - 1},
		},
		Outcome: dispatchpb.Outcome_OUTCOME_RESPONDED, ExitCode: -1, Message: strings.Repeat("m", 1024), Output: make([]byte, maxOutputBytes),
		StartedAgo: long, EndedAgo: long, CpuTime: long, MaxMemoryBytes: 1<<63 - 1, JobName: strings.Repeat("n", maxNameBytes), HttpStatus: 999,
	}
}

// An agent keeps 1,000 results, those of what runs included. A later version may have somewhat longer tokens.
func TestTheLargestMessageOfAnAgentFits(t *testing.T) {
	hello := &dispatchpb.Hello{
		Protocol: 1, AgentVersion: strings.Repeat("v", 100), Instance: strings.Repeat("i", maxInstance),
		Epoch: largestResult().GetToken().GetEpoch(), Draining: true, ResetFailure: strings.Repeat("\u20ac", maxEventChars),
		Unavailable: strings.Repeat("\u20ac", maxEventChars),
	}
	for range 1000 {
		hello.Results = append(hello.Results, largestResult())
	}
	for range maxRunning {
		hello.Running = append(hello.Running, &dispatchpb.Running{
			Token: largestResult().GetToken(), StartedAgo: durationpb.New(1<<63 - 1), JobName: strings.Repeat("n", maxNameBytes), MemoryBytes: 1<<63 - 1,
		})
	}
	const spare = 2000 * 128
	size := proto.Size(helloMessage(hello))
	t.Logf("it has %d bytes", size)
	if size+spare > maxMessageBytes || size < maxMessageBytes*4/5 {
		t.Errorf("the bound is %d, want little more than %d", maxMessageBytes, size+spare)
	}
	o := newOperator(t).serve()
	stream := o.open(o.dial(o.ca), "Bearer good")
	o.send(stream, helloMessage(hello))
	o.receive(stream)
	if got := <-o.hellos; len(got.Results) != 1000 {
		t.Errorf("the engine was told of %d results", len(got.Results))
	}
}

func TestALargerMessageIsRefused(t *testing.T) {
	o := newOperator(t).serve()
	stream := o.open(o.dial(o.ca), "Bearer good")
	_ = stream.Send(helloMessage(&dispatchpb.Hello{Protocol: 1, AgentVersion: strings.Repeat("v", maxMessageBytes)}))
	o.wantEnd(stream, codes.ResourceExhausted)
}

// Agents of one namespace begin large messages and do not end them. Those of another get theirs through.
func TestAgentsThatHoldUpLargeMessagesDoNotHoldUpOthers(t *testing.T) {
	o := newOperator(t)
	o.serve()
	const slow = 4 * largeMessages
	for i := range slow {
		stream := o.open(o.dial(o.ca), fmt.Sprintf("Bearer pod slow-%d", i))
		go func() {
			// Flow control lets part of it out.
			_ = stream.Send(helloMessage(&dispatchpb.Hello{Protocol: 1, AgentVersion: strings.Repeat("v", 6<<20)}))
		}()
	}
	hello := &dispatchpb.Hello{Protocol: 1, Instance: "i1", AgentVersion: strings.Repeat("v", 2*smallBytes)}
	stream := o.open(o.dial(o.ca), "Bearer good")
	o.send(stream, helloMessage(hello))
	o.receive(stream)
}

// door tests work on pipes.
func member(t *testing.T, d *door, tenant string) (*conn, net.Conn) {
	t.Helper()
	near, far := net.Pipe()
	c := d.enter(near)
	c.admit(tenant)
	t.Cleanup(func() { _, _ = c.Close(), far.Close() })
	return c, far
}

// pour writes so many bytes to a connection, and returns how many were read within a moment.
func pour(c *conn, far net.Conn, bytes int) (read int) {
	go func() { _, _ = far.Write(make([]byte, bytes)) }()
	go func() {
		buffer := make([]byte, bufferBytes)
		for {
			n, err := c.Read(buffer)
			if err != nil {
				return
			}
			read += n
		}
	}()
	synctest.Wait()
	return read
}

func TestLargeMessagesArePassedFewAtATimeAndInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoor(nil, newRefusals(t))
		var holders []*conn
		for range largeMessages {
			c, far := member(t, d, "greedy")
			if read := pour(c, far, 1<<20); read != 1<<20 {
				t.Fatalf("%d bytes were read while there was room", read)
			}
			holders = append(holders, c)
		}
		var waiting []*conn
		for range largeMessages {
			c, far := member(t, d, "greedy")
			if read := pour(c, far, 1<<20); read != smallBytes {
				t.Errorf("%d bytes were read beside the large messages, want %d", read, smallBytes)
			}
			waiting = append(waiting, c)
		}
		modest, far := member(t, d, "modest")
		pour(modest, far, 1<<20)
		holders[0].complete()
		synctest.Wait()
		d.mu.Lock()
		first, others := modest.large, slices.ContainsFunc(waiting, func(c *conn) bool { return c.large })
		d.mu.Unlock()
		if !first || others {
			t.Error("the place has not gone to the namespace that had none")
		}
	})
}

func TestALargeMessageThatIsNotCompletedEndsItsConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoor(nil, newRefusals(t))
		c, far := member(t, d, "ns")
		pour(c, far, 1<<20)
		began := time.Now()
		_, _ = io.Copy(io.Discard, far)
		if after := time.Since(began); after != largeTimeout {
			t.Errorf("it was closed after %v, want %v", after, largeTimeout)
		}
	})
}

func TestAConnectionWhoseSessionHasEndedIsAStrangersAgain(t *testing.T) {
	d := newDoor(nil, newRefusals(t))
	var ended []*conn
	for range maxStrangers {
		c, _ := member(t, d, "ns")
		ended = append(ended, c)
	}
	for _, c := range ended {
		c.leave()
	}
	member(t, d, "ns")
	if !ended[0].closed {
		t.Error("connections whose sessions have ended are not bounded")
	}
	for _, c := range ended[1:] {
		if c.closed {
			t.Fatal("one connection took more than one place")
		}
	}
}

// results are as many as one says, of which an agent tells once.
func results(n int) []*dispatchpb.Result {
	all := make([]*dispatchpb.Result, n)
	for i := range all {
		all[i] = &dispatchpb.Result{
			Token: toToken(engine.Token{Job: jobUID, Index: int32(i), Try: 1}), JobName: "job", Outcome: dispatchpb.Outcome_OUTCOME_EXITED,
		}
	}
	return all
}

func TestReportsAreTakenInAsFastAsASessionMay(t *testing.T) {
	inBubble(t, func(*operator) {}, func(t *testing.T, o *operator, conn *grpc.ClientConn) {
		stream := o.greet(conn)
		go func() { _ = end(stream) }()
		session := <-o.sessions
		began := time.Now()
		const reports, each = 100, 1000
		go func() {
			for range reports {
				_ = stream.Send(reportMessage(&dispatchpb.Report{Results: results(each)}))
			}
		}()
		for range reports {
			report := <-o.reports
			settled := make([]engine.Token, len(report.Results))
			for i, r := range report.Results {
				settled[i] = r.Token
			}
			session.Send(engine.Command{Settled: settled})
		}
		want := time.Duration(float64((reports-1)*each-workBurst) / workRate * float64(time.Second))
		if took := time.Since(began); took < want || took > want+time.Second {
			t.Errorf("%d results were taken in within %v, want %v", reports*each, took, want)
		}
	})
}

func TestAnAgentThatTellsOfMoreResultsThanItKeepsIsCutOff(t *testing.T) {
	o := newOperator(t).serve()
	stream := o.greet(o.dial(o.ca))
	for range 3 {
		o.send(stream, reportMessage(&dispatchpb.Report{Results: results(1000)}))
	}
	o.wantEnd(stream, codes.InvalidArgument)
}
