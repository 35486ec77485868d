package engine

import (
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

func rules(rules ...v1alpha1.FailureRule) func(*v1alpha1.JobSpec) {
	return func(s *v1alpha1.JobSpec) { s.FailurePolicy = &v1alpha1.FailurePolicy{Rules: rules} }
}

func onCodes(action v1alpha1.FailureAction, codes ...int32) v1alpha1.FailureRule {
	return v1alpha1.FailureRule{Action: action, ExitCodes: codes}
}

func onReasons(action v1alpha1.FailureAction, reasons ...v1alpha1.FailureReason) v1alpha1.FailureRule {
	return v1alpha1.FailureRule{Action: action, Reasons: reasons}
}

func asksHTTP(s *v1alpha1.JobSpec) {
	s.Command, s.HTTP = nil, &v1alpha1.HTTPRequest{Method: "POST", Path: "/"}
}

func atMostOnce(s *v1alpha1.JobSpec) { s.Execution = v1alpha1.AtMostOnce }

// What a failure of the first try leads to: a retry that counts, one that does not, or the end.
func TestWhatAFailureMeans(t *testing.T) {
	exit := func(code int32) Result { return Result{Outcome: Exited, ExitCode: code} }
	status := func(n int32) Result { return Result{Outcome: Responded, HTTPStatus: n} }
	one := retries(1)
	const counted, ignored, final = "counted", "ignored", "final"
	for _, c := range []struct {
		name   string
		spec   []func(*v1alpha1.JobSpec)
		result Result
		want   string
		reason string // of the Job's failure, if final
	}{
		{"no retries", nil, exit(1), final, "ExitCode"},
		{"a retry", []func(*v1alpha1.JobSpec){one}, exit(1), counted, ""},
		{"the first rule that matches", []func(*v1alpha1.JobSpec){one, rules(onCodes("Ignore", 2, 3), onCodes("Fail", 3))}, exit(3), ignored, ""},
		{"the first that matches is not the first", []func(*v1alpha1.JobSpec){one, rules(onCodes("Ignore", 2), onCodes("Fail", 3))}, exit(3), final, "ExitCode"},
		{"no rule matches", []func(*v1alpha1.JobSpec){one, rules(onCodes("Ignore", 2), onCodes("Fail", 3))}, exit(4), counted, ""},
		{"no rule matches, no retries", []func(*v1alpha1.JobSpec){rules(onCodes("Ignore", 2))}, exit(4), final, "ExitCode"},
		{"a rule by the reason", []func(*v1alpha1.JobSpec){one, rules(onReasons("Fail", "Timeout", "ExitCode"))}, exit(4), final, "ExitCode"},
		{"a rule about another reason", []func(*v1alpha1.JobSpec){one, rules(onReasons("Fail", "Timeout"))}, exit(4), counted, ""},
		{"Retry without retries", []func(*v1alpha1.JobSpec){rules(onCodes("Retry", 4))}, exit(4), final, "ExitCode"},
		{"Ignore without retries", []func(*v1alpha1.JobSpec){rules(onCodes("Ignore", 4))}, exit(4), ignored, ""},
		{"a signal", []func(*v1alpha1.JobSpec){one, rules(onCodes("Fail", 137))}, exit(137), final, "ExitCode"},
		{"a timeout has no exit code", []func(*v1alpha1.JobSpec){one, rules(onCodes("Fail", 143))}, Result{Outcome: TimedOut, ExitCode: 143}, counted, ""},
		{"a timeout", []func(*v1alpha1.JobSpec){rules(onReasons("Ignore", "Timeout"))}, Result{Outcome: TimedOut}, ignored, ""},
		{"a timeout, no retries", nil, Result{Outcome: TimedOut}, final, "Timeout"},
		{"too much memory", []func(*v1alpha1.JobSpec){one, rules(onReasons("Fail", "MemoryExceeded"))}, Result{Outcome: MemoryExceeded, Message: "too much"}, final, "MemoryExceeded"},
		{"out of memory", []func(*v1alpha1.JobSpec){one}, Result{Outcome: OOMKilled, Message: "out"}, counted, ""},
		{"out of memory, no retries", nil, Result{Outcome: OOMKilled, Message: "out"}, final, "OOMKilled"},
		{"no such program", []func(*v1alpha1.JobSpec){one}, Result{Outcome: CannotStart, Message: "not found"}, counted, ""},
		{"no such program, no retries", nil, Result{Outcome: CannotStart, Message: "not found"}, final, "CannotStart"},
		{"cut off", nil, Result{Outcome: Interrupted}, ignored, ""},
		{"cut off, and Ignore", []func(*v1alpha1.JobSpec){one, rules(onReasons("Ignore", "Interrupted"))}, Result{Outcome: Interrupted}, ignored, ""},
		{"cut off, and Retry", []func(*v1alpha1.JobSpec){one, rules(onReasons("Retry", "Interrupted"))}, Result{Outcome: Interrupted}, counted, ""},
		{"cut off, and Retry without retries", []func(*v1alpha1.JobSpec){rules(onReasons("Retry", "Interrupted"))}, Result{Outcome: Interrupted}, final, "Interrupted"},
		{"cut off, and Fail", []func(*v1alpha1.JobSpec){one, rules(onReasons("Fail", "Interrupted"))}, Result{Outcome: Interrupted}, final, "Interrupted"},
		{"cut off has no exit code", []func(*v1alpha1.JobSpec){rules(onCodes("Fail", 137))}, Result{Outcome: Interrupted, ExitCode: 137}, ignored, ""},

		{"404", []func(*v1alpha1.JobSpec){asksHTTP, one}, status(404), final, "HTTPStatus"},
		{"404, and Retry", []func(*v1alpha1.JobSpec){asksHTTP, one, rules(onReasons("Retry", "HTTPStatus"))}, status(404), counted, ""},
		{"404, and Ignore", []func(*v1alpha1.JobSpec){asksHTTP, rules(onReasons("Ignore", "HTTPStatus"))}, status(404), ignored, ""},
		{"404, and a rule about something else", []func(*v1alpha1.JobSpec){asksHTTP, one, rules(onReasons("Retry", "Timeout"))}, status(404), final, "HTTPStatus"},
		{"400", []func(*v1alpha1.JobSpec){asksHTTP, one}, status(400), final, "HTTPStatus"},
		{"499", []func(*v1alpha1.JobSpec){asksHTTP, one}, status(499), final, "HTTPStatus"},
		{"408", []func(*v1alpha1.JobSpec){asksHTTP, one}, status(408), counted, ""},
		{"429", []func(*v1alpha1.JobSpec){asksHTTP, one}, status(429), counted, ""},
		{"500", []func(*v1alpha1.JobSpec){asksHTTP, one}, status(500), counted, ""},
		{"599, no retries", []func(*v1alpha1.JobSpec){asksHTTP}, status(599), final, "HTTPStatus"},
		{"301", []func(*v1alpha1.JobSpec){asksHTTP, one}, status(301), counted, ""},
		{"no answer", []func(*v1alpha1.JobSpec){asksHTTP, one}, Result{Outcome: Responded, Message: "refused"}, counted, ""},

		{"at most once", []func(*v1alpha1.JobSpec){atMostOnce}, exit(1), final, "ExitCode"},
		{"at most once, timeout", []func(*v1alpha1.JobSpec){atMostOnce}, Result{Outcome: TimedOut}, final, "Timeout"},
		{"at most once, cut off", []func(*v1alpha1.JobSpec){atMostOnce}, Result{Outcome: Interrupted}, final, "Interrupted"},
		{"at most once, 503", []func(*v1alpha1.JobSpec){asksHTTP, atMostOnce}, status(503), final, "HTTPStatus"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, p := lone(t)
			if slices.ContainsFunc(c.spec, func(f func(*v1alpha1.JobSpec)) bool { return command(f).HTTP != nil }) {
				p.handler = v1alpha1.HandlerHTTP
				w.configure(func(c *PoolConfig) { c.Handler = v1alpha1.HandlerHTTP })
				w.listPods()
			}
			if strings.HasPrefix(c.name, "at most once") {
				w.configure(func(c *PoolConfig) { c.Defaults.MaxRetries = new(int32(5)) }) // which are not for such Jobs
			}
			uid := w.runJob(c.spec...)
			w.finish(uid, 0, c.result)
			w.live(time.Second)
			got := final
			switch s := w.status(uid); {
			case s.State.Finished():
				w.wantState(uid, v1alpha1.JobFailed, c.reason)
				if s.Message == "" || len(s.EndedAttempts) > 0 && s.EndedAttempts[0].Reason != c.reason {
					t.Errorf("stored: %s", describeStatus(s))
				}
			case deref(w.engine.jobs[uid].object.Status.Retries) == 1:
				got = counted
			default:
				got = ignored
			}
			if got != c.want {
				t.Errorf("%s, want %s: %s", got, c.want, describeStatus(w.status(uid)))
			}
			w.live(3 * time.Second)
			if n := w.jobs[uid].starts[0]; (n == 2) != (c.want != final) {
				t.Errorf("started %d times", n)
			}
		})
	}
}

