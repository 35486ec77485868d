package agent

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
)

func kill(s *session, job string, grace time.Duration) {
	s.t.Helper()
	s.send(&pb.OperatorMessage{Kills: []*pb.Kill{{Token: tokenFor(job), Grace: durationpb.New(grace)}}})
}

// exists waits for a file.
func exists(t *testing.T, file string) {
	t.Helper()
	waitFor(t, file, func() bool { _, err := os.Stat(file); return err == nil })
}

// detached runs a script in a session of its own, which the caller's shell waits for, or, as a daemon, does
// not: then it is an orphan whose files are closed.
func detached(daemon bool, env, script string) string {
	if !daemon {
		return fmt.Sprintf("%s setsid sh -c '%s'", env, script)
	}
	return fmt.Sprintf("(%s setsid sh -c '%s' < /dev/null > /dev/null 2>&1 &)", env, script)
}

const hidden = "env -i PATH=$PATH"

func TestSIGTERMReachesAllProcessesOnce(t *testing.T) {
	dir := t.TempDir()
	// Each notes its SIGTERMs until it is killed.
	note := func(name string) string {
		return fmt.Sprintf(`trap "echo %[2]s >> %[1]s/terms" TERM; echo $$ > %[1]s/part-%[2]s; mv %[1]s/part-%[2]s %[1]s/%[2]s; while :; do read x < %[1]s/fifo; done`, dir, name)
	}
	names := []string{"main", "group", "session", "daemon"}
	script := "sh -c '" + note("group") + "' & " +
		detached(false, hidden, note("session")) + " & " +
		detached(true, "", note("daemon")) + "; " +
		"mkfifo " + dir + "/fifo; " + note("main")
	o := newOperator(t)
	a, _, _ := runAgent(t, testConfig(t, o), &lockedBuffer{})
	s := o.accepted()
	s.assign(shell("other", "trap 'echo other >> "+dir+"/terms' TERM; echo $$ > "+dir+"/part-other; mv "+dir+"/part-other "+dir+"/other; read x < "+fifo(t)), shell("a", script))
	for _, name := range append(names, "other") {
		exists(t, dir+"/"+name)
	}
	a.reaper.mu.Lock()
	outside := a.reaper.outsideLocked(a.reaper.running[pidIn(t, dir+"/main")])
	a.reaper.mu.Unlock()
	// Two signals at once could look like one to the shells.
	for name, want := range map[string]bool{"main": false, "group": false, "session": true, "daemon": true, "other": false} {
		if pid := pidIn(t, dir+"/"+name); slices.Contains(outside, pid) != want {
			t.Errorf("outside of the group: %v; %s is %d", outside, name, pid)
		}
	}
	kill(s, "a", 2*patience)
	var content []byte
	waitFor(t, "SIGTERMs", func() bool {
		content, _ = os.ReadFile(dir + "/terms")
		return bytes.Count(content, []byte("\n")) >= len(names)
	})
	kill(s, "a", 0)
	if r := s.result(tokenFor("a")); r.GetExitCode() != 137 {
		t.Errorf("result %v", r)
	}
	for _, name := range names {
		if n := strings.Count(string(content), name); n != 1 {
			t.Errorf("%s has got %d SIGTERMs", name, n)
		}
	}
	if strings.Contains(string(content), "other") {
		t.Error("another attempt has got a SIGTERM")
	}
}

func TestAnOrphanThatHidesGetsASIGTERMIfOnlyOneAttemptIsLive(t *testing.T) {
	dir := t.TempDir()
	s := start(t)
	wait := "while :; do read x < " + fifo(t) + "; done"
	s.assign(shell("a", "trap : TERM; "+detached(true, hidden, "trap \"touch "+dir+"/term\" TERM; touch "+dir+"/ready; "+wait)+"; "+wait))
	exists(t, dir+"/ready")
	kill(s, "a", 2*patience)
	exists(t, dir+"/term")
	kill(s, "a", 0)
	s.result(tokenFor("a"))
}

func TestNothingOutlivesAKill(t *testing.T) {
	for _, grace := range []time.Duration{0, 200 * time.Millisecond} {
		for name, test := range map[string]struct {
			daemon bool
			env    string
		}{
			"a session that is waited for":            {false, ""},
			"a session that is waited for, and hides": {false, hidden},
			"a daemon": {true, ""},
		} {
			t.Run(fmt.Sprint(name, " after ", grace), func(t *testing.T) {
				s := start(t)
				dir := t.TempDir()
				s.assign(shell("other", "exec sleep 1000"))
				s.assign(shell("a", "trap '' TERM; "+detached(test.daemon, test.env, "echo $$ > "+dir+"/part; mv "+dir+"/part "+dir+"/pid; read x < "+fifo(t))+"; read x < "+fifo(t)))
				exists(t, dir+"/pid")
				kill(s, "a", grace)
				s.result(tokenFor("a"))
				// What is not the agent's own child is gone once its parent, which is killed too, is: it may
				// take a moment longer where it hides.
				waitFor(t, "end", func() bool { return !alive(pidIn(t, dir+"/pid")) })
			})
		}
	}
}

func TestWithOneSlotNothingAtAllOutlivesAnAttempt(t *testing.T) {
	o := newOperator(t)
	c := testConfig(t, o)
	c.Slots = 1
	runAgent(t, c, &lockedBuffer{})
	s := o.accepted()
	dir := t.TempDir()
	// Twice forked, in sessions of their own, without files, marks or a folder.
	script := fmt.Sprintf("cd /; exec <&- >&- 2>&-; (setsid sh -c \"echo \\$\\$ > %[1]s/part; mv %[1]s/part %[1]s/pid; exec sleep 1000\" &)", dir)
	s.run(shell("a", "("+hidden+" setsid sh -c '"+script+"' &); until test -e "+dir+"/pid; do sleep 0.01; done; touch $TMPDIR/x; echo $TMPDIR"))
	if pid := pidIn(t, dir+"/pid"); alive(pid) {
		t.Errorf("process %d is alive", pid)
	}
	r := s.run(shell("b", "ls -A $TMPDIR | wc -l"))
	if strings.TrimSpace(string(r.GetOutput())) != "0" {
		t.Errorf("the next attempt's TMPDIR has %s files", r.GetOutput())
	}
}

func TestAnAttemptHasNotTheEnvironmentOfAnother(t *testing.T) {
	s := start(t)
	a := shell("a", "exec sleep 1000")
	a.Env = []*pb.EnvVar{{Name: "SECRET", Value: "a"}}
	s.assign(a)
	s.running(tokenFor("a"))
	if r := s.run(shell("b", "env")); strings.Contains(string(r.GetOutput()), "SECRET") {
		t.Errorf("environment %s", r.GetOutput())
	}
}

func TestBranchOfAFamily(t *testing.T) {
	f := family{2: {parent: 1}, 3: {parent: 2}, 4: {parent: 3}, 5: {parent: 9}, 6: {parent: 7}, 7: {parent: 6}, 8: {}}
	for pid, want := range map[int]int{2: 2, 3: 2, 4: 2, 5: 0, 6: 0, 8: 0, 10: 0} {
		if got := f.branch(pid, 1); got != want {
			t.Errorf("branch of %d: %d, want %d", pid, got, want)
		}
	}
}

func BenchmarkFamily(b *testing.B) {
	r, err := newReaper("x", nil)
	if err != nil {
		b.Fatal(err)
	}
	defer r.close()
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n = len(familyOf(r.processes()))
	}
	b.ReportMetric(float64(n), "processes")
}
