package scale

import (
	"testing"
	"time"

	"github.com/workerpool-dev/workerpool/test/simulated"
)

const (
	// many workers are made at first, of which fewer are left, and then some more wanted.
	many  = 500
	fewer = 300
	some  = 40
	// lag is how late the operator sees changes of pods, where it does.
	lag = 1500 * time.Millisecond
)

func TestScalingMakesNoMoreWorkersThanWanted(t *testing.T) {
	f := setup(t, 0, noWork{})
	f.audit.Allow(simulated.Bound{Live: many, All: many})
	f.scale(many)
	f.audit.Await(t, "all made", made(many))
	f.audit.Await(t, "all ready", settled(many))
	f.scale(0)
	f.audit.Await(t, "all deleted", live(0))
	f.audit.Await(t, "none left", settled(0))
	f.end(many)
}

// What the cache does not show yet, the operator must know by itself: else it makes a worker twice. It would be
// made in vain as long as the name is the same. It would be one too many where the cache shows meanwhile that
// a lower name has become free.
func TestScalingMakesNoMoreWorkersThanWantedWhileTheCacheIsBehind(t *testing.T) {
	f := setup(t, lag, noWork{})
	f.audit.Allow(simulated.Bound{Live: many, All: many})
	f.scale(many)
	f.audit.Await(t, "all ready", settled(many))

	release := f.nodes.Hold()
	f.scale(fewer)
	f.audit.Await(t, "all too many deleted", live(fewer))
	release()
	f.audit.Await(t, "some of them gone", atMost(many-some))
	// Those that are being deleted have their names still, and others come beside them.
	f.audit.Allow(simulated.Bound{Live: fewer + some, All: many + some})
	f.scale(fewer + some)
	f.audit.Await(t, "some more ready", settled(fewer+some))

	f.audit.Allow(simulated.Bound{Live: fewer + some, All: fewer + some})
	f.scale(0)
	f.audit.Await(t, "none left", settled(0))
	f.end(many + some)
}

// settled is when so many pods are ready, and there are no others.
func settled(n int) func(simulated.Census) bool {
	return func(c simulated.Census) bool { return c.Ready == n && c.Live == n && c.Terminating == 0 }
}

// live is when so many pods are not being deleted.
func live(n int) func(simulated.Census) bool {
	return func(c simulated.Census) bool { return c.Live == n }
}

// made is when there have been so many pods.
func made(n int) func(simulated.Census) bool {
	return func(c simulated.Census) bool { return c.Made == n }
}

// atMost is when there are no more than so many pods, those that are being deleted included.
func atMost(n int) func(simulated.Census) bool {
	return func(c simulated.Census) bool { return c.Live+c.Terminating <= n }
}

// end deletes the pool, and checks what must hold after each test: nothing went wrong on the nodes, and the
// operator made so many pods and deleted them, and did not ask for either twice.
func (f *fixture) end(made int) {
	f.t.Helper()
	f.deletePool()
	now, broken, _ := f.audit.Look()
	if broken != "" || now.Made != made || now.Live+now.Terminating > 0 {
		f.t.Errorf("%+v in the end, want %d made and none left; %s", now, made, broken)
	}
	for _, kind := range []string{"POST pods ", "DELETE pods 200"} {
		if n := f.front.count(kind); n != made {
			f.t.Errorf("%d requests of the kind %s, want %d", n, kind, made)
		}
	}
	if problems, _ := f.nodes.Trouble(); len(problems) > 0 {
		f.t.Errorf("on the nodes: %q", problems)
	}
	f.t.Log(f.front)
}
