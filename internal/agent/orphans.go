package agent

import (
	"bytes"
	"iter"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxEnviron bounds what is read of an environment, in bytes. The system allows 6 MiB at most.
const maxEnviron = 16 << 20

// childrenLocked yields the agent's children that it has not started itself: orphans of attempts, and
// forks that have not returned. In a container /proc has few processes but those of the attempts.
//
// No child can vanish meanwhile, since none is waited for without the lock.
func (r *reaper) childrenLocked() iter.Seq[int] {
	self := os.Getpid()
	return func(yield func(int) bool) {
		for _, pid := range r.processes() {
			if pid == self || r.running[pid] != nil || kinOf(pid).parent != self {
				continue
			}
			if !yield(pid) {
				return
			}
		}
	}
}

// processes lists the pids of /proc.
func (r *reaper) processes() []int {
	if _, err := r.proc.Seek(0, 0); err != nil {
		r.log.Error("Cannot list processes", "error", err)
		return nil
	}
	names, err := r.proc.Readdirnames(-1)
	if err != nil {
		r.log.Error("Cannot list processes", "error", err)
	}
	var pids []int
	for _, name := range names {
		if name[0] < '0' || name[0] > '9' {
			continue
		}
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// markOf returns the mark of a process of this agent's. It can't be seen if the process has ended, has
// cleared its environment or runs as somebody else.
//
// The agent puts it first, but many shells hand their environment on in another order.
func (r *reaper) markOf(pid int) (string, bool) {
	var environ []byte
	for size := 4 << 10; size <= maxEnviron; size *= 8 {
		if environ = readProc(pid, "environ", make([]byte, size)); len(environ) < size {
			break
		}
	}
	for variable := range bytes.SplitSeq(environ, []byte{0}) {
		if mark, ok := strings.CutPrefix(string(variable), markVariable+"="); ok {
			return mark, strings.HasPrefix(mark, r.instance+"-")
		}
	}
	return "", false
}

// readProc returns as much of a process's file as buf takes; nothing if it is gone.
func readProc(pid int, name string, buf []byte) []byte {
	fd, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/"+name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	for used := 0; ; {
		n, err := unix.Read(fd, buf[used:])
		if err != nil || n == 0 {
			return buf[:used]
		}
		used += n
	}
}
