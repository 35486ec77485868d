package agent

import (
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is the main process of an attempt, the leader of a session and process group of its own.
type process struct {
	reaper *reaper
	pid    int
	mark   string
	// stdout and stderr are the ends to read.
	stdout, stderr *os.File
	// exited gets the process's end, once.
	exited chan exit

	// The reaper's lock guards the rest.

	// ended processes have been waited for: their pid may be another's.
	ended bool
	// sigkill fires at killAt, after a SIGTERM.
	sigkill *time.Timer
	killAt  time.Time
}

// exit is how a process ended.
type exit struct {
	// code is 128 and the signal's number if a signal ended it.
	code           int
	cpuTime        time.Duration
	maxMemoryBytes int64
	at             time.Time
	// childless: the agent had no other child at that time, so nothing is left of the process.
	childless bool
}

// end kills the process's group, or sends SIGTERM first if there is a grace. Of several calls the
// earliest SIGKILL counts. It returns false if the process had ended before.
func (p *process) end(grace time.Duration, now time.Time) bool {
	p.reaper.mu.Lock()
	defer p.reaper.mu.Unlock()
	if p.ended {
		return false
	}
	if grace <= 0 {
		_ = unix.Kill(-p.pid, unix.SIGKILL)
		return true
	}
	at := now.Add(grace)
	switch {
	case p.sigkill == nil:
		_ = unix.Kill(-p.pid, unix.SIGTERM)
		p.killAt = at
		p.sigkill = time.AfterFunc(grace, func() { p.end(0, at) })
	case at.Before(p.killAt):
		p.killAt = at
		p.sigkill.Reset(grace)
	}
	return true
}

// start executes c. The process counts as running until clean.
//
// The clone is a vfork: this thread is held until the program's first instruction.
func (r *reaper) start(c command) (*process, error) {
	stdout, stdoutWriter, err := pipe("stdout")
	if err != nil {
		return nil, err
	}
	stderr, stderrWriter, err := pipe("stderr")
	if err != nil {
		_ = stdout.Close()
		_ = unix.Close(stdoutWriter)
		return nil, err
	}
	p := &process{reaper: r, mark: c.mark, stdout: stdout, stderr: stderr, exited: make(chan exit, 1)}
	began := r.begin(p)
	p.pid, err = syscall.ForkExec(c.path, c.argv, &syscall.ProcAttr{
		Dir:   c.dir,
		Env:   c.env,
		Files: []uintptr{r.null.Fd(), uintptr(stdoutWriter), uintptr(stderrWriter)},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	_ = unix.Close(stdoutWriter)
	_ = unix.Close(stderrWriter)
	r.began(p, began, err == nil)
	if err != nil {
		_ = stdout.Close()
		_ = stderr.Close()
		return nil, c.explain(err)
	}
	return p, nil
}

// pipe returns an end to read with deadlines, and an end for a process, which must not find it
// non-blocking.
func pipe(name string) (*os.File, int, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return nil, 0, os.NewSyscallError("pipe2", err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		_ = unix.Close(fds[0])
		_ = unix.Close(fds[1])
		return nil, 0, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fds[0]), name), fds[1], nil
}

// exitOf reads what the system says of a process that was waited for.
func exitOf(status unix.WaitStatus, usage *unix.Rusage, now time.Time) exit {
	e := exit{
		code:    status.ExitStatus(),
		cpuTime: time.Duration(usage.Utime.Nano() + usage.Stime.Nano()),
		// The kernel counts in KiB, and a process's count starts at what its parent had, so this is
		// never below what the agent itself takes.
		maxMemoryBytes: usage.Maxrss << 10,
		at:             now,
	}
	if status.Signaled() {
		e.code = 128 + int(status.Signal())
	}
	return e
}

// buffers are for reading pipes: one byte more than a piece, so that a line of just a piece's length
// is told from a longer one.
var buffers = sync.Pool{New: func() any { return new([maxPiece + 1]byte) }}
