package agent

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	pb "github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
)

// What a job may do to the folder that it shares with the agent; %[1]s is the folder.
var harms = map[string]string{
	"the TMPDIRs are removed":             `rm -rf "$(dirname "$TMPDIR")"`,
	"all is removed":                      `rm -rf %[1]s/*`,
	"the folder itself is removed":        `rm -rf %[1]s`,
	"a file is in its place":              `rm -rf %[1]s; touch %[1]s`,
	"files are in the places of folders":  `rm -rf %[1]s/*; touch %[1]s/tmp %[1]s/spool`,
	"links are in the places of folders":  `rm -rf %[1]s/*; ln -s %[2]s %[1]s/tmp; ln -s %[2]s %[1]s/spool`,
	"links of one to the other":           `rm -rf %[1]s/tmp; ln -s spool %[1]s/tmp`,
	"a link is in the place of the spool": `rm -f %[1]s/spool/results; ln -s %[2]s/precious %[1]s/spool/results`,
	"a folder is in the spool's place":    `rm -f %[1]s/spool/results; mkdir -p %[1]s/spool/results/x %[1]s/spool/results.part/y`,
	"the folders are locked":              `chmod 000 %[1]s/tmp %[1]s/spool; chmod 000 %[1]s/spool/results || true`,
	"the next names are taken":            `for i in 1 2 3 4 5 6 7 8 9; do mkdir -p %[1]s/tmp/$i/x; done`,
	"free TMPDIRs are links":              `rm -rf %[1]s/tmp/*; for i in 1 2 3; do ln -s %[2]s %[1]s/tmp/$i; done`,
}

func TestAWorkerPutsItsFolderRight(t *testing.T) {
	for name, harm := range harms {
		t.Run(name, func(t *testing.T) {
			o := newOperator(t)
			c := testConfig(t, o)
			c.SpoolDir = filepath.Join(t.TempDir(), "volume", "spool")
			a, stop, _ := runAgent(t, c, &lockedBuffer{})
			s := o.accepted()
			outside := t.TempDir()
			precious := filepath.Join(outside, "precious")
			if err := os.WriteFile(precious, []byte("precious"), 0o640); err != nil {
				t.Fatal(err)
			}
			leaveTMPDIRs(t, a, s)
			s.run(shell("harm", fmt.Sprintf(harm, filepath.Dir(c.SpoolDir), outside)))
			for i := range 3 {
				r := s.run(shell(fmt.Sprint(i), `test -d "$TMPDIR" && test -z "$(ls -A "$TMPDIR")" && echo x > "$TMPDIR/x" && echo "$TMPDIR"`))
				if r.GetOutcome() != pb.Outcome_OUTCOME_EXITED || r.GetExitCode() != 0 {
					t.Errorf("%v", r)
				}
			}
			waitFor(t, "order", func() bool {
				a.mu.Lock()
				defer a.mu.Unlock()
				return a.table.unavailable() == "" && a.table.resetFailure == ""
			})
			stop()
			if content, err := os.ReadFile(precious); string(content) != "precious" {
				t.Errorf("what a link led to: %q, error %v", content, err)
			}
			if info, err := os.Stat(precious); err != nil || info.Mode() != 0o640 {
				t.Errorf("what a link led to: %v, error %v", info.Mode(), err)
			}
			entries, err := os.ReadDir(outside)
			if err != nil || len(entries) != 1 {
				t.Errorf("where links led to: %v, error %v", entries, err)
			}
			// The results of all tries outlive the container, but perhaps for that of the harm.
			_, kept, err := openSpool(c.SpoolDir, a.log)
			if err != nil || len(kept) < 5 {
				t.Errorf("%d results on disk, error %v", len(kept), err)
			}
		})
	}
}

// leaveTMPDIRs has two attempts run at once, whose TMPDIRs are free then.
func leaveTMPDIRs(t *testing.T, a *Agent, s *session) {
	t.Helper()
	dir := t.TempDir()
	both := "touch %[1]s/%[2]s; until test -e %[1]s/x && test -e %[1]s/y; do sleep 0.01; done"
	s.assign(shell("x", fmt.Sprintf(both, dir, "x")), shell("y", fmt.Sprintf(both, dir, "y")))
	waitFor(t, "free TMPDIRs", func() bool {
		a.tmp.mu.Lock()
		defer a.tmp.mu.Unlock()
		return len(a.tmp.free) == 2
	})
}

// broken has an agent's folder be one that nothing can be made in, until what it returns is called.
func broken(t *testing.T, a *Agent) (repair func()) {
	t.Helper()
	// Of its parts each is there and none is a folder: not even root can make one there.
	a.tmp.mu.Lock()
	defer a.tmp.mu.Unlock()
	whole := a.tmp.volume
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot("/proc/self/fdinfo") // nothing can be made there
	if err != nil {
		t.Fatal(err)
	}
	a.tmp.volume = &volume{path: filepath.Join(file, "below"), root: root}
	return func() {
		a.tmp.mu.Lock()
		defer a.tmp.mu.Unlock()
		a.tmp.volume = whole
	}
}

