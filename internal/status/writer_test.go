package status_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/engine"
	"github.com/workerpool-dev/workerpool/internal/status"
	"k8s.io/utils/clock"
)

func TestALaterWriteReplacesAPendingOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, stored("a", v1alpha1.JobStatus{}))
		w := a.run(nil)
		first := write("a", 1, running(1, epoch))
		first.Due = time.Now().Add(200 * time.Millisecond)
		w.Write(first)
		synctest.Wait()
		w.Write(write("a", 2, inState(v1alpha1.JobSucceeded)))
		time.Sleep(time.Second)

		if n := len(a.sent()); n != 1 {
			t.Errorf("%d requests, want 1", n)
		}
		a.wantTold("written uid-a version 2 at 1000")
	})
}

func TestAWriteIsStoredWhenItIsDueAndNoSooner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, stored("a", v1alpha1.JobStatus{}), stored("b", v1alpha1.JobStatus{}), stored("c", v1alpha1.JobStatus{}))
		w := a.run(nil)
		start := time.Now()
		for name, after := range map[string]time.Duration{"c": 3 * time.Hour, "a": 200 * time.Millisecond, "b": time.Second} {
			write := write(name, 1, running(1, epoch))
			write.Due = start.Add(after)
			w.Write(write)
		}
		time.Sleep(4 * time.Hour)

		var got []string
		for _, r := range a.sent() {
			got = append(got, fmt.Sprint(r.job, r.at.Sub(start)))
		}
		if want := "[a200ms b1s c3h0m0s]"; fmt.Sprint(got) != want {
			t.Errorf("requests at %v, want %s", got, want)
		}
	})
}

func TestAFinalWriteGoesBeforePassingOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, stored("p", v1alpha1.JobStatus{}), stored("f", v1alpha1.JobStatus{}))
		w := status.New(status.Config{Client: a.client, Live: a.client, Clock: clock.RealClock{}})
		// Nobody else may have a turn between the two: the first request waits for the second.
		a.before = func(context.Context, int) error { synctest.Wait(); return nil }
		passing, final := write("p", 1, running(1, epoch)), write("f", 1, inState(v1alpha1.JobFailed))
		passing.Due = passing.Due.Add(-time.Minute)
		w.Write(passing)
		w.Write(final)
		a.before = nil
		a.start(w)
		synctest.Wait()

		a.wantFirst("f", 2)
	})
}

func (a *api) wantFirst(job string, requests int) {
	a.t.Helper()
	sent := a.sent()
	if len(sent) != requests || sent[0].job != job {
		a.t.Errorf("requests %v, want %d, that of %s first", sent, requests, job)
	}
}
