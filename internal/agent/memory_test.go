package agent

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	pb "github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
)

const mebibyte = 1 << 20

// take has a shell take so many bytes, and a few for itself.
func take(bytes int) string {
	return fmt.Sprintf("x=$(head -c %d /dev/zero | tr '\\0' x)", bytes)
}

func TestAnAttemptThatTakesTooMuchMemoryIsKilled(t *testing.T) {
	wait := "read y < " + fifo(t)
	tests := map[string]struct {
		script string
		limit  int64
	}{
		"in one process": {take(40*mebibyte) + "; " + wait, 32 * mebibyte},
		"in several, one of them a daemon": {
			"(" + take(20*mebibyte) + "; " + wait + ") & " + detached(true, "", strings.ReplaceAll(take(20*mebibyte), "'", "\"")+"; "+wait) + "; " + wait,
			32 * mebibyte,
		},
		"bit by bit": {"x=xxxxxxxx; while :; do x=$x$x; done", 64 * mebibyte},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			a := shell("a", "trap '' TERM; "+test.script)
			a.MemoryLimitBytes = test.limit
			r := s.run(a)
			if r.GetOutcome() != pb.Outcome_OUTCOME_MEMORY_EXCEEDED || r.GetExitCode() != 137 || r.GetMaxMemoryBytes() <= test.limit {
				t.Errorf("result %v", r)
			}
			var took, limit float64
			_, err := fmt.Sscanf(r.GetMessage(), "The command took %f MiB of memory, and its limit is %f MiB.", &took, &limit)
			if err != nil || limit*mebibyte != float64(test.limit) || took <= limit {
				t.Errorf("message %q", r.GetMessage())
			}
		})
	}
}

func TestMemoryIsReportedWhileAnAttemptRuns(t *testing.T) {
	s := start(t)
	a := shell("a", take(40*mebibyte)+"; read y < "+fifo(t))
	a.MemoryShareBytes = mebibyte
	b := shell("b", "read y < "+fifo(t))
	s.assign(a, b)
	s.until("the memory", func(r *pb.Report) bool {
		for _, running := range r.GetRunning() {
			if running.GetToken().GetJobUid() == "b" && running.GetMemoryBytes() != 0 {
				t.Errorf("nobody asked for that of %v", running)
			}
			if running.GetMemoryBytes() > 40*mebibyte && running.GetMemoryBytes() < 120*mebibyte {
				return true
			}
		}
		return false
	})
	kill(s, "a", 0)
	if r := s.result(tokenFor("a")); r.GetMaxMemoryBytes() < 40*mebibyte || r.GetOutcome() != pb.Outcome_OUTCOME_KILLED || r.GetMessage() != "" {
		t.Errorf("result %v", r)
	}
}

func TestWhatForkedProcessesShareCountsOnceForTheLimit(t *testing.T) {
	o := newOperator(t)
	agent, _, _ := runAgent(t, testConfig(t, o), &lockedBuffer{})
	s := o.accepted()
	wait := "read y < " + fifo(t)
	// Each child has memory of its own too, so that it does not look like its parent.
	child := "(" + strings.ReplaceAll(take(2*mebibyte), "x=", "z=") + "; " + wait + ") & "
	a := shell("a", take(40*mebibyte)+"; "+strings.Repeat(child, 4)+" echo; "+wait)
	a.MemoryLimitBytes = 90 * mebibyte
	s.assign(a)
	tok := tokenOf(tokenFor("a"))
	pids := func() (pids []int) {
		agent.reaper.mu.Lock()
		defer agent.reaper.mu.Unlock()
		for _, members := range agent.reaper.membersLocked(familyOf(agent.reaper.processes())) {
			pids = append(pids, members...)
		}
		return pids
	}
	// One that waits for its file has taken its memory.
	waitFor(t, "the children", func() bool {
		f := familyOf(pids())
		return len(f) == 5 && sumOf(f, pids(), resident) > 4*40*mebibyte
	})
	seen := s.until("the memory", func(r *pb.Report) bool {
		return len(r.GetRunning()) == 0 || r.GetRunning()[0].GetMemoryBytes() > 40*mebibyte
	})
	agent.mu.Lock()
	at := agent.table.live[tok]
	agent.mu.Unlock()
	if at == nil {
		t.Fatalf("it was ended: %v", seen)
	}
	agent.sample()
	agent.mu.Lock()
	defer agent.mu.Unlock()
	if at.memory > 90*mebibyte || at.ending != pb.Outcome_OUTCOME_UNSPECIFIED {
		t.Errorf("%d bytes, %v", at.memory, at.ending)
	}
}

