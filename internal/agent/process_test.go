package agent

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
)

// start runs an agent with a session.
func start(t *testing.T) *session {
	t.Helper()
	o := newOperator(t)
	runAgent(t, testConfig(t, o), &lockedBuffer{})
	return o.accepted()
}

// run returns the result of an assignment.
func (s *session) run(a *pb.Assignment) *pb.Result {
	s.t.Helper()
	s.assign(a)
	return s.result(a.GetToken())
}

func TestResultOfAProcess(t *testing.T) {
	s := start(t)
	r := s.run(shell("a", "echo out; echo err >&2; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exit 3"))
	if r.GetOutcome() != pb.Outcome_OUTCOME_EXITED || r.GetExitCode() != 3 {
		t.Errorf("result %v", r)
	}
	if out := string(r.GetOutput()); out != "out\nerr\n" && out != "err\nout\n" {
		t.Errorf("output %q", out)
	}
	if r.GetCpuTime().AsDuration() <= 0 || r.GetMaxMemoryBytes() != 0 {
		t.Errorf("usage %v, %d bytes: so little memory can't be told from the agent's own", r.GetCpuTime().AsDuration(), r.GetMaxMemoryBytes())
	}
	if r.GetStartedAgo().AsDuration() <= r.GetEndedAgo().AsDuration() {
		t.Errorf("started %v, ended %v ago", r.GetStartedAgo(), r.GetEndedAgo())
	}
	if r := s.run(shell("b", "kill -SEGV $$")); r.GetOutcome() != pb.Outcome_OUTCOME_EXITED || r.GetExitCode() != 128+11 || r.GetSignal() != 11 {
		t.Errorf("of a signal: %v", r)
	}
	if r := s.run(shell("c", "sh -c 'kill -SEGV $$'")); r.GetExitCode() != 128+11 || r.GetSignal() != 0 {
		t.Errorf("of a child's signal: %v", r)
	}
	var own unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &own); err != nil {
		t.Fatal(err)
	}
	large := own.Maxrss<<10 + 100_000_000 // less can't be told from what this process had
	script := fmt.Sprintf("head -c %d /dev/zero | tail -c %[1]d | wc -c", large)
	if r := s.run(shell("d", script)); r.GetMaxMemoryBytes() < large*3/4 {
		t.Errorf("of a child of %d bytes: %d bytes", large, r.GetMaxMemoryBytes())
	}
}

func TestTailIsTheEndOfTheOutput(t *testing.T) {
	s := start(t)
	r := s.run(shell("a", "seq 1 10000"))
	var all strings.Builder
	for i := range 10000 {
		fmt.Fprintln(&all, i+1)
	}
	if want := all.String()[all.Len()-tailBytes:]; string(r.GetOutput()) != want {
		t.Errorf("tail of %d bytes %q…, want %q…", len(r.GetOutput()), r.GetOutput()[:20], want[:20])
	}
}

