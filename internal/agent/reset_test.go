package agent

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
)

// withReset has an attempt followed by a shell script.
func withReset(a *pb.Assignment, script string) *pb.Assignment {
	a.ResetCommand = &pb.ResetCommand{Argv: []string{"sh", "-c", script}, Timeout: durationpb.New(patience)}
	return a
}

// untilGo is a script that waits until there is a file.
func untilGo(file string) string { return "until test -e " + file + "; do sleep 0.01; done" }

func touch(t *testing.T, file string) {
	t.Helper()
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// ended waits for the report with a result.
func (s *session) ended(tok *pb.Token) *pb.Report {
	s.t.Helper()
	return s.until("the result", func(r *pb.Report) bool { return resultOf(r, tok) != nil })
}

func resultOf(r *pb.Report, tok *pb.Token) *pb.Result {
	for _, result := range r.GetResults() {
		if tokenOf(result.GetToken()) == tokenOf(tok) {
			return result
		}
	}
	return nil
}

// reset waits until no slot is being reset.
func (s *session) reset() *pb.Report {
	s.t.Helper()
	return s.until("the end of the reset", func(r *pb.Report) bool { return r.GetResetting() == 0 })
}

// startOne runs an agent that has one slot, with a session.
func startOne(t *testing.T) (*session, *lockedBuffer) {
	t.Helper()
	o, log := newOperator(t), &lockedBuffer{}
	c := testConfig(t, o)
	c.Slots = 1
	runAgent(t, c, log)
	return o.accepted(), log
}

func TestTheNextJobDoesNotSeeWhatTheResetHasRemoved(t *testing.T) {
	s, _ := startOne(t)
	left := t.TempDir() + "/left"
	first := s.run(withReset(shell("a", "echo x > "+left), "rm "+left))
	if first.GetExitCode() != 0 {
		t.Errorf("result %v", first)
	}
	s.reset()
	if r := s.run(shell("b", "test ! -e "+left)); r.GetExitCode() != 0 {
		t.Errorf("what the first job has left is there: %v", r)
	}
}

// The operator must never see the slot of an attempt as free before its reset is over.
func TestAResultIsToldAtOnceAndItsSlotIsTakenUntilTheResetIsOver(t *testing.T) {
	s, _ := startOne(t)
	gate := t.TempDir() + "/gate"
	s.assign(withReset(shell("a", "exit 3"), untilGo(gate)))
	r := s.ended(tokenFor("a"))
	if r.GetResetting() != 1 || len(r.GetRunning()) != 0 || r.GetDraining() {
		t.Errorf("the report of the result is %v, want a slot that is being reset", r)
	}
	s.assign(shell("early", "true"))
	r = s.until("the early one seen", func(r *pb.Report) bool { return r.GetSeen() == 3 })
	if len(r.GetRunning())+len(r.GetResults()) != 0 || r.GetResetting() != 1 {
		t.Errorf("started into a slot that is being reset: %v", r)
	}
	touch(t, gate)
	if r := s.reset(); r.GetResetFailure() != "" || r.GetDraining() {
		t.Errorf("after the reset %v", r)
	}
	s.run(shell("b", "true"))
}

func TestAHelloSaysWhatIsBeingReset(t *testing.T) {
	o := newOperator(t)
	runAgent(t, testConfig(t, o), &lockedBuffer{})
	s := o.accepted()
	gate := t.TempDir() + "/gate"
	s.assign(withReset(shell("a", "true"), untilGo(gate)+"; exit 4"))
	s.ended(tokenFor("a"))
	s.over <- nil
	s = o.accepted()
	if s.hello.GetResetting() != 1 || s.hello.GetResetFailure() != "" || s.hello.GetDraining() {
		t.Errorf("hello %v, want a slot that is being reset", s.hello)
	}
	touch(t, gate)
	s.reset()
	s.over <- nil
	if hello := o.accepted().hello; hello.GetResetting() != 0 || hello.GetResetFailure() != "exit code 4" || !hello.GetDraining() {
		t.Errorf("hello %v, want a reset that has failed", hello)
	}
}

func TestAResetHasTheContainersEnvironmentAndATMPDIROfItsOwn(t *testing.T) {
	s, log := startOne(t)
	a := withReset(shell("a", "echo $TMPDIR; touch $TMPDIR/x"), "env; ls -A $TMPDIR | wc -l; cat; pwd; echo oops >&2; touch $TMPDIR/y")
	a.Env, a.Stdin, a.WorkingDir = []*pb.EnvVar{{Name: "OWN", Value: "secret"}, {Name: "CONTAINER", Value: "no"}}, []byte("input"), "/"
	s.assign(a)
	s.ended(a.GetToken())
	s.reset()
	var texts []string
	var tmp string
	for _, l := range parseLog(t, log.String())[1:] {
		texts = append(texts, l.Line)
		if value, ok := strings.CutPrefix(l.Line, "TMPDIR="); ok {
			tmp = value
		}
		if !l.Reset || l.Job != "a" || l.UID != "a" || l.Attempt != 1 {
			t.Errorf("line %+v, want it to be of the attempt's reset", l)
		}
		if l.Stream != "stdout" && l.Line != "oops" {
			t.Errorf("line %+v", l)
		}
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	out := "\n" + strings.Join(texts, "\n") + "\n"
	for _, want := range []string{"\nCONTAINER=yes\n", "\n0\n", "\n" + dir + "\n", "\noops\n", "\nTMPDIR=/", "\nWORKERPOOL_CA=own\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in %q", want, out)
		}
	}
	if strings.Contains(out, "OWN=") || strings.Contains(out, "input") || strings.Contains(out, "fake") {
		t.Errorf("the reset has what is the job's, or the agent's: %q", out)
	}
	if first := parseLog(t, log.String())[0]; first.Reset {
		t.Errorf("line %+v of the attempt counts as the reset's", first)
	}
	if _, err := os.Stat(tmp + "/y"); tmp == "" || !os.IsNotExist(err) {
		t.Errorf("what the reset has put into its TMPDIR is there: %v", err)
	}
}

