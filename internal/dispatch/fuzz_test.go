package dispatch

import (
	"context"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
	"github.com/workerpool-dev/workerpool/internal/engine"
	"github.com/workerpool-dev/workerpool/internal/issuer"
)

// outbox and wire take what an engine gives out.
type outbox struct{}

func (outbox) Write(engine.Write)               {}
func (outbox) DropWrite(types.UID)              {}
func (outbox) Look(engine.JobRef)               {}
func (outbox) Load(engine.JobRef)               {}
func (outbox) PoolOpened(types.NamespacedName)  {}
func (outbox) PoolChanged(types.NamespacedName) {}

// theirs is a Job of another pool, which no worker of this one may touch.
const theirs = "9f0d6b1e-1111-4222-8333-444455556666"

// realEngine has two pools: the worker's, with a Job that it is sent, and another's.
func realEngine(t *testing.T) (*engine.Engine, *session) {
	t.Helper()
	eng := engine.New(time.Now, func() float64 { return 0.5 }, outbox{})
	eng.Begin(leaderEpoch)
	other := types.NamespacedName{Namespace: "theirs", Name: "pool"}
	for key, uid := range map[types.NamespacedName]types.UID{someone.Pool: jobUID, other: theirs} {
		eng.SetPool(engine.PoolConfig{Key: key, UID: someone.PoolUID, Capacity: 10, Aging: time.Minute, Slots: 2})
		eng.Submit(engine.Job{
			JobRef: engine.JobRef{NamespacedName: types.NamespacedName{Namespace: key.Namespace, Name: "job"}, UID: uid}, ResourceVersion: "1",
			Generation: 1, Created: time.Now(), Spec: &v1alpha1.JobSpec{Pool: key.Name, Command: []string{"true"}},
		})
	}
	eng.SetWorkers(someone.Pool, []engine.WorkerPod{{UID: podUID, Name: "pool-0", Started: true, Slots: 2}})
	if m, ok := eng.Manager(someone.Pool); ok {
		if err := m.Start(); err != nil {
			t.Fatal(err)
		}
	}
	return eng, newSession(testProver)
}

// seeds are messages that are right, and such as an adversary sends.
func seeds() []*dispatchpb.AgentMessage {
	token := func(job string, index, try int32, created int64) *dispatchpb.Token {
		return &dispatchpb.Token{JobUid: job, Index: index, Try: try, Epoch: &dispatchpb.Epoch{LeaseCreatedMicros: created, LeaseTransitions: 5}}
	}
	long := durationpb.New(1<<63 - 1)
	wide := largestResult()
	wide.Message, wide.Output = strings.Repeat("\u20ac", 2000), []byte(strings.Repeat("\xff\u20ac", 2000))
	all := []*dispatchpb.AgentMessage{
		{}, helloMessage(&dispatchpb.Hello{}), helloMessage(&dispatchpb.Hello{Protocol: 1, Results: []*dispatchpb.Result{largestResult(), wide}}),
		helloMessage(&dispatchpb.Hello{Protocol: 1, Running: []*dispatchpb.Running{{}}, ResetFailure: strings.Repeat("\u20ac", 300)}),
		reportMessage(&dispatchpb.Report{Results: []*dispatchpb.Result{wide}}),
	}
	for _, of := range []*dispatchpb.Token{
		token(jobUID, 0, 1, 1234), token(jobUID, 0, 2, 9e18), token(jobUID, 1, 1, 1234), token(jobUID, 1<<31-1, 1<<31-1, 1234),
		token(theirs, 0, 1, 1234), token(theirs, 0, 2, 9e18), token(podUID, 0, 1, -1), token("a/b", 0, 1, 1), nil,
	} {
		for outcome := range dispatchpb.Outcome_name {
			running := []*dispatchpb.Running{{Token: of, JobName: "job", StartedAgo: long, MemoryBytes: -1}}
			results := []*dispatchpb.Result{{
				Token: of, JobName: "job", Outcome: dispatchpb.Outcome(outcome), ExitCode: -1, HttpStatus: 1 << 30, Message: "\u0085\u2028",
				Output: []byte("\x80\xff\x00\xe2\x82"), StartedAgo: &durationpb.Duration{Seconds: -1 << 62, Nanos: 1 << 30}, EndedAgo: long, CpuTime: long,
			}}
			all = append(all,
				helloMessage(&dispatchpb.Hello{Protocol: 1, Instance: "i1", Running: running}),
				helloMessage(&dispatchpb.Hello{Protocol: 1, Instance: "i1", Results: results, Draining: true, Resetting: 1 << 31, ResetFailure: "\xff"}),
				reportMessage(&dispatchpb.Report{Seen: 1 << 63, Running: running, Results: results, Resetting: 3}))
		}
	}
	return all
}

func addSeeds(f *testing.F) {
	f.Helper()
	for _, message := range seeds() {
		encoded, err := proto.MarshalOptions{AllowPartial: true}.Marshal(message)
		if err == nil { // else it has text that is none, and could not be sent
			f.Add(encoded)
		}
	}
}

