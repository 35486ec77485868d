package dispatch

import (
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
	"github.com/workerpool-dev/workerpool/internal/engine"
)

func aResult() *dispatchpb.Result {
	return &dispatchpb.Result{
		Token: toToken(engine.Token{Job: jobUID, Try: 1}), JobName: "job", Outcome: dispatchpb.Outcome_OUTCOME_EXITED,
	}
}

func TestTheMessageOfAResultIsItsFirst1024Characters(t *testing.T) {
	cases := map[string]struct{ in, want string }{
		"empty":      {"", ""},
		"all of it":  {strings.Repeat("ä", 1024), strings.Repeat("ä", 1024)},
		"cut":        {strings.Repeat("€", 1024) + "x", strings.Repeat("€", 1024)},
		"not UTF-8":  {"a\xffb", "a\uFFFDb"},
		"half a one": {"a\xe2\x82", "a\uFFFD"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := aResult()
			r.Message = c.in
			got, err := fromResult(r, testProver)
			if err != nil || got.Message != c.want {
				t.Errorf("%q, %v, want %q", got.Message, err, c.want)
			}
		})
	}
}

func TestTheOutputOfAResultIsItsLast4096BytesAsText(t *testing.T) {
	cases := map[string]struct{ in, want string }{
		"empty":               {"", ""},
		"all of it":           {strings.Repeat("o", 4096), strings.Repeat("o", 4096)},
		"cut":                 {"begin" + strings.Repeat("o", 4096), strings.Repeat("o", 4096)},
		"cut in a character":  {"€" + strings.Repeat("o", 4095), strings.Repeat("o", 4095)},
		"cut in a longer one": {"\U0001F600" + strings.Repeat("o", 4093), strings.Repeat("o", 4093)},
		"cut before one":      {"x€" + strings.Repeat("o", 4093), "€" + strings.Repeat("o", 4093)},
		"not UTF-8":           {"a\xff\xfeb", "a\uFFFDb"},
		"nothing but rubble":  {strings.Repeat("\x80", 5), "\uFFFD"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := aResult()
			r.Output = []byte(c.in)
			got, err := fromResult(r, testProver)
			if err != nil || got.Output != c.want {
				t.Errorf("%.20q... of %d bytes, %v, want %.20q... of %d", got.Output, len(got.Output), err, c.want, len(c.want))
			}
		})
	}
}

func TestAResultHasAllThatTheAgentSays(t *testing.T) {
	all := map[dispatchpb.Outcome]engine.Outcome{
		dispatchpb.Outcome_OUTCOME_EXITED:            engine.Exited,
		dispatchpb.Outcome_OUTCOME_CANNOT_START:      engine.CannotStart,
		dispatchpb.Outcome_OUTCOME_KILLED:            engine.Killed,
		dispatchpb.Outcome_OUTCOME_INTERRUPTED:       engine.Interrupted,
		dispatchpb.Outcome_OUTCOME_TIMEOUT:           engine.TimedOut,
		dispatchpb.Outcome_OUTCOME_DEADLINE_EXCEEDED: engine.DeadlineExceeded,
		dispatchpb.Outcome_OUTCOME_MEMORY_EXCEEDED:   engine.MemoryExceeded,
		dispatchpb.Outcome_OUTCOME_OOM_KILLED:        engine.OOMKilled,
		dispatchpb.Outcome_OUTCOME_RESPONDED:         engine.Responded,
	}
	if want := len(dispatchpb.Outcome_name) - 1; len(all) != want {
		t.Errorf("%d outcomes are tested of %d", len(all), want)
	}
	token := engine.Token{Job: jobUID, Index: 1, Try: 2, Epoch: engine.Epoch{LeaseCreated: 3, Transitions: 4}}
	for wire, outcome := range all {
		got, err := fromResult(&dispatchpb.Result{
			Token: toToken(token), JobName: "job", Outcome: wire, ExitCode: 133, Signal: 5, Message: "m", Output: []byte("o"),
			StartedAgo: durationpb.New(6), EndedAgo: durationpb.New(7), CpuTime: durationpb.New(8), MaxMemoryBytes: 9,
			HttpStatus: 204,
		}, testProver)
		want := engine.Result{
			Token: token, JobName: "job", Outcome: outcome, ExitCode: 133, Signal: 5, Message: "m", Output: "o",
			StartedAgo: 6, EndedAgo: 7, CPUTime: 8, MaxMemoryBytes: 9, HTTPStatus: 204,
		}
		if err != nil || got != want {
			t.Errorf("%+v, %v, want %+v", got, err, want)
		}
	}
}

