package agent

import (
	"bytes"
	"os"
	"time"

	"golang.org/x/sys/unix"

	pb "github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
)

// oomFiles have a line "oom_kill N": how many processes of the container the kernel has killed because
// there was no memory. The first is that of version 2 of cgroups, where such a kill often takes the whole
// container and the agent with it.
var oomFiles = []string{"/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"}

// oomWindow is how long after the kernel's kill a process may take to end.
const oomWindow = 10 * time.Second

// oomCounter tells the kernel's kills from others. Each that was counted explains the end of one main
// process, or of a descendant's, which only its parent sees.
type oomCounter struct {
	// path is empty where nothing can be known.
	path string
	// counted are the kills that the kernel has counted, explained those of them that ends are known for.
	counted, explained int64
	// grew is when counted was last seen to grow.
	grew time.Time
}

func newOOMCounter() oomCounter {
	for _, path := range oomFiles {
		if n, ok := readOOMKills(path); ok {
			return oomCounter{path: path, counted: n, explained: n}
		}
	}
	return oomCounter{}
}

// look notes the time of new kills.
func (c *oomCounter) look(now time.Time) {
	n, ok := readOOMKills(c.path)
	switch {
	case !ok:
	case n > c.counted:
		c.counted, c.grew = n, now
	case now.Sub(c.grew) > oomWindow:
		c.explained = c.counted
	}
}

// claim returns whether the kernel is likely to have killed a process that has just ended by SIGKILL.
func (c *oomCounter) claim(now time.Time) bool {
	c.look(now)
	if c.explained >= c.counted {
		return false
	}
	c.explained++
	return true
}

func readOOMKills(path string) (int64, bool) {
	content, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	for line := range bytes.Lines(content) {
		if fields := bytes.Fields(line); len(fields) == 2 && string(fields[0]) == "oom_kill" {
			return number(fields[1]), true
		}
	}
	return 0, false
}

// chargeLocked decides who pays for the kernel's kill of an attempt's main process: the attempt that is
// furthest over its share. If that is another, it is killed, and this one can be tried again.
func (a *Agent) chargeLocked(at *attempt, e exit) {
	own := ownMemory(e)
	if other := a.furthestLocked(at.overBy(own)); other != nil && at.assignment.GetMemoryShareBytes() > 0 {
		at.ending = pb.Outcome_OUTCOME_INTERRUPTED
		at.message = "The kernel has ended it because another command of its worker had too much memory."
		if a.endLocked(other, 0, pb.Outcome_OUTCOME_OOM_KILLED) {
			other.message = other.outOfMemory(other.peak)
		}
		return
	}
	at.ending = pb.Outcome_OUTCOME_OOM_KILLED
	at.message = at.outOfMemory(max(at.peak, own))
}

// furthestLocked returns the attempt that runs and is over its share by the most, and by more than given.
func (a *Agent) furthestLocked(by int64) *attempt {
	var furthest *attempt
	for _, at := range a.table.live {
		if over := at.overBy(0); at.process != nil && over > max(by, 0) {
			furthest, by = at, over
		}
	}
	return furthest
}

// overBy is negative for an attempt that has less than its share, and 0 if that is not known. Beside the
// last sample, had is what one of its processes is known to have had since.
func (at *attempt) overBy(had int64) int64 {
	share := at.assignment.GetMemoryShareBytes()
	if share <= 0 {
		return 0
	}
	return max(at.memory, had) - share
}

// ownMemory is the largest resident set of an ended process if that is its own, else 0: the kernel's count begins at what
// the agent had when it made the process.
func ownMemory(e exit) int64 {
	var usage unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &usage) != nil || e.maxMemoryBytes <= usage.Maxrss<<10 {
		return 0
	}
	return e.maxMemoryBytes
}

// outOfMemory is the message for an attempt that had so much, or 0 if that was not seen.
func (at *attempt) outOfMemory(had int64) string {
	message := "The worker ran out of memory while the command ran"
	if had > 0 {
		message = "The worker ran out of memory while the command had " + mebibytes(had)
	}
	if share := at.assignment.GetMemoryShareBytes(); share > 0 {
		message += "; its share is " + mebibytes(share)
	}
	return message + "."
}
