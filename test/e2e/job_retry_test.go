package e2e

import (
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// failTimes is a script that ends so often with the exit code, and then well. It counts in /tmp, which
// is the worker's, in a file of this name.
func failTimes(times, code, file string) string {
	return `n=$(cat /tmp/` + file + ` 2>/dev/null || echo 0); echo $((n+1)) >/tmp/` + file + `; test $n -ge ` + times + ` || exit ` + code
}

func TestAFailedJobIsTriedAgainUntilItSucceeds(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Obj(), f.job("flaky", failTimes("2", "3", "n")).MaxRetries(5).Backoff(1, 2, 10).Obj())
	job := f.awaitJob("flaky", finished())
	f.Expect(job).To(And(inState(v1alpha1.JobSucceeded, ""), startedTimes(3, 2)))
	f.Expect(*job.Status.Result.ExitCode).To(BeEquivalentTo(0))

	ended := job.Status.EndedAttempts
	f.Expect(ended).To(HaveLen(3))
	f.Expect(ended[0]).To(And(HaveField("Reason", v1alpha1.ReasonExitCode), HaveField("ExitCode", HaveValue(BeEquivalentTo(3)))))
	f.Expect(ended[1].Reason).To(Equal(v1alpha1.ReasonExitCode))
	f.Expect(ended[2].Reason).To(BeEmpty())
	f.Expect(ended[1].StartTime.Sub(ended[0].EndTime.Time)).To(BeNumerically(">=", 500*time.Millisecond), "up to half of a second")
	f.Expect(ended[2].StartTime.Sub(ended[1].EndTime.Time)).To(BeNumerically(">=", time.Second), "up to half of two seconds")
}

func TestRetriesAreUsedUp(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Obj(), f.job("bad", "exit 3").MaxRetries(3).Backoff(0, 1, 0).Obj())
	job := f.awaitJob("bad", finished())
	f.Expect(job).To(And(inState(v1alpha1.JobFailed, v1alpha1.ReasonExitCode), startedTimes(4, 3)))
	f.Expect(job.Status.EndedAttempts).To(HaveLen(3), "the last three are kept")
	f.Expect(job.Status.Message).To(ContainSubstring("exit code 3"))
}

func TestAJobThatWaitsForItsRetryTakesNoRoom(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Capacity(1).Obj(), f.job("patient", failTimes("1", "1", "n")).MaxRetries(1).Backoff(3600, 1, 3600).Obj())
	job := f.awaitJob("patient", inState(v1alpha1.JobPending, v1alpha1.ReasonRetrying))
	f.Expect(job.Status.Message).NotTo(BeEmpty())
	f.awaitPool(holding(0, 0))
	f.run("other", "true")
	f.Expect(f.get("patient")).To(inState(v1alpha1.JobPending, v1alpha1.ReasonRetrying))
}

func TestTheFailurePolicyDecidesByExitCode(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Slots(3).Obj(),
		f.job("fatal", "exit 42").MaxRetries(5).Backoff(0, 1, 0).OnExitCodes(v1alpha1.ActionFail, 41, 42).Obj(),
		f.job("busy", failTimes("4", "75", "busy")).Backoff(0, 1, 0).OnExitCodes(v1alpha1.ActionIgnore, 75).Obj(),
		f.job("first", "exit 7").MaxRetries(1).Backoff(0, 1, 0).
			OnExitCodes(v1alpha1.ActionRetry, 7).OnExitCodes(v1alpha1.ActionFail, 7).Obj(),
	)
	f.Expect(f.awaitJob("fatal", finished())).To(And(inState(v1alpha1.JobFailed, v1alpha1.ReasonExitCode), startedTimes(1, 0)))
	f.Expect(f.awaitJob("busy", finished())).To(And(inState(v1alpha1.JobSucceeded, ""), startedTimes(5, 0)))
	f.Expect(f.awaitJob("first", finished())).To(And(inState(v1alpha1.JobFailed, v1alpha1.ReasonExitCode), startedTimes(2, 1)),
		"the first rule that matches decides")
}

