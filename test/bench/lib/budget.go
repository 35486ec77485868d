package main

import (
	"fmt"
	"slices"
)

// budget is a promise about our own result in a benchmark.
type budget struct {
	text string

	// check says whether the promise is kept, and by which figures.
	check func(ours result, all standings) (met bool, by string)
}

// verdict is what became of a budget.
type verdict struct {
	benchmark string
	budget    string
	met       bool
	by        string
}

var (
	aheadOfBoundedPeers = budget{"ahead of every bounded peer", func(ours result, all standings) (bool, string) {
		best := all.bestBounded(us, floor)
		return ours.NsPerOp < best.NsPerOp, against(ours, best)
	}}

	atMostTwiceTheFloor = budget{"at most 2 x " + floor, func(ours result, all standings) (bool, string) {
		base, _ := all.of(floor)
		return ours.NsPerOp <= 2*base.NsPerOp, against(ours, base)
	}}

	// Where a job does something, who is ahead is a matter of luck.
	tiesWithBestBounded = budget{"at most 1.1 x the best bounded", func(ours result, all standings) (bool, string) {
		best := all.bestBounded(us)
		return ours.NsPerOp <= 1.1*best.NsPerOp, against(ours, best)
	}}

	allocatesNothing = budget{"allocates nothing", func(ours result, _ standings) (bool, string) {
		return ours.AllocsPerOp < 0.01, fmt.Sprintf("%.2f allocs/op", ours.AllocsPerOp)
	}}
)

// bestBounded returns the fastest bounded subject that is none of those to leave out.
func (s standings) bestBounded(leaveOut ...string) result {
	for _, r := range s {
		if r.Bounded && !slices.Contains(leaveOut, r.Subject) {
			return r
		}
	}
	return result{}
}

func against(ours, other result) string {
	return fmt.Sprintf("%.1f ns/op, %.2f x %s", ours.NsPerOp, ours.ratio(other), other.Subject)
}

// judge returns the verdicts on all budgets of a benchmark.
func judge(b benchmark, s standings) []verdict {
	ours, ok := s.of(us)
	var verdicts []verdict
	for _, budget := range b.budgets {
		v := verdict{benchmark: b.name, budget: budget.text, by: us + " was not measured"}
		if ok {
			v.met, v.by = budget.check(ours, s)
		}
		verdicts = append(verdicts, v)
	}
	return verdicts
}

func allMet(verdicts []verdict) bool {
	for _, v := range verdicts {
		if !v.met {
			return false
		}
	}
	return true
}
