package workerpool

import (
	"cmp"
	"slices"

	"k8s.io/apimachinery/pkg/types"
)

// State is what Plan decides from.
type State struct {
	// Replicas is the number of workers wanted; 0 while the pool is being deleted.
	Replicas int
	// Surge and Unavailable are how many live workers more, and how many ready ones less than wanted there
	// may be during a rollout. They are not both 0.
	Surge, Unavailable int
	// Workers are all pods of the pool that exist, and those that are about to show in the cache.
	Workers []Worker
	// Taken are ordinals whose names pods have that are not the pool's.
	Taken map[int]bool
}

// Worker is what Plan knows of a worker pod.
type Worker struct {
	Name    string
	UID     types.UID
	Ordinal int
	// Current: it is made from the present template.
	Current bool
	// Recycled: it has served long enough and is to be replaced.
	Recycled bool
	// Ready: it can run jobs.
	Ready bool
	// Cordoned: it would be ready, but takes no jobs: it was to be deleted, and is there still. It serves again unless it
	// is chosen again.
	Cordoned bool
	// Busy: it runs a job, or has a result that is not stored yet.
	Busy bool
	// Lost: it was not heard of for too long.
	Lost bool
	// GivenUp: it was lost, and has been deleted for that.
	GivenUp bool
	// Stray: its label or its owner was changed, so it is not the pool's any more.
	Stray bool
	// Terminating: it is being deleted.
	Terminating bool
	// Terminated: it has ended by itself and will not come back.
	Terminated bool
}

// live tells whether the pool still counts on the worker.
func (w Worker) live() bool {
	return !w.Stray && !w.Terminating && !w.Terminated && !w.Lost && !w.GivenUp
}

// Action is what to do with a worker.
type Action string

// Actions.
const (
	// Create makes the worker.
	Create Action = "create"
	// Delete drains the worker and deletes it: it may finish what it runs within its grace period.
	Delete Action = "delete"
	// GiveUp deletes the worker with hardly any grace.
	GiveUp Action = "give up"
	// End deletes the worker with hardly any grace, though it is heard of.
	End Action = "end"
)

// strayReason is why a stray is deleted.
const strayReason = "not the pool's any more"

// Intent is one thing to do, and why.
type Intent struct {
	Action  Action
	Ordinal int
	// UID of the pod; empty for Create.
	UID types.UID
	// Reason, for the log.
	Reason string
	// Idle: the worker was chosen because it is idle.
	Idle bool
}

// Plan decides which workers to make and to remove, as far as can be decided now. It is called
// again after each change. What it says is in the order in which it should be done.
//
// A rollout makes new workers up to Surge beyond those wanted, and removes an outdated one only for each
// ready worker beyond those that must be, or where the outdated one is of no use: neither ready nor
// busy. So a template that does not work leaves the old workers serving.
func Plan(s State) []Intent {
	var intents []Intent
	var live []Worker
	for _, w := range slices.SortedFunc(slices.Values(s.Workers), byOrdinal) {
		switch {
		case w.live():
			live = append(live, w)
		case w.Lost && !w.GivenUp && !w.Terminated:
			intents = append(intents, w.remove(GiveUp, "lost"))
		case w.Terminated && !w.Terminating:
			intents = append(intents, w.remove(Delete, "ended"))
		case w.Stray && !w.Terminating:
			intents = append(intents, w.remove(Delete, strayReason))
		}
	}
	surplus, rest := splitSurplus(live, s.limit(live))
	for _, w := range surplus {
		intents = append(intents, w.remove(Delete, "surplus"))
	}
	replaced, rest := splitOutdated(rest, max(0, s.Replicas-s.Unavailable))
	for _, w := range replaced {
		intents = append(intents, w.remove(Delete, w.outdatedBy()))
	}
	return append(intents, s.creates(rest)...)
}

func (w Worker) remove(action Action, reason string) Intent {
	return Intent{Action: action, Ordinal: w.Ordinal, UID: w.UID, Reason: reason, Idle: action == Delete && w.live() && !w.Busy}
}

// limit is the number of live workers that there may be.
func (s State) limit(live []Worker) int {
	if s.Replicas > 0 && slices.ContainsFunc(live, outdated) {
		return s.Replicas + s.Surge
	}
	return s.Replicas
}

// splitSurplus chooses which workers to remove so that limit are left.
func splitSurplus(live []Worker, limit int) (surplus, rest []Worker) {
	live = slices.SortedFunc(slices.Values(live), byDispensability)
	n := max(0, len(live)-limit)
	return live[:n], live[n:]
}

// splitOutdated chooses which outdated workers a rollout can do without now, so that as many as needed stay
// ready.
func splitOutdated(live []Worker, needed int) (replaced, rest []Worker) {
	spare := -needed
	for _, w := range live {
		if w.Ready {
			spare++
		}
	}
	for _, w := range slices.SortedFunc(slices.Values(live), byDispensability) {
		switch {
		case !outdated(w):
			rest = append(rest, w)
		case w.Cordoned && spare < 0: // it serves again
			spare++
			rest = append(rest, w)
		case w.Cordoned:
			replaced = append(replaced, w)
		case !w.Ready && !w.Busy:
			replaced = append(replaced, w)
		case w.Ready && spare > 0:
			spare--
			replaced = append(replaced, w)
		default:
			rest = append(rest, w)
		}
	}
	return replaced, rest
}

// creates says which workers to make beside those that stay.
func (s State) creates(live []Worker) []Intent {
	old := 0
	for _, w := range live {
		if outdated(w) {
			old++
		}
	}
	n := min(s.Replicas-(len(live)-old), s.limit(live)-len(live))
	reason := "wanted"
	if old > 0 {
		reason = "rollout"
	}
	var intents []Intent
	for _, ordinal := range s.free(n) {
		intents = append(intents, Intent{Action: Create, Ordinal: ordinal, Reason: reason})
	}
	return intents
}

// free returns the n lowest ordinals whose names no pod has.
func (s State) free(n int) []int {
	used := make(map[int]bool, len(s.Workers))
	for _, w := range s.Workers {
		used[w.Ordinal] = true
	}
	var ordinals []int
	for ordinal := 0; len(ordinals) < n; ordinal++ {
		if !used[ordinal] && !s.Taken[ordinal] {
			ordinals = append(ordinals, ordinal)
		}
	}
	return ordinals
}

// outdated tells whether a worker is to be replaced by a new one.
func outdated(w Worker) bool { return !w.Current || w.Recycled }

func (w Worker) outdatedBy() string {
	if w.Current {
		return "recycled"
	}
	return "outdated"
}

func byOrdinal(a, b Worker) int { return cmp.Compare(a.Ordinal, b.Ordinal) }

// byDispensability puts the worker first that is missed least. One that is cordoned may be on its way out already: the
// answer to a request may have been lost.
func byDispensability(a, b Worker) int {
	return cmp.Or(
		falseFirst(!a.Cordoned, !b.Cordoned),
		falseFirst(a.Busy, b.Busy),
		falseFirst(a.Ready, b.Ready),
		falseFirst(!outdated(a), !outdated(b)),
		cmp.Compare(b.Ordinal, a.Ordinal),
	)
}

func falseFirst(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}
