package agent

import (
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
)

// maxMessage bounds Result.message, in bytes.
const maxMessage = 1024

// runningProto lists the live attempts. One that waits for its predecessor's end, or whose process
// is not there yet, is among them: the operator must not take it for not run.
func (t *table) runningProto(now time.Time) []*pb.Running {
	all := make([]*pb.Running, 0, len(t.live))
	for _, at := range t.live {
		running := &pb.Running{
			Token: at.token.proven(at.assignment.GetToken().GetProof()), JobName: at.assignment.GetJobName(), StartedAgo: new(durationpb.Duration), MemoryBytes: at.memory,
			Pending: at.started.IsZero(),
		}
		if !running.GetPending() {
			running.StartedAgo = ago(now, at.started)
		}
		all = append(all, running)
	}
	return all
}

func resultsProto(results []*result, now time.Time) []*pb.Result {
	all := make([]*pb.Result, len(results))
	for i, r := range results {
		all[i] = r.proto()
		all[i].StartedAgo, all[i].EndedAgo = ago(now, r.started), ago(now, r.ended)
	}
	return all
}

// proto leaves out when it started and ended.
func (r *result) proto() *pb.Result {
	return &pb.Result{
		Token:          r.token.proven(r.proof),
		JobName:        r.jobName,
		Outcome:        r.outcome,
		ExitCode:       r.exitCode,
		Message:        r.message,
		Output:         r.output,
		CpuTime:        durationpb.New(r.cpuTime),
		MaxMemoryBytes: r.maxMemoryBytes,
		HttpStatus:     r.httpStatus,
		Signal:         r.signal,
	}
}

// ago is by the monotonic clock, but for times of before a restart. The wall clock may have been set
// back since.
func ago(now, then time.Time) *durationpb.Duration {
	return durationpb.New(max(0, now.Sub(then)))
}

// clip makes s fit into a message.
func clip(s string) string { return clipTo(s, maxMessage) }

// clipTo makes s text of at most so many bytes, unless it has some that are not UTF-8.
func clipTo(s string, most int) string {
	if len(s) > most {
		s = s[:most]
		for !utf8.ValidString(s) && len(s) > most-utf8.UTFMax {
			s = s[:len(s)-1]
		}
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
