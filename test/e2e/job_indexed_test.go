package e2e

import (
	"fmt"
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

func TestEachTaskHasItsIndex(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Slots(2).Obj(), f.job("indexed", `mkdir "/tmp/task-$JOB_COMPLETION_INDEX"`).Completions(5).Obj())
	job := f.awaitJob("indexed", finished())
	f.Expect(job).To(And(inState(v1alpha1.JobSucceeded, ""), startedTimes(5, 0)))
	f.Expect(job.Status).To(And(
		HaveField("Completions", "5/5"), HaveField("SucceededIndexes", "0-4"), HaveField("FailedIndexes", ""),
		HaveField("Succeeded", HaveValue(BeEquivalentTo(5))), HaveField("RunningIndexes", BeEmpty()),
	))
	f.Expect(f.run("witness", "ls -d /tmp/task-*")).To(Equal("/tmp/task-0\n/tmp/task-1\n/tmp/task-2\n/tmp/task-3\n/tmp/task-4\n"))
	f.awaitPool(HaveField("Status.ProcessedJobs", HaveValue(BeEquivalentTo(2))))
}

func TestEachTaskRunsThoughOthersFail(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Obj(), f.job("some", `echo "I am $JOB_COMPLETION_INDEX."; case $JOB_COMPLETION_INDEX in 2) exit 7 ;; 4) exit 8 ;; esac`).
		Completions(6).Obj())
	job := f.awaitJob("some", finished())
	f.Expect(job).To(And(inState(v1alpha1.JobFailed, v1alpha1.ReasonIndexesFailed), startedTimes(6, 0)))
	f.Expect(job.Status).To(And(
		HaveField("Completions", "4/6"), HaveField("SucceededIndexes", "0-1,3,5"), HaveField("FailedIndexes", "2,4"),
		HaveField("Succeeded", HaveValue(BeEquivalentTo(4))), HaveField("Failed", HaveValue(BeEquivalentTo(2))),
	))
	f.Expect(*job.Status.Result.ExitCode).To(BeEquivalentTo(7), "of the first that failed")
	f.Expect(output(job)).To(Equal("I am 2.\n"))
}

func TestARuleThatFailsTheJobEndsAllTasks(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Slots(3).Obj(), f.job("doomed", `test "$JOB_COMPLETION_INDEX" = 1 && sleep 2 && exit 42; sleep 98759`).
		Completions(50).MaxRetries(5).OnExitCodes(v1alpha1.ActionFail, 42).Obj())
	job := f.awaitJob("doomed", finished())
	f.Expect(job).To(inState(v1alpha1.JobFailed, v1alpha1.ReasonExitCode))
	f.Expect(*job.Status.Result.ExitCode).To(BeEquivalentTo(42))
	f.Expect(job.Status.SucceededIndexes).To(BeEmpty())
	f.awaitPool(holding(0, 0))
	f.expectNoProcess("98759")
}

func TestEachIndexHasItsOwnRetries(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Slots(2).Obj(), f.job("flaky", `n=/tmp/index-$JOB_COMPLETION_INDEX
		test "$JOB_COMPLETION_INDEX" = 3 && exit 1
		test -e $n || { touch $n; exit 1; }`).Completions(5).MaxRetries(1).Backoff(0, 1, 0).Obj())
	job := f.awaitJob("flaky", finished())
	f.Expect(job).To(And(inState(v1alpha1.JobFailed, v1alpha1.ReasonIndexesFailed), startedTimes(10, 5)))
	f.Expect(job.Status).To(And(HaveField("SucceededIndexes", "0-2,4"), HaveField("FailedIndexes", "3")))
}

func TestParallelismBoundsTheTasksThatRun(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Slots(4).Obj())
	f.awaitPool(ready("1/1"))
	f.create(f.job("bounded", `mkdir /tmp/running-$JOB_COMPLETION_INDEX; sleep 3
		n=$(ls -d /tmp/running-* | wc -l); rmdir /tmp/running-$JOB_COMPLETION_INDEX; test $n -le 2`).Completions(6).Parallelism(2).Obj())
	job := f.awaitJob("bounded", HaveField("Status.Active", HaveValue(BeEquivalentTo(2))))
	f.Expect(job.Status.State).To(Equal(v1alpha1.JobRunning))
	f.Expect(job.Status.RunningIndexes).To(ConsistOf(And(HaveField("Worker", "demo-0"), HaveField("Indexes", "0-1"))))
	f.Expect(f.awaitJob("bounded", finished())).To(And(inState(v1alpha1.JobSucceeded, ""), startedTimes(6, 0)))
}

