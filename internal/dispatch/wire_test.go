package dispatch

import (
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
	"github.com/workerpool-dev/workerpool/internal/engine"
)

func aResult() *dispatchpb.Result {
	return &dispatchpb.Result{
		Token: toToken(engine.Token{Job: "j", Try: 1}), JobName: "job", Outcome: dispatchpb.Outcome_OUTCOME_EXITED,
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
			got, err := fromResult(r)
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
			got, err := fromResult(r)
			if err != nil || got.Output != c.want {
				t.Errorf("%.20q... of %d bytes, %v, want %.20q... of %d", got.Output, len(got.Output), err, c.want, len(c.want))
			}
		})
	}
}

func TestAResultHasAllThatTheAgentSays(t *testing.T) {
	outcomes := map[dispatchpb.Outcome]engine.Outcome{
		dispatchpb.Outcome_OUTCOME_EXITED:       engine.Exited,
		dispatchpb.Outcome_OUTCOME_CANNOT_START: engine.CannotStart,
		dispatchpb.Outcome_OUTCOME_KILLED:       engine.Killed,
		dispatchpb.Outcome_OUTCOME_INTERRUPTED:  engine.Interrupted,
	}
	token := engine.Token{Job: "j", Index: 1, Try: 2, Epoch: engine.Epoch{LeaseCreated: 3, Transitions: 4}}
	for wire, outcome := range outcomes {
		got, err := fromResult(&dispatchpb.Result{
			Token: toToken(token), JobName: "job", Outcome: wire, ExitCode: 5, Message: "m", Output: []byte("o"),
			StartedAgo: durationpb.New(6), EndedAgo: durationpb.New(7), CpuTime: durationpb.New(8), MaxMemoryBytes: 9,
		})
		want := engine.Result{
			Token: token, JobName: "job", Outcome: outcome, ExitCode: 5, Message: "m", Output: "o",
			StartedAgo: 6, EndedAgo: 7, CPUTime: 8, MaxMemoryBytes: 9,
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
	got, err := fromResult(r)
	if err != nil || got.StartedAgo != 0 || got.EndedAgo != 0 || got.CPUTime != 0 || got.MaxMemoryBytes != 0 {
		t.Errorf("%+v, %v, want no times and no memory", got, err)
	}
}

func TestAnOutcomeIsNeeded(t *testing.T) {
	r := aResult()
	r.Outcome = dispatchpb.Outcome_OUTCOME_UNSPECIFIED
	if _, err := fromResult(r); grpcstatus.Code(err) != codes.InvalidArgument {
		t.Errorf("the answer is %v, want InvalidArgument", err)
	}
}

func TestCommandsAreSentWhole(t *testing.T) {
	token := engine.Token{Job: "j", Index: 1, Try: 2, Epoch: engine.Epoch{LeaseCreated: 3, Transitions: 4}}
	wire := &dispatchpb.Token{JobUid: "j", Index: 1, Try: 2, Epoch: &dispatchpb.Epoch{LeaseCreatedMicros: 3, LeaseTransitions: 4}}
	got := toMessage(engine.Command{
		Sequence: 9,
		Assignments: []engine.Assignment{{
			Token: token, JobName: "job", Argv: []string{"echo", "hi"}, WorkingDir: "/tmp",
			Env: []engine.EnvVar{{Name: "A", Value: "1"}, {Name: "B"}},
		}},
		Kills:    []engine.Kill{{Token: token, Grace: time.Second}},
		Recorded: []engine.Token{token, token},
		Settled:  []engine.Token{token},
	})
	want := &dispatchpb.OperatorMessage{
		Sequence: 9,
		Assignments: []*dispatchpb.Assignment{{
			Token: wire, JobName: "job", Argv: []string{"echo", "hi"}, WorkingDir: "/tmp",
			Env: []*dispatchpb.EnvVar{{Name: "A", Value: "1"}, {Name: "B"}},
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
	s := newSession()
	s.Send(engine.Command{Sequence: 1, Assignments: []engine.Assignment{{Token: a, JobName: "a"}}, Settled: []engine.Token{a}})
	s.Send(engine.Command{Sequence: 2, Assignments: []engine.Assignment{{Token: b, JobName: "b"}}, Kills: []engine.Kill{{Token: a}}, Recorded: []engine.Token{b}})
	want := toMessage(engine.Command{
		Sequence:    2,
		Assignments: []engine.Assignment{{Token: a, JobName: "a"}, {Token: b, JobName: "b"}},
		Kills:       []engine.Kill{{Token: a}},
		Recorded:    []engine.Token{b},
		Settled:     []engine.Token{a},
	})
	if got := s.take(); !proto.Equal(got, want) {
		t.Errorf("sent %v, want %v", got, want)
	}
	if got, want := s.take(), (&dispatchpb.OperatorMessage{Sequence: 2}); !proto.Equal(got, want) {
		t.Errorf("then sent %v, want %v", got, want)
	}
}

// What agents say comes from pods that run other people's programs: it must be within bounds, or refused.
func FuzzHello(f *testing.F) {
	long := aResult()
	long.Message, long.Output = strings.Repeat("€", 2000), []byte(strings.Repeat("\xff€", 2000))
	long.StartedAgo = &durationpb.Duration{Seconds: -1 << 62, Nanos: 1<<31 - 1}
	for _, seed := range []*dispatchpb.Hello{
		{},
		{Protocol: 1, Instance: "i", Draining: true},
		{Running: []*dispatchpb.Running{{}}},
		{Running: []*dispatchpb.Running{{Token: toToken(engine.Token{Job: "j", Try: 1}), JobName: "job"}}},
		{Results: []*dispatchpb.Result{aResult(), long}},
	} {
		encoded, err := proto.Marshal(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(encoded)
	}
	f.Fuzz(func(t *testing.T, encoded []byte) {
		hello := &dispatchpb.Hello{}
		if proto.Unmarshal(encoded, hello) != nil {
			return
		}
		got, err := fromHello(someone, hello)
		if err != nil {
			if grpcstatus.Code(err) != codes.InvalidArgument || !reflect.DeepEqual(got, engine.Hello{}) {
				t.Errorf("refused with %v beside %+v", err, got)
			}
			return
		}
		checkHello(t, got)
	})
}

func checkHello(t *testing.T, h engine.Hello) {
	t.Helper()
	if h.Pool != someone.Pool || h.PoolUID != someone.PoolUID || h.Pod != someone.PodUID || h.PodName != someone.PodName {
		t.Errorf("the agent is %+v, not who its token says", h)
	}
	for _, r := range h.Running {
		if r.Token.Job == "" || r.Token.Try < 1 || r.Token.Index < 0 || r.JobName == "" || r.StartedAgo < 0 {
			t.Errorf("running %+v", r)
		}
	}
	for _, r := range h.Results {
		if r.Token.Job == "" || r.Token.Try < 1 || r.Token.Index < 0 || r.JobName == "" ||
			r.StartedAgo < 0 || r.EndedAgo < 0 || r.CPUTime < 0 || r.MaxMemoryBytes < 0 {
			t.Errorf("result %+v", r)
		}
		if !utf8.ValidString(r.Output) || utf8.RuneCountInString(r.Output) > 4096 ||
			!utf8.ValidString(r.Message) || utf8.RuneCountInString(r.Message) > 1024 {
			t.Errorf("a message or an output out of bounds: %q, %q", r.Message, r.Output)
		}
	}
}
