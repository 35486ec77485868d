package fair_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/workerpool-dev/workerpool/internal/fair"
)

func TestEachPartyHasItsTries(t *testing.T) {
	now := time.Unix(1, 0)
	tries := fair.NewTries(func() time.Time { return now })
	bound := fair.Bound{PerSecond: 2, Burst: 5, AtOnce: 3}
	try := func(party string) bool {
		end, ok := tries.Begin(party, bound)
		if ok {
			end()
		}
		return ok
	}
	for i := range 10 {
		if got := try("often"); got != (i < bound.Burst) {
			t.Errorf("try %d in a moment: %v", i, got)
		}
	}
	if !try("seldom") {
		t.Error("another party has no try")
	}
	now = now.Add(time.Second)
	for i := range 4 {
		if got := try("often"); got != (i < 2) {
			t.Errorf("try %d of the next second: %v", i, got)
		}
	}
}

func TestAPartyHasSoManyTriesAtOnceHoweverLongTheyTake(t *testing.T) {
	now := time.Unix(1, 0)
	tries := fair.NewTries(func() time.Time { return now })
	bound := fair.Bound{PerSecond: 1, Burst: 5, AtOnce: 1}
	end, ok := tries.Begin("slow", bound)
	if !ok {
		t.Fatal("no first try")
	}
	for i := range 100 { // others have it looked whom to forget
		now = now.Add(time.Minute)
		tries.Begin(fmt.Sprint(i), bound)
	}
	if _, ok := tries.Begin("slow", bound); ok {
		t.Error("a second try beside the first")
	}
	end()
	if _, ok := tries.Begin("slow", bound); !ok {
		t.Error("no try after the first has ended")
	}
}