func TestCannotStart(t *testing.T) {
	dir := t.TempDir()
	plain, text := filepath.Join(dir, "plain"), filepath.Join(dir, "text")
	if err := os.WriteFile(plain, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(text, []byte("no program"), 0o755); err != nil {
		t.Fatal(err)
	}
	script := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	away, beside, variable, nowhere := job("f", "true"), job("k", "./bash"), job("n", "true"), job("o", "true")
	away.WorkingDir, beside.WorkingDir, nowhere.WorkingDir = "/nonexistent", dir, "/a\x00b"
	variable.Env = []*pb.EnvVar{{Name: "A", Value: "a"}, {Name: "B", Value: "\x00"}}
	tests := []struct {
		assignment *pb.Assignment
		want       string
	}{
		{job("a", "nope"), `exec: "nope": executable file not found in $PATH`},
		{job("b", "/nonexistent"), "exec /nonexistent: no such file or directory"},
		{job("c", plain), "exec " + plain + ": permission denied"},
		{job("d", text), "exec " + text + ": exec format error"},
		{job("e", dir), "exec " + dir + ": permission denied"},
		{away, "chdir /nonexistent: no such file or directory"},
		{job("g"), "exec: no command"},
		{job("i", script("windows", "#!/bin/sh\r\nexit 0\r\n")), "exec " + dir + `/windows: its interpreter "/bin/sh\r": no such file or directory (the script's lines end with CR LF: save it with LF alone)`},
		{job("j", script("bash", "#! /nonexistent/bash -e\n")), "exec " + dir + `/bash: its interpreter "/nonexistent/bash": no such file or directory`},
		{beside, `exec ./bash: its interpreter "/nonexistent/bash": no such file or directory`},
		{job("l", loaderless(t, dir)), "exec " + dir + `/program: its interpreter "/nonexistent/ld.so": no such file or directory`},
		{job("m", "echo", "a", "b\x00c"), "exec: a NUL character in word 3 of command and args"},
		{variable, `exec: a NUL character in the variable "B" of env`},
		{nowhere, "exec: a NUL character in workingDir"},
		{job("h", strings.Repeat("x", 2000)), `exec: "` + strings.Repeat("x", 1017)},
	}
	s := start(t)
	for _, test := range tests {
		r := s.run(test.assignment)
		if r.GetOutcome() != pb.Outcome_OUTCOME_CANNOT_START || r.GetMessage() != test.want {
			t.Errorf("%v: %v %q, want %q", test.assignment.GetArgv(), r.GetOutcome(), r.GetMessage(), test.want)
		}
	}
}

// loaderless makes a program for whose loader there is no file.
func loaderless(t *testing.T, dir string) string {
	t.Helper()
	const loader = "/nonexistent/ld.so\x00"
	var program bytes.Buffer
	header := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: machine(t), Version: 1, Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 1, Entry: 0x10000,
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), 1},
	}
	segment := elf.Prog64{Type: uint32(elf.PT_INTERP), Flags: uint32(elf.PF_R), Off: 64 + 56, Filesz: uint64(len(loader)), Memsz: uint64(len(loader)), Align: 1}
	for _, part := range []any{header, segment, []byte(loader)} {
		if err := binary.Write(&program, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "program")
	if err := os.WriteFile(path, program.Bytes(), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// machine is that of the program that runs.
func machine(t *testing.T) uint16 {
	t.Helper()
	own, err := elf.Open(self)
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	return uint16(own.Machine)
}

func TestEnvironmentAndDirectory(t *testing.T) {
	bin := t.TempDir()
	if err := os.WriteFile(filepath.Join(bin, "only-here"), []byte("#!/bin/sh\nPATH=/usr/bin:/bin\npwd\nenv\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := start(t)
	a := job("a", "only-here")
	a.WorkingDir = bin
	a.Env = []*pb.EnvVar{{Name: "PATH", Value: bin}, {Name: "CONTAINER", Value: "no"}, {Name: "OWN", Value: "a=b"}, {Name: markVariable, Value: "fake"}}
	out := "\n" + string(s.run(a).GetOutput())
	for _, want := range []string{"\n" + bin + "\n", "\nCONTAINER=no\n", "\nOWN=a=b\n", "\nTMPDIR=/", "\nWORKERPOOL_CA=own\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in %q", want, out)
		}
	}
	if strings.Contains(out, "fake") || strings.Count(out, "\nCONTAINER=") != 1 {
		t.Errorf("environment %q", out)
	}
}

func TestTMPDIRIsEmptyAndRemoved(t *testing.T) {
	s := start(t)
	script := "ls -A $TMPDIR | wc -l; mkdir -p $TMPDIR/a/b; echo x > $TMPDIR/a/b/c; chmod 500 $TMPDIR/a $TMPDIR; echo $TMPDIR"
	for i := range 3 {
		count, dir, _ := strings.Cut(strings.TrimSpace(string(s.run(shell(fmt.Sprint(i), script)).GetOutput())), "\n")
		if strings.TrimSpace(count) != "0" {
			t.Errorf("attempt %d has found %s files", i, count)
		}
		waitFor(t, "removal", func() bool { _, err := os.Stat(dir + "/a"); return os.IsNotExist(err) })
	}
}

func TestKill(t *testing.T) {
	tests := map[string]struct {
		script string
		grace  time.Duration
		exit   int32
	}{
		"in its grace":      {"trap 'exit 9' TERM; echo ready; while :; do sleep 0.01; done", patience, 9},
		"after its grace":   {"trap '' TERM; echo ready; while :; do sleep 0.01; done", 50 * time.Millisecond, 137},
		"at once":           {"trap 'exit 9' TERM; echo ready; while :; do sleep 0.01; done", 0, 137},
		"by default action": {"echo ready; exec sleep 1000", patience, 143},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			o := newOperator(t)
			log := &lockedBuffer{}
			runAgent(t, testConfig(t, o), log)
			s := o.accepted()
			s.assign(shell("a", test.script))
			waitFor(t, "output", func() bool { return strings.Contains(log.String(), "ready") })
			s.send(&pb.OperatorMessage{Kills: []*pb.Kill{{Token: tokenFor("a"), Grace: durationpb.New(test.grace)}}})
			if r := s.result(tokenFor("a")); r.GetOutcome() != pb.Outcome_OUTCOME_KILLED || r.GetExitCode() != test.exit {
				t.Errorf("result %v", r)
			}
		})
	}
}

