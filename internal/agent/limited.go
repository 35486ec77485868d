package agent

import (
	"errors"
	"io"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// LimitedCommand is the first argument with which the agent's program runs ExecLimited.
const LimitedCommand = "exec-limited"

const (
	// self is the program that runs, even if its file is gone.
	self = "/proc/self/exe"
	// statusFD is where ExecLimited says why it has failed.
	statusFD = 3
	// exitNotExecuted is seen by nobody: the status is read before.
	exitNotExecuted = 127
)

var errUsage = errors.New("wrong arguments")

// limitedArgs are the arguments for ExecLimited. The environment is among them, since what a job sets for
// a Go program must not reach this one.
func (c command) limitedArgs() []string {
	args := append(make([]string, 0, 5+len(c.argv)+len(c.env)),
		"agent", LimitedCommand, strconv.Itoa(int(c.maxFiles)), c.path, strconv.Itoa(len(c.argv)))
	return append(append(args, c.argv...), c.env...)
}

// ExecLimited turns this process into a program that was limited before its first instruction. A process
// without privileges can't raise its hard limits again, so the agent does not lower its own to start one.
// args are what follows LimitedCommand. It does not return.
func ExecLimited(args []string) {
	unix.CloseOnExec(statusFD)
	err := execLimited(args)
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		errno = syscall.EINVAL
	}
	_, _ = unix.Write(statusFD, []byte(strconv.Itoa(int(errno))))
	os.Exit(exitNotExecuted)
}

func execLimited(args []string) error {
	if len(args) < 3 {
		return errUsage
	}
	limit, err := strconv.ParseUint(args[0], 10, 31)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	path, rest := args[1], args[3:]
	if n < 1 || n > len(rest) {
		return errUsage
	}
	if err := limitFiles(limit); err != nil {
		return err
	}
	//nolint:gosec // to run what users say is what the agent is for
	return syscall.Exec(path, rest[:n], rest[n:])
}

// limitFiles sets the soft and the hard limit of open files. More than the hard limit that holds already
// nobody may have.
func limitFiles(limit uint64) error {
	var now syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &now); err != nil {
		return err
	}
	limit = min(limit, now.Max)
	// Of package syscall, not unix: else Exec would give back the soft limit of before.
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: limit, Max: limit})
}

// executed waits until the program has been executed, and returns the system's error if that has failed.
func executed(status *os.File) error {
	defer status.Close()
	// An error to read is taken for the end: the program runs, or its process tells more.
	content, _ := io.ReadAll(io.LimitReader(status, 16))
	if errno, err := strconv.Atoi(string(content)); err == nil {
		return syscall.Errno(errno)
	}
	return nil
}
