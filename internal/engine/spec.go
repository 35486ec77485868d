package engine

import (
	"time"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/pkg/worker"
)

// MaxRetries is how often a failed task of the Job is tried again.
func (j *job) MaxRetries() int {
	switch spec, defaults := j.object.Spec, &j.pool.config.Defaults; {
	case spec == nil || spec.Execution == v1alpha1.AtMostOnce:
		return 0
	case spec.MaxRetries != nil:
		return int(*spec.MaxRetries)
	default:
		return int(deref(defaults.MaxRetries))
	}
}

// Priority of the Job.
func (j *job) Priority() int { return int(j.priority) }

// Resources is what each task takes, as far as the Job, or its pool's defaults, say: what is 0 is an equal
// share of its worker for each slot, which is known only where it runs. See podWorker.usageOf.
//
// An onFailure takes an equal share: the Job may have failed because it does not fit.
func (j *job) Resources() worker.ResourceUsage {
	if j.atHandler() {
		return worker.ResourceUsage{}
	}
	var own *v1alpha1.JobResources
	if j.object.Spec != nil {
		own = j.object.Spec.Resources
	}
	var usage worker.ResourceUsage
	for _, r := range []*v1alpha1.JobResources{j.pool.config.Defaults.Resources, own} {
		if r == nil {
			continue
		}
		if r.CPU != nil {
			usage.CPU = float64(r.CPU.MilliValue()) / 1000
		}
		if r.Memory != nil {
			usage.Memory = r.Memory.Value()
		}
		if r.Files != nil {
			usage.Files = int(*r.Files)
		}
	}
	return usage
}

func (j *job) atMostOnce() bool {
	return j.object.Spec != nil && j.object.Spec.Execution == v1alpha1.AtMostOnce
}

func (j *job) handler() v1alpha1.HandlerType {
	if j.object.Spec.HTTP != nil {
		return v1alpha1.HandlerHTTP
	}
	return v1alpha1.HandlerExec
}

func (j *job) grace() time.Duration {
	if j.object.Spec == nil || j.object.Spec.TerminationGracePeriodSeconds == nil {
		return killGrace
	}
	return seconds(*j.object.Spec.TerminationGracePeriodSeconds)
}

// timeout of each try; 0 if there is none.
func (j *job) timeout() time.Duration {
	if own := j.object.Spec.TimeoutSeconds; own != nil {
		return seconds(*own)
	}
	return seconds(deref(j.pool.config.Defaults.TimeoutSeconds))
}

// setTimes reads the wall clock times of the spec, once: what counts from here on is how much time passes.
func (j *job) setTimes() {
	now, spec := j.pool.engine.now, j.object.Spec
	j.activeDeadline, j.deadline = deref(spec.ActiveDeadlineSeconds), deadlineOf(&j.object, now)
	if spec.StartAfter != nil && spec.StartAfter.After(now) {
		j.startAfter = fromNow(spec.StartAfter.Time, now)
	}
}

// deadlineOf is when a Job fails if it has not ended, or zero.
func deadlineOf(object *Job, now time.Time) time.Time {
	if object.Spec.ActiveDeadlineSeconds == nil {
		return time.Time{}
	}
	return fromNow(object.Created.Add(seconds(*object.Spec.ActiveDeadlineSeconds)), now)
}

// fromNow is a wall clock time that comes when so much time has passed, whatever becomes of the wall clock. A Duration
// has at most 292 years: what is farther away stays with the wall clock.
func fromNow(at, now time.Time) time.Time {
	if t := now.Add(at.Sub(now)); t.Equal(at) {
		return t
	}
	return at
}