func TestAShorterGraceCounts(t *testing.T) {
	o := newOperator(t)
	log := &lockedBuffer{}
	runAgent(t, testConfig(t, o), log)
	s := o.accepted()
	s.assign(shell("a", "trap 'echo term' TERM; echo ready; while :; do sleep 0.01; done"))
	waitFor(t, "output", func() bool { return strings.Contains(log.String(), "ready") })
	for _, grace := range []time.Duration{2 * patience, time.Millisecond} {
		s.send(&pb.OperatorMessage{Kills: []*pb.Kill{{Token: tokenFor("a"), Grace: durationpb.New(grace)}}})
	}
	if r := s.result(tokenFor("a")); r.GetExitCode() != 137 {
		t.Errorf("result %v", r)
	}
}

func TestAnAssignmentTakenBackInTheSameMessage(t *testing.T) {
	s := start(t)
	s.send(&pb.OperatorMessage{
		Assignments: []*pb.Assignment{shell("a", "exec sleep 1000")},
		Kills:       []*pb.Kill{{Token: tokenFor("a")}},
	})
	if r := s.result(tokenFor("a")); r.GetOutcome() != pb.Outcome_OUTCOME_KILLED {
		t.Errorf("result %v", r)
	}
}

// daemon leaves a process in another session, which writes its pid to a file; how is put before it.
func daemon(how, pidFile string) string {
	return fmt.Sprintf("(%s setsid sh -c 'echo $$ > %s.part; mv %[2]s.part %[2]s; exec sleep 1000' &); until test -e %[2]s; do sleep 0.01; done", how, pidFile)
}

func pidIn(t *testing.T, file string) int {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func alive(pid int) bool { return unix.Kill(pid, 0) == nil }

func TestNothingOutlivesAnAttempt(t *testing.T) {
	tests := map[string]string{
		"a background child":  "sh -c 'echo $$ > %[1]s; exec sleep 1000' & until test -s %[1]s; do sleep 0.01; done",
		"a daemon":            daemon("", "%[1]s"),
		"a daemon that hides": daemon("env -i PATH=$PATH", "%[1]s"),
	}
	for name, script := range tests {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			file := t.TempDir() + "/pid"
			if r := s.run(shell("a", strings.ReplaceAll(script, "%[1]s", file))); r.GetExitCode() != 0 {
				t.Errorf("result %v", r)
			}
			if pid := pidIn(t, file); alive(pid) {
				t.Errorf("process %d is alive", pid)
			}
		})
	}
}