func TestAnIgnoredFailureWaitsForItsBackoff(t *testing.T) {
	w, _ := lone(t)
	w.engine.chance = func() float64 { return 1 }
	uid := w.runJob(rules(onCodes("Ignore", 9)), backoff(2, 2, 300))
	for n := range 3 {
		w.exit(uid, 0, 9)
		wait := 2 * time.Second << n
		w.live(wait - TickInterval)
		w.wantRuns(uid)
		w.live(2 * TickInterval)
		w.wantRuns(uid, 0)
	}
	if n := deref(w.jobs[uid].job.Status.Retries); n != 0 {
		t.Errorf("%d retries are counted", n)
	}
}

// A job that ends its workers stops, and a rule may have it stop before.
func TestALostWorkerCountsWhereARuleSaysSo(t *testing.T) {
	for _, c := range []struct {
		action  v1alpha1.FailureAction
		retries int32
		losses  int
		reason  string
	}{
		{"Retry", 2, 3, v1alpha1.ReasonWorkerLost},
		{"Fail", 2, 1, v1alpha1.ReasonWorkerLost},
		{"Ignore", 0, maxLostWorkers, v1alpha1.ReasonWorkerLost},
	} {
		w, p := lone(t)
		uid := w.runJob(retries(c.retries), backoff(0, 1, 0), rules(onReasons(c.action, "WorkerLost")))
		for n := 1; n <= c.losses; n++ {
			if w.status(uid).State.Finished() {
				t.Fatalf("%s: failed after %d losses, want %d", c.action, n-1, c.losses)
			}
			w.wantRuns(uid, 0)
			p = w.lose(p)
			w.live(time.Second)
		}
		w.wantState(uid, v1alpha1.JobFailed, c.reason)
		if got, want := deref(w.status(uid).LostWorkers), int32(c.losses); got != want {
			t.Errorf("%s: %d lost workers, want %d", c.action, got, want)
		}
	}
}

