package engine

import (
	"testing"

	"k8s.io/apimachinery/pkg/types"
)

// Any agent can claim any UID by any name: that there is no Job of that name says nothing of the Job.
func TestAJobIsNotEndedByAClaimOfItByAnotherName(t *testing.T) {
	w, p := lone(t)
	w.createJob()
	w.receive(p)
	uid := w.jobUIDs()[0]
	w.engine.Absent(JobRef{NamespacedName: types.NamespacedName{Namespace: poolKey.Namespace, Name: "another"}, UID: uid})
	if len(p.session.inbox) != 0 || !w.engine.Knows(uid) {
		t.Errorf("was told %+v", p.session.inbox)
	}
	w.engine.Absent(JobRef{NamespacedName: types.NamespacedName{Namespace: "elsewhere", Name: w.jobs[uid].job.Name}, UID: uid})
	if len(p.session.inbox) != 0 {
		t.Errorf("was told %+v", p.session.inbox)
	}
	w.engine.Absent(w.jobs[uid].job.JobRef)
	if len(p.session.inbox) != 1 || len(p.session.inbox[0].Kills) != 1 {
		t.Errorf("was told %+v, want a kill", p.session.inbox)
	}
}

func TestAbsenceByOneNameEndsTheClaimsByThatNameOnly(t *testing.T) {
	w := newWorld(t, 1)
	honest, liar := w.pods[0], w.pods[1]
	token := Token{Job: "uid", Try: 1, Epoch: w.epoch}
	for p, name := range map[*simPod]string{honest: "right", liar: "wrong"} {
		p.running[token] = &simProcess{job: name, started: w.now}
		w.connect(p)
	}
	w.engine.Absent(JobRef{NamespacedName: types.NamespacedName{Namespace: poolKey.Namespace, Name: "wrong"}, UID: "uid"})
	if len(honest.session.inbox) != 0 || !w.engine.Knows("uid") {
		t.Errorf("the worker that has claimed it by another name was told %+v", honest.session.inbox)
	}
	if len(liar.session.inbox) != 1 || len(liar.session.inbox[0].Kills) != 1 {
		t.Errorf("the worker that has claimed it by this name was told %+v, want a kill", liar.session.inbox)
	}
	w.engine.Absent(JobRef{NamespacedName: types.NamespacedName{Namespace: poolKey.Namespace, Name: "right"}, UID: "uid"})
	if w.engine.Knows("uid") || len(honest.session.inbox) != 1 {
		t.Errorf("%v is kept", w.engine.claims)
	}
}
