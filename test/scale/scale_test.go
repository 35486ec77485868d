package scale

import (
	"testing"
	"time"
)

const (
	many = 500
	few  = 300
)

func TestScalingMakesNoMoreWorkersThanWanted(t *testing.T) {
	f := setup(t, 0, noWork)
	f.audit.allow(bound{live: many, all: many})
	f.scale(many)
	f.audit.await(t, "all made", made(many))
	f.audit.await(t, "all ready", settled(many))
	f.scale(0)
	f.audit.await(t, "all deleted", live(0))
	f.audit.await(t, "none left", settled(0))
	f.end(many)
}

// What the cache does not show yet, the operator must know by itself: else it makes workers twice, in the places
// of those that have gone.
func TestScalingMakesNoMoreWorkersThanWantedWhileTheCacheIsBehind(t *testing.T) {
	f := setup(t, 1500*time.Millisecond, noWork)
	f.audit.allow(bound{live: many, all: many})
	f.scale(many)
	f.audit.await(t, "all ready", settled(many))
	f.scale(few)
	f.audit.await(t, "all too many deleted", live(few))
	// Those that are being deleted have their names still, and others come beside them.
	f.audit.allow(bound{live: many, all: many + (many - few)})
	f.scale(many)
	f.audit.await(t, "as many again ready", settled(many))
	f.audit.allow(bound{live: many, all: many})
	f.scale(0)
	f.audit.await(t, "none left", settled(0))
	f.end(many + (many - few))
}

// settled is when so many pods are ready, and there are no others.
func settled(n int) func(census) bool {
	return func(c census) bool { return c.Ready == n && c.Live == n && c.Terminating == 0 }
}

// live is when so many pods are not being deleted.
func live(n int) func(census) bool { return func(c census) bool { return c.Live == n } }

// made is when there have been so many pods.
func made(n int) func(census) bool { return func(c census) bool { return c.Made == n } }

// end deletes the pool, and checks what must hold after each test: nothing went wrong on the nodes, and the
// operator made so many pods and tried to make no others.
func (f *fixture) end(made int) {
	f.t.Helper()
	f.deletePool()
	now, broken, _ := f.audit.look()
	if broken != "" || now.Made != made || now.Live+now.Terminating > 0 {
		f.t.Errorf("%+v in the end, want %d made and none left; %s", now, made, broken)
	}
	if n := f.front.count("POST pods "); n != made {
		f.t.Errorf("the operator tried to make %d pods, want %d", n, made)
	}
	if problems, _ := f.nodes.trouble(); len(problems) > 0 {
		f.t.Errorf("on the nodes: %q", problems)
	}
	f.t.Log(f.front)
}