// lose lets a pod vanish without a warning; another takes its place.
func (w *world) lose(p *simPod) *simPod {
	w.drop(p)
	p.gone, p.running, p.results = true, nil, nil
	return w.join()
}

func TestTheRemovalOfAWorkerDoesNotCount(t *testing.T) {
	w, p := lone(t)
	uid := w.runJob()
	for range maxLostWorkers + 1 {
		w.wantRuns(uid, 0)
		p.terminating = true
		w.listPods()
		p = w.lose(p)
		w.live(time.Second)
	}
	if s := w.status(uid); s.State.Finished() || deref(s.LostWorkers) != 0 || deref(s.Retries) != 0 {
		t.Errorf("stored: %s", describeStatus(s))
	}
}

// The status must not say for long that an attempt runs which does not.
func TestThatARecordedAttemptWasCutOffIsStoredAtOnce(t *testing.T) {
	w, p := lone(t)
	uid := w.runJob()
	w.live(time.Second)
	w.drop(p)
	p.gone, p.running, p.terminating = true, nil, true
	w.listPods()
	w.storeDue()
	w.wantState(uid, v1alpha1.JobQueued, v1alpha1.ReasonRetrying)
	s := w.status(uid)
	if s.Attempt != nil || len(s.EndedAttempts) != 1 || s.EndedAttempts[0].Reason != v1alpha1.ReasonWorkerLost && s.EndedAttempts[0].Reason != v1alpha1.ReasonInterrupted {
		t.Errorf("stored: %s", describeStatus(s))
	}
}

