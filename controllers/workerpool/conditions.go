package workerpool

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/podspec"
)

// messageLimit bounds the messages of conditions and events, in characters.
const messageLimit = 1024

// nameTakenMessage is what a user is told of a pod with a worker's name.
const nameTakenMessage = "A pod that is not the pool's has the name %s: another name is used."

func (s *scope) setConditions(conditions *[]metav1.Condition, n counts) {
	for _, c := range []metav1.Condition{s.readiness(n), s.progress(n), s.fullness(), s.limit(), s.suspension()} {
		c.ObservedGeneration = s.pool.Generation
		c.LastTransitionTime = metav1.NewTime(s.now)
		c.Message = shorten(c.Message)
		meta.SetStatusCondition(conditions, c)
	}
}

// condition is true or false; metav1.Condition says that in words.
func condition(kind string, is bool, reason, message string, args ...any) metav1.Condition {
	c := metav1.Condition{Type: kind, Status: metav1.ConditionFalse, Reason: reason, Message: fmt.Sprintf(message, args...)}
	if is {
		c.Status = metav1.ConditionTrue
	}
	return c
}

func (s *scope) readiness(n counts) metav1.Condition {
	const message = "%d of %s ready."
	switch {
	case s.deleting():
		return condition(v1alpha1.PoolReady, false, v1alpha1.ReasonRemoving, "The pool is being deleted.")
	case s.unreadable():
		return condition(v1alpha1.PoolReady, false, v1alpha1.ReasonInvalid, invalidMessage, s.fault.Message)
	case n.ready < n.wanted:
		return condition(v1alpha1.PoolReady, false, v1alpha1.ReasonNotReady, message+"%s", n.ready, workersAre(n.wanted), after(s.whyUnavailable()))
	case s.unserved():
		return condition(v1alpha1.PoolReady, false, v1alpha1.ReasonUnavailable, message+" None takes Jobs.%s",
			min(n.ready, n.wanted), workersAre(n.wanted), after(s.whyUnavailable()))
	default:
		return condition(v1alpha1.PoolReady, true, v1alpha1.ReasonAllReady, message, min(n.ready, n.wanted), workersAre(n.wanted))
	}
}

// progress tells what goes on, or what is in the way of it: first what a user must see to.
func (s *scope) progress(n counts) metav1.Condition {
	is := func(reason, message string, args ...any) metav1.Condition {
		return condition(v1alpha1.PoolProgressing, true, reason, message, args...)
	}
	stopped := func(reason, message string, args ...any) metav1.Condition {
		return condition(v1alpha1.PoolProgressing, false, reason, message, args...)
	}
	obstacle := s.obstacle()
	switch {
	case s.deleting():
		return is(v1alpha1.ReasonRemoving, "The pool is being deleted: its workers finish their jobs first.")
	case s.limited != "":
		return stopped(v1alpha1.ReasonLimit, "%s", s.limited)
	case s.memory.trouble != "":
		return stopped(v1alpha1.ReasonNotCreated, "%s", s.memory.trouble)
	case obstacle.reason != "":
		return stopped(obstacle.reason, "%d of %s held up: %s", obstacle.workers, workersAre(n.live), obstacle.message)
	case n.current < n.live:
		return is(v1alpha1.ReasonUpdating, "%d of %s made from the present template.", n.current, workersAre(n.live))
	case n.live < n.wanted || n.ready < n.live:
		return is(v1alpha1.ReasonStarting, "%d of %s ready.", min(n.ready, n.wanted), workersAre(n.wanted))
	case n.leaving > 0:
		return is(v1alpha1.ReasonRemoving, "Workers that are not wanted any more finish their jobs.")
	case len(s.memory.taken) > 0:
		return stopped(v1alpha1.ReasonNameTaken, nameTakenMessage, s.takenName())
	default:
		return stopped(v1alpha1.ReasonStable, "All workers are as wanted.")
	}
}

func (s *scope) fullness() metav1.Condition {
	if s.snapshot.Waiting > 0 {
		return condition(v1alpha1.PoolQueueFull, true, v1alpha1.ReasonCapacity,
			"Jobs wait because the queue holds its capacity of %d: raise spec.queue.capacity, or have more workers.", s.pool.Spec.Queue.Capacity)
	}
	return condition(v1alpha1.PoolQueueFull, false, v1alpha1.ReasonRoom, "The queue has room.")
}

func (s *scope) limit() metav1.Condition {
	if s.limited != "" {
		return condition(v1alpha1.PoolLimitReached, true, v1alpha1.ReasonLimit, "%s", s.limited)
	}
	return condition(v1alpha1.PoolLimitReached, false, v1alpha1.ReasonWithinLimits, "All workers that are wanted are within the limits.")
}

func (s *scope) suspension() metav1.Condition {
	if s.suspended() {
		return condition(v1alpha1.PoolSuspended, true, v1alpha1.ReasonPoolSuspended, suspendedMessage)
	}
	return condition(v1alpha1.PoolSuspended, false, v1alpha1.ReasonPoolResumed, "Jobs are started.")
}

// after is a sentence that follows another; there may be none.
func after(sentence string) string {
	if sentence == "" {
		return ""
	}
	return " " + sentence
}

// takenName is the first of the names that others' pods have.
func (s *scope) takenName() string {
	lowest := -1
	for ordinal := range s.memory.taken {
		if lowest < 0 || ordinal < lowest {
			lowest = ordinal
		}
	}
	return podspec.Name(s.key.Name, lowest)
}

func workersAre(n int) string {
	if n == 1 {
		return "1 worker is"
	}
	return fmt.Sprintf("%d workers are", n)
}

// shorten cuts a message at the limit.
func shorten(message string) string {
	runes := []rune(message)
	if len(runes) <= messageLimit {
		return message
	}
	return string(runes[:messageLimit-1]) + "…"
}
