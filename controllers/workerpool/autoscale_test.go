package workerpool

import (
	"testing"
	"time"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/engine"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

func TestThereAreEnoughWorkersForANewTaskToStartInTime(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for _, c := range []struct {
		waiting, running float64
		takes, wait      time.Duration
		want             int
	}{
		{0, 0, time.Second, 10 * time.Second, 0},
		{1, 0, time.Second, 10 * time.Second, 1},
		{11, 0, time.Second, 10 * time.Second, 1}, // one starts 1 at once, and 10 more in 10 s
		{12, 0, time.Second, 10 * time.Second, 2},
		{12, 10, time.Second, 10 * time.Second, 2},
		{1000, 0, 10 * time.Second, 10 * time.Second, 500},
		{8, 2, time.Hour, 10 * time.Second, 10}, // what takes long needs a worker each
		{8, 2, year, 10 * time.Second, 10},
		{7.75, 0.25, year, time.Second, 8},
		{1, 0, time.Millisecond, 24 * time.Hour, 1}, // little work, and much patience
		{1, 0, 0, time.Second, 1},
		{3 * 0.1, 0.7, year, time.Second, 1}, // is 1, but for rounding
	} {
		d := engine.Demand{Known: true, Waiting: c.waiting, Running: c.running, TaskTime: c.takes}
		if got := workersFor(d, c.wait); got != c.want {
			t.Errorf("%+v: %d workers, want %d", c, got, c.want)
		}
	}
}

// scaler is an autoscaler with a clock, for a pool whose workers are ready at once.
type scaler struct {
	t    *testing.T
	spec v1alpha1.AutoscalingSpec
	a    autoscaler
	now  time.Time
	// ready is the number of ready workers, if not as many as wanted; before what was stored.
	ready, before int
}

func newScaler(t *testing.T, most int32) *scaler {
	return &scaler{t: t, spec: v1alpha1.AutoscalingSpec{MaxReplicas: most}, now: time.Unix(0, 0), ready: 1000}
}

// want lets time pass, and wants so many workers for tasks that take long; the wait is after how long that
// is looked at again.
func (s *scaler) want(after time.Duration, waiting, running float64, workers int, wait time.Duration) {
	s.t.Helper()
	s.wantOf(after, engine.Demand{Known: true, Waiting: waiting, Running: running, TaskTime: time.Hour}, workers, wait)
}

func (s *scaler) wantOf(after time.Duration, d engine.Demand, workers int, wait time.Duration) {
	s.t.Helper()
	s.now = s.now.Add(after)
	got, left := s.a.target(&s.spec, d, s.ready, s.before, s.now)
	if got != workers || left != wait {
		s.t.Errorf("%d workers for %v, want %d for %v", got, left, workers, wait)
	}
}

func TestAPoolGrowsAtOnceAndShrinksAfterItsDelay(t *testing.T) {
	s := newScaler(t, 100)
	s.want(0, 0, 0, 0, 0)
	s.want(time.Second, 5, 0, 5, 0)
	s.want(time.Hour, 0, 5, 5, 0)
	s.want(time.Second, 0, 0, 5, time.Minute) // 5 were needed until now
	s.want(59*time.Second, 0, 0, 5, time.Second)
	s.want(time.Second, 0, 0, 0, 0)
}

func TestWhatWasNeededWithinTheDelayStays(t *testing.T) {
	s := newScaler(t, 100)
	s.want(0, 9, 0, 9, 0)
	s.want(10*time.Second, 0, 0, 9, time.Minute)
	s.want(10*time.Second, 7, 0, 9, 50*time.Second)
	s.want(10*time.Second, 0, 0, 9, 40*time.Second)
	s.want(40*time.Second, 0, 0, 7, 20*time.Second) // needed until 30 s after the first were
	s.want(20*time.Second, 0, 0, 0, 0)
}

func TestOneIdleWorkerIsLeftBesideBusyOnes(t *testing.T) {
	s := newScaler(t, 100)
	s.want(0, 10, 0, 10, 0)
	s.want(time.Second, 0, 4, 10, time.Minute)
	s.want(time.Minute, 0, 4, 5, 0)
	s.want(time.Hour, 0, 5, 5, 0) // and none is made for that
	s.want(time.Hour, 0, 0, 5, time.Minute)
	s.want(time.Minute, 0, 0, 0, 0)
}

func TestTheNumberOfWorkersStaysWithinItsBounds(t *testing.T) {
	s := newScaler(t, 3)
	s.spec.MinReplicas = new(int32(2))
	s.want(0, 0, 0, 2, 0)
	s.want(time.Second, 50, 0, 3, 0)
	s.spec.MaxReplicas = 2
	s.want(time.Second, 50, 0, 2, time.Minute)
	s.spec.MaxReplicas, s.spec.ScaleDownDelaySeconds = 100, new(int32(0))
	s.want(time.Second, 50, 0, 50, 0)
	s.want(time.Second, 0, 0, 2, 0)
}

func TestWorkersStartInTurnsThatDouble(t *testing.T) {
	s := newScaler(t, 1000)
	for ready, want := range map[int]int{0: 8, 1: 9, 8: 16, 40: 80, 500: 898} {
		s.a, s.ready = autoscaler{}, ready
		s.want(time.Second, 900, 0, want, 0)
	}
	s.spec.MinReplicas, s.a, s.ready = new(int32(30)), autoscaler{}, 0
	s.want(time.Second, 900, 0, 30, 0)
}

// The next leader does not know yet what its workers run.
func TestWhatIsNotKnownChangesNothing(t *testing.T) {
	s := newScaler(t, 100)
	s.before = 7
	s.spec.ScaleDownDelaySeconds = new(int32(0))
	s.wantOf(0, engine.Demand{TaskTime: time.Hour}, 7, 0)
	s.wantOf(time.Hour, engine.Demand{TaskTime: time.Hour}, 7, 0)
	s.want(time.Second, 0, 3, 4, 0)
	s.want(time.Second, 0, 0, 0, 0)
}

func TestAPoolIsLookedAtAgainWhenItsNumberOfWorkersMayChange(t *testing.T) {
	s := &scope{
		pool: testutil.MakePool("ns", "demo").Autoscaling(0, 5).Obj(), memory: newMemory("pool"), now: time.Unix(0, 0),
		snapshot: engine.PoolSnapshot{Demand: engine.Demand{Known: true, Waiting: 3, TaskTime: time.Hour}},
	}
	again := func() time.Duration {
		s.waits = nil
		s.autoscale()
		return again(s.waits...).RequeueAfter
	}
	if got := again(); got != autoscaleInterval || s.target != 3 {
		t.Errorf("%d workers, and looked at after %v, while tasks wait", s.target, got)
	}
	s.snapshot.Demand.Waiting = 0
	if got := again(); got != defaultScaleDownDelay*time.Second || s.target != 3 {
		t.Errorf("%d workers, and looked at after %v, when none does any more", s.target, got)
	}
	s.now = s.now.Add(defaultScaleDownDelay * time.Second)
	if got := again(); got != 0 || s.target != 0 {
		t.Errorf("%d workers, and looked at after %v, in the end", s.target, got)
	}
}
