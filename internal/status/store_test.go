package status_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/engine"
)

func TestThePatchIsOfThisVeryJobInThisVeryVersion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, stored("a", v1alpha1.JobStatus{Message: "of before"}))
		w := a.run(nil)
		started := metav1.NewMicroTime(time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC))
		s := v1alpha1.JobStatus{State: v1alpha1.JobRunning, Worker: "pool-0", StartTime: &started}
		w.Write(write("a", 1, s))
		synctest.Wait()

		const want = `[{"op":"replace","path":"/metadata/uid","value":"uid-a"},` +
			`{"op":"replace","path":"/metadata/resourceVersion","value":"999"},` +
			`{"op":"add","path":"/status","value":{"state":"Running","startTime":"2026-01-02T03:04:05.000006Z","worker":"pool-0"}}]`
		if sent := a.sent(); len(sent) != 1 || sent[0].body != want {
			t.Errorf("sent %v, want %s", sent, want)
		}
	})
}

// Which of two leaders is the later one, the Lease itself tells: their epochs need not, where it was edited.
func TestAJobThatAnotherLeaderHasWrittenIsWrittenOnlyByTheLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, stored("a", v1alpha1.JobStatus{}))
		a.change("a", v1alpha1.JobStatus{State: v1alpha1.JobQueued, Leader: "1000.5"})
		var leads atomic.Bool
		w := a.run(func(context.Context) error {
			if !leads.Load() {
				return errors.New("the lease has changed hands")
			}
			return nil
		})
		w.Write(write("a", 1, running(2, epoch)))
		time.Sleep(time.Hour)
		a.wantTold()
		leads.Store(true)
		time.Sleep(time.Minute)
		a.wantTold(`changed uid-a to "Queued" at 1000`, "written uid-a version 1 at 1001")
	})
}

func withRetries(s v1alpha1.JobStatus, n int32) v1alpha1.JobStatus {
	s.Retries = &n
	return s
}

// Each case is a Job that somebody else has changed, stored in version 1000, when a write made from
// version 999 comes.
func TestAJobThatHasChanged(t *testing.T) {
	earlier := engine.Epoch{LeaseCreated: epoch.LeaseCreated, Transitions: epoch.Transitions - 1}
	const changed, again = `changed uid-a to %q at 1000`, "written uid-a version 1 at 1001"
	cases := []struct {
		name     string
		live     v1alpha1.JobStatus
		write    v1alpha1.JobStatus
		told     []string
		requests int
	}{
		{"is written again in its new version", inState(v1alpha1.JobQueued), running(1, epoch), []string{fmt.Sprintf(changed, "Queued"), again}, 2},
		{"is merged if an earlier leader has changed it", running(9, earlier), running(1, epoch), []string{fmt.Sprintf(changed, "Running"), again}, 2},
		{"is left alone if it has finished", inState(v1alpha1.JobSucceeded), inState(v1alpha1.JobFailed), []string{"finished uid-a"}, 1},
		{"counts as written if it is stored so", running(1, epoch), running(1, epoch), []string{"written uid-a version 1 at 1000"}, 1},
		{"is written when another attempt of ours is stored", running(1, epoch), running(2, epoch), []string{fmt.Sprintf(changed, "Running"), again}, 2},
		{"is merged if its attempt is this one, and the rest is not", withRetries(running(1, epoch), 1), running(1, epoch), []string{fmt.Sprintf(changed, "Running"), again}, 2},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAPI(t, stored("a", v1alpha1.JobStatus{}))
				a.change("a", c.live)
				w := a.run(nil)
				w.Write(write("a", 1, c.write))
				time.Sleep(time.Hour)

				a.wantTold(c.told...)
				if n := len(a.sent()); n != c.requests {
					t.Errorf("%d requests, want %d", n, c.requests)
				}
			})
		})
	}
}

func TestAJobThatIsGoneIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t)
		w := a.run(nil)
		w.Write(write("a", 1, running(1, epoch)))
		synctest.Wait()
		a.wantTold("gone uid-a")
	})
}

func TestAJobThatIsGoneWhenAConflictIsLookedAtIsCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t)
		a.before = func(_ context.Context, patch int) error {
			if patch == 0 {
				return nil
			}
			return conflict()
		}
		w := a.run(nil)
		w.Write(write("a", 1, running(1, epoch)))
		synctest.Wait()
		a.wantTold("gone uid-a")
	})
}

func TestAJobOfTheSameNameIsAnotherOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		again := stored("a", inState(v1alpha1.JobPending))
		again.UID, again.ResourceVersion = "uid-of-another", "2000"
		a := newAPI(t, again)
		w := a.run(nil)
		w.Write(write("a", 1, inState(v1alpha1.JobSucceeded)))
		time.Sleep(time.Hour)

		a.wantTold("gone uid-a")
		if s := a.state("a"); s != v1alpha1.JobPending {
			t.Errorf("the other Job's state is %s, want Pending still", s)
		}
	})
}

func TestAFailedWriteIsTriedAgainAfterGrowingPauses(t *testing.T) {
	failures := map[string]error{
		"time-out":        apierrors.NewTimeoutError("slow", 1),
		"internal error":  apierrors.NewInternalError(errors.New("etcd")),
		"connection lost": errors.New("connection reset by peer"),
	}
	for name, failure := range failures {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAPI(t, stored("a", v1alpha1.JobStatus{}))
				a.before = func(_ context.Context, patch int) error {
					if patch <= 12 {
						return failure
					}
					return nil
				}
				w := a.run(nil)
				w.Write(write("a", 1, inState(v1alpha1.JobSucceeded)))
				time.Sleep(time.Hour)

				a.wantTold("written uid-a version 1 at 1000")
				a.wantPauses(100*time.Millisecond, 30*time.Second)
			})
		})
	}
}

// wantPauses between the requests: the first so long, and each twice as long as that before it, up
// to the most.
func (a *api) wantPauses(first, most time.Duration) {
	a.t.Helper()
	sent := a.sent()
	want := first
	for i := 1; i < len(sent); i++ {
		if pause := sent[i].at.Sub(sent[i-1].at); pause != want {
			a.t.Errorf("a pause of %v before request %d, want %v", pause, i+1, want)
		}
		want = min(most, 2*want)
	}
}

func TestAWriteWhoseAnswerIsLostIsNotMadeTwice(t *testing.T) {
	cases := map[string]struct {
		status v1alpha1.JobStatus
		told   string
	}{
		"running": {running(1, epoch), "written uid-a version 1 at 1000"},
		"final":   {inState(v1alpha1.JobSucceeded), "finished uid-a"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAPI(t, stored("a", v1alpha1.JobStatus{}))
				a.after = func(_ context.Context, patch int) error {
					if patch == 1 {
						return apierrors.NewTimeoutError("the answer is lost", 1)
					}
					return nil
				}
				w := a.run(nil)
				w.Write(write("a", 1, c.status))
				time.Sleep(time.Hour)

				a.wantTold(c.told)
				if s := a.state("a"); s != c.status.State {
					t.Errorf("state %s, want %s", s, c.status.State)
				}
				if n := len(a.sent()); n != 2 {
					t.Errorf("%d requests, want 2", n)
				}
			})
		})
	}
}

func TestALiveReadThatFailsIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, stored("a", v1alpha1.JobStatus{}))
		a.change("a", inState(v1alpha1.JobSucceeded))
		reads := 0
		a.before = func(_ context.Context, patch int) error {
			if patch > 0 {
				return nil
			}
			if reads++; reads == 1 {
				return apierrors.NewServiceUnavailable("no leader in etcd")
			}
			return nil
		}
		w := a.run(nil)
		w.Write(write("a", 1, inState(v1alpha1.JobFailed)))
		time.Sleep(time.Minute)
		a.wantTold("finished uid-a")
	})
}

func TestAWriteToConfirmIsNotMadeWithoutTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, stored("a", v1alpha1.JobStatus{}), stored("b", v1alpha1.JobStatus{}))
		lost := errors.New("the lease has changed hands")
		w := a.run(func(context.Context) error { return lost })
		confirm := write("a", 1, inState(v1alpha1.JobFailed))
		confirm.Confirm = true
		w.Write(confirm)
		w.Write(write("b", 1, inState(v1alpha1.JobFailed)))
		time.Sleep(time.Hour)
		a.wantTold("written uid-b version 1 at 1000")
	})
}

func TestAWriteToConfirmIsMadeWithTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, stored("a", v1alpha1.JobStatus{}))
		w := a.run(func(context.Context) error { return nil })
		confirm := write("a", 1, inState(v1alpha1.JobFailed))
		confirm.Confirm = true
		w.Write(confirm)
		synctest.Wait()
		a.wantTold("written uid-a version 1 at 1000")
	})
}

func conflict() error {
	return apierrors.NewConflict(v1alpha1.GroupVersion.WithResource("jobs").GroupResource(), "a", errors.New("the object has been modified"))
}
