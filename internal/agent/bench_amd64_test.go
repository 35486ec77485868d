package agent

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	pb "github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
)

var (
	exitZero = []byte{
		0xb8, 0x3c, 0, 0, 0, // mov eax, exit
		0x31, 0xff, // xor edi, edi
		0x0f, 0x05, // syscall
	}
	noteTheTime = append([]byte{
		0xb8, 0xe4, 0, 0, 0, // mov eax, clock_gettime
		0xbf, 1, 0, 0, 0, // mov edi, CLOCK_MONOTONIC
		0x48, 0x8d, 0x74, 0x24, 0xf0, // lea rsi, [rsp-16]
		0x0f, 0x05, // syscall
		0xb8, 1, 0, 0, 0, // mov eax, write
		0xbf, 1, 0, 0, 0, // mov edi, 1
		0x48, 0x8d, 0x74, 0x24, 0xf0, // lea rsi, [rsp-16]
		0xba, 16, 0, 0, 0, // mov edx, 16
		0x0f, 0x05, // syscall
	}, exitZero...)
)

// writeProgram makes a static program of that code and returns its path.
func writeProgram(b *testing.B, code []byte) string {
	b.Helper()
	const address, headers = 0x400000, 64 + 56
	size := uint64(headers + len(code))
	var elf bytes.Buffer
	elf.WriteString("\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	for _, field := range []any{
		uint16(2), uint16(62), uint32(1), uint64(address + headers), uint64(64), uint64(0),
		uint32(0), uint16(64), uint16(56), uint16(1), uint16(0), uint16(0), uint16(0),
		// One segment to read and execute, which is all of the file.
		uint32(1), uint32(5), uint64(0), uint64(address), uint64(address), size, size, uint64(4096),
		code,
	} {
		if err := binary.Write(&elf, binary.LittleEndian, field); err != nil {
			b.Fatal(err)
		}
	}
	path := filepath.Join(b.TempDir(), "program")
	if err := os.WriteFile(path, elf.Bytes(), 0o755); err != nil {
		b.Fatal(err)
	}
	return path
}

func monotonic() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
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
	program := writeProgram(b, noteTheTime)
	var took []int64
	for b.Loop() {
		assignment := job(fmt.Sprint("job-", len(took)), program)
		received := monotonic()
		runAgentAct.a.act(&pb.OperatorMessage{Assignments: []*pb.Assignment{assignment}})
		r := runAgentAct.s.result(assignment.GetToken())
		if len(r.GetOutput()) != 16 {
			b.Fatalf("result %v", r)
		}
		sec, nsec := binary.LittleEndian.Uint64(r.GetOutput()), binary.LittleEndian.Uint64(r.GetOutput()[8:])
		took = append(took, int64(sec)*int64(time.Second)+int64(nsec)-received)
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
			program := writeProgram(b, exitZero)
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