func TestFailEndsAnIndexedJobAtOnce(t *testing.T) {
	w, p := room(t, 3)
	uid := w.runJob(completions(9), retries(5), rules(onCodes("Fail", 7)), func(s *v1alpha1.JobSpec) {
		s.TerminationGracePeriodSeconds = new(int32(33))
	})
	w.wantRuns(uid, 0, 1, 2)
	w.exit(uid, 1, 7)
	if s := w.writes[uid].Status; s.State.Finished() {
		t.Errorf("to be stored as %s while tasks of it run", s.State)
	}
	w.agents()
	p.kills = slices.Compact(slices.SortedFunc(slices.Values(p.kills), func(a, b Kill) int { return int(a.Token.Index - b.Token.Index) }))
	if len(p.kills) != 2 || p.kills[0].Grace != 33*time.Second || p.kills[0].Token.Index != 0 || p.kills[1].Token.Index != 2 {
		t.Errorf("kills %+v, want those of the tasks 0 and 2, with 33 s of grace", p.kills)
	}
	w.turn()
	w.wantState(uid, v1alpha1.JobFailed, v1alpha1.ReasonExitCode)
	s := w.status(uid)
	if s.FailedIndexes != "1" || s.SucceededIndexes != "" || deref(s.Active) != 0 || deref(s.Attempts) != 3 ||
		s.Result == nil || *s.Result.ExitCode != 7 || len(w.jobs[uid].starts) != 3 || len(p.results) != 0 {
		t.Errorf("stored: %s, started %v", describeStatus(s), w.jobs[uid].starts)
	}
}

// It may take as long as its tasks take to end.
func TestThatAnIndexedJobWillFailIsStored(t *testing.T) {
	w, _ := room(t, 3)
	uid := w.runJob(completions(3), rules(onCodes("Fail", 7)))
	w.exit(uid, 1, 7)
	w.idle(2 * time.Second) // its agents do not answer
	w.storeDue()
	w.wantState(uid, v1alpha1.JobRunning, "")
	if c := meta.FindStatusCondition(w.status(uid).Conditions, v1alpha1.JobFailureTarget); c == nil || c.Reason != v1alpha1.ReasonExitCode {
		t.Errorf("stored: %s", describeStatus(w.status(uid)))
	}
	w.lead() // which knows it too
	w.connect(w.pods[len(w.pods)-1])
	w.live(2 * time.Second)
	w.wantState(uid, v1alpha1.JobFailed, v1alpha1.ReasonExitCode)
	if len(w.jobs[uid].starts) != 3 {
		t.Errorf("started %v", w.jobs[uid].starts)
	}
}

// onFailure.

func onFailure(s *v1alpha1.JobSpec) {
	s.OnFailure = &v1alpha1.FailureHandler{
		Command: []string{"tell", "{}"}, Args: []string{"them"}, Env: []v1alpha1.EnvVar{{Name: "A", Value: new("handler")}},
	}
}