func TestAProcessThatLooksLikeItsParentCountsOnce(t *testing.T) {
	parent, child, program := usage{bytes: 7, size: 9}, usage{bytes: 7, size: 9}, usage{bytes: 7, size: 10}
	of := map[int]usage{1: parent, 2: child, 3: program}
	f := family{1: {}, 2: {parent: 1, forked: true}, 3: {parent: 1, forked: true}}
	if got := sumOf(f, []int{1, 2, 3}, func(pid int) usage { return of[pid] }); got != 14 {
		t.Errorf("sum %d, want 14", got)
	}
	f[2] = kin{parent: 1}
	if got := sumOf(f, []int{1, 2, 3}, func(pid int) usage { return of[pid] }); got != 21 {
		t.Errorf("sum %d of a program like its parent, want 21", got)
	}
}

func TestOnlyAttemptsThatAskForItAndAreOldEnoughAreLookedAt(t *testing.T) {
	now := time.Now()
	live := func(age time.Duration, limit, share int64) *attempt {
		return &attempt{process: &process{}, started: now.Add(-age), assignment: &pb.Assignment{MemoryLimitBytes: limit, MemoryShareBytes: share}}
	}
	tests := map[string]struct {
		attempt *attempt
		looked  bool
		wait    time.Duration
	}{
		"neither limit nor share": {live(time.Hour, 0, 0), false, 0},
		"not started":             {&attempt{assignment: &pb.Assignment{MemoryLimitBytes: 1}}, false, 0},
		"a request":               {&attempt{process: &stubbornRequest{}, assignment: &pb.Assignment{MemoryLimitBytes: 1}}, false, 0},
		"old, with a limit":       {live(sampleInterval, 1, 0), true, sampleInterval},
		"old, with a share":       {live(sampleInterval, 0, 1), true, sampleInterval},
		"young, with a share":     {live(sampleInterval-1, 0, 1), false, sampleInterval},
		"young, with a limit":     {live(sampleInterval/2, 1, 0), false, sampleInterval / 2},
		"nearly old enough":       {live(sampleInterval-1, 1, 0), false, minSampleInterval},
	}
	for name, test := range tests {
		a := &Agent{table: newTable(1)}
		a.table.live[token{}] = test.attempt
		if limits, wait := a.due(now); (len(limits) == 1) != test.looked || wait != test.wait {
			t.Errorf("%s: looked at %v, next after %v", name, limits, wait)
		}
	}
}

// stubbornRequest does not end.
type stubbornRequest struct{}

func (*stubbornRequest) end(time.Duration, time.Time) bool { return true }

func TestMemoryOfThisProcess(t *testing.T) {
	block := make([]byte, 32*mebibyte)
	for i := range block {
		block[i] = 1
	}
	for name, of := range map[string]func(int) usage{"resident": resident, "proportional": proportional} {
		if u := of(os.Getpid()); u.bytes < int64(len(block)) || u.size <= 0 {
			t.Errorf("%s %+v", name, u)
		}
		if u := of(1 << 30); u != (usage{}) {
			t.Errorf("%s of nobody %+v", name, u)
		}
	}
	_ = block[0]
}

func TestAResultHasThePeakOfASumOrOfOneProcess(t *testing.T) {
	const little, much, more = 5, 1 << 40, 1 << 41
	for _, test := range []struct{ sampled, one, want int64 }{{little, much, much}, {more, much, more}, {little, little + 1, little}, {0, little, 0}} {
		a, r := &Agent{table: newTable(1)}, &result{}
		a.exited(&attempt{assignment: &pb.Assignment{}, peak: test.sampled}, exit{maxMemoryBytes: test.one}, r)
		if r.maxMemoryBytes != test.want {
			t.Errorf("%d bytes of %+v", r.maxMemoryBytes, test)
		}
	}
}

func TestMebibytesRoundUp(t *testing.T) {
	for bytes, want := range map[int64]string{256 * mebibyte: "256 MiB", 256*mebibyte + 1: "256.1 MiB", 1: "0.1 MiB", 3 << 30: "3072 MiB"} {
		if got := mebibytes(bytes); got != want {
			t.Errorf("%d: %s, want %s", bytes, got, want)
		}
	}
}
