package e2e

import (
	"testing"

	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/types"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

// suspended matches a Job that is put aside.
var suspended = And(inState(v1alpha1.JobPending, v1alpha1.ReasonSuspended), hasCondition(v1alpha1.JobSuspended, true))

func hasCondition(name string, want bool) types.GomegaMatcher {
	return WithTransform(func(job *v1alpha1.Job) bool {
		return meta.IsStatusConditionTrue(job.Status.Conditions, name)
	}, Equal(want))
}

func (f *fixture) suspend(name string) {
	f.t.Helper()
	f.patch(f.get(name), `{"spec":{"suspend":true}}`)
	f.awaitJob(name, suspended)
}

func (f *fixture) resume(name string) *v1alpha1.Job {
	f.t.Helper()
	f.patch(f.get(name), `{"spec":{"suspend":false}}`)
	job := f.awaitJob(name, finished())
	f.Expect(job).To(And(inState(v1alpha1.JobSucceeded, ""), hasCondition(v1alpha1.JobSuspended, false)))
	return job
}

func TestAJobThatIsMadeSuspendedWaits(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Obj(), f.job("later", "true").Suspend().Obj())
	f.awaitJob("later", suspended)
	f.run("other", "true")
	f.Expect(f.resume("later")).To(startedTimes(1, 0))
}

func TestASuspendedJobLeavesTheQueue(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Obj())
	f.awaitPool(ready("1/1"))
	release := f.block()
	f.create(f.job("queued", "true").Obj())
	f.awaitJob("queued", inState(v1alpha1.JobQueued, ""))
	f.suspend("queued")
	f.awaitPool(holding(0, 1))
	release()
	f.run("other", "true")
	f.Expect(f.get("queued")).To(And(suspended, startedTimes(0, 0)))
	f.Expect(f.resume("queued")).To(startedTimes(1, 0))
}

func TestASuspendedJobIsStoppedAndRunsAgain(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Obj())
	f.awaitPool(ready("1/1"))
	f.create(f.job("running", `test -e /tmp/second && exit 0; touch /tmp/second; sleep 98757 & sleep 98757`).Obj())
	f.awaitJob("running", inState(v1alpha1.JobRunning, ""))
	f.suspend("running")
	f.awaitPool(holding(0, 0))
	f.expectNoProcess("98757")
	f.Expect(f.get("running").Status.Attempt).To(BeNil())
	job := f.resume("running")
	f.Expect(job).To(startedTimes(2, 0), "it does not count as a retry")
	f.Expect(job.Status.EndedAttempts[0].Reason).To(Equal(v1alpha1.ReasonInterrupted))
}

func TestASuspendedIndexedJobGoesOnWhereItWas(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Obj())
	f.awaitPool(ready("1/1"))
	f.create(f.job("indexed", `done=/tmp/done-$JOB_COMPLETION_INDEX; test -e $done && exit 99
		test "$JOB_COMPLETION_INDEX" != 3 || test -e /tmp/go || { touch /tmp/go; sleep 3600; }
		touch $done`).Completions(6).Obj())
	f.awaitJob("indexed", HaveField("Status.Succeeded", HaveValue(BeEquivalentTo(3))))
	f.suspend("indexed")
	f.Expect(f.get("indexed").Status).To(HaveField("SucceededIndexes", "0-2"))
	f.Expect(f.resume("indexed").Status).To(HaveField("SucceededIndexes", "0-5"))
}

func TestAJobThatWaitsForItsRetryCanBeSuspended(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Obj(), f.job("retrying", failTimes("1", "1", "n")).MaxRetries(1).Backoff(5, 1, 5).Obj())
	f.awaitJob("retrying", inState(v1alpha1.JobPending, v1alpha1.ReasonRetrying))
	f.suspend("retrying")
	f.Expect(f.resume("retrying")).To(startedTimes(2, 1))
}

func TestAJobCanBeDeletedAtEveryStage(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Capacity(1).Obj())
	f.awaitPool(ready("1/1"))
	release := f.block()
	for _, stage := range []struct {
		job  *testutil.JobBuilder
		when types.GomegaMatcher
	}{
		{testutil.MakeJob(f.namespace, "nowhere", "no-such-pool"), inState(v1alpha1.JobPending, v1alpha1.ReasonPoolNotFound)},
		{f.job("suspended", "touch /tmp/ran").Suspend(), suspended},
		{f.job("queued", "touch /tmp/ran"), inState(v1alpha1.JobQueued, "")},
		{f.job("full", "touch /tmp/ran"), inState(v1alpha1.JobPending, v1alpha1.ReasonQueueFull)},
	} {
		f.create(stage.job.Obj())
		f.awaitJob(stage.job.Obj().Name, stage.when)
	}
	for _, name := range []string{"full", "nowhere", "suspended", "queued"} {
		f.delete(name)
		f.Eventually(f.gone(name), patience).Should(BeTrue())
	}
	f.awaitPool(holding(0, 1))
	release()
	f.create(f.job("retrying", "exit 1").MaxRetries(1).Backoff(3600, 1, 3600).Obj())
	f.awaitJob("retrying", inState(v1alpha1.JobPending, v1alpha1.ReasonRetrying))
	f.delete("retrying")
	f.Eventually(f.gone("retrying"), patience).Should(BeTrue())
	f.run("witness", "test ! -e /tmp/ran")
	f.awaitPool(holding(0, 0))
}
