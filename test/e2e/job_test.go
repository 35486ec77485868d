package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

func TestAJobRunsInAWarmWorker(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Replicas(2).Obj())
	f.awaitPool(ready("2/2"))
	f.create(f.job("hello", `echo "hello $NAME from $PWD"; echo problem >&2; test -d "$TMPDIR"; env | grep -c ^WORKERPOOL_TOKEN`).
		Env("NAME", "world").WorkingDir("/tmp").Obj())

	job := f.awaitJob("hello", HaveField("Status.CompletionTime", Not(BeNil())))
	f.Expect(job.Status.State).To(Equal(v1alpha1.JobFailed), "grep -c finds nothing and fails: the agent's variables are not the job's")
	f.Expect(job.Status.Result.Output).To(And(ContainSubstring("hello world from /tmp\n"), ContainSubstring("problem\n")))

	f.create(f.job("fine", "echo fine").Obj())
	job = f.awaitJob("fine", inState(v1alpha1.JobSucceeded, ""))
	status := job.Status
	f.Expect(status.Conditions).To(ContainElement(And(
		HaveField("Type", "Complete"), HaveField("Status", BeEquivalentTo("True")), HaveField("ObservedGeneration", job.Generation),
	)))
	f.Expect(*status.Attempts).To(BeEquivalentTo(1))
	f.Expect(*status.Result.ExitCode).To(BeEquivalentTo(0))
	f.Expect(status.Result.Output).To(Equal("fine\n"))
	f.Expect(status.Worker).To(BeElementOf("demo-0", "demo-1"))
	f.Expect(status.QueuedTime.Time).To(BeTemporally("<=", status.StartTime.Add(time.Millisecond)))
	f.Expect(status.StartTime.Time).To(BeTemporally("<=", status.CompletionTime.Time))
	f.Expect(status.Usage.MaxMemoryBytes).To(BeNil(), "echo takes less than the agent")
	f.Expect(status.EndedAttempts).To(HaveLen(1))
	f.Expect(status.Attempt).To(BeNil())
	f.awaitPool(And(
		HaveField("Status.ProcessedJobs", HaveValue(BeEquivalentTo(2))), HaveField("Status.FailedJobs", HaveValue(BeEquivalentTo(1))),
	))
}

func TestTheWorkersLogHasTheJobsLines(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Obj(), f.job("talker", "echo one; echo two >&2").Obj())
	job := f.awaitJob("talker", inState(v1alpha1.JobSucceeded, ""))

	type line struct{ Job, UID, Stream, Line string }
	var lines []line
	for text := range strings.Lines(f.kubectl("logs", job.Status.Worker, "-c", "worker")) {
		var l line
		if json.Unmarshal([]byte(text), &l) == nil && l.Job != "" {
			lines = append(lines, l)
		}
	}
	f.Expect(lines).To(ConsistOf(
		line{"talker", string(job.UID), "stdout", "one"},
		line{"talker", string(job.UID), "stderr", "two"},
	))
}

func TestAJobWaitsForItsPool(t *testing.T) {
	f := setup(t)
	f.create(f.job("early", "true").Obj())
	job := f.awaitJob("early", inState(v1alpha1.JobPending, v1alpha1.ReasonPoolNotFound))
	f.Expect(job.Status.Message).To(ContainSubstring(`There is no WorkerPool "demo"`))
	f.create(f.pool().Obj())
	f.awaitJob("early", inState(v1alpha1.JobSucceeded, ""))
}

func TestAJobsJobsWaitForAnotherPoolWhenTheirsIsDeleted(t *testing.T) {
	f := setup(t)
	pool := f.pool().Obj()
	f.create(pool)
	f.awaitPool(ready("1/1"))
	f.create(f.job("running", untilTold+"echo done").Obj())
	f.awaitJob("running", inState(v1alpha1.JobRunning, ""))
	f.create(f.job("queued", "true").Obj())
	f.awaitJob("queued", inState(v1alpha1.JobQueued, ""))
	f.Expect(cluster.Delete(f.ctx, pool)).To(Succeed())
	f.Eventually(f.pods, patience).Should(ConsistOf(HaveField("DeletionTimestamp", Not(BeNil()))))
	f.tell("demo-0")
	f.awaitJob("running", inState(v1alpha1.JobSucceeded, ""))
	f.awaitJob("queued", inState(v1alpha1.JobPending, v1alpha1.ReasonPoolNotFound))
	f.Eventually(func() bool {
		return apierrors.IsNotFound(cluster.Get(f.ctx, client.ObjectKeyFromObject(pool), pool))
	}, patience).Should(BeTrue())
	f.Expect(f.pods()).To(BeEmpty())
	f.create(f.pool().Obj())
	f.awaitJob("queued", inState(v1alpha1.JobSucceeded, ""))
}

