package metrics

import (
	"testing"
	"time"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/engine"
)

func TestTheWaitIsFromTheQueueToTheWorker(t *testing.T) {
	w := newWorld(t)
	w.expect("workerpool_job_wait_seconds", seconds(0, 0))
	w.submit()
	w.pass(3 * time.Second)
	a := w.addWorker()
	w.expect("workerpool_job_wait_seconds", seconds(1, 3))
	w.submit()
	w.pass(2 * time.Second)
	a.end(engine.Exited, 0)
	w.expect("workerpool_job_wait_seconds", seconds(2, 5))
}

func TestTheBackoffBeforeARetryIsNoWait(t *testing.T) {
	w := newWorld(t)
	a := w.addWorker()
	w.submit(retriedOnce, func(s *v1alpha1.JobSpec) { s.Backoff = &v1alpha1.Backoff{InitialSeconds: new(int32(10))} })
	a.draining = true
	a.run(1)
	w.pass(10 * time.Second) // it is due
	w.pass(5 * time.Second)
	a.draining = false
	a.report()
	w.expect("workerpool_job_wait_seconds", seconds(2, 5))
}

func TestARetriedTaskWaitsFromWhenItIsDueThoughItsJobIsQueued(t *testing.T) {
	w := newWorld(t)
	a := w.addWorker()
	w.submit(retriedOnce, func(s *v1alpha1.JobSpec) { s.Completions = new(int32(3)) })
	a.run(1)
	for range 4 {
		w.pass(time.Second)
		w.store() // the failure, after the first second: the task is tried again a second later
	}
	a.end(engine.Exited, 0)
	if next := a.assigned[0].token; next.Index != 0 || next.Try != 2 {
		t.Fatalf("%+v is sent, want the retry", next)
	}
	w.expect("workerpool_job_wait_seconds", seconds(3, 0+1+2))
}

func TestTasksThatTheJobsParallelismHoldsBackDoNotWait(t *testing.T) {
	w := newWorld(t)
	a := w.addWorker(func(p *engine.WorkerPod) { p.Slots = 2 })
	w.submit(func(s *v1alpha1.JobSpec) { s.Completions, s.Parallelism = new(int32(2)), new(int32(1)) })
	w.pass(7 * time.Second)
	a.run(0)
	w.expect("workerpool_job_wait_seconds", seconds(2, 0))
}

func TestAnAttemptAtMostOnceWaitsForItsRecord(t *testing.T) {
	w := newWorld(t)
	w.addWorker()
	w.submit(atMostOnce)
	w.pass(2 * time.Second)
	w.expect("workerpool_job_wait_seconds", seconds(0, 0))
	w.store()
	w.expect("workerpool_job_wait_seconds", seconds(1, 2))
}

func TestAnAttemptIsTimed(t *testing.T) {
	w := newWorld(t)
	a := w.addWorker()
	w.submit()
	w.pass(2 * time.Second)
	a.start()
	w.pass(time.Second)
	a.report() // says again that it has started
	w.expect("workerpool_dispatch_seconds", seconds(1, 2))
	w.expect("workerpool_task_run_seconds", seconds(0, 0))
	w.pass(4 * time.Second)
	a.end(engine.Killed, 0)
	w.expect("workerpool_dispatch_seconds", seconds(1, 2))
	w.expect("workerpool_task_run_seconds", seconds(1, 5))
}

func TestAnAttemptIsTimedWhoseFirstReportIsItsEnd(t *testing.T) {
	w := newWorld(t)
	a := w.addWorker()
	w.submit()
	token := a.assigned[0].token
	a.assigned = nil
	w.pass(10 * time.Second)
	a.report(engine.Result{Token: token, Outcome: engine.Exited, StartedAgo: 7 * time.Second, EndedAgo: time.Second})
	w.expect("workerpool_dispatch_seconds", seconds(1, 3))
	w.expect("workerpool_task_run_seconds", seconds(1, 6))
}

func TestATimeThatCannotBeIsNone(t *testing.T) {
	w := newWorld(t)
	a := w.addWorker()
	w.submit()
	token := a.assigned[0].token
	a.assigned = nil
	w.pass(time.Second)
	a.report(engine.Result{Token: token, Outcome: engine.Exited, StartedAgo: time.Hour, EndedAgo: 0}) // before it was sent
	w.expect("workerpool_dispatch_seconds", seconds(1, 0))
	w.expect("workerpool_task_run_seconds", seconds(1, 1))
	w.submit()
	token = a.assigned[0].token
	a.assigned = nil
	a.report(engine.Result{Token: token, Outcome: engine.Exited, StartedAgo: 0, EndedAgo: time.Hour})
	w.expect("workerpool_task_run_seconds", seconds(1, 1))
}

func TestAnAttemptThatWasNotStartedIsNotTimed(t *testing.T) {
	for name, outcome := range map[string]engine.Outcome{"cannot start": engine.CannotStart, "killed before": engine.Killed} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			a := w.addWorker()
			w.submit()
			token := a.assigned[0].token
			a.assigned = nil
			w.pass(10 * time.Second)
			ended := engine.Result{Token: token, Outcome: outcome, StartedAgo: time.Second, EndedAgo: time.Second}
			if outcome == engine.CannotStart {
				ended.EndedAgo = 0 // it has tried for a second
			}
			a.report(ended)
			w.expect("workerpool_dispatch_seconds", seconds(0, 0))
			w.expect("workerpool_task_run_seconds", seconds(0, 0))
		})
	}
}

func TestWhatAnEarlierLeaderHasSentIsTimedFromItsStart(t *testing.T) {
	w := newWorld(t)
	a := w.addPod()
	a.hello.Results = []engine.Result{{
		Token: engine.Token{Job: "job", Try: 1}, JobName: "job", Outcome: engine.Exited, StartedAgo: 90 * time.Second, EndedAgo: 30 * time.Second,
	}}
	w.engine.Submit(stored("job", v1alpha1.JobStatus{State: v1alpha1.JobPending, Reason: v1alpha1.ReasonWaiting}))
	a.connect()
	w.expectTasks(values{"succeeded": 1})
	w.expect("workerpool_task_run_seconds", seconds(1, 60))
	w.expect("workerpool_dispatch_seconds", seconds(0, 0))
	w.expect("workerpool_job_wait_seconds", seconds(0, 0))
}