func TestNothingOutlivesAReset(t *testing.T) {
	for name, how := range map[string]string{"a daemon": "", "a daemon that hides": "env -i PATH=$PATH"} {
		t.Run(name, func(t *testing.T) {
			s, _ := startOne(t)
			file := t.TempDir() + "/pid"
			s.assign(withReset(shell("a", "true"), daemon(how, file)))
			s.ended(tokenFor("a"))
			s.reset()
			if alive(pidIn(t, file)) {
				t.Error("it is alive")
			}
		})
	}
}

func TestAResetLeavesTheOtherSlotsJobsAlone(t *testing.T) {
	s := start(t)
	file := t.TempDir() + "/pid"
	s.assign(shell("stays", daemon("", file)+"; exec sleep 1000"))
	waitFor(t, "daemon", func() bool { _, err := os.Stat(file); return err == nil })
	s.assign(withReset(shell("ends", "true"), daemon("", file+"2")))
	s.ended(tokenFor("ends"))
	if r := s.reset(); !runs(r.GetRunning(), tokenFor("stays")) {
		t.Errorf("report %v", r)
	}
	if !alive(pidIn(t, file)) || alive(pidIn(t, file+"2")) {
		t.Errorf("the other job's daemon is alive: %t, the reset's: %t", alive(pidIn(t, file)), alive(pidIn(t, file+"2")))
	}
}

func TestAResetThatFailsMakesTheWorkerUnfit(t *testing.T) {
	long := strings.Repeat("é", 300)
	tests := map[string]struct {
		argv    []string
		timeout time.Duration
		want    string
	}{
		"an exit code":    {[]string{"sh", "-c", "echo first; echo last; echo; exit 7"}, patience, "exit code 7: last"},
		"no output":       {[]string{"false"}, patience, "exit code 1"},
		"a signal":        {[]string{"sh", "-c", "kill -TERM $$"}, patience, "exit code 143"},
		"a long line":     {[]string{"sh", "-c", "echo " + long + "; exit 1"}, patience, "exit code 1: " + long[:186]},
		"no such program": {[]string{"nope"}, patience, `cannot start: exec: "nope": executable file not found in $PATH`},
		"no program":      {[]string{"/dev/null"}, patience, "cannot start: exec /dev/null: permission denied"},
		"too long":        {[]string{"sh", "-c", "trap '' TERM; exec sleep 1000"}, time.Millisecond, "not over within 1ms"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s, _ := startOne(t)
			a := shell("a", "true")
			a.ResetCommand = &pb.ResetCommand{Argv: test.argv, Timeout: durationpb.New(test.timeout)}
			if r := s.run(a); r.GetOutcome() != pb.Outcome_OUTCOME_EXITED || r.GetExitCode() != 0 {
				t.Errorf("the result has become %v", r)
			}
			r := s.reset()
			if r.GetResetFailure() != test.want || !r.GetDraining() {
				t.Errorf("failure %q, want %q; draining %t", r.GetResetFailure(), test.want, r.GetDraining())
			}
			s.assign(shell("b", "true"))
			if r := s.until("the next seen", func(r *pb.Report) bool { return r.GetSeen() == 3 }); len(r.GetRunning())+len(r.GetResults()) != 0 {
				t.Errorf("an unfit worker has started a job: %v", r)
			}
		})
	}
}

