package agent

import (
	"errors"
	"fmt"
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
	// tag is 0 if there is none.
	tag int
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
	code int
	// signal that ended it, 0 if it ended by itself.
	signal  int
	cpuTime time.Duration
	// maxMemoryBytes is never below what the agent had: see ownMemory.
	maxMemoryBytes int64
	at             time.Time
	// childless: the agent had no other child at that time, so nothing is left of the process.
	childless bool
	// killed: SIGKILL has ended it.
	killed bool
}

// end kills all processes of the attempt, or sends them SIGTERM first if there is a grace. Of several calls
// the earliest SIGKILL counts. It returns false if the main process had ended before.
func (p *process) end(grace time.Duration, now time.Time) bool {
	p.reaper.mu.Lock()
	defer p.reaper.mu.Unlock()
	if p.ended {
		return false
	}
	if grace <= 0 {
		p.reaper.signalLocked(p, unix.SIGKILL)
		return true
	}
	at := now.Add(grace)
	switch {
	case p.sigkill == nil:
		p.reaper.signalLocked(p, unix.SIGTERM)
		p.killAt = at
		p.sigkill = time.AfterFunc(grace, func() { p.end(0, at) })
	case at.Before(p.killAt):
		p.killAt = at
		p.sigkill.Reset(grace)
	}
	return true
}

// errScarce is why a program could not be started that the attempt has no part in: there are too many processes or open files.
var errScarce = errors.New("no room for another process")

// orScarce marks errors of which others may be the cause.
func orScarce(err error) error {
	for _, errno := range []error{unix.EAGAIN, unix.EMFILE, unix.ENFILE, unix.ENOMEM} {
		if errors.Is(err, errno) {
			return fmt.Errorf("%w: %w", errScarce, err)
		}
	}
	return err
}

// start executes c. The process counts as running until clean.
//
// The clone is a vfork: this thread is held until the program's first instruction.
func (r *reaper) start(c command) (*process, error) {
	f, err := r.openFiles(c)
	if err != nil {
		return nil, orScarce(err)
	}
	p := &process{reaper: r, mark: c.mark, stdout: f.stdout, stderr: f.stderr, exited: make(chan exit, 1)}
	path, argv, env := c.path, c.argv, c.env
	if f.status != nil {
		path, argv, env = self, c.limitedArgs(), c.env[:1]
	}
	began := r.begin(p)
	r.tags.while(p.tag, func() {
		p.pid, err = syscall.ForkExec(path, argv, &syscall.ProcAttr{
			Dir:   c.dir,
			Env:   env,
			Files: f.child,
			Sys:   &syscall.SysProcAttr{Setsid: true},
		})
	})
	f.closeChild()
	r.began(p, began, err == nil)
	if err != nil {
		f.close()
		return nil, orScarce(c.explain(err))
	}
	if f.status == nil {
		return p, nil
	}
	if err := executed(f.status); err != nil {
		<-p.exited
		r.forget(p)
		f.close()
		return nil, c.explain(err)
	}
	return p, nil
}

// files are the ends of a process's pipes.
type files struct {
	// stdout and stderr are the ends to read.
	stdout, stderr *os.File
	// status is nil unless ExecLimited is to tell of its failure.
	status *os.File
	// child are the process's own, by number.
	child []uintptr
	null  uintptr
}

func (r *reaper) openFiles(c command) (f files, err error) {
	f = files{null: r.null.Fd(), child: make([]uintptr, 1, statusFD+1)}
	f.child[0] = f.null
	defer func() {
		if err != nil {
			f.closeChild()
			f.close()
		}
	}()
	if len(c.stdin) > 0 {
		fd, err := newStdin(c.stdin)
		if err != nil {
			return f, err
		}
		f.child[0] = uintptr(fd)
	}
	if f.stdout, err = f.pipe("stdout"); err != nil {
		return f, err
	}
	if f.stderr, err = f.pipe("stderr"); err != nil {
		return f, err
	}
	if c.maxFiles > 0 {
		f.status, err = f.pipe("status")
	}
	return f, err
}

// pipe returns the end to read of a pipe whose other end is the process's next.
func (f *files) pipe(name string) (*os.File, error) {
	end, writer, err := pipe(name)
	if err != nil {
		return nil, err
	}
	f.child = append(f.child, uintptr(writer))
	return end, nil
}

func (f *files) closeChild() {
	for _, fd := range f.child {
		if fd != f.null {
			_ = unix.Close(int(fd))
		}
	}
}

// close is for a process that was not started.
func (f *files) close() {
	for _, end := range []*os.File{f.stdout, f.stderr, f.status} {
		if end != nil {
			_ = end.Close()
		}
	}
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
		// The kernel counts in KiB, and a process's count starts at what its parent had.
		maxMemoryBytes: usage.Maxrss << 10,
		at:             now,
	}
	if status.Signaled() {
		e.signal = int(status.Signal())
		e.code = 128 + e.signal
		e.killed = status.Signal() == unix.SIGKILL
	}
	return e
}

// buffers are for reading pipes: one byte more than a piece, so that a line of just a piece's length
// is told from a longer one.
var buffers = sync.Pool{New: func() any { return new([maxPiece + 1]byte) }}
