package agent

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	pb "github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
)

// startCounted runs an agent that reads the kernel's kills from a file.
func startCounted(t *testing.T) (s *session, file string) {
	t.Helper()
	o := newOperator(t)
	a, _, _ := runAgent(t, testConfig(t, o), &lockedBuffer{})
	file = t.TempDir() + "/memory.events"
	writeKills(t, file, 5)
	a.mu.Lock()
	a.oom = oomCounter{path: file, counted: 5, explained: 5}
	a.mu.Unlock()
	return o.accepted(), file
}

func writeKills(t *testing.T, file string, n int) {
	t.Helper()
	if err := os.WriteFile(file, fmt.Appendf(nil, "oom 9\noom_kill %d\noom_group_kill 0\n", n), 0o600); err != nil {
		t.Fatal(err)
	}
}

// outOfMemory ends a shell as the kernel would.
func outOfMemory(file string) string { return "echo oom_kill 6 > " + file + "; kill -9 $$" }

func TestAKillOfTheKernel(t *testing.T) {
	s, file := startCounted(t)
	if r := s.run(shell("other", "kill -9 $$")); r.GetOutcome() != pb.Outcome_OUTCOME_EXITED || r.GetExitCode() != 137 {
		t.Errorf("of somebody else's: %v", r)
	}
	wait := fifo(t)
	a := shell("a", take(60*mebibyte)+"; read y < "+wait+"; "+outOfMemory(file))
	a.MemoryShareBytes = 16 * mebibyte
	s.assign(a)
	s.until("the memory", func(r *pb.Report) bool {
		return len(r.GetRunning()) == 1 && r.GetRunning()[0].GetMemoryBytes() > 60*mebibyte
	})
	if err := os.WriteFile(wait, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := s.result(tokenFor("a"))
	var had, share float64
	_, err := fmt.Sscanf(r.GetMessage(), "The worker ran out of memory while the command had %f MiB; its share is %f MiB.", &had, &share)
	if r.GetOutcome() != pb.Outcome_OUTCOME_OOM_KILLED || r.GetExitCode() != 137 || err != nil || had < 60 || share != 16 {
		t.Errorf("result %v", r)
	}
	// That kill is explained.
	if r := s.run(shell("again", "kill -9 $$")); r.GetOutcome() != pb.Outcome_OUTCOME_EXITED {
		t.Errorf("result %v", r)
	}
}

func TestAKillOfTheAgentIsNotTheKernels(t *testing.T) {
	s, file := startCounted(t)
	s.assign(shell("a", "echo oom_kill 6 > "+file+"; touch "+file+".done; read x < "+fifo(t)))
	exists(t, file+".done")
	kill(s, "a", 0)
	if r := s.result(tokenFor("a")); r.GetOutcome() != pb.Outcome_OUTCOME_KILLED {
		t.Errorf("result %v", r)
	}
}

func TestTheJobFurthestOverItsSharePays(t *testing.T) {
	s, file := startCounted(t)
	large := shell("large", take(60*mebibyte)+"; read x < "+fifo(t))
	large.MemoryShareBytes = 16 * mebibyte
	small := shell("small", "read x < "+fifo(t))
	small.MemoryShareBytes = 16 * mebibyte
	s.assign(large, small)
	seen := func(r *pb.Report) bool {
		return len(r.GetRunning()) == 2 && r.GetRunning()[0].GetMemoryBytes() > 0 && r.GetRunning()[1].GetMemoryBytes() > 0 &&
			max(r.GetRunning()[0].GetMemoryBytes(), r.GetRunning()[1].GetMemoryBytes()) > 60*mebibyte
	}
	s.until("the memory", seen)
	victim := shell("victim", outOfMemory(file))
	victim.MemoryShareBytes = 16 * mebibyte
	s.assign(victim)
	results := map[string]*pb.Result{}
	s.until("both results", func(r *pb.Report) bool {
		for _, result := range r.GetResults() {
			results[result.GetJobName()] = result
		}
		return len(results) == 2
	})
	if r := results["large"]; r.GetOutcome() != pb.Outcome_OUTCOME_OOM_KILLED || !strings.HasSuffix(r.GetMessage(), "its share is 16 MiB.") {
		t.Errorf("the one over its share: %v", r)
	}
	if r := results["victim"]; r.GetOutcome() != pb.Outcome_OUTCOME_INTERRUPTED || r.GetMessage() == "" {
		t.Errorf("the one the kernel has killed: %v", r)
	}
}

func TestWhoIsFurthestOverItsShare(t *testing.T) {
	live := func(memory, share int64) *attempt {
		return &attempt{process: &stubbornRequest{}, memory: memory, assignment: &pb.Assignment{MemoryShareBytes: share}}
	}
	a := &Agent{table: newTable(9)}
	a.table.live[token{try: 1}] = live(100, 90)
	a.table.live[token{try: 2}] = live(50, 20)
	a.table.live[token{try: 3}] = live(500, 0)
	a.table.live[token{try: 4}] = live(10, 40)
	ended := live(900, 1)
	ended.process = nil
	a.table.live[token{try: 5}] = ended
	for by, want := range map[int64]*attempt{-5: a.table.live[token{try: 2}], 0: a.table.live[token{try: 2}], 29: a.table.live[token{try: 2}], 30: nil} {
		if got := a.furthestLocked(by); got != want {
			t.Errorf("by more than %d: %+v, want %+v", by, got, want)
		}
	}
	clear(a.table.live)
	a.table.live[token{}] = live(10, 40)
	if got := a.furthestLocked(-50); got != nil {
		t.Errorf("%+v has less than its share", got)
	}
	if got := live(100, 90).overBy(150); got != 60 {
		t.Errorf("over by %d, want 60", got)
	}
}

func TestKillsOfDescendantsExplainNothingLater(t *testing.T) {
	file := t.TempDir() + "/memory.events"
	writeKills(t, file, 1)
	now := time.Now()
	c := oomCounter{path: file, counted: 1, explained: 1}
	if c.claim(now) {
		t.Error("claimed without a kill")
	}
	writeKills(t, file, 4)
	now = now.Add(time.Hour)
	c.look(now)
	now = now.Add(oomWindow)
	for range 2 {
		if !c.claim(now) {
			t.Error("one that ended in time was not claimed")
		}
	}
	now = now.Add(1)
	if c.claim(now) {
		t.Error("the third was claimed when it was too late")
	}
	writeKills(t, file, 5)
	if !c.claim(now) || c.claim(now) {
		t.Error("one more kill is one more claim")
	}
	c.path = file + ".gone"
	if c.claim(now) {
		t.Error("claimed without a file")
	}
}
