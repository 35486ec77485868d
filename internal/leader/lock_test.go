package leader

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
)

// writes is a lock that counts what is written, and refuses it with err.
type writes struct {
	resourcelock.Interface

	n   int
	err error
	// gets counts the reads, of which so many fail because there is no API server.
	gets, failing int
}

func (w *writes) Get(context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	if w.gets++; w.gets <= w.failing {
		return nil, nil, &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	}
	return &resourcelock.LeaderElectionRecord{}, nil, w.err
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
	clk := clocktesting.NewFakeClock(time.Unix(1000, 0))
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

func TestWhoWaitsForTheLeaseWaitsForTheAPIServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := &writes{failing: 10}
		lock := &thrifty{Interface: inner, clock: clock.RealClock{}}
		began := time.Now()
		if _, _, err := lock.Get(t.Context()); err != nil || time.Since(began) != 10*RetryPeriod {
			t.Errorf("error %v after %v", err, time.Since(began))
		}
		inner.failing = 1000
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := lock.Get(ctx); err == nil || ctx.Err() == nil {
			t.Errorf("error %v before its context has ended", err)
		}
	})
}

func TestALeaderIsToldAtOnceThatThereIsNoAPIServer(t *testing.T) {
	inner := &writes{failing: 1000}
	lock := &thrifty{Interface: inner, clock: clock.RealClock{}}
	mine := resourcelock.LeaderElectionRecord{HolderIdentity: "me"}
	if err := lock.Create(t.Context(), mine); err != nil {
		t.Fatal(err)
	}
	inner.err = errors.New("down")
	if err := lock.Update(t.Context(), resourcelock.LeaderElectionRecord{HolderIdentity: "me", LeaderTransitions: 1}); err == nil {
		t.Fatal("the write has not failed")
	}
	if _, _, err := lock.Get(t.Context()); err == nil || inner.gets != 1 {
		t.Errorf("error %v after %d tries", err, inner.gets)
	}
}

func TestALeaderHasEndedBeforeItsLeaseHas(t *testing.T) {
	if RenewInterval+RenewDeadline > LeaseDuration-4*time.Second {
		t.Error("a leader that can't renew goes on for too long")
	}
}
