package fair_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/workerpool-dev/workerpool/internal/fair"
)

// take acquires a place in the background, and writes the party down when it has it.
func take(t *testing.T, s *fair.Semaphore[string], party string, got *[]string) {
	t.Helper()
	go func() {
		if err := s.Acquire(t.Context(), party); err == nil {
			*got = append(*got, party)
		}
	}()
	synctest.Wait()
}

func TestAPartyThatWantsLittleIsNextHoweverMuchAnotherWants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := fair.NewSemaphore[string](2)
		var got []string
		for range 100 {
			take(t, s, "greedy", &got)
		}
		take(t, s, "modest", &got)
		s.Release("greedy")
		synctest.Wait()
		if len(got) != 3 || got[2] != "modest" {
			t.Errorf("the places went to %v, want modest third", got)
		}
		for range 99 {
			s.Release("greedy")
			synctest.Wait()
		}
		if len(got) != 101 {
			t.Errorf("%d have had a place, want all 101", len(got))
		}
	})
}

func TestOfEqualPartiesTheOneThatHasWaitedLongestIsNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := fair.NewSemaphore[string](1)
		var got []string
		for _, party := range []string{"a", "b", "c", "d"} {
			take(t, s, party, &got)
		}
		for _, party := range []string{"a", "b", "c"} {
			s.Release(party)
			synctest.Wait()
		}
		if want := "abcd"; len(got) != 4 || got[0]+got[1]+got[2]+got[3] != want {
			t.Errorf("the places went to %v, want %s", got, want)
		}
		s.Release("d")
	})
}

func TestWhoGivesUpWaitingTakesNoPlace(t *testing.T) {
	s := fair.NewSemaphore[string](1)
	if err := s.Acquire(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Acquire(ctx, "b"); !errors.Is(err, context.Canceled) {
		t.Fatalf("the error is %v, want Canceled", err)
	}
	s.Release("a")
	if err := s.Acquire(t.Context(), "c"); err != nil {
		t.Fatal(err)
	}
}