func TestWhatCanNotBeNegativeIsNot(t *testing.T) {
	r := aResult()
	r.StartedAgo, r.EndedAgo, r.CpuTime = durationpb.New(-1), durationpb.New(-time.Hour), durationpb.New(-1)
	r.MaxMemoryBytes = -1
	got, err := fromResult(r, testProver)
	if err != nil || got.StartedAgo != 0 || got.EndedAgo != 0 || got.CPUTime != 0 || got.MaxMemoryBytes != 0 {
		t.Errorf("%+v, %v, want no times and no memory", got, err)
	}
}

func TestWhatAnExitCodeAndAStatusCanNotBeIsNot(t *testing.T) {
	for said, want := range map[int32][2]int32{
		-1 << 31: {0, 0}, -1: {0, 0}, 0: {0, 0}, 99: {99, 0}, 137: {137, 137}, 255: {255, 255}, 599: {255, 599}, 600: {255, 0}, 1<<31 - 1: {255, 0},
	} {
		r := aResult()
		r.ExitCode, r.HttpStatus = said, said
		got, err := fromResult(r, testProver)
		if err != nil || got.ExitCode != want[0] || got.HTTPStatus != want[1] {
			t.Errorf("%d is read as %d and %d, %v, want %v", said, got.ExitCode, got.HTTPStatus, err, want)
		}
	}
}

func TestAnOutcomeIsNeeded(t *testing.T) {
	r := aResult()
	r.Outcome = dispatchpb.Outcome_OUTCOME_UNSPECIFIED
	if _, err := fromResult(r, testProver); grpcstatus.Code(err) != codes.InvalidArgument {
		t.Errorf("the answer is %v, want InvalidArgument", err)
	}
}

func TestCommandsAreSentWhole(t *testing.T) {
	token := engine.Token{Job: jobUID, Index: 1, Try: 2, Epoch: engine.Epoch{LeaseCreated: 3, Transitions: 4}}
	wire := &dispatchpb.Token{JobUid: jobUID, Index: 1, Try: 2, Epoch: &dispatchpb.Epoch{LeaseCreatedMicros: 3, LeaseTransitions: 4}}
	got := toMessage(engine.Command{
		Sequence: 9,
		Assignments: []engine.Assignment{{
			Token: token, JobName: "job", Argv: []string{"echo", "hi"}, WorkingDir: "/tmp",
			Env: []engine.Variable{{Name: "A", Value: "1"}, {Name: "B"}}, Stdin: "in",
			Timeout: 1, Deadline: 2, Grace: 3, MemoryLimit: 4, MemoryShare: 5, MaxOpenFiles: 6,
			Reset: &engine.ResetCommand{Argv: []string{"rm", "x"}, Timeout: 7},
			HTTP:  &engine.Request{Method: "PUT", Path: "/p", Headers: []engine.Variable{{Name: "H", Value: "v"}}, Body: "b"},
		}},
		Kills:    []engine.Kill{{Token: token, Grace: time.Second}},
		Recorded: []engine.Token{token, token},
		Settled:  []engine.Token{token},
	}, testProver)
	proven := proto.CloneOf(wire)
	proven.Proof = testProver.proof(token)
	want := &dispatchpb.OperatorMessage{
		Sequence: 9,
		Assignments: []*dispatchpb.Assignment{{
			Token: proven, JobName: "job", Argv: []string{"echo", "hi"}, WorkingDir: "/tmp",
			Env: []*dispatchpb.EnvVar{{Name: "A", Value: "1"}, {Name: "B"}}, Stdin: []byte("in"),
			Timeout: durationpb.New(1), Deadline: durationpb.New(2), Grace: durationpb.New(3),
			MemoryLimitBytes: 4, MemoryShareBytes: 5, MaxOpenFiles: 6,
			ResetCommand: &dispatchpb.ResetCommand{Argv: []string{"rm", "x"}, Timeout: durationpb.New(7)},
			Http: &dispatchpb.HttpRequest{
				Method: "PUT", Path: "/p", Headers: []*dispatchpb.EnvVar{{Name: "H", Value: "v"}}, Body: []byte("b"),
			},
		}},
		Kills:    []*dispatchpb.Kill{{Token: wire, Grace: durationpb.New(time.Second)}},
		Recorded: []*dispatchpb.Token{wire, wire},
		Settled:  []*dispatchpb.Token{wire},
	}
	if !proto.Equal(got, want) {
		t.Errorf("sent %v, want %v", got, want)
	}
}

