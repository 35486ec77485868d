package workerpool

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/podspec"
)

// newServing is a scaled world of so many workers that serve.
func newServing(t *testing.T, replicas int) *scaled {
	t.Helper()
	s := newScaled(t, v1alpha1.AutoscalingSpec{MaxReplicas: 1}, 0)
	s.pool.Spec.Autoscaling, s.pool.Spec.Replicas = nil, new(int32(replicas))
	s.settle()
	s.serve()
	return s
}

// serve is what happens to pods, and what the controller makes of it.
func (s *scaled) serve() {
	s.t.Helper()
	s.startPods()
	s.catchUp()
	s.reconcile()
}

// startPods has all pods ready and connected that are there to stay, and those gone that were deleted and run nothing.
func (s *scaled) startPods() {
	for ordinal := 63; ordinal >= 0; ordinal-- {
		name := podspec.Name("demo", ordinal)
		pod := s.pods[name]
		if pod == nil {
			continue
		}
		switch agent := s.agents[pod.UID]; {
		case !pod.DeletionTimestamp.IsZero() && (agent == nil || len(agent.ends)+len(agent.inbox) == 0):
			s.remove(name, agent)
		case pod.DeletionTimestamp.IsZero() && agent == nil:
			s.ready(name)
			s.connect(s.pods[name])
		}
	}
}

// runs are the names of the workers that run a Job, or were sent one.
func (s *scaled) runs() []string {
	var names []string
	for _, agent := range s.agents {
		for _, cmd := range agent.inbox {
			for range cmd.Assignments {
				names = append(names, agent.pod.Name)
			}
		}
		for range agent.ends {
			names = append(names, agent.pod.Name)
		}
	}
	slices.Sort(names)
	return names
}

// wantRuns fails the test unless these workers run a Job each.
func (s *scaled) wantRuns(names ...string) {
	s.t.Helper()
	if got := s.runs(); !slices.Equal(got, names) {
		s.t.Fatalf("Jobs run on %v, want %v", got, names)
	}
}

func notNow(string) (bool, error)  { return false, errNotNow }
func deleted(string) (bool, error) { return true, nil }

func TestAWorkerServesAgainWhoseDeletionHasFailedAndIsNotWantedAnyMore(t *testing.T) {
	s := newServing(t, 2)
	s.deleting = notNow
	s.world.scale(1)
	s.reconcile()
	s.submit(time.Hour)
	s.submit(time.Hour)
	s.wantRuns("demo-0") // the other was about to go

	s.deleting = deleted
	s.world.scale(2)
	s.reconcile()
	s.wantRuns("demo-0", "demo-1")
	if n := s.observed(); n.ready != 2 {
		t.Errorf("%d workers are ready, want 2", n.ready)
	}
}

// observed are the counts of the pool.
func (s *scaled) observed() counts {
	s.t.Helper()
	seen, err := s.reconciler.observe(s.t.Context(), s.pool)
	if err != nil {
		s.t.Fatal(err)
	}
	s.reconciler.tellEngine(seen)
	return seen.count()
}

func TestAWorkerWhoseDeletionHasFailedIsNotReadyAndIsTheOneThatGoes(t *testing.T) {
	s := newServing(t, 3)
	s.deleting = notNow
	s.world.scale(2)
	s.reconcile()
	if n := s.observed(); n.ready != 2 {
		t.Errorf("%d workers are ready, want 2: the third takes no Jobs", n.ready)
	}
	s.deleting = deleted
	s.reconcile()
	if got := s.live(); !slices.Equal(got, []string{"demo-0", "demo-1"}) {
		t.Errorf("the workers left are %v", got)
	}
}

