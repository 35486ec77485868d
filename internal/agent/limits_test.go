package agent

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
)

func TestTimeoutAndDeadline(t *testing.T) {
	soon, late := durationpb.New(50*time.Millisecond), durationpb.New(2*patience)
	tests := map[string]struct {
		assignment *pb.Assignment
		outcome    pb.Outcome
		exit       int32
	}{
		"a timeout, with a grace":  {&pb.Assignment{Timeout: soon, Deadline: late, Grace: late}, pb.Outcome_OUTCOME_TIMEOUT, 143},
		"a timeout, at once":       {&pb.Assignment{Timeout: soon}, pb.Outcome_OUTCOME_TIMEOUT, 137},
		"a deadline, with a grace": {&pb.Assignment{Deadline: durationpb.New(time.Second), Timeout: late, Grace: late}, pb.Outcome_OUTCOME_DEADLINE_EXCEEDED, 143},
		"a deadline, at once":      {&pb.Assignment{Deadline: durationpb.New(time.Second)}, pb.Outcome_OUTCOME_DEADLINE_EXCEEDED, 137},
		"a deadline that is over":  {&pb.Assignment{Deadline: durationpb.New(0), Grace: late}, pb.Outcome_OUTCOME_DEADLINE_EXCEEDED, 0},
		"a deadline that was over": {&pb.Assignment{Deadline: durationpb.New(-time.Second)}, pb.Outcome_OUTCOME_DEADLINE_EXCEEDED, 0},
		"an end before both":       {&pb.Assignment{Argv: []string{"false"}, Deadline: late, Timeout: late}, pb.Outcome_OUTCOME_EXITED, 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			test.assignment.Token = tokenFor("a")
			if test.assignment.GetArgv() == nil {
				test.assignment.Argv = []string{"sleep", "1000"}
			}
			if r := s.run(test.assignment); r.GetOutcome() != test.outcome || r.GetExitCode() != test.exit {
				t.Errorf("result %v", r)
			}
		})
	}
}

func TestADeadlineThatComesWhileTheAttemptWaitsKeepsItFromStarting(t *testing.T) {
	o := newOperator(t)
	a, _, _ := runAgent(t, testConfig(t, o), &lockedBuffer{})
	s := o.accepted()
	file := t.TempDir() + "/started"
	previous := &attempt{done: make(chan struct{})}
	at := &attempt{assignment: shell("a", "touch "+file), token: tokenOf(tokenFor("a")), previous: previous, done: make(chan struct{})}
	at.assignment.Deadline = durationpb.New(time.Millisecond)
	a.mu.Lock()
	a.table.live[at.token], a.table.current[at.token.task] = at, at
	a.deadlineLocked(at)
	a.attempts.Go(func() { a.run(at) })
	a.mu.Unlock()
	waitFor(t, "the deadline", func() bool { return time.Now().After(at.deadline) })
	close(previous.done)
	if r := s.result(tokenFor("a")); r.GetOutcome() != pb.Outcome_OUTCOME_DEADLINE_EXCEEDED {
		t.Errorf("result %v", r)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("it was started")
	}
}

func TestALateTimerDoesNotStartWhatIsOver(t *testing.T) {
	now := time.Now()
	a := &Agent{now: func() time.Time { return now }}
	at := &attempt{assignment: &pb.Assignment{Deadline: durationpb.New(time.Hour)}}
	a.deadlineLocked(at)
	defer at.stopTimersLocked()
	if got := a.endingOf(at); got != pb.Outcome_OUTCOME_UNSPECIFIED {
		t.Errorf("before the deadline: %v", got)
	}
	now = now.Add(time.Hour)
	if got := a.endingOf(at); got != pb.Outcome_OUTCOME_DEADLINE_EXCEEDED {
		t.Errorf("at the deadline: %v", got)
	}
}

func TestTimersOfAnEndedAttemptAreStopped(t *testing.T) {
	o := newOperator(t)
	a, _, _ := runAgent(t, testConfig(t, o), &lockedBuffer{})
	s := o.accepted()
	assignment := shell("a", "read x < "+fifo(t))
	assignment.Timeout, assignment.Deadline = durationpb.New(time.Hour), durationpb.New(time.Hour)
	s.assign(assignment)
	s.running(tokenFor("a"))
	a.mu.Lock()
	at := a.table.live[tokenOf(tokenFor("a"))]
	a.mu.Unlock()
	s.send(&pb.OperatorMessage{Kills: []*pb.Kill{{Token: tokenFor("a")}}})
	s.result(tokenFor("a"))
	if len(at.timers) != 2 {
		t.Fatalf("%d timers", len(at.timers))
	}
	for _, timer := range at.timers {
		if timer.Stop() {
			t.Error("a timer still runs")
		}
	}
}

// graces notes what an attempt's end was asked for.
type graces []time.Duration

func (g *graces) end(grace time.Duration, _ time.Time) bool {
	*g = append(*g, grace)
	return true
}

func TestTheFirstReasonStays(t *testing.T) {
	reasons := []pb.Outcome{
		pb.Outcome_OUTCOME_TIMEOUT, pb.Outcome_OUTCOME_KILLED, pb.Outcome_OUTCOME_DEADLINE_EXCEEDED,
		pb.Outcome_OUTCOME_MEMORY_EXCEEDED, pb.Outcome_OUTCOME_INTERRUPTED,
	}
	for _, first := range reasons {
		for _, second := range reasons {
			runs, waits, asked := &attempt{}, &attempt{}, &graces{}
			runs.process = asked
			a := &Agent{now: time.Now}
			for _, at := range []*attempt{runs, waits} {
				if !a.endLocked(at, 5, first) || a.endLocked(at, 3, second) || a.endLocked(at, 4, second) || at.ending != first {
					t.Errorf("%v, then %v: %v", first, second, at.ending)
				}
			}
			if !slices.Equal(*asked, graces{5, 3, 4}) || waits.grace != 3 {
				t.Errorf("graces %v, %v", *asked, waits.grace)
			}
		}
	}
}