func TestCommandsThatWaitAreMergedInOrder(t *testing.T) {
	a, b := engine.Token{Job: "a", Try: 1}, engine.Token{Job: "b", Try: 1}
	s := newSession(testProver)
	s.Send(engine.Command{Sequence: 1, Assignments: []engine.Assignment{{Token: a, JobName: "a"}}, Settled: []engine.Token{a}})
	s.Send(engine.Command{Sequence: 2, Assignments: []engine.Assignment{{Token: b, JobName: "b"}}, Kills: []engine.Kill{{Token: a}}, Recorded: []engine.Token{b}})
	want := toMessage(engine.Command{
		Sequence:    2,
		Assignments: []engine.Assignment{{Token: a, JobName: "a"}, {Token: b, JobName: "b"}},
		Kills:       []engine.Kill{{Token: a}},
		Recorded:    []engine.Token{b},
		Settled:     []engine.Token{a},
	}, testProver)
	if got := s.take(); !proto.Equal(got, want) {
		t.Errorf("sent %v, want %v", got, want)
	}
	if got, want := s.take(), (&dispatchpb.OperatorMessage{Sequence: 2}); !proto.Equal(got, want) {
		t.Errorf("then sent %v, want %v", got, want)
	}
}

func TestWhatHasNoLimitIsSentWithout(t *testing.T) {
	got := toAssignment(&engine.Assignment{Token: engine.Token{Job: jobUID, Try: 1}}, testProver)
	if got.GetTimeout() != nil || got.GetDeadline() != nil || got.GetHttp() != nil || got.GetResetCommand() != nil {
		t.Errorf("sent %v, want no limits, no request and no reset", got)
	}
}

// What an agent says of its resets is bounded: the number only makes its own worker useless, but it is added to
// others, and the text goes into an event. So is why it takes nothing, which goes into the pool's status.
func TestWhatAnAgentSaysOfItsResetsIsBounded(t *testing.T) {
	for _, c := range []struct {
		running uint32
		failure string
		want    engine.Resets
	}{
		{0, "", engine.Resets{}},
		{2, "exit code 1: no", engine.Resets{Running: 2, Failure: "exit code 1: no"}},
		{1<<32 - 1, strings.Repeat("€", 300), engine.Resets{Running: maxRunning, Failure: strings.Repeat("€", 200)}},
		{1, "a\xffb\x7f", engine.Resets{Running: 1, Failure: "a\uFFFDb\uFFFD"}},
	} {
		report, err := fromReport(&dispatchpb.Report{Resetting: c.running, ResetFailure: c.failure, Unavailable: c.failure}, testProver)
		if err != nil || report.Resets != c.want || report.Unavailable != c.want.Failure {
			t.Errorf("a report of %d, %q: %+v, %v, want %+v", c.running, c.failure, report.Resets, err, c.want)
		}
		hello, err := fromHello(someone, &dispatchpb.Hello{Resetting: c.running, ResetFailure: c.failure, Unavailable: c.failure}, testProver)
		if err != nil || hello.Resets != c.want || hello.Unavailable != c.want.Failure {
			t.Errorf("a hello of %d, %q: %+v, %v, want %+v", c.running, c.failure, hello.Resets, err, c.want)
		}
	}
}

// kubectl fails on a status that has one of these: "yaml: control characters are not allowed".
func TestWhatKubectlCanNotPrintIsReplaced(t *testing.T) {
	r := aResult()
	r.Output = []byte("\x1b[1m\x00 tab\t\x7f \u0080\u009f\u0085 \ufffe\uffff é 😀")
	r.Message = "\x7f"
	got, err := fromResult(r, testProver)
	want := "\x1b[1m\x00 tab\t\ufffd \ufffd\ufffd\u0085 \ufffd\ufffd é 😀"
	if err != nil || got.Output != want || got.Message != "\ufffd" {
		t.Errorf("%q, %q, %v, want %q", got.Output, got.Message, err, want)
	}
}

