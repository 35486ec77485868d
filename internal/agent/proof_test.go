package agent

import (
	"bytes"
	"fmt"
	"testing"

	pb "github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
)

// provenJob is a shell's, with a proof.
func provenJob(name, script string) *pb.Assignment {
	a := shell(name, script)
	a.Token.Proof = proofOf(name)
	return a
}

func proofOf(job string) []byte { return []byte("proof of " + job) }

func TestTheProofIsSaidWhereverAnAttemptIs(t *testing.T) {
	o := newOperator(t)
	c := testConfig(t, o)
	_, stop, _ := runAgent(t, c, &lockedBuffer{})
	s := o.accepted()
	s.assign(provenJob("ended", "true"), provenJob("runs", "exec sleep 1000"), provenJob("killed", "exec sleep 1000"), provenJob("settled", "true"))
	ended, running := map[string]string{}, map[string]string{}
	s.until("all", func(r *pb.Report) bool {
		for _, r := range r.GetResults() {
			ended[r.GetToken().GetJobUid()] = string(r.GetToken().GetProof())
		}
		for _, r := range r.GetRunning() {
			if !r.GetPending() {
				running[r.GetToken().GetJobUid()] = string(r.GetToken().GetProof())
			}
		}
		return ended["ended"] != "" && ended["settled"] != "" && running["runs"] != "" && running["killed"] != ""
	})
	for _, said := range []map[string]string{ended, running} {
		for name, proof := range said {
			if proof != string(proofOf(name)) {
				t.Errorf("%s has the proof %q", name, proof)
			}
		}
	}
	// The operator speaks of attempts without it.
	s.send(&pb.OperatorMessage{
		Kills: []*pb.Kill{{Token: tokenFor("killed")}}, Recorded: []*pb.Token{tokenFor("runs")}, Settled: []*pb.Token{tokenFor("settled")},
	})
	if r := s.result(tokenFor("killed")); r.GetOutcome() != pb.Outcome_OUTCOME_KILLED || !bytes.Equal(r.GetToken().GetProof(), proofOf("killed")) {
		t.Errorf("the attempt that was killed: %v", r)
	}
	stop()

	_, stop, _ = runAgent(t, c, &lockedBuffer{})
	defer stop()
	said := map[string]string{}
	for _, r := range o.accepted().hello.GetResults() {
		said[r.GetToken().GetJobUid()] = string(r.GetToken().GetProof())
	}
	want := map[string]string{"ended": string(proofOf("ended")), "killed": string(proofOf("killed"))}
	delete(said, "runs") // it was cut off by the stop
	if fmt.Sprint(said) != fmt.Sprint(want) {
		t.Errorf("after a restart the results have the proofs %v, want %v", said, want)
	}
}
