package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// reaper waits for all children of the agent's process: those that it started, and the orphans that
// they leave, which the kernel hands to process 1 (or to the subreaper that tests are). There can be
// one in a process, and os/exec can't be used beside it.
type reaper struct {
	log  *slog.Logger
	null *os.File
	proc *os.File
	// instance is in every mark, to tell them from another agent's.
	instance string
	marks    atomic.Uint64

	mu   sync.Mutex
	tags *tags
	// running has the processes by pid that have not been waited for.
	running map[int]*process
	// live has, by their marks, the processes that were begun and are not cleaned away.
	live map[string]*process
	// starting counts forks that have not returned. While there is one, the ends of unknown children
	// are kept in early: it may be theirs. waits numbers all ends.
	starting int
	early    map[int]early
	waits    uint64
	// reaped is closed and made anew whenever an orphan was waited for.
	reaped chan struct{}
	// ended is reap's own.
	ended []ending
}

type early struct {
	exit exit
	wait uint64
}

type ending struct {
	process *process
	exit    exit
}

func newReaper(instance string, log *slog.Logger) (*reaper, error) {
	if os.Getpid() != 1 {
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			return nil, fmt.Errorf("become a subreaper: %w", err)
		}
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	proc, err := os.Open("/proc")
	if err != nil {
		_ = null.Close()
		return nil, err
	}
	return &reaper{
		log: log, null: null, proc: proc, instance: instance,
		tags: newTags(), running: map[int]*process{}, live: map[string]*process{}, early: map[int]early{},
		reaped: make(chan struct{}),
	}, nil
}

func (r *reaper) close() {
	_ = r.null.Close()
	_ = r.proc.Close()
}

// newMark is unique, and hard to have by chance.
func (r *reaper) newMark() string {
	return r.instance + "-" + strconv.FormatUint(r.marks.Add(1), 36)
}

// run reaps until the context ends.
func (r *reaper) run(ctx context.Context) {
	children := make(chan os.Signal, 1)
	signal.Notify(children, unix.SIGCHLD)
	defer signal.Stop(children)
	for {
		r.reap()
		select {
		case <-children:
		case <-ctx.Done():
			return
		}
	}
}

func (r *reaper) reap() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reapLocked()
}

// begin announces a fork. What it returns is for began.
func (r *reaper) begin(p *process) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.starting == 0 {
		clear(r.early)
	}
	r.starting++
	r.live[p.mark] = p
	p.tag = r.tags.give(p)
	return r.waits
}

// began ends what begin announced. The process may have ended and been waited for meanwhile.
func (r *reaper) began(p *process, since uint64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.starting--
	if !ok {
		r.forgetLocked(p)
		return
	}
	if e, ok := r.early[p.pid]; ok && e.wait > since {
		delete(r.early, p.pid)
		p.ended = true
		p.exited <- e.exit
		return
	}
	r.running[p.pid] = p
}

// reapLocked waits for every child that has ended. It looks before it waits: until then the pid is
// not reused, so the kill hits what is left of that group and nothing else.
func (r *reaper) reapLocked() {
	var orphans, childless bool
	for {
		pid, err := peek()
		if childless = errors.Is(err, unix.ECHILD); pid == 0 {
			break
		}
		p := r.running[pid]
		if p != nil {
			_ = unix.Kill(-pid, unix.SIGKILL)
		}
		var status unix.WaitStatus
		var usage unix.Rusage
		if _, err := unix.Wait4(pid, &status, 0, &usage); err != nil {
			// A fork whose exec failed waits for its own child.
			continue
		}
		r.waits++
		e := exitOf(status, &usage, time.Now())
		switch {
		case p != nil:
			delete(r.running, pid)
			r.ended = append(r.ended, ending{p, e})
		default:
			orphans = true
			if r.starting > 0 {
				r.early[pid] = early{e, r.waits}
			}
		}
	}
	r.tellLocked(childless, orphans)
}

// tellLocked says what reapLocked has found.
func (r *reaper) tellLocked(childless, orphans bool) {
	for i, e := range r.ended {
		e.exit.childless = childless
		e.process.ended = true
		if e.process.sigkill != nil {
			e.process.sigkill.Stop()
		}
		e.process.exited <- e.exit
		r.ended[i] = ending{}
	}
	r.ended = r.ended[:0]
	if orphans {
		close(r.reaped)
		r.reaped = make(chan struct{})
	}
}

// clean kills whatever an ended process has left behind and returns when nothing is left of it, or
// with an error after the limit.
func (r *reaper) clean(p *process, e exit, limit time.Duration) error {
	defer r.forget(p)
	if e.childless {
		return nil
	}
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	for {
		left, reaped := r.killOrphans(p)
		if left == 0 {
			return nil
		}
		select {
		case <-reaped:
		case <-timeout.C:
			return fmt.Errorf("%d processes are left after %v", left, limit)
		}
	}
}

func (r *reaper) forget(p *process) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgetLocked(p)
}

func (r *reaper) forgetLocked(p *process) {
	delete(r.live, p.mark)
	r.tags.take(p.tag)
}

// killOrphans kills the agent's children that are of no live attempt but p's own. It returns how many
// those are, and what is closed when the next of them has been waited for.
func (r *reaper) killOrphans(p *process) (int, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.reapLocked()
	left := 0
	for pid := range r.childrenLocked() {
		if r.sparedLocked(pid, p) {
			continue
		}
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			// It runs as somebody else. It can't be helped, and won't be waited for.
			r.log.Warn("Cannot kill a process that an attempt has left", "pid", pid, "error", err)
			continue
		}
		left++
	}
	return left, r.reaped
}

// sparedLocked returns whether a child may belong to a live attempt other than p's. One that hides its owner
// is killed when no other attempt is live.
func (r *reaper) sparedLocked(pid int, p *process) bool {
	owner, ok := r.claimedLocked(pid)
	if !ok {
		return len(r.live) > 1
	}
	return owner != nil && owner != p
}

// claimedLocked returns whose an orphan is by its tag or its mark, nil if that has ended, and false if it has neither.
func (r *reaper) claimedLocked(pid int) (*process, bool) {
	if owner, ok := r.tags.of(pid); ok {
		return owner, true
	}
	mark, ok := r.markOf(pid)
	return r.live[mark], ok
}

// siginfo is the beginning of the kernel's siginfo_t of a child, on 64-bit systems.
type siginfo struct {
	signo, errno, code, _ int32
	pid                   int32
	_                     [108]byte
}

// peek returns a child that has ended, without waiting for it: 0 if there is none, with ECHILD if
// there is no child at all.
func peek() (int, error) {
	var info siginfo
	_, _, errno := unix.RawSyscall6(unix.SYS_WAITID, unix.P_ALL, 0, uintptr(unsafe.Pointer(&info)),
		unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, 0, 0)
	runtime.KeepAlive(&info)
	if errno != 0 {
		return 0, errno
	}
	return int(info.pid), nil
}