func TestOnFailureRunsOnceTheFailureIsStored(t *testing.T) {
	for _, c := range []struct {
		name    string
		spec    func(*v1alpha1.JobSpec)
		index   int32
		reason  string
		message string
	}{
		{"plain", func(*v1alpha1.JobSpec) {}, 1, v1alpha1.ReasonExitCode, "The command ended with exit code 3."},
		{"indexed", completions(1), 1, v1alpha1.ReasonIndexesFailed, "1 of 1 tasks have failed: 0."},
		{"items", func(s *v1alpha1.JobSpec) { s.Items = []string{"x"} }, 1, v1alpha1.ReasonIndexesFailed, "1 of 1 tasks have failed: 0."},
		{"at most once", atMostOnce, 1, v1alpha1.ReasonExitCode, "The command ended with exit code 3."},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, p := lone(t)
			uid := w.runJob(c.spec, onFailure, func(s *v1alpha1.JobSpec) {
				s.Env, s.TimeoutSeconds, s.WorkingDir = []v1alpha1.EnvVar{{Name: "B", Value: new("job")}}, new(int32(7)), "/work"
				s.Stdin, s.ActiveDeadlineSeconds, s.Resources = "in", new(int32(60)), memory(1<<30)
			})
			w.exit(uid, 0, 3)
			w.agents()
			w.wantRuns(uid)
			write := w.writes[uid]
			if write.Due.After(w.now) || write.Status.State.Finished() || !meta.IsStatusConditionTrue(write.Status.Conditions, v1alpha1.JobFailureTarget) {
				t.Errorf("to be stored at %s: %s", write.Due, describeStatus(&write.Status))
			}
			w.turn()
			w.wantRuns(uid, c.index)
			if cond := meta.FindStatusCondition(w.status(uid).Conditions, v1alpha1.JobFailureTarget); cond.Reason != c.reason || cond.Message != c.message {
				t.Errorf("condition %+v, want %s %q", cond, c.reason, c.message)
			}
			a := w.assignment(uid, c.index)
			if !slices.Equal(a.Argv, []string{"tell", "{}", "them"}) || !slices.Equal(a.Env, []Variable{
				{"B", "job"}, {"A", "handler"}, {"JOB_FAILURE_REASON", c.reason}, {"JOB_FAILURE_MESSAGE", c.message},
			}) || a.Timeout != 7*time.Second || a.Deadline != 0 || a.Stdin != "" || a.WorkingDir != "/work" {
				t.Errorf("assignment %+v", a)
			}
			if a.MemoryLimit != 0 || a.MemoryShare != simResources.Memory/simSlots {
				t.Errorf("memory limit %d and share %d, want no limit and an equal share", a.MemoryLimit, a.MemoryShare)
			}
			w.live(time.Second)
			w.wantState(uid, v1alpha1.JobRunning, v1alpha1.ReasonOnFailure)
			if s := w.status(uid); s.RunningIndexes != nil || s.Attempt == nil {
				t.Errorf("stored: %s", describeStatus(s))
			}
			w.finish(uid, c.index, Result{Outcome: Exited, ExitCode: 0, Output: "told"})
			w.turn()
			w.wantState(uid, v1alpha1.JobFailed, c.reason)
			s := w.status(uid)
			if s.Message != c.message || deref(s.Attempts) != 1 || *s.Result.ExitCode != 3 || s.Result.Output != "" || len(p.results) != 0 {
				t.Errorf("stored: %s", describeStatus(s))
			}
			if s := w.pool().Snapshot(); s.Active != 0 || s.Queued != 0 || s.Failed != 1 {
				t.Errorf("snapshot %+v", s)
			}
		})
	}
}

func TestTheFailureOfOnFailureIsTold(t *testing.T) {
	w, _ := lone(t)
	uid := w.runJob(onFailure, retries(0), rules(onCodes("Ignore", 9)))
	w.exit(uid, 0, 3)
	w.turn()
	w.exit(uid, 1, 9) // no rule is about it
	w.turn()
	w.wantState(uid, v1alpha1.JobFailed, v1alpha1.ReasonExitCode)
	if got, want := w.status(uid).Message, "The command ended with exit code 3. Its onFailure has failed too: The command ended with exit code 9."; got != want {
		t.Errorf("message %q, want %q", got, want)
	}
	if w.jobs[uid].starts[1] != 1 {
		t.Errorf("started %d times", w.jobs[uid].starts[1])
	}
}