func TestTheFailurePolicyDecidesByReason(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Slots(2).Obj(),
		f.job("slow", "sleep 3600").Timeout(1).MaxRetries(5).Backoff(0, 1, 0).OnReasons(v1alpha1.ActionFail, v1alpha1.ReasonTimeout).Obj(),
		f.job("nowhere", "true").WorkingDir("/no/such/dir").MaxRetries(5).Backoff(0, 1, 0).
			OnReasons(v1alpha1.ActionFail, v1alpha1.ReasonTimeout, v1alpha1.ReasonCannotStart).Obj(),
	)
	f.Expect(f.awaitJob("slow", finished())).To(And(inState(v1alpha1.JobFailed, v1alpha1.ReasonTimeout), startedTimes(1, 0)))
	f.Expect(f.awaitJob("nowhere", finished())).To(And(inState(v1alpha1.JobFailed, v1alpha1.ReasonCannotStart), startedTimes(1, 0)))
}

func TestThePoolsDefaultsAreForJobsThatDoNotSayOtherwise(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Slots(3).Defaults(v1alpha1.JobDefaults{
		MaxRetries: new(int32(1)), TimeoutSeconds: new(int32(1)),
		Backoff: &v1alpha1.Backoff{InitialSeconds: new(int32(0)), MaxSeconds: new(int32(0))},
	}).Obj(),
		f.job("silent", "exit 1").Obj(),
		f.job("slow", "sleep 3600").Obj(),
		f.job("outspoken", "sleep 3; exit 1").MaxRetries(0).Timeout(60).Obj(),
	)
	f.Expect(f.awaitJob("silent", finished())).To(And(inState(v1alpha1.JobFailed, v1alpha1.ReasonExitCode), startedTimes(2, 1)))
	f.Expect(f.awaitJob("slow", finished())).To(And(inState(v1alpha1.JobFailed, v1alpha1.ReasonTimeout), startedTimes(2, 1)))
	f.Expect(f.awaitJob("outspoken", finished())).To(And(inState(v1alpha1.JobFailed, v1alpha1.ReasonExitCode), startedTimes(1, 0)))
}

// toldOfFailure matches a Job whose handler of failures is to run, or runs.
var toldOfFailure = And(
	HaveField("Status.Reason", v1alpha1.ReasonOnFailure),
	HaveField("Status.State", BeElementOf(v1alpha1.JobQueued, v1alpha1.JobRunning)),
	HaveField("Status.Conditions", ContainElement(And(
		HaveField("Type", v1alpha1.JobFailureTarget), HaveField("Status", BeEquivalentTo("True")),
	))),
)

func TestOnFailureRunsOnceWithTheReason(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Obj(), f.job("broken", "echo last words; exit 3").MaxRetries(1).Backoff(0, 1, 0).
		OnFailure("sh", "-c", `echo "$JOB_FAILURE_REASON: $JOB_FAILURE_MESSAGE" >>/tmp/failures`).Obj())
	job := f.awaitJob("broken", finished())
	f.Expect(job).To(inState(v1alpha1.JobFailed, v1alpha1.ReasonExitCode))
	f.Expect(*job.Status.Result.ExitCode).To(BeEquivalentTo(3), "the result is the command's")
	f.Expect(output(job)).To(Equal("last words\n"))
	f.Expect(f.run("witness", "cat /tmp/failures")).To(MatchRegexp(`\AExitCode: .*exit code 3.*\n\z`))
}

func TestAJobHasNotFailedBeforeItsOnFailureHasRun(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Obj(), f.job("broken", "exit 3").OnFailure("sh", "-c", "sleep 5; exit 9").Obj())
	f.awaitJob("broken", toldOfFailure)
	job := f.awaitJob("broken", finished())
	f.Expect(job).To(inState(v1alpha1.JobFailed, v1alpha1.ReasonExitCode))
	f.Expect(job.Status.Message).To(And(ContainSubstring("exit code 3"), ContainSubstring("onFailure"), ContainSubstring("exit code 9")))
}

func TestAJobThatSucceedsHasNoUseForItsOnFailure(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Obj(), f.job("fine", failTimes("1", "1", "n")).MaxRetries(1).Backoff(0, 1, 0).OnFailure("touch", "/tmp/failed").Obj())
	f.Expect(f.awaitJob("fine", finished())).To(inState(v1alpha1.JobSucceeded, ""))
	f.run("witness", "test ! -e /tmp/failed")
}
