package e2e

import (
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// took is the time from the start of a Job's last attempt to its end.
func took(job *v1alpha1.Job) time.Duration {
	return job.Status.CompletionTime.Sub(job.Status.StartTime.Time)
}

func TestATimeoutEndsAllProcessesOfAJobThatWillNotHear(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Obj(), f.job("deaf", `trap "" TERM
		sleep 98761 & (sleep 98761 & sleep 98761) & setsid sleep 98761 &
		echo started; wait; sleep 98761`).Timeout(1).Grace(2).Obj())
	job := f.awaitJob("deaf", finished())
	f.Expect(job).To(And(inState(v1alpha1.JobFailed, v1alpha1.ReasonTimeout), startedTimes(1, 0)))
	f.Expect(job.Status.Message).To(ContainSubstring("1"), "it must tell the time")
	f.Expect(took(job)).To(BeNumerically(">=", 3*time.Second), "a second, and two of grace")
	f.Expect(took(job)).To(BeNumerically("<", 30*time.Second))
	f.Expect(output(job)).To(Equal("started\n"))
	f.expectNoProcess("98761")
}

func TestAJobMayTidyUpWhenItsTimeIsOver(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Obj(), f.job("tidy", `trap "echo tidied; exit 0" TERM; sleep 3600 & wait`).Timeout(1).Grace(600).Obj())
	job := f.awaitJob("tidy", finished())
	f.Expect(job).To(inState(v1alpha1.JobFailed, v1alpha1.ReasonTimeout), "even if it ends with 0")
	f.Expect(output(job)).To(ContainSubstring("tidied\n"))
	f.Expect(took(job)).To(BeNumerically("<", 60*time.Second), "the grace need not pass")
}

func TestTheDeadlineEndsARunningJob(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Obj())
	f.awaitPool(ready("1/1"))
	f.create(f.job("endless", "sleep 98760").Deadline(4).MaxRetries(5).Obj())
	job := f.awaitJob("endless", finished())
	f.Expect(job).To(And(inState(v1alpha1.JobFailed, v1alpha1.ReasonDeadlineExceeded), startedTimes(1, 0)))
	f.Expect(job.Status.CompletionTime.Sub(job.CreationTimestamp.Time)).To(BeNumerically(">=", 4*time.Second))
	f.Expect(job.Status.Conditions).To(ContainElement(And(
		HaveField("Type", v1alpha1.JobFailedCondition), HaveField("Reason", v1alpha1.ReasonDeadlineExceeded),
	)))
	f.expectNoProcess("98760")
}

func TestTheDeadlineEndsAJobThatWaits(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Obj())
	f.awaitPool(ready("1/1"))
	release := f.block()
	f.create(
		f.job("queued", "true").Deadline(3).Obj(),
		f.job("suspended", "true").Suspend().Deadline(3).Obj(),
		f.job("later", "true").StartAfter(time.Now().Add(time.Hour)).Deadline(3).Obj(),
	)
	for _, name := range []string{"queued", "suspended", "later"} {
		f.Expect(f.awaitJob(name, finished())).To(And(inState(v1alpha1.JobFailed, v1alpha1.ReasonDeadlineExceeded), startedTimes(0, 0)), name)
	}
	release()
	f.create(f.job("retrying", "exit 1").MaxRetries(1).Backoff(3600, 1, 3600).Deadline(5).Obj())
	f.Expect(f.awaitJob("retrying", finished())).To(And(inState(v1alpha1.JobFailed, v1alpha1.ReasonDeadlineExceeded), startedTimes(1, 1)))
}

func TestAJobIsNotStartedBeforeItsTime(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Obj())
	f.awaitPool(ready("1/1"))
	// That it waits is written when other writes leave time for it.
	at := time.Now().Add(20 * time.Second).Truncate(time.Second)
	f.create(f.job("later", "true").StartAfter(at).Obj())
	f.awaitJob("later", inState(v1alpha1.JobPending, v1alpha1.ReasonNotYet))
	job := f.awaitJob("later", finished())
	f.Expect(job).To(inState(v1alpha1.JobSucceeded, ""))
	f.Expect(job.Status.StartTime.Time).To(BeTemporally(">=", at))
}

func TestThePoolSaysHowLongFinishedJobsAreKept(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Slots(2).Defaults(v1alpha1.JobDefaults{TTLSecondsAfterFinished: new(int32(1))}).Obj(),
		f.job("kept", "true").TTL(3600).Obj())
	f.awaitJob("kept", finished())
	f.create(f.job("silent", "true").Obj())
	f.Eventually(f.gone("silent"), patience).Should(BeTrue())
	f.Expect(f.gone("kept")()).To(BeFalse())
}

func TestTheOldestFinishedJobsAreDeletedSucceededOnesFirst(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Retain(2).Obj(), f.job("failed", "exit 1").Obj())
	f.awaitJob("failed", finished())
	for _, name := range []string{"one", "two", "three"} {
		f.run(name, "true")
	}
	f.Eventually(func() bool { return f.gone("one")() && f.gone("two")() }, 2*patience).Should(BeTrue(), "60 seconds are granted to each")
	f.Expect(f.gone("three")()).To(BeFalse())
	f.Expect(f.gone("failed")()).To(BeFalse())
}
