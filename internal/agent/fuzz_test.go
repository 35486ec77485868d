package agent

import (
	"io"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
)

// FuzzOperatorMessage has an agent act on anything. Its attempts are requests to a server that is not there: nothing of what
// is made up is executed.
func FuzzOperatorMessage(f *testing.F) {
	for _, m := range []*pb.OperatorMessage{
		{Welcome: &pb.Welcome{Epoch: &pb.Epoch{LeaseCreatedMicros: 1, LeaseTransitions: 5}, FenceTimeout: durationpb.New(-1)}},
		{Assignments: []*pb.Assignment{post("a"), shell("b", "x"), {}, {Token: &pb.Token{JobUid: "c", Index: -1, Try: -1}}}},
		{Assignments: []*pb.Assignment{{Token: tokenFor("a"), Deadline: durationpb.New(-1), Http: &pb.HttpRequest{Method: " ", Path: "%"}}}},
		{Kills: []*pb.Kill{{Token: tokenFor("a"), Grace: &durationpb.Duration{Seconds: 1 << 62, Nanos: -5}}, {}}, Settled: []*pb.Token{tokenFor("a"), nil, {}}},
	} {
		content, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content, content)
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		o := &operator{t: t, address: "127.0.0.1:1"}
		c := testConfig(t, o)
		c.HTTPPort, c.ReadyFile = 1, ""
		a, err := New(c, io.Discard, discard)
		if err != nil {
			t.Fatal(err)
		}
		defer a.reaper.close()
		defer a.spool.close()
		a.fence = time.NewTimer(time.Hour)
		defer a.fence.Stop()
		a.session = 1
		for _, content := range [][]byte{first, second} {
			m := &pb.OperatorMessage{}
			if proto.Unmarshal(content, m) != nil {
				continue
			}
			if _, err := a.accept(m); err == nil {
				a.hear(a.now())
			}
			a.act(m)
			for _, r := range a.report().GetReport().GetResults() {
				if r.GetToken().GetJobUid() == "" {
					t.Errorf("a result of nothing: %v", r)
				}
			}
		}
		a.shutDown()
		a.attempts.Wait()
		if n := len(a.table.live); n > 0 {
			t.Errorf("%d attempts live", n)
		}
	})
}
