package main

import (
	"slices"
	"sync/atomic"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{[]float64{4}, 4},
		{[]float64{9, 1}, 5},
		{[]float64{100, 2, 1}, 2},
		{[]float64{4, 100, 2, 3}, 3.5},
	} {
		given := slices.Clone(c.values)
		if got := median(c.values); got != c.want {
			t.Errorf("median of %v is %v, want %v", given, got, c.want)
		}
		if !slices.Equal(c.values, given) {
			t.Errorf("median changed %v to %v", given, c.values)
		}
	}
}

func TestHundredths(t *testing.T) {
	for _, c := range []struct{ x, want float64 }{
		{0, 0}, {0.0049, 0}, {0.0051, 0.01}, {1.994, 1.99}, {1.996, 2}, {123456.789, 123456.79},
	} {
		if got := hundredths(c.x); got != c.want {
			t.Errorf("%v is %v, want %v", c.x, got, c.want)
		}
	}
}

func TestAllTakeOneTurnInEachRound(t *testing.T) {
	for round := range 20 {
		turns := order(round, 13)
		slices.Sort(turns)
		for i, turn := range turns {
			if turn != i {
				t.Fatalf("round %d: the turns are those of %v", round, turns)
			}
		}
	}
}

func TestNobodyAlwaysComesAfterTheSameOne(t *testing.T) {
	const n = 5
	before := map[int]map[int]bool{} // whom each came after
	for round := range minRounds {
		turns := order(round, n)
		for i := 1; i < n; i++ {
			if before[turns[i]] == nil {
				before[turns[i]] = map[int]bool{}
			}
			before[turns[i]][turns[i-1]] = true
		}
	}
	for i := range n {
		if len(before[i]) < 2 {
			t.Errorf("%d always came after %v", i, before[i])
		}
	}
}

// scripted is a contender whose measurements are known.
func scripted(subject string, samples ...sample) contender {
	return contender{subject: subject, bounded: subject != "unbounded", measure: func() sample {
		next := samples[0]
		samples = samples[1:]
		return next
	}}
}

func TestABenchmarkHasTheMediansOfItsRoundsTheFastestFirst(t *testing.T) {
	b := benchmark{name: "b", contenders: []contender{
		scripted("slow", sample{20, 2}, sample{30.126, 1.126}, sample{1000, 0}),
		scripted("unbounded", sample{3, 0}, sample{1, 0}, sample{2, 0}),
	}}
	want := standings{
		{Name: "b", Subject: "unbounded", NsPerOp: 2},
		{Name: "b", Subject: "slow", Bounded: true, NsPerOp: 30.13, AllocsPerOp: 1.13},
	}
	if got := b.run(3); !slices.Equal(got, want) {
		t.Fatalf("got %+v, want %+v", got, want)
	}
}

func TestMeasureWaitsForAllActorsAndCountsTheirAllocations(t *testing.T) {
	const actors, each = 3, 1000
	var operations atomic.Int64
	var kept [actors][each]*int
	var acts []func()
	for a := range actors {
		acts = append(acts, func() {
			for i := range each {
				kept[a][i] = new(i)
				operations.Add(1)
			}
		})
	}
	s := measure(actors*each, acts...)
	if got := operations.Load(); got != actors*each {
		t.Fatalf("%d operations had been done, want %d", got, actors*each)
	}
	if s.allocs < 1 || s.allocs > 1.1 {
		t.Errorf("%v allocations per operation, want 1", s.allocs)
	}
	if s.ns <= 0 {
		t.Errorf("%v ns per operation", s.ns)
	}
}

func TestMustPanicsForAnError(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a subject refused its work, and nobody noticed")
		}
	}()
	must(errBudget)
}