func TestOnFailureRunsAgainIfItIsCutOff(t *testing.T) {
	for name, cut := range map[string]func(*world, *simPod){
		"its worker is lost":         func(w *world, p *simPod) { w.lose(p) },
		"its worker is removed":      func(w *world, p *simPod) { p.terminating = true; w.listPods(); w.lose(p) },
		"its agent restarts":         func(w *world, p *simPod) { w.restartAgent(p); w.connect(p) },
		"the operator dies, then it": func(w *world, p *simPod) { w.drop(p); w.lead(); w.restartAgent(p); w.connect(p) },
		"the operator dies, and its worker is lost": func(w *world, p *simPod) {
			w.live(time.Second)
			w.drop(p)
			p.gone, p.running = true, nil
			w.lead()
			w.join()
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, p := lone(t)
			uid := w.runJob(onFailure)
			w.exit(uid, 0, 3)
			w.turn()
			w.wantRuns(uid, 1)
			cut(w, p)
			w.live(deathNews + time.Second)
			w.wantRuns(uid, 1)
			if w.jobs[uid].starts[1] != 2 || w.jobs[uid].starts[0] != 1 {
				t.Errorf("started %v", w.jobs[uid].starts)
			}
			w.exit(uid, 1, 0)
			w.turn()
			w.wantState(uid, v1alpha1.JobFailed, v1alpha1.ReasonExitCode)
		})
	}
}

func TestOnFailureGoesOnWhereTheOperatorDies(t *testing.T) {
	for name, change := range map[string]func(*v1alpha1.JobSpec){"plain": func(*v1alpha1.JobSpec) {}, "indexed": completions(1)} {
		for _, stored := range []bool{false, true} {
			w, p := lone(t)
			uid := w.runJob(onFailure, change)
			w.exit(uid, 0, 3)
			w.turn()
			if stored {
				w.live(time.Second)
			}
			w.drop(p)
			w.lead()
			w.connect(p)
			w.live(2 * time.Second)
			w.wantRuns(uid, 1)
			if s := w.status(uid); deref(s.LostWorkers) != 0 || deref(s.Attempts) != 1 || w.jobs[uid].starts[1] != 1 || s.Reason != v1alpha1.ReasonOnFailure {
				t.Errorf("%s: started %v, stored: %s", name, w.jobs[uid].starts, describeStatus(s))
			}
			w.exit(uid, 1, 0)
			w.turn()
			if s := w.status(uid); s.State != v1alpha1.JobFailed || deref(s.Attempts) != 1 || len(p.results) != 0 {
				t.Errorf("%s: %d results are left, stored: %s", name, len(p.results), describeStatus(s))
			}
		}
	}
}

// A worker that it ends each time must not keep the Job for ever.
func TestOnFailureIsGivenUpAfterFiveLostWorkers(t *testing.T) {
	w, p := lone(t)
	uid := w.runJob(onFailure)
	w.exit(uid, 0, 3)
	w.turn()
	for range maxLostWorkers {
		w.wantRuns(uid, 1)
		p = w.lose(p)
		w.live(time.Second)
	}
	w.wantState(uid, v1alpha1.JobFailed, v1alpha1.ReasonExitCode)
	if m := w.status(uid).Message; !strings.Contains(m, "Its onFailure has failed too: 5 workers were lost") {
		t.Errorf("message %q", m)
	}
}

func TestOnFailureDoesNotRunOfAJobThatSucceeds(t *testing.T) {
	w, _ := lone(t)
	uid := w.runJob(onFailure, retries(1), backoff(0, 1, 0))
	w.exit(uid, 0, 3)
	w.live(time.Second)
	w.exit(uid, 0, 0)
	w.live(time.Second)
	w.wantState(uid, v1alpha1.JobSucceeded, "")
	if w.jobs[uid].starts[1] != 0 {
		t.Error("it was started")
	}
}

func TestOnFailureDoesNotRunWhereWorkersServeHTTP(t *testing.T) {
	w, _ := lone(t)
	uid := w.runJob(onFailure, deadline(5))
	w.configure(func(c *PoolConfig) { c.Handler = v1alpha1.HandlerHTTP })
	w.exit(uid, 0, 3)
	w.turn()
	w.wantState(uid, v1alpha1.JobFailed, v1alpha1.ReasonExitCode)
}

func TestOnFailureRunsWhateverTheJobWaitedFor(t *testing.T) {
	for name, change := range map[string]func(*v1alpha1.JobSpec){
		"room":   func(s *v1alpha1.JobSpec) { s.Resources = memory(2 << 30) },
		"a time": startAfter(time.Hour),
		"users":  func(s *v1alpha1.JobSpec) { s.Suspend = new(true) },
	} {
		t.Run(name, func(t *testing.T) {
			w, _ := lone(t)
			uid := w.runJob(onFailure, deadline(10), change)
			w.live(11 * time.Second)
			w.wantRuns(uid, 1)
			if got := w.runs(uid); len(got) == 0 {
				return
			}
			w.exit(uid, 1, 0)
			w.turn()
			w.wantState(uid, v1alpha1.JobFailed, v1alpha1.ReasonDeadlineExceeded)
		})
	}
}

