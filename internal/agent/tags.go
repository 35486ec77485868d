package agent

import (
	"sync"

	"golang.org/x/sys/unix"
)

// A process can clear its environment and leave its session and parent, as daemons do. What it keeps then is its limits. So
// each attempt's processes begin with a soft limit of pending signals that no other live attempt's have: some lower than the
// container's. Hardly a program looks at that limit, and none lacks the difference.
const tagResource = unix.RLIMIT_SIGPENDING

const (
	// maxTags is how many attempts and resets can be told apart at once.
	maxTags = 1024
	// enoughSignals must be left by the largest tag.
	enoughSignals = 4096
)

// tags gives out the numbers of live attempts. Its owner guards it, but for fork.
type tags struct {
	// limit is the container's own. The tag n is the soft limit that is n lower; 0 is none.
	limit unix.Rlimit
	used  map[int]*process

	fork sync.Mutex
}

func newTags() *tags {
	t := &tags{used: map[int]*process{}}
	if unix.Getrlimit(tagResource, &t.limit) != nil || t.limit.Cur < maxTags+enoughSignals {
		t.limit.Cur = 0 // processes are told apart by their environment only
	}
	return t
}

// give returns 0 if there is no tag left.
func (t *tags) give(p *process) int {
	if t.limit.Cur == 0 {
		return 0
	}
	for n := 1; n <= maxTags; n++ {
		if t.used[n] == nil {
			t.used[n] = p
			return n
		}
	}
	return 0
}

func (t *tags) take(n int) { delete(t.used, n) }

// of returns whose tag a process has, nil if that has ended, and false if it has none.
func (t *tags) of(pid int) (*process, bool) {
	var limit unix.Rlimit
	if t.limit.Cur == 0 || unix.Prlimit(pid, tagResource, nil, &limit) != nil {
		return nil, false
	}
	if limit.Cur >= t.limit.Cur || limit.Cur < t.limit.Cur-maxTags {
		return nil, false
	}
	return t.used[int(t.limit.Cur-limit.Cur)], true
}

// while has what is forked meanwhile have the tag. Forks wait for each other anyway.
func (t *tags) while(n int, fork func()) {
	if n == 0 {
		fork()
		return
	}
	t.fork.Lock()
	defer t.fork.Unlock()
	tagged := unix.Rlimit{Cur: t.limit.Cur - uint64(n), Max: t.limit.Max}
	if unix.Setrlimit(tagResource, &tagged) == nil {
		defer func() { _ = unix.Setrlimit(tagResource, &t.limit) }()
	}
	fork()
}