func TestATryThatFindsNoFolderIsNotRun(t *testing.T) {
	o := newOperator(t)
	a, _, _ := runAgent(t, testConfig(t, o), &lockedBuffer{})
	s := o.accepted()
	s.run(shell("before", "true"))
	repair := broken(t, a)
	s.assign(shell("a", "true"))
	r := s.until("the refusal", func(r *pb.Report) bool {
		return r.GetSeen() == s.sequence && len(r.GetRunning()) == 0 && r.GetDraining()
	})
	if want := "the agent can't use its folder: make the folder for TMPDIRs: "; !strings.HasPrefix(r.GetUnavailable(), want) {
		t.Errorf("unavailable %q, want %q", r.GetUnavailable(), want)
	}
	if len(r.GetResults()) > 0 || r.GetResetFailure() != "" {
		t.Errorf("%v", r)
	}
	repair()
	if r := s.until("intake", func(r *pb.Report) bool { return !r.GetDraining() }); r.GetUnavailable() != "" {
		t.Errorf("unavailable %q of a folder in order", r.GetUnavailable())
	}
	if r := s.run(shell("a", "exit 3")); r.GetExitCode() != 3 {
		t.Errorf("%v", r)
	}
}

func TestAWorkerThatCannotPutItsFolderRightIsReplaced(t *testing.T) {
	a, err := New(testConfig(t, newOperator(t)), io.Discard, discard)
	if err != nil {
		t.Fatal(err)
	}
	defer a.reaper.close()
	defer a.spool.close()
	var ahead time.Duration
	began := time.Now()
	a.now = func() time.Time { return began.Add(ahead) }
	_ = broken(t, a)
	a.disorder(unix.EROFS)
	if a.table.resetFailure != "" || a.table.unavailable() == "" {
		t.Errorf("at once: %q", a.table.resetFailure)
	}
	ahead = unfitAfter - 1
	a.mend()
	if a.table.resetFailure != "" {
		t.Errorf("before its time: %q", a.table.resetFailure)
	}
	ahead = unfitAfter
	a.mend()
	if !strings.HasPrefix(a.table.resetFailure, "the agent can't use its folder: ") {
		t.Errorf("%q", a.table.resetFailure)
	}
}

func TestAFullDiskIsWaitedFor(t *testing.T) {
	a := &Agent{table: newTable(1), log: discard}
	var ahead time.Duration
	began := time.Now()
	a.now = func() time.Time { return began.Add(ahead) }
	for _, err := range []error{unix.ENOSPC, unix.EDQUOT, &os.PathError{Op: "mkdirat", Err: unix.ENOSPC}} {
		a.disorder(err)
		ahead += 2 * unfitAfter
	}
	if a.table.unavailable() == "" || a.table.resetFailure != "" {
		t.Errorf("refuses %t, unfit %q", a.table.unavailable() != "", a.table.resetFailure)
	}
}

func TestATryBesideOthersThatLeaveNoRoomIsNotRun(t *testing.T) {
	o := newOperator(t)
	a, _, _ := runAgent(t, testConfig(t, o), &lockedBuffer{})
	s := o.accepted()
	s.assign(shell("other", "exec sleep 1000"))
	s.running(tokenFor("other"))
	// No more files can be opened, as if the other had opened all that there may be.
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	low := unix.Rlimit{Cur: 3, Max: limit.Max}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	at := &attempt{token: tokenOf(tokenFor("a")), assignment: shell("a", "true"), done: make(chan struct{})}
	a.mu.Lock()
	a.table.live[at.token] = at
	a.mu.Unlock()
	err := a.execute(at, &result{}, t.TempDir())
	if restoreErr := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); restoreErr != nil {
		t.Fatal(restoreErr)
	}
	if err == nil {
		t.Fatal("it was started, or has failed for good")
	}
	a.notRun(at, &result{}, err)
	s.until("no intake", (*pb.Report).GetDraining)
	kill(s, "other", 0)
	s.until("intake", func(r *pb.Report) bool { return !r.GetDraining() })
	if r := s.run(shell("b", "true")); r.GetExitCode() != 0 {
		t.Errorf("%v", r)
	}
}

func TestClearRemovesADeepLockedTree(t *testing.T) {
	v, err := openVolume(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	const depth = 5000 // longer than a path may be
	dir, err := v.root.OpenRoot(".")
	for i := range depth {
		if err == nil {
			err = dir.Mkdir("\xffd", 0o700)
		}
		if err != nil {
			t.Fatal(err)
		}
		next, openErr := dir.OpenRoot("\xffd")
		err = openErr
		if i > 0 {
			_ = dir.Chmod(".", 0o500)
		}
		_ = dir.Close()
		dir = next
	}
	_ = dir.Close()
	if err := v.clear("\xffd"); err != nil {
		t.Fatal(err)
	}
	if _, err := v.root.Lstat("\xffd"); !os.IsNotExist(err) {
		t.Errorf("it is left: %v", err)
	}
}
