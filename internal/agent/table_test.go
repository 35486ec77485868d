package agent

import (
	"fmt"
	"testing"
	"time"

	pb "github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
)

func assignmentTry(job string, try int32) *pb.Assignment {
	return &pb.Assignment{Token: tokenTry(job, try), Argv: []string{"true"}}
}

// mustAssign fails unless the assignment is to be started.
func mustAssign(t *testing.T, tb *table, a *pb.Assignment) *attempt {
	t.Helper()
	at, why := tb.assign(a)
	if at == nil {
		t.Fatalf("%v was refused: %v", a.GetToken(), why)
	}
	return at
}

func TestAssignRefuses(t *testing.T) {
	lowerEpoch := assignmentTry("a", 2)
	lowerEpoch.Token.Epoch.LeaseTransitions--
	tests := map[string]struct {
		prepare func(*testing.T, *table)
		assign  *pb.Assignment
		want    refusal
	}{
		"an attempt that runs": {
			func(t *testing.T, tb *table) { mustAssign(t, tb, assignmentTry("a", 2)) }, assignmentTry("a", 2), refusedKnown},
		"a lower try": {
			func(t *testing.T, tb *table) { mustAssign(t, tb, assignmentTry("a", 2)) }, assignmentTry("a", 1), refusedKnown},
		"a lower epoch": {
			func(t *testing.T, tb *table) { mustAssign(t, tb, assignmentTry("a", 2)) }, lowerEpoch, refusedKnown},
		"an attempt that has ended": {
			func(_ *testing.T, tb *table) { tb.add(&result{token: tokenOf(tokenTry("a", 1))}) }, assignmentTry("a", 1), refusedKnown},
		"a lower try than one that has ended": {
			func(_ *testing.T, tb *table) { tb.add(&result{token: tokenOf(tokenTry("a", 2))}) }, assignmentTry("a", 1), refusedKnown},
		"more than the slots": {
			func(t *testing.T, tb *table) {
				mustAssign(t, tb, assignmentTry("b", 1))
				mustAssign(t, tb, assignmentTry("c", 1))
			}, assignmentTry("a", 1), refusedSlots},
		"any when draining":   {func(_ *testing.T, tb *table) { tb.draining = true }, assignmentTry("a", 1), refusedDraining},
		"any in disorder":     {func(_ *testing.T, tb *table) { tb.disorder = "full" }, assignmentTry("a", 1), refusedDisorder},
		"any while scarce":    {func(_ *testing.T, tb *table) { tb.scarce = true }, assignmentTry("a", 1), refusedScarce},
		"one without a token": {func(*testing.T, *table) {}, &pb.Assignment{}, refusedNobody},
		"the thousand and first result": {
			func(t *testing.T, tb *table) {
				for i := range maxResults - 1 {
					tb.add(&result{token: tokenOf(tokenFor(fmt.Sprint(i)))})
				}
				mustAssign(t, tb, assignmentTry("b", 1))
			}, assignmentTry("a", 1), refusedResults},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			tb := newTable(2)
			test.prepare(t, tb)
			before := len(tb.live)
			if at, why := tb.assign(test.assign); at != nil || why != test.want {
				t.Errorf("got %v, %q, want %q", at, why, test.want)
			}
			if len(tb.live) != before {
				t.Error("a refused assignment is live")
			}
		})
	}
}

func TestAHigherTryTakesTheSlotOfTheLower(t *testing.T) {
	tb := newTable(1)
	first := mustAssign(t, tb, assignmentTry("a", 1))
	second := mustAssign(t, tb, assignmentTry("a", 2))
	if second.previous != first {
		t.Fatal("the second does not wait for the first")
	}
	tb.finish(first, &result{token: first.token})
	if _, why := tb.assign(assignmentTry("b", 1)); why != refusedSlots {
		t.Errorf("the end of the first freed the slot of the second: %q", why)
	}
	tb.finish(second, &result{token: second.token})
	mustAssign(t, tb, assignmentTry("b", 1))
}

