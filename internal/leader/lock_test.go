package leader

import (
	"context"
	"errors"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	clocktesting "k8s.io/utils/clock/testing"
)

// writes is a lock that counts what is written, and refuses it with err.
type writes struct {
	resourcelock.Interface

	n   int
	err error
}

func (w *writes) Identity() string { return "me" }

func (w *writes) Create(context.Context, resourcelock.LeaderElectionRecord) error {
	w.n++
	return w.err
}

func (w *writes) Update(context.Context, resourcelock.LeaderElectionRecord) error {
	w.n++
	return w.err
}

func TestALeaseIsRenewedNoMoreOftenThanNeedBe(t *testing.T) {
	clk := clocktesting.NewFakePassiveClock(time.Unix(1000, 0))
	inner := &writes{}
	lock := &thrifty{Interface: inner, clock: clk}
	acquired := metav1.NewTime(clk.Now())
	renewal := func(holder string) resourcelock.LeaderElectionRecord {
		return resourcelock.LeaderElectionRecord{
			HolderIdentity: holder, LeaseDurationSeconds: 15, AcquireTime: acquired, RenewTime: metav1.NewTime(clk.Now()),
		}
	}
	update := func(record resourcelock.LeaderElectionRecord, want int, what string) {
		t.Helper()
		if err := lock.Update(t.Context(), record); !errors.Is(err, inner.err) && inner.n == want {
			t.Errorf("%s: %v", what, err)
		}
		if inner.n != want {
			t.Fatalf("%s: %d writes, want %d", what, inner.n, want)
		}
	}
	if err := lock.Create(t.Context(), renewal("me")); err != nil {
		t.Fatal(err)
	}
	clk.SetTime(clk.Now().Add(RenewInterval - 1))
	update(renewal("me"), 1, "a renewal that is not due")
	clk.SetTime(clk.Now().Add(1))
	update(renewal("me"), 2, "one that is")

	inner.err = errors.New("down")
	clk.SetTime(clk.Now().Add(RenewInterval))
	update(renewal("me"), 3, "one that fails")
	inner.err = nil
	update(renewal("me"), 4, "the next after one that has failed")
	acquired = metav1.NewTime(clk.Now())
	update(renewal("me"), 5, "another acquisition")
	update(renewal(""), 6, "a release")
	update(renewal("me"), 7, "an acquisition after a release")
}

func TestALeaderHasEndedBeforeItsLeaseHas(t *testing.T) {
	if RenewInterval+RenewDeadline > LeaseDuration-4*time.Second {
		t.Error("a leader that can't renew goes on for too long")
	}
}