func TestTheFirstFailureIsToldAndNothingIsResetAfterIt(t *testing.T) {
	s := start(t)
	dir := t.TempDir()
	s.assign(withReset(shell("a", "true"), "echo one; exit 1"), withReset(shell("b", untilGo(dir+"/gate")), "touch "+dir+"/reset; exit 2"))
	s.until("the failure", func(r *pb.Report) bool { return r.GetResetFailure() == "exit code 1: one" })
	touch(t, dir+"/gate")
	if r := s.ended(tokenFor("b")); r.GetResetting() != 0 || r.GetResetFailure() != "exit code 1: one" {
		t.Errorf("report %v, want the failure of the first, and no reset", r)
	}
	if _, err := os.Stat(dir + "/reset"); err == nil {
		t.Error("an unfit worker was reset")
	}
}

func TestResetsComeAfterWhatHasRunAndAfterNothingElse(t *testing.T) {
	timedOut := shell("timed out", "exec sleep 1000")
	timedOut.Timeout = durationpb.New(time.Millisecond)
	away := shell("no such folder", "true")
	away.WorkingDir = "/nonexistent"
	limited := job("limited, and no such program", "/nonexistent")
	limited.MaxOpenFiles = 100
	tests := map[string]struct {
		attempt *pb.Assignment
		want    bool
	}{
		"success":                      {shell("success", "true"), true},
		"failure":                      {shell("failure", "exit 3"), true},
		"timed out":                    {timedOut, true},
		"killed":                       {shell("killed", "exec sleep 1000"), true},
		"no such program":              {job("no such program", "nope"), false},
		"no such folder":               {away, false},
		"limited, and no such program": {limited, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s, _ := startOne(t)
			file := t.TempDir() + "/reset"
			s.assign(withReset(test.attempt, "touch "+file))
			if name == "killed" {
				s.running(test.attempt.GetToken())
				s.send(&pb.OperatorMessage{Kills: []*pb.Kill{{Token: test.attempt.GetToken()}}})
			}
			s.ended(test.attempt.GetToken())
			s.reset()
			if _, err := os.Stat(file); (err == nil) != test.want {
				t.Errorf("was reset: %t, want %t", err == nil, test.want)
			}
		})
	}
}

// What is unwanted leaves no result, but it has run.
func TestAnAttemptThatLeavesNoResultIsFollowedByItsReset(t *testing.T) {
	s, _ := startOne(t)
	gate := t.TempDir() + "/gate"
	s.assign(withReset(shell("a", "exec sleep 1000"), untilGo(gate)))
	s.running(tokenFor("a"))
	s.send(&pb.OperatorMessage{Settled: []*pb.Token{tokenFor("a")}})
	s.send(&pb.OperatorMessage{Kills: []*pb.Kill{{Token: tokenFor("a")}}})
	r := s.until("the end", func(r *pb.Report) bool { return len(r.GetRunning()) == 0 })
	if r.GetResetting() != 1 || len(r.GetResults()) != 0 {
		t.Errorf("report %v, want a slot that is being reset", r)
	}
	touch(t, gate)
	s.reset()
}

func TestAHigherTryStartsAfterTheResetOfTheLowerAndInItsSlot(t *testing.T) {
	s, _ := startOne(t)
	dir := t.TempDir()
	first := withReset(shell("a", "echo x > "+dir+"/left; exec sleep 1000"), untilGo(dir+"/gate")+"; rm "+dir+"/left")
	s.assign(first)
	waitFor(t, "start", func() bool { _, err := os.Stat(dir + "/left"); return err == nil })
	second := shell("a", "test ! -e "+dir+"/left")
	second.Token = tokenTry("a", 2)
	s.assign(second)
	r := s.ended(first.GetToken())
	if r.GetResetting() != 0 || len(r.GetRunning()) != 1 || !r.GetRunning()[0].GetPending() {
		t.Errorf("report %v, want the second to wait in the slot", r)
	}
	touch(t, dir+"/gate")
	if r := s.result(second.GetToken()); r.GetOutcome() != pb.Outcome_OUTCOME_EXITED || r.GetExitCode() != 0 {
		t.Errorf("result %v", r)
	}
}

func TestAHigherTryIsNotStartedInAWorkerThatIsUnfit(t *testing.T) {
	s, _ := startOne(t)
	dir := t.TempDir()
	s.assign(withReset(shell("a", "exec sleep 1000"), untilGo(dir+"/gate")+"; exit 1"))
	s.running(tokenFor("a"))
	second := shell("a", "touch "+dir+"/ran")
	second.Token = tokenTry("a", 2)
	s.assign(second)
	s.ended(tokenFor("a"))
	touch(t, dir+"/gate")
	r := s.until("the failure", func(r *pb.Report) bool { return r.GetResetFailure() != "" && len(r.GetRunning()) == 0 })
	if len(r.GetResults()) != 0 {
		t.Errorf("results %v, want none: it has not run", r.GetResults())
	}
	if _, err := os.Stat(dir + "/ran"); err == nil {
		t.Error("it has run")
	}
}