func TestAttemptsAreToldApart(t *testing.T) {
	s := start(t)
	dir := t.TempDir()
	s.assign(shell("stays", daemon("", dir+"/stays")+"; exec sleep 1000"))
	waitFor(t, "daemon", func() bool { _, err := os.Stat(dir + "/stays"); return err == nil })
	s.run(shell("ends", daemon("", dir+"/ends")))
	if alive(pidIn(t, dir+"/ends")) {
		t.Error("the daemon of the ended attempt is alive")
	}
	if !alive(pidIn(t, dir+"/stays")) {
		t.Error("the daemon of the attempt that runs was killed")
	}

	// Shells hand on the environment in their own order, and some of it is long.
	long := "$(head -c 100000 /dev/zero | tr '\\0' x)"
	last := "env -u " + markVariable + " A=" + long + " B=" + long + " " + markVariable + "=$" + markVariable
	s.run(shell("last", "("+last+" setsid sleep 1000 & echo $! > "+dir+"/last); until grep -q sleep /proc/$(cat "+dir+"/last)/comm; do sleep 0.01; done"))
	if alive(pidIn(t, dir+"/last")) {
		t.Error("the daemon whose mark is last was spared")
	}

	// One that hides is known by its group,
	s.run(shell("group", "env -i PATH=$PATH sh -c 'echo $$ > "+dir+"/group; exec sleep 1000' & until test -s "+dir+"/group; do sleep 0.01; done"))
	waitFor(t, "end", func() bool { return !alive(pidIn(t, dir+"/group")) })

	// by its limits if it has left that,
	s.run(shell("leaves", "env -i PATH=$PATH sh -c 'setsid sh -c \"setsid sleep 1000 < /dev/null > /dev/null 2>&1 & echo \\$! > "+dir+"/leaves\" &'; until test -s "+dir+"/leaves; do sleep 0.01; done"))
	if alive(pidIn(t, dir+"/leaves")) {
		t.Error("the daemon that hides is alive")
	}

	// and if it has changed those too it could be anybody's: it is spared until nobody is left, and holds up nothing.
	s.run(shell("hides", daemon("env -i PATH=$PATH prlimit --sigpending=100:", dir+"/hides")))
	if !alive(pidIn(t, dir+"/hides")) {
		t.Error("a process that could be the other attempt's was killed")
	}
	if !alive(pidIn(t, dir+"/stays")) {
		t.Error("the daemon of the attempt that runs was killed")
	}
	s.send(&pb.OperatorMessage{Kills: []*pb.Kill{{Token: tokenFor("stays")}}})
	s.result(tokenFor("stays"))
	if alive(pidIn(t, dir+"/stays")) || alive(pidIn(t, dir+"/hides")) {
		t.Error("something is left")
	}
}

// A neighbour that hides in the same way is not the one whose attempt ends.
func TestANeighbourThatHidesIsSpared(t *testing.T) {
	s := start(t)
	dir := t.TempDir()
	hides := func(name string) string { return daemon("env -i PATH=$PATH", dir+"/"+name) }
	s.assign(shell("stays", hides("stays")+"; exec sleep 1000"))
	waitFor(t, "daemon", func() bool { _, err := os.Stat(dir + "/stays"); return err == nil })
	for i := range 3 {
		name := fmt.Sprint("ends", i)
		s.run(shell(name, hides(name)))
		if alive(pidIn(t, dir+"/"+name)) {
			t.Error("the daemon of the ended attempt is alive")
		}
		if !alive(pidIn(t, dir+"/stays")) {
			t.Fatal("the daemon of the attempt that runs was killed")
		}
	}
	limited := shell("limited", hides("limited"))
	limited.MaxOpenFiles = 64
	s.run(limited)
	if alive(pidIn(t, dir+"/limited")) {
		t.Error("the daemon of the attempt whose files are limited is alive")
	}
	kill(s, "stays", 0)
	s.result(tokenFor("stays"))
	if alive(pidIn(t, dir+"/stays")) {
		t.Error("the last daemon is alive")
	}
}

func TestDuplicatesRunOnce(t *testing.T) {
	s := start(t)
	file := t.TempDir() + "/count"
	a := shell("a", "echo x >> "+file+"; exec sleep 1000")
	s.assign(a, a)
	s.assign(a)
	s.running(tokenFor("a"))
	waitFor(t, "start", func() bool { _, err := os.Stat(file); return err == nil })
	s.send(&pb.OperatorMessage{Kills: []*pb.Kill{{Token: tokenFor("a")}}})
	s.result(tokenFor("a"))
	s.assign(a)
	s.until("the last seen", func(r *pb.Report) bool { return r.GetSeen() == 5 && len(r.GetRunning()) == 0 })
	if content, _ := os.ReadFile(file); string(content) != "x\n" {
		t.Errorf("ran %d times", len(content)/2)
	}
}

