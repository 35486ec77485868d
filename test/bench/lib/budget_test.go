package main

import (
	"strings"
	"testing"
)

// field returns the standings of ours at 100 ns, the floor, and some peers.
func field(floorNs float64, peers ...result) standings {
	s := standings{{Subject: us, Bounded: true, NsPerOp: 100}, {Subject: floor, Bounded: true, NsPerOp: floorNs}}
	return append(s, peers...)
}

func bounded(ns float64) result   { return result{Subject: "bounded", Bounded: true, NsPerOp: ns} }
func unbounded(ns float64) result { return result{Subject: "unbounded", NsPerOp: ns} }

func TestBudgets(t *testing.T) {
	for _, c := range []struct {
		name   string
		budget budget
		field  standings
		met    bool
	}{
		{"faster than all bounded peers", aheadOfBoundedPeers, field(50, bounded(101)), true},
		{"as fast as a bounded peer", aheadOfBoundedPeers, field(50, bounded(100)), false},
		{"slower than the floor and an unbounded peer", aheadOfBoundedPeers, field(50, unbounded(20), bounded(101)), true},
		{"slower than the second of two bounded peers", aheadOfBoundedPeers, field(50, bounded(200), bounded(99)), false},
		{"twice the floor", atMostTwiceTheFloor, field(50), true},
		{"more than twice the floor", atMostTwiceTheFloor, field(49.9), false},
		{"10 % behind a bounded peer", tiesWithBestBounded, field(200, bounded(91)), true},
		{"more than 10 % behind a bounded peer", tiesWithBestBounded, field(200, bounded(90.8)), false},
		{"more than 10 % behind the floor", tiesWithBestBounded, field(90.8, bounded(200)), false},
		{"behind an unbounded peer", tiesWithBestBounded, field(95, unbounded(10)), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			verdicts := judge(benchmark{budgets: []budget{c.budget}}, c.field.sorted())
			if len(verdicts) != 1 || verdicts[0].met != c.met {
				t.Errorf("got %+v, want met: %v", verdicts, c.met)
			}
		})
	}
}

func TestAllocatingNothingIsLessThanAHundredth(t *testing.T) {
	for allocs, met := range map[float64]bool{0: true, 0.01: false, 1: false} {
		s := standings{{Subject: us, AllocsPerOp: allocs}}
		if v := judge(benchmark{budgets: []budget{allocatesNothing}}, s); v[0].met != met {
			t.Errorf("%v allocations: met is %v", allocs, v[0].met)
		}
	}
}

func TestAVerdictNamesTheBestBoundedPeer(t *testing.T) {
	s := field(50, bounded(200), unbounded(20)).sorted()
	v := judge(benchmark{name: "b", budgets: []budget{aheadOfBoundedPeers}}, s)[0]
	if v.benchmark != "b" || !strings.Contains(v.by, "0.50 x bounded") {
		t.Errorf("got %+v", v)
	}
}

func TestWhoWasNotMeasuredMissesItsBudgets(t *testing.T) {
	s := standings{{Subject: floor, Bounded: true, NsPerOp: 50}}
	if v := judge(benchmark{budgets: []budget{atMostTwiceTheFloor}}, s); v[0].met {
		t.Errorf("got %+v", v)
	}
}
