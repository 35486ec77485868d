package agent

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	pb "github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
)

const (
	// sampleInterval is from one look at the memory of attempts to the next. Younger attempts are not
	// looked at: they cost nothing.
	sampleInterval = 100 * time.Millisecond
	// minSampleInterval is where an attempt is near its limit.
	minSampleInterval = 10 * time.Millisecond
	// sampleShare bounds the time spent on looking: one part in so many of one processor's.
	sampleShare = 50
	// fillRate is how fast a program may fill memory, in bytes per second.
	fillRate = 1 << 30
)

// watched returns whether the attempt's memory matters to somebody.
func (at *attempt) watched() bool {
	return at.assignment.GetMemoryLimitBytes() > 0 || at.assignment.GetMemoryShareBytes() > 0
}

// watchMemory looks at the memory of attempts, while there are some that matter, until the context ends.
func (a *Agent) watchMemory(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	// Nothing that starts meanwhile hastens the next look.
	for wait := sampleInterval; ; {
		var started <-chan struct{}
		if wait == 0 {
			started = a.watch
		}
		select {
		case <-started:
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		if wait = a.sample(); wait > 0 {
			timer.Reset(wait)
		}
	}
}

// sample looks at the memory of all attempts that are old enough, and ends those that have too much. It
// returns how long to wait for the next time, 0 for as long as nothing is started.
func (a *Agent) sample() time.Duration {
	begun := a.now()
	limits, wait := a.due(begun)
	if len(limits) == 0 {
		return wait
	}
	taken := a.reaper.memory(limits)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.oom.look(a.now())
	for _, at := range a.table.live {
		p, ok := at.process.(*process)
		if !ok {
			continue
		}
		bytes, ok := taken[p]
		if !ok {
			continue
		}
		at.memory, at.peak = bytes, max(at.peak, bytes)
		if limit := limits[p]; limit > 0 {
			wait = min(wait, a.limitMemoryLocked(at, limit))
		}
	}
	return max(wait, minSampleInterval, (sampleShare-1)*a.now().Sub(begun))
}

// due returns the limits of the processes to look at, 0 for those without, and when to look again at the
// latest: 0 if there is nothing to watch.
func (a *Agent) due(now time.Time) (limits map[*process]int64, wait time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, at := range a.table.live {
		p, ok := at.process.(*process)
		if !ok || !at.watched() {
			continue
		}
		if wait == 0 {
			wait = sampleInterval
		}
		limit, age := at.assignment.GetMemoryLimitBytes(), now.Sub(at.started)
		if age < sampleInterval {
			if limit > 0 {
				wait = max(min(wait, sampleInterval-age), minSampleInterval)
			}
			continue
		}
		if limits == nil {
			limits = map[*process]int64{}
		}
		limits[p] = limit
	}
	return limits, wait
}

// limitMemoryLocked ends an attempt that has more than its limit, and returns after how long another could
// have.
func (a *Agent) limitMemoryLocked(at *attempt, limit int64) time.Duration {
	if at.memory <= limit {
		return time.Duration(float64(limit-at.memory) / fillRate * float64(time.Second))
	}
	if a.endLocked(at, 0, pb.Outcome_OUTCOME_MEMORY_EXCEEDED) {
		at.message = fmt.Sprintf("The command took %s of memory, and its limit is %s.", mebibytes(at.memory), mebibytes(limit))
	}
	return sampleInterval
}

// mebibytes rounds up to a tenth, for people.
func mebibytes(bytes int64) string {
	return strconv.FormatFloat(math.Ceil(float64(bytes)/(1<<20)*10)/10, 'f', -1, 64) + " MiB"
}

// memory returns how much the processes of the attempts have together, in bytes. That is the sum of their
// resident sets: what several of them share counts for each. Where such a sum is above a limit, what they
// share is divided among them, which takes longer to find out.
func (r *reaper) memory(limits map[*process]int64) map[*process]int64 {
	r.mu.Lock()
	pids := r.processes()
	r.mu.Unlock()
	f := familyOf(pids)
	r.mu.Lock()
	members := r.membersLocked(f)
	r.mu.Unlock()
	taken := make(map[*process]int64, len(limits))
	for p, limit := range limits {
		taken[p] = sumOf(f, members[p], resident)
		if limit > 0 && taken[p] > limit {
			taken[p] = sumOf(f, members[p], proportional)
		}
	}
	return taken
}

// usage is a process's memory. Those of two that have one address space are the same.
type usage struct{ bytes, size, private int64 }

// sumOf leaves out processes that look just like the parent that has forked them. After a vfork the two
// have one address space, until the child executes its program.
func sumOf(f family, pids []int, of func(int) usage) int64 {
	sum := int64(0)
	for _, pid := range pids {
		u := of(pid)
		if k := f[pid]; k.forked && u == of(k.parent) {
			continue
		}
		sum += u.bytes
	}
	return sum
}

// resident is quick: the kernel keeps these counts.
func resident(pid int) usage {
	var buf [128]byte
	fields := bytes.Fields(readProc(pid, "statm", buf[:]))
	if len(fields) < 2 {
		return usage{}
	}
	page := int64(unix.Getpagesize())
	return usage{bytes: number(fields[1]) * page, size: number(fields[0]) * page}
}

// proportional takes the kernel milliseconds for each GiB. Of a process of somebody else's it can't be had.
func proportional(pid int) usage {
	var buf [2048]byte
	rollup := readProc(pid, "smaps_rollup", buf[:])
	if len(rollup) == 0 {
		return resident(pid)
	}
	var u usage
	for line := range bytes.Lines(rollup) {
		fields := bytes.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch string(fields[0]) {
		case "Pss:":
			u.bytes = number(fields[1]) << 10
		case "Rss:":
			u.size = number(fields[1]) << 10
		case "Private_Dirty:":
			u.private = number(fields[1]) << 10
		}
	}
	return u
}

// number is 0 for what is none.
func number(text []byte) int64 {
	n, _ := strconv.ParseInt(string(text), 10, 64)
	return n
}