func TestAJobThatFailsSaysWhy(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Slots(4).Obj(),
		f.job("exit", "echo last words; exit 3").Obj(),
		f.job("signal", "kill -9 $$").Obj(),
		testutil.MakeJob(f.namespace, "nosuch", "demo").Command("no-such-program").Obj(),
		testutil.MakeJob(f.namespace, "nodir", "demo").Command("true").WorkingDir("/no/such/dir").Obj(),
	)
	job := f.awaitJob("exit", inState(v1alpha1.JobFailed, v1alpha1.ReasonExitCode))
	f.Expect(*job.Status.Result.ExitCode).To(BeEquivalentTo(3))
	f.Expect(job.Status.Result.Output).To(Equal("last words\n"))
	f.Expect(job.Status.Message).To(ContainSubstring("exit code 3"))
	f.Expect(job.Status.Conditions).To(ContainElement(And(HaveField("Type", "Failed"), HaveField("Status", BeEquivalentTo("True")))))

	job = f.awaitJob("signal", inState(v1alpha1.JobFailed, v1alpha1.ReasonExitCode))
	f.Expect(*job.Status.Result.ExitCode).To(BeEquivalentTo(137))
	f.Expect(job.Status.Message).To(ContainSubstring("signal 9"))

	job = f.awaitJob("nosuch", inState(v1alpha1.JobFailed, v1alpha1.ReasonCannotStart))
	f.Expect(job.Status.Message).To(ContainSubstring("no-such-program"))
	f.Expect(job.Status.Result.ExitCode).To(BeNil())

	job = f.awaitJob("nodir", inState(v1alpha1.JobFailed, v1alpha1.ReasonCannotStart))
	f.Expect(job.Status.Message).To(ContainSubstring("/no/such/dir"))
}

func TestADeletedJobIsStoppedInItsWorker(t *testing.T) {
	f := setup(t)
	victim := f.job("victim", "sleep 98765 & sleep 98765").Obj()
	f.create(f.pool().Slots(2).Obj(), victim)
	f.awaitJob("victim", inState(v1alpha1.JobRunning, ""))
	f.Expect(cluster.Delete(f.ctx, victim)).To(Succeed())
	f.awaitPool(HaveField("Status.ActiveJobs", HaveValue(BeEquivalentTo(0))))
	f.create(f.job("witness", "ps | grep -v grep | grep 98765; test $? = 1").Obj())
	job := f.awaitJob("witness", HaveField("Status.CompletionTime", Not(BeNil())))
	f.Expect(job.Status.State).To(Equal(v1alpha1.JobSucceeded), job.Status.Result)
}

func TestHigherPriorityGoesFirst(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Obj())
	f.awaitPool(ready("1/1"))
	release := f.block()
	for i, priority := range []int32{-10, 0, 10, 5} {
		f.create(f.job(fmt.Sprintf("p%d", i), "true").Priority(priority).Obj())
	}
	for i := range 4 {
		f.awaitJob(fmt.Sprintf("p%d", i), inState(v1alpha1.JobQueued, ""))
	}
	release()
	var names []string
	var jobs []*v1alpha1.Job
	for i := range 4 {
		jobs = append(jobs, f.awaitJob(fmt.Sprintf("p%d", i), inState(v1alpha1.JobSucceeded, "")))
	}
	slices.SortFunc(jobs, func(a, b *v1alpha1.Job) int { return a.Status.StartTime.Compare(b.Status.StartTime.Time) })
	for _, job := range jobs {
		names = append(names, job.Name)
	}
	f.Expect(names).To(Equal([]string{"p2", "p3", "p1", "p0"}))
}

func TestJobsBeyondTheCapacityWaitAndRun(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Capacity(5).Obj())
	f.awaitPool(ready("1/1"))
	release := f.block()
	for i := range 30 {
		f.create(f.job(fmt.Sprintf("job-%02d", i), "true").Obj())
	}
	job := f.awaitJob("job-29", inState(v1alpha1.JobPending, v1alpha1.ReasonQueueFull))
	f.Expect(job.Status.Message).To(ContainSubstring("5 Jobs"))
	f.awaitPool(withCondition(v1alpha1.PoolQueueFull, "True", v1alpha1.ReasonCapacity))
	f.Expect(*f.getPool().Status.QueueSize).To(BeEquivalentTo(5))
	release()
	for i := range 30 {
		f.awaitJob(fmt.Sprintf("job-%02d", i), inState(v1alpha1.JobSucceeded, ""))
	}
	f.awaitPool(withCondition(v1alpha1.PoolQueueFull, "False", v1alpha1.ReasonRoom))
}

func TestAFinishedJobIsDeletedAfterItsTime(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Obj(), f.job("brief", "true").TTL(1).Obj())
	f.Eventually(func() error {
		return cluster.Get(f.ctx, client.ObjectKey{Namespace: f.namespace, Name: "brief"}, &v1alpha1.Job{})
	}, patience).Should(MatchError(ContainSubstring("not found")))
}
