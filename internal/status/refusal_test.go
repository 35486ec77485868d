package status_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// The answers of an API server, as TestWhatTheAPIServerAnswersToATooLargeJob of test/crd has them from a real one.
var (
	errTooLarge = &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Message: "etcdserver: request is too large",
	}}
	errTooLargeToSend = &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusInternalServerError,
		Message: "rpc error: code = ResourceExhausted desc = trying to send message larger than max (2200000 vs. 2097152)",
	}}
	errForbidden = apierrors.NewForbidden(v1alpha1.GroupVersion.WithResource("jobs").GroupResource(), "a", errors.New("denied by a policy"))
	errInvalid   = apierrors.NewInvalid(v1alpha1.GroupVersion.WithKind("Job").GroupKind(), "a", nil)
)

// refuse answers the status patches of one Job so, as long as want says so of their body.
func (a *api) refuse(job string, answer error, want func(body string) bool) {
	a.before = func(_ context.Context, patch int) error {
		if patch == 0 {
			return nil
		}
		if r := a.sent()[patch-1]; r.job == job && want(r.body) {
			return answer
		}
		return nil
	}
}

func always(string) bool { return true }

// full is a final status with all that can be left out.
func full() v1alpha1.JobStatus {
	long := strings.Repeat("m", 1000)
	return v1alpha1.JobStatus{
		State: v1alpha1.JobFailed, Reason: v1alpha1.ReasonExitCode, Message: long,
		Conditions:       []metav1.Condition{{Type: v1alpha1.JobFailedCondition, Status: metav1.ConditionTrue, Reason: "ExitCode", Message: long}},
		Result:           &v1alpha1.JobResult{ExitCode: new(int32(3)), Reason: v1alpha1.ReasonExitCode, Message: long, Output: "the output"},
		EndedAttempts:    []v1alpha1.Attempt{{Token: "1.2.3"}},
		Usage:            &v1alpha1.JobUsage{},
		SucceededIndexes: "1,3", FailedIndexes: "2", RetriedIndexes: "4:1:1",
	}
}

func TestAStatusThatIsTooLargeLosesItsLeastFirst(t *testing.T) {
	for _, c := range []struct {
		refused  string
		requests int
		kept     []string
	}{
		{`"output"`, 2, []string{strings.Repeat("m", 900), `"endedAttempts"`, `"usage"`, `"succeededIndexes"`}},
		{strings.Repeat("m", 500), 3, []string{"mmm", `"endedAttempts"`, `"usage"`, `"succeededIndexes"`}},
		{`"endedAttempts"`, 4, []string{`"exitCode":3`, "mmm", `"Failed"`}},
		{`"retriedIndexes"`, 4, []string{`"exitCode":3`}},
	} {
		for name, answer := range map[string]error{
			"too large for etcd": errTooLarge, "too large to send": errTooLargeToSend, "413": apierrors.NewRequestEntityTooLargeError("limit is 3145728"), "invalid": errInvalid,
		} {
			t.Run(fmt.Sprint(c.requests, " ", name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					a := newAPI(t, stored("a", v1alpha1.JobStatus{}))
					a.refuse("a", answer, func(body string) bool { return strings.Contains(body, c.refused) })
					w := a.run(nil)
					w.Write(write("a", 1, full()))
					synctest.Wait()

					a.wantTold("written uid-a version 1 at 1000")
					sent := a.sent()
					if len(sent) != c.requests {
						t.Fatalf("%d requests, want %d", len(sent), c.requests)
					}
					last := sent[len(sent)-1].body
					for _, kept := range append(c.kept, "It was shortened.") {
						if !strings.Contains(last, kept) {
							t.Errorf("%s was stored, want %s in it", last, kept)
						}
					}
					a.wantEvents("StatusShortened")
				})
			})
		}
	}
}

func TestTheIndexesOfAJobThatGoesOnAreNotLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, stored("a", v1alpha1.JobStatus{}))
		a.refuse("a", errTooLarge, func(body string) bool { return strings.Contains(body, "succeededIndexes") })
		w := a.run(nil)
		s := full()
		s.State = v1alpha1.JobRunning
		w.Write(write("a", 1, s))
		synctest.Wait()
		a.wantTold("refused uid-a version 1")
		time.Sleep(time.Hour)
		if n := len(a.sent()); n != 4 {
			t.Errorf("%d requests, want 4: the engine asks for what is to be stored next", n)
		}
	})
}

func TestAnEndThatIsRefusedIsTriedSeldomAndHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, stored("a", v1alpha1.JobStatus{}), stored("b", v1alpha1.JobStatus{}))
		var shrunk atomic.Bool
		a.refuse("a", errTooLarge, func(string) bool { return !shrunk.Load() })
		w := a.run(nil)
		w.Write(write("a", 1, full()))
		synctest.Wait()
		w.Write(write("b", 1, full()))
		synctest.Wait()
		a.wantTold("refused uid-a version 1", "written uid-b version 1 at 1000")
		time.Sleep(9 * time.Minute)
		if n := len(a.sent()); n != 5 {
			t.Errorf("%d requests, want 5: four of a, each smaller, and one of b", n)
		}
		time.Sleep(time.Hour)
		if n := len(a.sent()); n > 5+4*7 {
			t.Errorf("%d requests within an hour", n)
		}
		a.wantEvents("StatusRefused")
		shrunk.Store(true)
		time.Sleep(10 * time.Minute)
		a.wantTold("refused uid-a version 1", "written uid-b version 1 at 1000", "written uid-a version 1 at 1000")
		if n := refusals(t, w); n != 1 {
			t.Errorf("%v refusals are counted, want 1", n)
		}
	})
}

func TestARefusedJobThatIsDeletedIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, stored("a", v1alpha1.JobStatus{}))
		a.refuse("a", errTooLarge, always)
		w := a.run(nil)
		w.Write(write("a", 1, full()))
		synctest.Wait()
		w.DropWrite(uidOf("a"))
		before := len(a.sent())
		time.Sleep(time.Hour)
		if n := len(a.sent()); n != before {
			t.Errorf("%d requests after the Job was deleted", n-before)
		}
	})
}

// A policy can deny one Job's status, or a role that is missing all: then the agents keep the results until it is
// mended.
func TestAStatusThatIsDeniedCountsAsRefusedOnceOthersAreStored(t *testing.T) {
	for name, answer := range map[string]error{"forbidden": errForbidden, "invalid": errInvalid} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAPI(t, stored("a", v1alpha1.JobStatus{}), stored("b", v1alpha1.JobStatus{}))
				a.refuse("a", answer, always)
				w := a.run(nil)
				w.Write(write("a", 1, full()))
				time.Sleep(time.Hour)
				a.wantTold()
				if n := len(a.sent()); n > 140 {
					t.Errorf("%d requests within an hour, want one each 30 seconds, and those of the beginning", n)
				}
				w.Write(write("b", 1, full()))
				time.Sleep(time.Minute)
				a.wantTold("written uid-b version 1 at 1000", "refused uid-a version 1")
				before := len(a.sent())
				time.Sleep(time.Hour)
				if n := len(a.sent()) - before; n > 4*7 {
					t.Errorf("%d requests within an hour after that", n)
				}
			})
		})
	}
}

// An indexed Job asks for a write each second.
func TestAPassingStatusThatIsDeniedIsNotTriedAsOftenAsItIsAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, stored("a", v1alpha1.JobStatus{}), stored("b", v1alpha1.JobStatus{}))
		var allowed atomic.Bool
		a.refuse("a", errForbidden, func(string) bool { return !allowed.Load() })
		w := a.run(nil)
		for i := range 600 {
			w.Write(write("a", uint64(i+1), running(1, epoch)))
			if i == 300 {
				w.Write(write("b", 1, full()))
			}
			time.Sleep(time.Second)
		}
		if n := len(a.sent()); n > 50 {
			t.Errorf("%d requests within ten minutes", n)
		}
		a.wantTold("written uid-b version 1 at 1000")
		allowed.Store(true)
		time.Sleep(time.Minute)
		a.wantTold("written uid-b version 1 at 1000", "written uid-a version 600 at 1000")
	})
}

func TestARefusedReadOfTheLeaseIsNoRefusalOfTheStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, stored("a", v1alpha1.JobStatus{}), stored("b", v1alpha1.JobStatus{}))
		w := a.run(func(context.Context) error { return errInvalid })
		confirm := write("a", 1, full())
		confirm.Confirm = true
		w.Write(confirm)
		time.Sleep(time.Minute)
		w.Write(write("b", 1, full()))
		time.Sleep(time.Hour)
		a.wantTold("written uid-b version 1 at 1000")
	})
}

func TestARefusedJobThatIsGoneOrFinishedIsTold(t *testing.T) {
	for name, c := range map[string]struct {
		jobs []*v1alpha1.Job
		told string
	}{
		"gone":     {nil, "gone uid-a"},
		"finished": {[]*v1alpha1.Job{stored("a", inState(v1alpha1.JobSucceeded))}, "finished uid-a"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAPI(t, c.jobs...)
				a.refuse("a", errTooLarge, always)
				w := a.run(nil)
				w.Write(write("a", 1, full()))
				time.Sleep(time.Hour)
				a.wantTold(c.told)
			})
		})
	}
}

func TestAWriteThatWasTakenBackWhileItWasUnderWayDoesNotGoAgain(t *testing.T) {
	cases := map[string]struct {
		answer error
		told   []string
	}{
		"unavailable": {apierrors.NewServiceUnavailable("no leader"), nil},
		"too large":   {errTooLarge, nil},
		"conflict":    {conflict(), []string{`changed uid-a to "" at 999`}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAPI(t, stored("a", v1alpha1.JobStatus{}))
				a.silent = true
				w := a.run(nil)
				a.before = func(_ context.Context, patch int) error {
					switch patch {
					case 0:
						return nil
					case 1:
						w.DropWrite(uidOf("a"))
						return c.answer
					}
					return nil
				}
				w.Write(write("a", 1, running(1, epoch)))
				time.Sleep(time.Hour)
				if n := len(a.sent()); n != 1 {
					t.Errorf("%d requests, want 1", n)
				}
				a.wantTold(c.told...)
				w.Write(write("a", 2, running(2, epoch)))
				time.Sleep(time.Minute)
				a.wantTold(append(c.told, "written uid-a version 2 at 1000")...)
			})
		})
	}
}

func (a *api) wantEvents(reasons ...string) {
	a.t.Helper()
	for _, reason := range reasons {
		select {
		case e := <-a.events.Events:
			if !strings.Contains(e, "Warning "+reason) || len(e) > 1024 {
				a.t.Errorf("event of %d bytes %q, want %s", len(e), e, reason)
			}
		default:
			a.t.Errorf("no event %s", reason)
		}
	}
	if n := len(a.events.Events); n != 0 {
		a.t.Errorf("%d events too many: %s", n, <-a.events.Events)
	}
}

// refusals that a Writer has counted.
func refusals(t *testing.T, w interface {
	Register(registry prometheus.Registerer) error
}) float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	if err := w.Register(registry); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil || len(families) != 1 {
		t.Fatalf("%d metrics, %v", len(families), err)
	}
	return families[0].GetMetric()[0].GetCounter().GetValue()
}
