package process

import (
	"errors"
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
	if err := p.run(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s:\n%s", name, tail(p.said()))
		}
	})
	return p
}

// again is another run of the program, which is ended with the test. Its end is not a failure.
func (p *program) again() (*program, error) {
	cmd := exec.Command(p.cmd.Path, p.cmd.Args[1:]...)
	cmd.Env = p.cmd.Env
	next := &program{t: p.t, name: p.name, cmd: cmd, log: p.log, ended: make(chan struct{})}
	next.wanted.Store(true)
	return next, next.run()
}

// run starts the process, and adds to its log.
func (p *program) run() error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return errors.Join(err, log.Close())
	}
	go func() {
		defer close(p.ended)
		defer log.Close()
		if err := p.cmd.Wait(); !p.wanted.Load() {
			p.t.Errorf("%s has ended: %v", p.name, err)
		}
	}()
	return nil
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