// An agent's report of a sequence says that it has what was sent up to it, and takes what it does not run
// of that for not run.
func TestTooMuchForOneMessageIsSentInSeveralAndCountsAsSentWithTheLast(t *testing.T) {
	large := strings.Repeat("x", maxBatchBytes*2/3)
	s := newSession(testProver)
	s.Send(engine.Command{Sequence: 4})
	s.take()
	cmd := engine.Command{
		Sequence: 5, Settled: []engine.Token{{Job: "old", Try: 1}},
		Recorded: []engine.Token{{Job: "c", Try: 1}}, Kills: []engine.Kill{{Token: engine.Token{Job: "b", Try: 1}}},
	}
	for _, job := range []types.UID{"a", "b", "c"} {
		cmd.Assignments = append(cmd.Assignments, engine.Assignment{Token: engine.Token{Job: job, Try: 1}, Stdin: large})
	}
	s.Send(cmd)
	<-s.wake
	for i, want := range []struct {
		job      string
		sequence uint64
		settled  int
		said     int // of the assignments
	}{{"a", 4, 1, 0}, {"b", 4, 0, 0}, {"c", 5, 0, 1}} {
		m := s.take()
		if len(m.GetAssignments()) != 1 || m.GetAssignments()[0].GetToken().GetJobUid() != want.job ||
			m.GetSequence() != want.sequence || len(m.GetSettled()) != want.settled ||
			len(m.GetRecorded()) != want.said || len(m.GetKills()) != want.said {
			t.Errorf("message %d has sequence %d, %d assignments, %d settled, %d recorded, %d kills; want %+v", i, m.GetSequence(),
				len(m.GetAssignments()), len(m.GetSettled()), len(m.GetRecorded()), len(m.GetKills()), want)
		}
		if awake := len(s.wake) > 0; awake != (i < 2) {
			t.Errorf("after message %d there is more to send: %t", i, awake)
		}
		for len(s.wake) > 0 {
			<-s.wake
		}
	}
}

// All of them would be more than an agent takes in one message.
func TestSoManyTokensAreSentInSeveralMessages(t *testing.T) {
	s := newSession(testProver)
	var cmd engine.Command
	for i := range int32(5000) {
		token := engine.Token{Job: types.UID(strings.Repeat("u", 64)), Index: i, Try: 1}
		cmd.Settled, cmd.Recorded, cmd.Kills = append(cmd.Settled, token), append(cmd.Recorded, token), append(cmd.Kills, engine.Kill{Token: token})
	}
	cmd.Sequence = 7
	s.Send(cmd)
	var settled, recorded, kills int
	for i := 1; len(s.wake) > 0; i++ {
		<-s.wake
		m := s.take()
		settled, recorded, kills = settled+len(m.GetSettled()), recorded+len(m.GetRecorded()), kills+len(m.GetKills())
		if n := proto.Size(m); n > 1<<20 || (m.GetSequence() == 7) != (i == 3) {
			t.Errorf("message %d has %d bytes and sequence %d", i, n, m.GetSequence())
		}
	}
	if settled != 5000 || recorded != 5000 || kills != 5000 {
		t.Errorf("%d settled, %d recorded and %d kills were sent", settled, recorded, kills)
	}
}

func TestAnAgentThatDoesNotReadIsDisconnected(t *testing.T) {
	s := newSession(testProver)
	cmd := engine.Command{Settled: make([]engine.Token, 2048)}
	for i := range 8 {
		s.Send(cmd)
		select {
		case <-s.closed:
			t.Fatalf("closed after %d", i)
		default:
		}
	}
	s.Send(cmd)
	select {
	case <-s.closed:
	default:
		t.Fatal("it is sent ever more")
	}
	s.Close("again")
	if s.reason != "the agent does not take what it is sent" {
		t.Errorf("reason %q", s.reason)
	}
}

func TestTheItemIsFilledInWhenATaskIsSent(t *testing.T) {
	item := "a b"
	m := toMessage(engine.Command{Assignments: []engine.Assignment{
		{Argv: []string{"say", "{}", "-{}-{}"}, Fill: 2, Item: &item},
		{Item: &item, HTTP: &engine.Request{Path: "/{}?q={}", Body: "{}"}},
	}}, testProver)
	if argv := m.GetAssignments()[0].GetArgv(); !slices.Equal(argv, []string{"say", "{}", "-a b-a b"}) {
		t.Errorf("argv %q", argv)
	}
	if r := m.GetAssignments()[1].GetHttp(); r.GetPath() != "/a%20b?q=a%20b" || string(r.GetBody()) != "{}" {
		t.Errorf("request %v", r)
	}
}
