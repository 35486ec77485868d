package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	pb "github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
	"github.com/workerpool-dev/workerpool/internal/tinyprogram"
)

// writeProgram makes a static program of that code and returns its path.
func writeProgram(b *testing.B, code tinyprogram.Code) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), "program")
	if err := tinyprogram.Write(path, code); err != nil {
		b.Fatal(err)
	}
	return path
}

// BenchmarkStart measures from the receipt of an assignment to the first instruction of its process, one
// at a time.
func BenchmarkStart(b *testing.B) { benchStart(b, "") }

// BenchmarkStartBeside measures the same while another job of the worker writes as much as it can. What is
// to be compared with that is a neighbour who takes as much of the processors without writing.
func BenchmarkStartBeside(b *testing.B) {
	b.Run("output", func(b *testing.B) { benchStart(b, "exec yes") })
	b.Run("loops", func(b *testing.B) { benchStart(b, "for i in 1 2; do while :; do :; done & done; wait") })
}

func benchStart(b *testing.B, neighbour string) {
	b.Helper()
	o := newOperator(b)
	runAgentAct := benchAgent(b, o, 2)
	if neighbour != "" {
		runAgentAct.a.act(&pb.OperatorMessage{Assignments: []*pb.Assignment{shell("neighbour", neighbour)}})
		runAgentAct.s.running(tokenFor("neighbour"))
	}
	program := writeProgram(b, tinyprogram.NoteTheTime)
	var took []int64
	for b.Loop() {
		assignment := job(fmt.Sprint("job-", len(took)), program)
		received := time.Now().Round(0) // by the clock that the program reads
		runAgentAct.a.act(&pb.OperatorMessage{Assignments: []*pb.Assignment{assignment}})
		r := runAgentAct.s.result(assignment.GetToken())
		started, err := tinyprogram.TimeOf(string(r.GetOutput()))
		if err != nil {
			b.Fatalf("result %v: %v", r, err)
		}
		took = append(took, started.Sub(received).Nanoseconds())
		runAgentAct.a.act(&pb.OperatorMessage{Settled: []*pb.Token{assignment.GetToken()}})
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2])/1e3, "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100])/1e3, "p99-µs")
}

type benched struct {
	a *Agent
	s *session
}

func benchAgent(b *testing.B, o *operator, slots int) benched {
	b.Helper()
	c := testConfig(b, o)
	c.Slots = slots
	c.Environ = []string{"PATH=" + os.Getenv("PATH")}
	a, _, _ := runAgent(b, c, &counter{})
	return benched{a, o.accepted()}
}

// BenchmarkJobs measures jobs in a row, over the wire, in as many slots as are best for throughput.
func BenchmarkJobs(b *testing.B) {
	for _, slots := range []int{1, 2, 4, 8} {
		b.Run(fmt.Sprint("slots=", slots), func(b *testing.B) {
			o := newOperator(b)
			agent := benchAgent(b, o, slots)
			program := writeProgram(b, tinyprogram.ExitZero)
			next := 0
			assign := func(n int) (batch []*pb.Assignment) {
				for range n {
					batch = append(batch, job(fmt.Sprint("job-", next), program))
					next++
				}
				return batch
			}
			b.ResetTimer()
			agent.s.assign(assign(slots)...)
			for ended := 0; ended < b.N; {
				r := <-agent.s.reports
				if len(r.GetResults()) == 0 {
					continue
				}
				m := &pb.OperatorMessage{}
				for _, result := range r.GetResults() {
					m.Settled = append(m.Settled, result.GetToken())
				}
				ended += len(r.GetResults())
				m.Assignments = assign(len(r.GetResults()))
				agent.s.send(m)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
		})
	}
}
