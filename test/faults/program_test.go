package faults

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// program is a process that a test runs, and its log.
type program struct {
	t     *testing.T
	name  string
	cmd   *exec.Cmd
	log   string
	ended chan struct{}
	// wanted is set where the process is to end: else its end fails the test.
	wanted atomic.Bool
}

// start runs a program until the end of the test, or until it is ended before. Should the test fail, the end of its
// log is shown.
func start(t *testing.T, name string, cmd *exec.Cmd) *program {
	t.Helper()
	p := &program{t: t, name: name, cmd: cmd, log: filepath.Join(t.TempDir(), name+".log"), ended: make(chan struct{})}
	log, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		defer close(p.ended)
		defer log.Close()
		if err := cmd.Wait(); !p.wanted.Load() {
			t.Errorf("%s has ended: %v", name, err)
		}
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s:\n%s", name, tail(p.said()))
		}
	})
	return p
}

// kill ends the process at once and hard.
func (p *program) kill() { p.end(syscall.SIGKILL) }

// stop ends the process in order.
func (p *program) stop() { p.end(syscall.SIGTERM) }

func (p *program) end(signal syscall.Signal) {
	p.wanted.Store(true)
	_ = p.cmd.Process.Signal(signal) // it may have ended
	<-p.ended
}

// said is all that the process has written.
func (p *program) said() string {
	content, err := os.ReadFile(p.log)
	if err != nil {
		p.t.Error(err)
	}
	return string(content)
}

// tail is the end of a text, of at most 30 lines.
func tail(text string) string {
	lines := strings.SplitAfter(text, "\n")
	return strings.Join(lines[max(0, len(lines)-31):], "")
}
