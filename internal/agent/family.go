package agent

import (
	"bytes"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// kin is a process's place among the others. It is zero for one that is gone.
type kin struct {
	parent, group int
	// forked: it has executed no program since its fork.
	forked bool
}

// forkedFlag is PF_FORKNOEXEC of the kernel.
const forkedFlag = 0x40

func kinOf(pid int) kin {
	var buf [512]byte
	stat := readProc(pid, "stat", buf[:])
	// pid (name) state parent group session terminal foreground flags ...; the name may hold anything.
	_, rest, _ := bytes.Cut(stat[bytes.LastIndexByte(stat, ')')+1:], []byte(" "))
	var fields [7]int
	for i := range fields {
		var field []byte
		field, rest, _ = bytes.Cut(rest, []byte(" "))
		fields[i] = int(number(field))
	}
	return kin{parent: fields[1], group: fields[2], forked: fields[6]&forkedFlag != 0}
}

// family is the place of each process at some moment.
type family map[int]kin

func familyOf(pids []int) family {
	f := make(family, len(pids))
	for _, pid := range pids {
		f[pid] = kinOf(pid)
	}
	return f
}

// branch returns the child of the agent that a process is or descends from, 0 if there is none.
func (f family) branch(pid, self int) int {
	// No line is longer; a pid that was used again could close a circle.
	for range len(f) {
		parent := f[pid].parent
		switch parent {
		case self:
			return pid
		case 0:
			return 0
		}
		pid = parent
	}
	return 0
}

// membersLocked sorts processes by their attempt: by descent, or by the tag or mark of the orphan that they
// are or descend from. An orphan that hides both counts if only one attempt is live.
func (r *reaper) membersLocked(f family) map[*process][]int {
	self := os.Getpid()
	owners := map[int]*process{0: nil}
	members := map[*process][]int{}
	for pid := range f {
		branch := f.branch(pid, self)
		owner, known := owners[branch]
		if !known {
			owner = r.ownerLocked(branch)
			owners[branch] = owner
		}
		if owner != nil {
			members[owner] = append(members[owner], pid)
		}
	}
	return members
}

// ownerLocked returns the live process whose attempt a child of the agent belongs to, or nil.
func (r *reaper) ownerLocked(child int) *process {
	if p := r.running[child]; p != nil {
		return p
	}
	owner, ok := r.claimedLocked(child)
	if ok || len(r.live) != 1 {
		return owner
	}
	for _, p := range r.live {
		return p
	}
	return nil
}

// signalLocked signals all processes of an attempt, each once. One that a process other than those of the
// group is just forking may be missed.
func (r *reaper) signalLocked(p *process, signal unix.Signal) {
	// Who is whose is known only until the first of them ends.
	outside := r.outsideLocked(p)
	_ = unix.Kill(-p.pid, signal)
	for _, pid := range outside {
		_ = unix.Kill(pid, signal)
	}
}

// outsideLocked returns the processes of an attempt that are not in the main process's group.
func (r *reaper) outsideLocked(p *process) []int {
	f := familyOf(r.processes())
	return slices.DeleteFunc(r.membersLocked(f)[p], func(pid int) bool { return f[pid].group == p.pid })
}