func TestAWorkerThatGetsAJobWhenItIsAboutToGoStaysWhileAnotherIsIdle(t *testing.T) {
	s := newServing(t, 2)
	s.submit(time.Second)
	s.wantRuns("demo-0")
	s.world.scale(1)
	s.meanwhile = func() {
		s.meanwhile = func() {}
		s.submit(time.Hour)
		s.wantRuns("demo-0", "demo-1")
		s.pass(2 * time.Second)
	}
	s.settle()
	s.wantRuns("demo-1")
	if got := s.live(); !slices.Equal(got, []string{"demo-1"}) {
		t.Errorf("the workers left are %v, want the one that runs a Job", got)
	}
}

// The deletions of many workers take a while.
func TestAWorkerThatIsAboutToGoGetsNoJobWhileOthersAreDeleted(t *testing.T) {
	s := newServing(t, 3*removesAtOnce)
	s.world.scale(1)
	s.deleting = func(string) (bool, error) {
		s.deleting = deleted
		s.submit(time.Hour)
		return true, nil
	}
	s.settle()
	s.wantRuns("demo-0")
	if got := s.live(); !slices.Equal(got, []string{"demo-0"}) {
		t.Errorf("the workers left are %v", got)
	}
}

func TestAWorkerThatComesBackWhenItIsAboutToBeGivenUpStays(t *testing.T) {
	s := newServing(t, 1)
	pod := s.pods["demo-0"]
	s.engine.Disconnect(s.agents[pod.UID])
	s.clock.Step(defaultLostAfter * time.Second)
	s.meanwhile = func() {
		s.meanwhile = func() {}
		s.connect(pod)
	}
	if intents := s.reconcile(); len(intents) != 2 || intents[0].Action != GiveUp { // and one in its place
		t.Fatalf("the plan is %v, want the lost worker given up", intents)
	}
	s.settle()
	s.submit(time.Hour)
	s.wantRuns("demo-0")
	if got := s.live(); !slices.Equal(got, []string{"demo-0"}) {
		t.Errorf("the workers are %v, want the one that came back", got)
	}
}

// TestWorkersThatStayServe plays the controller and the engine together, with requests that fail, Jobs that come while a
// plan is carried out, and a cache that is behind. In the end each worker takes a Job.
func TestWorkersThatStayServe(t *testing.T) {
	for seed := range uint64(200) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			s := newServing(t, 1+random.IntN(4))
			s.pool.Spec.Update = v1alpha1.UpdateSpec{}
			s.unreliable(random)
			s.meanwhile = func() { s.work(random) }
			for range 100 {
				s.happen(random)
				if random.IntN(3) == 0 {
					s.reconcile()
				}
			}
			s.meanwhile, s.deleting = func() {}, deleted
			for range 20 {
				s.pass(time.Minute)
				s.serve()
				s.settle()
			}
			want := s.live()
			if len(want) != int(*s.pool.Spec.Replicas) {
				t.Fatalf("the workers are %v, want %d", want, *s.pool.Spec.Replicas)
			}
			for range want {
				s.submit(time.Hour)
			}
			s.wantRuns(want...)
		})
	}
}

// happen lets one thing happen that is not the controller's.
func (s *scaled) happen(random *rand.Rand) {
	switch random.IntN(20) {
	case 0:
		s.world.scale(int32(1 + random.IntN(5)))
	case 1:
		s.rollOut(fmt.Sprintf("busybox:%d", random.IntN(3)))
	case 2, 3, 4:
		s.startPods()
	case 5, 6, 7, 8:
		s.catchUpWith(podspec.Name("demo", random.IntN(8)))
	default:
		s.work(random)
	}
}

// work lets Jobs come or go.
func (s *scaled) work(random *rand.Rand) {
	if random.IntN(2) == 0 {
		s.submit(time.Duration(random.IntN(20)) * time.Second)
		return
	}
	s.pass(time.Duration(random.IntN(4)) * time.Second)
}

// pass lets the Jobs go on for a while.
func (s *scaled) pass(d time.Duration) {
	for end := s.clock.Now().Add(d); s.clock.Now().Before(end); {
		s.clock.Step(scaledTick)
		s.engine.Tick()
		s.runAgents()
		s.store()
	}
}
