package agent

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	pb "github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
)

// startProgram runs the agent's program as the first process of a container would be.
func startProgram(t *testing.T, o *operator, flags ...string) *exec.Cmd {
	t.Helper()
	c := testConfig(t, o)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{
		"--pid", "--fork", "--kill-child", "--mount-proc", self, "run", "--addresses=" + o.address, "--ca=" + o.caPEM,
		"--token-file=" + c.TokenFile, "--spool-dir=" + c.SpoolDir, "--slots=4",
	}, flags...)
	if os.Getuid() != 0 {
		args = append([]string{"--user", "--map-root-user"}, args...)
	}
	cmd := exec.Command("unshare", args...)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	return cmd
}

// allSignals are those that a process could outlive, but SIGTERM and SIGINT, which end the agent.
const allSignals = `for s in $(seq 1 64); do case $s in 2|9|15|19) ;; *) kill -$s 1 || exit 1; kill -$s 1 || exit 1;; esac; done`

func TestNoSignalOfAJobEndsTheAgent(t *testing.T) {
	for name, flags := range map[string]func(*testing.T) []string{
		"commands": func(*testing.T) []string { return nil },
		"requests": func(t *testing.T) []string {
			return []string{"--http-port=1", "--health-address=127.0.0.1:0", "--drain-socket=" + filepath.Join(t.TempDir(), "drain")}
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOperator(t)
			cmd := startProgram(t, o, flags(t)...)
			s := o.accepted()
			if name == "requests" {
				// It runs no commands: the signals come from outside, which is harder.
				pid := childOf(t, cmd.Process.Pid)
				script := strings.ReplaceAll(allSignals, " 1 ||", fmt.Sprint(" ", pid, " ||"))
				// Of these two the Go runtime knows nothing: process 1 gets them from nobody in its container.
				script = strings.Replace(script, "2|9|15|19", "2|9|15|19|32|33", 1)
				if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				reports := 0
				s.until("reports", func(*pb.Report) bool { reports++; return reports > 3 })
				return
			}
			s.assign(shell("other", "exec sleep 1000"))
			s.running(tokenFor("other"))
			if r := s.run(shell("a", allSignals)); r.GetOutcome() != pb.Outcome_OUTCOME_EXITED || r.GetExitCode() != 0 {
				t.Errorf("%v", r)
			}
			const ignored = "cat /proc/self/status | grep -E '^Sig(Blk|Ign)'"
			want, err := exec.Command("sh", "-c", ignored).Output() // what this test has inherited itself
			if err != nil {
				t.Fatal(err)
			}
			if r := s.run(shell("b", ignored)); !bytes.Equal(r.GetOutput(), want) {
				t.Errorf("a job has not the default of each signal: %s, want %s", r.GetOutput(), want)
			}
			kill(s, "other", 0)
			if r := s.result(tokenFor("other")); r.GetOutcome() != pb.Outcome_OUTCOME_KILLED {
				t.Errorf("beside it: %v", r)
			}
		})
	}
}

// childOf returns the only child of a process.
func childOf(t *testing.T, pid int) (child int) {
	t.Helper()
	waitFor(t, "a child", func() bool {
		content, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
		if err != nil {
			t.Fatal(err)
		}
		_, err = fmt.Sscan(string(content), &child)
		return err == nil
	})
	return child
}

// A job may well take its own worker away by a SIGTERM. Others that run there end first.
func TestASIGTERMOfAJobLosesNothing(t *testing.T) {
	o := newOperator(t)
	cmd := startProgram(t, o)
	s := o.accepted()
	s.assign(shell("other", "read x < "+fifo(t)))
	s.running(tokenFor("other"))
	if r := s.run(shell("a", "kill -TERM 1")); r.GetExitCode() != 0 {
		t.Errorf("%v", r)
	}
	s.until("draining", (*pb.Report).GetDraining)
	s.assign(shell("late", "true"))
	s.until("the refusal", func(r *pb.Report) bool { return r.GetSeen() == s.sequence && len(r.GetRunning()) == 1 })
	kill(s, "other", 0)
	s.result(tokenFor("other"))
	s.settle(tokenFor("other"), tokenFor("a"))
	s.closed()
	if err := cmd.Wait(); err != nil {
		t.Errorf("the agent has ended with %v", err)
	}
}