// What agents say comes from pods that run other people's programs: it must be within bounds, or refused.
func FuzzHello(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, encoded []byte) {
		message := &dispatchpb.AgentMessage{}
		if proto.Unmarshal(encoded, message) != nil {
			return
		}
		hello, err := firstOf(someone, message, testProver)
		if err != nil {
			checkRefusal(t, err)
			return
		}
		checkState(t, hello.Running, hello.Results, hello.Resets)
		if hello.Pool != someone.Pool || hello.Pod != someone.PodUID || len(hello.Instance) > maxInstance {
			t.Errorf("the Hello is %+v", hello)
		}
		eng, sess := realEngine(t)
		if err := eng.Connect(sess, hello); err != nil {
			t.Fatal(err)
		}
		eng.Tick()
		checkCommands(t, sess)
		eng.Disconnect(sess)
	})
}

func FuzzReport(f *testing.F) {
	addSeeds(f)
	f.Fuzz(func(t *testing.T, encoded []byte) {
		message := &dispatchpb.AgentMessage{}
		if proto.Unmarshal(encoded, message) != nil {
			return
		}
		report, err := fromReport(message.GetReport(), testProver)
		if err != nil {
			checkRefusal(t, err)
			return
		}
		checkState(t, report.Running, report.Results, report.Resets)
		eng, sess := realEngine(t)
		if err := eng.Connect(sess, engine.Hello{Pool: someone.Pool, PoolUID: someone.PoolUID, Pod: podUID, PodName: "pool-0", Instance: "i1"}); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			eng.Report(sess, report)
			eng.Tick()
		}
		checkCommands(t, sess)
		eng.Disconnect(sess)
	})
}

// checkRefusal: what ends a session must not tell an agent that it is nobody.
func checkRefusal(t *testing.T, err error) {
	t.Helper()
	if code := grpcstatus.Code(err); code != codes.InvalidArgument && code != codes.FailedPrecondition {
		t.Errorf("it is refused with %v", err)
	}
}

// checkState checks the bounds on what the engine is told.
func checkState(t *testing.T, running []engine.Running, results []engine.Result, resets engine.Resets) {
	t.Helper()
	if len(running) > maxRunning || len(results) > maxResults || resets.Running < 0 || resets.Running > maxRunning {
		t.Errorf("%d run, with %d results and %d resets", len(running), len(results), resets.Running)
	}
	checkText(t, resets.Failure, maxEventChars)
	for _, r := range running {
		checkToken(t, r.Token, r.JobName)
		if r.StartedAgo < 0 || r.Memory < 0 {
			t.Errorf("it runs: %+v", r)
		}
	}
	for _, r := range results {
		checkToken(t, r.Token, r.JobName)
		checkText(t, r.Message, maxMessageChars)
		checkText(t, r.Output, maxOutputBytes)
		if r.StartedAgo < 0 || r.EndedAgo < 0 || r.CPUTime < 0 || r.MaxMemoryBytes < 0 {
			t.Errorf("the result is %+v", r)
		}
	}
}

func checkToken(t *testing.T, token engine.Token, name string) {
	t.Helper()
	if token.Try < 1 || token.Index < 0 || len(token.Job) != uidBytes || len(validation.IsDNS1123Subdomain(name)) > 0 {
		t.Errorf("token %+v of Job %q was let in", token, name)
	}
}

func checkText(t *testing.T, s string, most int) {
	t.Helper()
	if !utf8.ValidString(s) || utf8.RuneCountInString(s) > most || strings.ContainsRune(s, 0x7f) {
		t.Errorf("a text is out of bounds: %q", s)
	}
}

// checkCommands: the worker is sent nothing of another pool's Job.
func checkCommands(t *testing.T, sess *session) {
	t.Helper()
	sess.mu.Lock()
	defer sess.mu.Unlock()
	for _, a := range sess.pending.Assignments {
		if a.Token.Job != jobUID {
			t.Errorf("it was sent %+v", a.Token)
		}
	}
}

func FuzzBearer(f *testing.F) {
	good := sign(f, signer, saidByWorker())
	for _, seed := range []string{"", "Bearer ", "Bearer a.b.c", "Basic x", "Bearer " + good, "Bearer " + good[:len(good)/2], "Bearer ..", "Bearer e30.e30.e30"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		ctx := metadata.NewIncomingContext(context.Background(), metadata.Pairs("authorization", header))
		token, err := bearer(ctx)
		if err != nil {
			return
		}
		c, err := parse(token, time.Now())
		if err != nil {
			return
		}
		if !isUID(string(c.uid)) || !isName(c.pod.Name) || !isName(c.pod.Namespace) {
			t.Errorf("the token claims %+v", c)
		}
		if keysOf(t, signer).Origin(c.token, time.Now()) == issuer.Genuine && !strings.Contains(header, good) {
			t.Errorf("another token than the signed one is genuine: %q", header)
		}
	})
}

func FuzzName(f *testing.F) {
	for _, seed := range []string{"", "a", "a.b", "a..b", "-a", "a-", "a.-b", "a-.b", "A", "a/b", "0", ".", "a.", strings.Repeat("n", 254), "\u00e4"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if want := len(validation.IsDNS1123Subdomain(name)) == 0; isName(name) != want {
			t.Errorf("isName(%q) is %v", name, !want)
		}
	})
}