// Suspension is for the Job's work; what is left of a failure is finished.
func TestASuspendedJobsOnFailureGoesOn(t *testing.T) {
	w, p := lone(t)
	uid := w.runJob(onFailure)
	w.exit(uid, 0, 3)
	w.turn()
	w.suspend(uid, true)
	w.live(3 * time.Second)
	w.drop(p)
	w.connect(p)
	w.live(3 * time.Second)
	w.wantRuns(uid, 1)
	if len(p.kills) > 0 {
		t.Errorf("kills %+v", p.kills)
	}
}

func TestAFailuresMessageIsBounded(t *testing.T) {
	w, _ := lone(t)
	uid := w.runJob(onFailure)
	w.finish(uid, 0, Result{Outcome: CannotStart, Message: strings.Repeat("ä", 1024)})
	w.turn()
	w.finish(uid, 1, Result{Outcome: CannotStart, Message: strings.Repeat("ö", 1024)})
	w.turn()
	w.wantState(uid, v1alpha1.JobFailed, v1alpha1.ReasonCannotStart)
	s := w.status(uid)
	for _, c := range s.Conditions {
		if len(c.Message) > 1024 {
			t.Errorf("condition %s has %d bytes of message", c.Type, len(c.Message))
		}
	}
	if len(s.Message) > 1024 || len(s.Result.Message) > 1024 {
		t.Errorf("messages of %d and %d bytes", len(s.Message), len(s.Result.Message))
	}
}

func (w *world) suspend(uid types.UID, suspend bool) {
	spec := w.jobs[uid].job.Spec.DeepCopy()
	spec.Suspend = new(suspend)
	w.change(uid, spec)
}

func TestWhatAFailureSays(t *testing.T) {
	plain := func(*v1alpha1.JobSpec) {}
	for name, c := range map[string]struct {
		spec   func(*v1alpha1.JobSpec)
		result Result
		want   string
	}{
		"a code":                    {plain, Result{Outcome: Exited, ExitCode: 128}, "The command ended with exit code 128."},
		"the last code":             {plain, Result{Outcome: Exited, ExitCode: 255}, "The command ended with exit code 255."},
		"a code beyond all signals": {plain, Result{Outcome: Exited, ExitCode: 193}, "The command ended with exit code 193."},
		"a shell's code":            {plain, Result{Outcome: Exited, ExitCode: 143}, "The command ended with exit code 143, which often stands for signal 15."},
		"a signal":                  {plain, Result{Outcome: Exited, ExitCode: 143, Signal: 15}, "The command was ended by signal 15 (exit code 143)."},
		"no answer":                 {asksHTTP, Result{Outcome: Responded, Message: "no answer: EOF"}, "The request has failed: no answer: EOF"},
		"half an answer":            {asksHTTP, Result{Outcome: Responded, Message: "the answer of status 200 broke off: unexpected EOF"}, "The request has failed: the answer of status 200 broke off: unexpected EOF"},
		"another status":            {asksHTTP, Result{Outcome: Responded, HTTPStatus: 503}, "The server answered 503 Service Unavailable."},
	} {
		t.Run(name, func(t *testing.T) {
			w, p := lone(t)
			if c.result.Outcome == Responded {
				p.handler = v1alpha1.HandlerHTTP
				w.configure(func(c *PoolConfig) { c.Handler = v1alpha1.HandlerHTTP })
				w.listPods()
			}
			uid := w.runJob(c.spec)
			w.finish(uid, 0, c.result)
			w.live(time.Second)
			if s := w.status(uid); s.State != v1alpha1.JobFailed || s.Message != c.want || s.Result.Message != c.want {
				t.Errorf("stored: %s, want %q", describeStatus(s), c.want)
			}
		})
	}
}
