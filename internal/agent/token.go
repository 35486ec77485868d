package agent

import (
	"cmp"

	pb "github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
)

// epoch orders leaders: a later one has a higher epoch.
type epoch struct{ leaseCreated, leaseTransitions int64 }

func epochOf(e *pb.Epoch) epoch {
	return epoch{e.GetLeaseCreatedMicros(), e.GetLeaseTransitions()}
}

func (e epoch) proto() *pb.Epoch {
	return &pb.Epoch{LeaseCreatedMicros: e.leaseCreated, LeaseTransitions: e.leaseTransitions}
}

func (e epoch) compare(o epoch) int {
	return cmp.Or(cmp.Compare(e.leaseCreated, o.leaseCreated), cmp.Compare(e.leaseTransitions, o.leaseTransitions))
}

// task is one index of a job.
type task struct {
	jobUID string
	index  int32
}

// token identifies an attempt of a task. The proof that it was given to this agent is no part of it.
type token struct {
	task  task
	try   int32
	epoch epoch
}

func tokenOf(t *pb.Token) token {
	return token{task{t.GetJobUid(), t.GetIndex()}, t.GetTry(), epochOf(t.GetEpoch())}
}

func (t token) proto() *pb.Token {
	return &pb.Token{JobUid: t.task.jobUID, Index: t.task.index, Try: t.try, Epoch: t.epoch.proto()}
}

// proven is the token with the proof that came with it.
func (t token) proven(proof []byte) *pb.Token {
	p := t.proto()
	p.Proof = proof
	return p
}

// compare orders the tokens of one task: the highest is the one that counts.
func (t token) compare(o token) int {
	return cmp.Or(t.epoch.compare(o.epoch), cmp.Compare(t.try, o.try))
}