func TestAnAgentThatIsToldToEndAbandonsTheReset(t *testing.T) {
	o := newOperator(t)
	a, _, done := runAgent(t, testConfig(t, o), &lockedBuffer{})
	s := o.accepted()
	file := t.TempDir() + "/pid"
	s.assign(withReset(shell("a", "true"), "trap '' TERM; "+daemon("", file)+"; exec sleep 1000"))
	s.ended(tokenFor("a"))
	waitFor(t, "the reset", func() bool { _, err := os.Stat(file); return err == nil })
	a.Drain()
	if r := s.reset(); r.GetResetFailure() != "" {
		t.Errorf("it counts as failed: %q", r.GetResetFailure())
	}
	if alive(pidIn(t, file)) {
		t.Error("something of it is alive")
	}
	s.settle(tokenFor("a"))
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("does not end")
	}
}

func TestAnAgentThatIsToEndWaitsUntilNothingIsLeftOfTheReset(t *testing.T) {
	tb := newTable(1)
	at := mustAssign(t, tb, withReset(assignmentTry("a", 1), "true"))
	at.ran = true
	tb.finish(at, &result{token: at.token})
	tb.settle(at.token)
	tb.draining = true
	if tb.drained() {
		t.Error("drained while there is a reset")
	}
	tb.endReset(at.reset, "")
	if !tb.drained() {
		t.Error("not drained")
	}
}

func TestAnAgentThatIsToEndDoesNotReset(t *testing.T) {
	o := newOperator(t)
	a, _, _ := runAgent(t, testConfig(t, o), &lockedBuffer{})
	s := o.accepted()
	dir := t.TempDir()
	s.assign(withReset(shell("a", untilGo(dir+"/gate")), "touch "+dir+"/reset"))
	s.running(tokenFor("a"))
	a.Drain()
	touch(t, dir+"/gate")
	if r := s.ended(tokenFor("a")); r.GetResetting() != 0 {
		t.Errorf("report %v, want no reset", r)
	}
	if _, err := os.Stat(dir + "/reset"); err == nil {
		t.Error("was reset")
	}
}

// What ends the agent's run in a test ends the container elsewhere.
func TestAResetEndsWithTheAgent(t *testing.T) {
	o := newOperator(t)
	_, stop, _ := runAgent(t, testConfig(t, o), &lockedBuffer{})
	s := o.accepted()
	file := t.TempDir() + "/pid"
	s.assign(withReset(shell("a", "true"), daemon("", file)+"; exec sleep 1000"))
	waitFor(t, "the reset", func() bool { _, err := os.Stat(file); return err == nil })
	stop()
	if alive(pidIn(t, file)) {
		t.Error("something of it is alive")
	}
}

func TestNothingIsResetWhenTheAgentEnds(t *testing.T) {
	o := newOperator(t)
	_, stop, _ := runAgent(t, testConfig(t, o), &lockedBuffer{})
	s := o.accepted()
	file := t.TempDir() + "/reset"
	s.assign(withReset(shell("a", "exec sleep 1000"), "touch "+file))
	s.running(tokenFor("a"))
	stop()
	if _, err := os.Stat(file); err == nil {
		t.Error("was reset")
	}
}

// An operator that goes by what reports say of the slots is never refused.
func TestManyResets(t *testing.T) {
	s := start(t)
	const n = 100
	file := t.TempDir() + "/resets"
	next, ended, sent := 0, 0, s.sequence
	s.until("all results", func(r *pb.Report) bool {
		if r.GetResetFailure() != "" {
			t.Fatalf("a reset has failed: %s", r.GetResetFailure())
		}
		m := &pb.OperatorMessage{}
		for _, result := range r.GetResults() {
			ended++
			m.Settled = append(m.Settled, result.GetToken())
		}
		if r.GetSeen() >= sent {
			for busy := len(r.GetRunning()) + int(r.GetResetting()); busy < 4 && next < n; busy++ {
				m.Assignments = append(m.Assignments, withReset(shell(fmt.Sprint(next), "exit 3"), "echo x >> "+file))
				next++
			}
		}
		if len(m.GetAssignments()) > 0 {
			sent = s.sequence + 1
		}
		s.send(m)
		return ended == n
	})
	s.reset()
	if content, err := os.ReadFile(file); err != nil || strings.Count(string(content), "x\n") != n {
		t.Errorf("%d resets, want %d (%v)", strings.Count(string(content), "x\n"), n, err)
	}
}
