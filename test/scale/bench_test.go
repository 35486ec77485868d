package scale

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	pb "github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
	"github.com/workerpool-dev/workerpool/internal/testutil"
	"github.com/workerpool-dev/workerpool/test/simulated"
)

const (
	// idleTime is for how long the operator is looked at while there is nothing to do.
	idleTime = 10 * time.Second
	// ticksPerSecond is the unit of processor time in /proc, on every Linux.
	ticksPerSecond = 100
)

// BenchmarkWorkers creates one Job after the other with few workers and with many: an operation lasts from before the
// POST until an agent begins the Job. Beside it, it tells how much of a processor the operator takes while there is
// nothing to do, and its memory.
func BenchmarkWorkers(b *testing.B) {
	work := &beginnings{begun: make(chan time.Time)}
	f := setup(b, 0, work)
	const most = 2000
	f.audit.Allow(simulated.Bound{Live: most, All: most})
	for _, workers := range []int{1, most} {
		f.scale(workers)
		f.audit.Await(b, "all ready", settled(workers))
		b.Run(fmt.Sprint(workers), func(b *testing.B) {
			before := processorTime(b, f.operator.PID())
			<-time.After(idleTime)
			processors := (processorTime(b, f.operator.PID()) - before).Seconds() / idleTime.Seconds()
			memory := resident(b, f.operator.PID())
			f.dispatch(b, work, workers)
			b.ReportMetric(processors, "processors")
			b.ReportMetric(memory, "resident-B")
		})
	}
	f.end(most)
}

// dispatch creates one Job after the other.
func (f *fixture) dispatch(b *testing.B, work *beginnings, workers int) {
	b.Helper()
	var took []time.Duration
	for b.Loop() {
		job := testutil.MakeJob(f.namespace, fmt.Sprintf("one-of-%d-%d", workers, len(took)), poolName).Command("true").Obj()
		before := time.Now()
		if err := f.client.Create(b.Context(), job); err != nil {
			b.Fatalf("create a Job: %v", err)
		}
		select {
		case at := <-work.begun:
			took = append(took, at.Sub(before))
		case <-time.After(patience):
			b.Fatalf("a Job has not begun after %v", patience)
		}
	}
	slices.Sort(took)
	b.ReportMetric(milliseconds(took[len(took)/2]), "p50-ms")
	b.ReportMetric(milliseconds(took[len(took)*99/100]), "p99-ms")
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// beginnings tells when attempts begin, which end at once.
type beginnings struct{ begun chan time.Time }

// Begin is simulated.Work's.
func (w *beginnings) Begin(_ types.NamespacedName, _ *pb.Assignment, ended func(exitCode int32)) {
	now := time.Now()
	go func() {
		w.begun <- now
		ended(0)
	}()
}

// End is simulated.Work's.
func (*beginnings) End(types.NamespacedName, *pb.Assignment) {}

// processorTime is what a process has used of processors since its start.
func processorTime(b *testing.B, pid int) time.Duration {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	// pid (name) state ...: fields 14 and 15 are the ticks in user mode and in the kernel.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	return time.Duration(number(b, fields[11])+number(b, fields[12])) * time.Second / ticksPerSecond
}

// resident is how much memory a process has, in bytes.
func resident(b *testing.B, pid int) float64 {
	b.Helper()
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		b.Fatal(err)
	}
	return float64(number(b, bytes.Fields(statm)[1]) * int64(os.Getpagesize()))
}

func number(b *testing.B, text []byte) int64 {
	b.Helper()
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return n
}