func TestTimeoutsHoldWhileNoOperatorIsThere(t *testing.T) {
	o := newOperator(t)
	a, _, _ := runAgent(t, testConfig(t, o), &lockedBuffer{})
	s := o.accepted()
	assignment := shell("a", "exec sleep 1000")
	assignment.Timeout, assignment.Grace = durationpb.New(500*time.Millisecond), durationpb.New(patience)
	s.assign(assignment)
	s.until("the assignment seen", func(r *pb.Report) bool { return r.GetSeen() == 2 })
	o.setRefuse(codes.Unavailable)
	s.over <- status.Error(codes.Unavailable, "gone")
	waitFor(t, "the end", func() bool { a.mu.Lock(); defer a.mu.Unlock(); return len(a.table.live) == 0 })
	o.setRefuse(codes.OK)
	s = o.next()
	if results := s.hello.GetResults(); len(results) != 1 || results[0].GetOutcome() != pb.Outcome_OUTCOME_TIMEOUT || results[0].GetExitCode() != 143 {
		t.Errorf("results %v", results)
	}
}

func TestLimitedFiles(t *testing.T) {
	s := start(t)
	limits := func(name string, limit int32) []string {
		a := shell(name, "ulimit -Sn; ulimit -Hn; sh -c 'ulimit -Hn'; ls /proc/self/fd | wc -l")
		a.MaxOpenFiles = limit
		a.Stdin = []byte("x")
		got := strings.Fields(string(s.run(a).GetOutput()))
		if len(got) != 4 {
			t.Fatalf("limits %v", got)
		}
		return got
	}
	free := limits("free", 0)
	if got := limits("limited", 77); !slicesEqual(got, "77", "77", "77", free[3]) {
		t.Errorf("limits and open files %v, without a limit %v", got, free)
	}
	if got := limits("beyond", 1<<31-1); !slicesEqual(got, free[1], free[1], free[1], free[3]) {
		t.Errorf("limits %v above the agent's %v", got, free)
	}
}

func TestALimitedProgramIsStartedLikeAnother(t *testing.T) {
	s := start(t)
	environ := func(name string, limit int32) string {
		a := job(name, "env", "-u", markVariable, "-u", "TMPDIR")
		// The agent's own program would not start with these.
		a.Env = []*pb.EnvVar{{Name: "GOMEMLIMIT", Value: "nonsense"}, {Name: "GODEBUG", Value: "inittrace=1"}, {Name: "EMPTY"}, {Name: "LINES", Value: "a\nb=c"}}
		a.WorkingDir = "/"
		a.MaxOpenFiles = limit
		r := s.run(a)
		if r.GetOutcome() != pb.Outcome_OUTCOME_EXITED || r.GetExitCode() != 0 {
			t.Errorf("result %v", r)
		}
		return string(r.GetOutput())
	}
	if plain, limited := environ("plain", 0), environ("limited", 100); plain != limited || !strings.Contains(plain, "nonsense") {
		t.Errorf("environment %q, with a limit %q", plain, limited)
	}
	r := s.run(&pb.Assignment{Token: tokenFor("args"), Argv: []string{"printf", "<%s>", "", "a b", "exec-limited"}, MaxOpenFiles: 100})
	if string(r.GetOutput()) != "<><a b><exec-limited>" {
		t.Errorf("arguments %q", r.GetOutput())
	}
}

func TestALimitedProgramThatCannotStartSaysTheSame(t *testing.T) {
	dir := t.TempDir()
	text := dir + "/text"
	if err := os.WriteFile(text, []byte("no program"), 0o755); err != nil {
		t.Fatal(err)
	}
	o := newOperator(t)
	agent, _, _ := runAgent(t, testConfig(t, o), &lockedBuffer{})
	s := o.accepted()
	for i, argv := range [][]string{{"/nonexistent"}, {dir}, {text}, {"nope"}, {}, {"true", strings.Repeat("x", 1<<20)}} {
		var said [2]string
		for limit := range said {
			a := job(fmt.Sprint(i, limit), argv...)
			a.MaxOpenFiles = int32(limit)
			r := s.run(a)
			if r.GetOutcome() != pb.Outcome_OUTCOME_CANNOT_START || r.GetMessage() == "" {
				t.Errorf("%.20q: %v", argv, r)
			}
			said[limit] = r.GetMessage()
		}
		if said[0] != said[1] {
			t.Errorf("%q, with a limit %q", said[0], said[1])
		}
	}
	agent.reaper.mu.Lock()
	defer agent.reaper.mu.Unlock()
	if live, running := agent.reaper.live, agent.reaper.running; len(live)+len(running) != 0 {
		t.Errorf("still known: %v, %v", live, running)
	}
}

func TestExecLimitedRefusesWrongArguments(t *testing.T) {
	for _, args := range [][]string{nil, {"1", "true"}, {"x", "true", "1", "true"}, {"1", "true", "2", "true"}, {"1", "true", "0"}, {"-1", "true", "1", "true"}} {
		if err := execLimited(args); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}