func TestAnIndexedJobCountsAsOne(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Slots(2).Obj())
	f.awaitPool(ready("1/1"))
	f.create(f.job("wide", "sleep 3600").Completions(100).Grace(0).Obj())
	f.awaitPool(holding(1, 1))
	f.create(f.job("other", "true").Obj())
	f.awaitPool(holding(2, 1))
	f.delete("wide")
	f.awaitJob("other", inState(v1alpha1.JobSucceeded, ""))
	f.awaitPool(holding(0, 0))
}

func TestEachItemIsATask(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Obj(), testutil.MakeJob(f.namespace, "items", "demo").
		Command("sh", "-c", `echo "$JOB_COMPLETION_INDEX: $1" >>/tmp/seen; test "$1" = "<$JOB_ITEM|$JOB_ITEM>" && test "$2" = same`, "{}").
		Args("<{}|{}>", "same").Items("a b", "$HOME *", "", "ünï", "{}").Obj())
	job := f.awaitJob("items", finished())
	f.Expect(job).To(And(inState(v1alpha1.JobSucceeded, ""), startedTimes(5, 0)), "%+v", job.Status.Result)
	f.Expect(job.Status.Completions).To(Equal("5/5"))
	f.Expect(f.run("witness", "sort /tmp/seen")).To(Equal(
		"0: <a b|a b>\n1: <$HOME *|$HOME *>\n2: <|>\n3: <ünï|ünï>\n4: <{}|{}>\n"))
}

func TestTenThousandItemsInOneJob(t *testing.T) {
	f := setup(t)
	items := make([]string, 10_000)
	for i := range items {
		items[i] = fmt.Sprint("item-", i)
	}
	f.create(f.pool().Slots(4).Obj(), testutil.MakeJob(f.namespace, "many", "demo").Command("true").Items(items...).Obj())
	var job *v1alpha1.Job
	f.Eventually(func() *v1alpha1.Job { job = f.get("many"); return job }, 3*patience, "1s").Should(finished())
	f.Expect(job).To(And(inState(v1alpha1.JobSucceeded, ""), startedTimes(10_000, 0)))
	f.Expect(job.Status).To(And(HaveField("Completions", "10000/10000"), HaveField("SucceededIndexes", "0-9999")))
}

// TestNoFinishedIndexIsRepeatedAfterTheOperatorWasKilled runs alone: see TestJobsOutliveTheLeader.
func TestNoFinishedIndexIsRepeatedAfterTheOperatorWasKilled(t *testing.T) {
	f := setupAlone(t)
	f.create(f.pool().Slots(2).Obj())
	f.awaitPool(ready("1/1"))
	f.create(f.job("long", `done=/tmp/done-$JOB_COMPLETION_INDEX; test -e $done && exit 99; sleep 0.1; touch $done`).
		Completions(300).OnExitCodes(v1alpha1.ActionFail, 99).Obj())
	f.awaitJob("long", HaveField("Status.Succeeded", HaveValue(BeNumerically(">=", 20))))
	before := leader(f)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: before}}
	f.Expect(cluster.Delete(f.ctx, pod, client.GracePeriodSeconds(0))).To(Succeed())

	job := f.awaitJob("long", finished())
	f.Expect(job).To(inState(v1alpha1.JobSucceeded, ""), "%+v", job.Status)
	f.Expect(job.Status).To(And(HaveField("Completions", "300/300"), HaveField("SucceededIndexes", "0-299")))
	f.Expect(leader(f)).NotTo(Equal(before))
}

// What an indexed Job has done when its pool is deleted is not done again in the next pool of the name.
func TestAHalfRunJobGoesOnInTheNextPool(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Replicas(1).Obj())
	f.create(f.job("half", `test "$JOB_COMPLETION_INDEX" = 0 || { `+untilTold+`}`).Completions(4).Obj())
	f.awaitJob("half", HaveField("Status.SucceededIndexes", "0"))
	f.awaitJob("half", HaveField("Status.RunningIndexes", ConsistOf(HaveField("Indexes", "1"))))
	f.Expect(cluster.Delete(f.ctx, f.getPool())).To(Succeed())
	f.Eventually(f.pods, patience).Should(ConsistOf(HaveField("DeletionTimestamp", Not(BeNil()))))
	f.tell("demo-0")
	f.awaitJob("half", And(inState(v1alpha1.JobPending, v1alpha1.ReasonPoolNotFound), HaveField("Status.SucceededIndexes", "0-1")))

	f.Eventually(func() error { return cluster.Create(f.ctx, f.pool().Replicas(1).Obj()) }, patience).Should(Succeed())
	f.awaitJob("half", HaveField("Status.RunningIndexes", ConsistOf(HaveField("Indexes", "2"))))
	f.tell("demo-0")
	f.awaitJob("half", And(inState(v1alpha1.JobSucceeded, ""), startedTimes(4, 0)))
}
