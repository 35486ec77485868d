package workerpool

import (
	"math"
	"time"

	"k8s.io/utils/ptr"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/engine"
)

// startingAtOnce is how many workers may start at once; more may where more are ready already. So a
// template that does not work costs a few pods, and not all that the Jobs which wait for it would want.
const startingAtOnce = 8

// Defaults of the schema.
const (
	defaultTargetWait     = 10
	defaultScaleDownDelay = 60
)

// workersFor is how many workers it takes that a new task is expected to start within wait.
//
// With n workers, of which tasks run on r, n-r start tasks at once, and each of the n another one after
// every taskTime. So within wait (n-r) + n·wait/taskTime can start, which must be as many as wait. However
// little that is, it takes a worker.
func workersFor(d engine.Demand, wait time.Duration) int {
	tasks := d.Waiting + d.Running
	if tasks == 0 {
		return 0
	}
	return max(1, whole(tasks/(1+wait.Seconds()/d.TaskTime.Seconds())))
}

// whole rounds a number of workers up, but for a rounding error.
func whole(workers float64) int { return int(math.Ceil(workers - 1e-6)) }

// autoscaler remembers how many workers a pool needed in the last time.
type autoscaler struct {
	// needs are falling: each is the most that was needed since the one before it. The last is what is
	// needed now.
	needs []need
}

// need is a number of workers that was needed until some time.
type need struct {
	until   time.Time
	workers int
}

// target is the number of workers that there should be: what is needed now, or what was within the scale
// down delay. The wait is after how long it will be less, if nothing changes; 0 if it will not. Ready is
// the number of ready workers, and before what the target was when this operator took the lead.
func (a *autoscaler) target(spec *v1alpha1.AutoscalingSpec, d engine.Demand, ready, before int, now time.Time) (int, time.Duration) {
	if len(a.needs) == 0 {
		a.needs = []need{{now, before}}
	}
	present := a.needs[0].workers
	needed := present
	if d.Known {
		needed = workersFor(d, time.Duration(ptr.Deref(spec.TargetWaitSeconds, defaultTargetWait))*time.Second)
		needed = min(needed, ready+max(ready, startingAtOnce))
		if d.Running > 0 {
			// One that is idle is left: where all are busy, the least more would bring it back.
			needed = max(needed, min(whole(d.Running)+1, present))
		}
	}
	within := func(n int) int { return min(max(n, int(ptr.Deref(spec.MinReplicas, 0))), int(spec.MaxReplicas)) }
	delay := time.Duration(ptr.Deref(spec.ScaleDownDelaySeconds, defaultScaleDownDelay)) * time.Second
	a.note(within(needed), now)
	wait := a.forget(delay, now)
	return within(a.needs[0].workers), wait
}

// note takes in what is needed now. What was needed before was so until now.
func (a *autoscaler) note(workers int, now time.Time) {
	a.needs[len(a.needs)-1].until = now
	for len(a.needs) > 0 && a.needs[len(a.needs)-1].workers <= workers {
		a.needs = a.needs[:len(a.needs)-1]
	}
	a.needs = append(a.needs, need{now, workers})
}

// forget drops what was needed longer ago than the delay, and returns after how long the next is to be
// dropped; 0 if there is none.
func (a *autoscaler) forget(delay time.Duration, now time.Time) time.Duration {
	for len(a.needs) > 1 {
		if left := a.needs[0].until.Add(delay).Sub(now); left > 0 {
			return left
		}
		a.needs = a.needs[1:]
	}
	return 0
}

// autoscaleInterval is how often a pool is looked at in which tasks wait: nothing else may tell that they
// take longer than before.
const autoscaleInterval = time.Second

// autoscale decides how many workers there should be, where the spec does not.
func (s *scope) autoscale() {
	spec := s.pool.Spec.Autoscaling
	if spec == nil {
		s.memory.autoscaler = autoscaler{}
		return
	}
	demand, before := s.snapshot.Demand, int(ptr.Deref(s.pool.Status.DesiredReplicas, 0))
	target, wait := s.memory.autoscaler.target(spec, demand, s.count().ready, before, s.now)
	s.target, s.waits = target, append(s.waits, wait)
	if demand.Waiting > 0 {
		s.waits = append(s.waits, autoscaleInterval)
	}
}
