package engine

import (
	"testing"
)

// A worker that does not start what it is sent must not be sent it again and again, as fast as the
// wire carries it; and it must not be forgotten either.
func TestAWorkerThatStartsNothingRests(t *testing.T) {
	w := newWorld(t, 1)
	for _, p := range w.pods[1:] {
		p.gone = true
	}
	w.listPods()
	p := w.pods[0]
	w.connect(p)
	w.createJob()
	if sent := len(p.session.inbox); sent != 1 {
		t.Fatalf("%d commands, want the assignment", sent)
	}
	p.seen = p.session.inbox[0].Sequence
	w.report(p) // has seen it and does not run it
	if sent := len(p.session.inbox); sent != 1 {
		t.Errorf("%d commands at once, want no further one", sent-1)
	}
	w.pass(refusalRest)
	if sent := len(p.session.inbox); sent != 2 {
		t.Fatalf("%d commands after the rest, want the assignment again", sent-1)
	}
	w.receive(p)
	w.receive(p)
	if len(p.running) == 0 {
		t.Error("the Job does not run")
	}
}

// Jobs spread over the workers rather than fill one.
func TestJobsSpreadOverTheWorkers(t *testing.T) {
	w := newWorld(t, 1)
	for _, p := range w.pods {
		w.connect(p)
	}
	for range w.pods {
		w.createJob()
	}
	for _, p := range w.pods {
		if len(p.session.inbox) != 1 {
			t.Errorf("%s was sent %d commands, want 1", p.uid, len(p.session.inbox))
		}
	}
}