func TestAHigherTryStartsWhenTheLowerIsDead(t *testing.T) {
	o := newOperator(t)
	c := testConfig(t, o)
	a, _, _ := runAgent(t, c, &lockedBuffer{})
	s := o.accepted()
	file := t.TempDir() + "/pid"
	s.assign(shell("a", "trap '' TERM; echo $$ > "+file+"; while :; do sleep 0.01; done"))
	waitFor(t, "start", func() bool { content, _ := os.ReadFile(file); return len(content) > 0 })
	second := shell("a", "kill -0 $(cat "+file+") && exit 1; exit 0")
	second.Token = tokenTry("a", 2)
	s.assign(second)
	results := map[int32]*pb.Result{}
	s.until("both results", func(r *pb.Report) bool {
		for _, result := range r.GetResults() {
			results[result.GetToken().GetTry()] = result
		}
		return len(results) == 2
	})
	if results[1].GetOutcome() != pb.Outcome_OUTCOME_KILLED || results[1].GetExitCode() != 137 {
		t.Errorf("first %v", results[1])
	}
	if results[2].GetOutcome() != pb.Outcome_OUTCOME_EXITED || results[2].GetExitCode() != 0 {
		t.Errorf("second %v", results[2])
	}
	_, kept, err := openSpool(c.SpoolDir, a.log)
	if err != nil || len(kept) != 2 {
		t.Fatalf("%d results on disk, error %v", len(kept), err)
	}
	slices.SortFunc(kept, func(a, b *result) int { return a.token.compare(b.token) })
	if kept[1].started.Before(kept[0].ended) {
		t.Errorf("the second has started at %v, the first ended at %v", kept[1].started, kept[0].ended)
	}
}

func TestManyShortProcesses(t *testing.T) {
	s := start(t)
	const n = 500
	next, ended := 0, 0
	batch := func(size int) (all []*pb.Assignment) {
		for ; size > 0 && next < n; size-- {
			all = append(all, shell(fmt.Sprint(next), "exit 3"))
			next++
		}
		return all
	}
	s.assign(batch(4)...)
	s.until("all results", func(r *pb.Report) bool {
		m := &pb.OperatorMessage{Assignments: batch(len(r.GetResults()))}
		for _, result := range r.GetResults() {
			ended++
			m.Settled = append(m.Settled, result.GetToken())
			if result.GetOutcome() != pb.Outcome_OUTCOME_EXITED || result.GetExitCode() != 3 {
				t.Errorf("result %v", result)
			}
		}
		s.send(m)
		return ended == n
	})
}

func TestAFullDiskStopsIntakeOnly(t *testing.T) {
	o := newOperator(t)
	c := testConfig(t, o)
	a, _, _ := runAgent(t, c, &lockedBuffer{})
	s := o.accepted()
	whole := a.spool.file
	readOnly, err := os.Open(whole.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer readOnly.Close()
	replace := func(file *os.File) {
		a.spool.mu.Lock()
		defer a.spool.mu.Unlock()
		a.spool.file = file
	}
	replace(readOnly)
	if r := s.run(shell("a", "exit 3")); r.GetExitCode() != 3 {
		t.Errorf("result %v", r)
	}
	s.assign(shell("b", "true"))
	r := s.until("the assignment seen", func(r *pb.Report) bool { return r.GetSeen() == 3 })
	if len(r.GetRunning())+len(r.GetResults()) != 0 || !r.GetDraining() {
		t.Errorf("started on a full disk, or did not say that it takes nothing: %v", r)
	}
	replace(whole)
	s.until("intake", func(r *pb.Report) bool { return !r.GetDraining() })
	s.run(shell("c", "true"))
	_, kept, err := openSpool(c.SpoolDir, a.log)
	if err != nil || len(kept) != 2 {
		t.Errorf("%d results on disk, want 2 (error %v)", len(kept), err)
	}
}

// fifo returns the path of a pipe that nobody writes to.
func fifo(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