func TestSettledIsForgotten(t *testing.T) {
	tb := newTable(1)
	at := mustAssign(t, tb, assignmentTry("a", 1))
	tb.finish(at, &result{token: at.token})
	if tb.settle(tokenOf(tokenTry("a", 2))) != nil {
		t.Error("another attempt was settled")
	}
	if tb.settle(at.token) == nil || tb.count != 0 || len(tb.results) != 0 {
		t.Errorf("the result is still there: %v", tb.results)
	}
	if tb.settle(at.token) != nil {
		t.Error("settled twice")
	}
}

func TestSettledWhileRunningLeavesNoResult(t *testing.T) {
	tb := newTable(1)
	at := mustAssign(t, tb, assignmentTry("a", 1))
	tb.settle(at.token)
	if tb.finish(at, &result{token: at.token}) || tb.count != 0 {
		t.Error("it has left a result")
	}
}

func TestUnsentIsSentOncePerSession(t *testing.T) {
	tb := newTable(1)
	for i := range maxResults {
		tb.add(&result{token: tokenOf(tokenFor(fmt.Sprint(i)))})
	}
	if a, b := len(tb.unsent(1)), len(tb.unsent(1)); a != maxResults || b != 0 {
		t.Errorf("sent %d and then %d of %d", a, b, maxResults)
	}
	if n := len(tb.unsent(2)); n != maxResults {
		t.Errorf("the next session was sent %d of %d", n, maxResults)
	}
}

func TestDrained(t *testing.T) {
	tb := newTable(1)
	at := mustAssign(t, tb, assignmentTry("a", 1))
	tb.draining = true
	if tb.drained() {
		t.Error("drained while one runs")
	}
	tb.finish(at, &result{token: at.token})
	if tb.drained() {
		t.Error("drained before the result was stored")
	}
	tb.settle(at.token)
	if !tb.drained() {
		t.Error("not drained")
	}
}

func TestALeaderOfALowerEpochIsRefused(t *testing.T) {
	now := time.Unix(1000, 0)
	l := leader{heard: now, fence: 20 * time.Second, forget: 60 * time.Second}
	accept := func(created, transitions int64) error {
		return l.accept(epoch{created, transitions}, 20*time.Second, now)
	}
	if err := accept(5, 5); err != nil {
		t.Fatal(err)
	}
	for _, lower := range []epoch{{5, 4}, {4, 9}} {
		if accept(lower.leaseCreated, lower.leaseTransitions) == nil {
			t.Errorf("accepted %v after {5 5}", lower)
		}
	}
	for _, higher := range []epoch{{5, 5}, {5, 6}, {6, 0}} {
		if err := accept(higher.leaseCreated, higher.leaseTransitions); err != nil {
			t.Errorf("refused %v: %v", higher, err)
		}
	}
	now = now.Add(59 * time.Second)
	if accept(1, 1) == nil {
		t.Error("the epoch was forgotten after 59 s")
	}
	now = now.Add(time.Second)
	if err := accept(1, 1); err != nil {
		t.Errorf("the epoch was not forgotten after 60 s: %v", err)
	}
}

func TestFenceCountsFromTheLastMessage(t *testing.T) {
	start := time.Unix(1000, 0)
	l := leader{heard: start, fence: 20 * time.Second, forget: 60 * time.Second}
	l.hear(start.Add(5 * time.Second))
	if due, left := l.fenced(start.Add(24 * time.Second)); due || left != time.Second {
		t.Errorf("after 19 s: due %v, left %v", due, left)
	}
	if due, _ := l.fenced(start.Add(25 * time.Second)); !due {
		t.Error("not due after 20 s")
	}
}

func TestARefusedLeaderDoesNotHoldTheFence(t *testing.T) {
	start := time.Unix(1000, 0)
	l := leader{heard: start, fence: 20 * time.Second, forget: 60 * time.Second}
	if err := l.accept(epoch{5, 5}, 20*time.Second, start); err != nil {
		t.Fatal(err)
	}
	if l.accept(epoch{5, 4}, 20*time.Second, start.Add(19*time.Second)) == nil {
		t.Fatal("accepted a lower epoch")
	}
	if due, _ := l.fenced(start.Add(20 * time.Second)); !due {
		t.Error("a refused leader counted as heard")
	}
}
