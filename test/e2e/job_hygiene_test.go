package e2e

import (
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// daemonise is a script that leaves processes behind in several ways.
const daemonise = `
	sleep 98758 >/dev/null 2>&1 &
	setsid sh -c 'setsid sleep 98758 >/dev/null 2>&1 & exit' &
	(cd /; (trap "" TERM HUP; sleep 98758 </dev/null >/dev/null 2>&1 &) &)
	sleep 0.2; echo started`

func TestNoProcessIsLeftAfterAJob(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Obj())
	f.Expect(f.run("daemon", daemonise)).To(Equal("started\n"))
	f.expectNoProcess("98758")
}

func TestNoProcessIsLeftAfterAJobWithNeighbours(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Slots(3).Obj())
	f.awaitPool(ready("1/1"))
	f.create(f.job("neighbour", "sleep 12345; echo cut off").Obj())
	f.awaitJob("neighbour", inState(v1alpha1.JobRunning, ""))
	f.run("daemon", daemonise)
	f.expectNoProcess("98758")
	f.Expect(f.run("others", "ps | grep -c ' sleep 12345$'")).To(Equal("1\n"), "the neighbour's must go on")
}

func TestAJobsTemporaryDirectoryIsItsOwn(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Obj())
	first := strings.TrimSpace(f.run("first", `test -z "$(ls -A "$TMPDIR")"; mkdir -p "$TMPDIR/a/b"; touch "$TMPDIR/a/b/c"; chmod 0 "$TMPDIR/a"; touch /tmp/shared; echo "$TMPDIR"`))
	f.Expect(first).To(HavePrefix("/"))
	f.run("second", `test ! -e "`+first+`" && test "$TMPDIR" != "`+first+`" && test -z "$(ls -A "$TMPDIR")" && test -e /tmp/shared`)
}

func TestAJobHasNoVariablesOfAnother(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Obj(), f.job("first", "echo $SECRET").Env("SECRET", "swordfish").Completions(1).Obj())
	f.awaitJob("first", inState(v1alpha1.JobSucceeded, ""))
	f.create(f.job("second", "env").Env("MINE", "yes").Obj())
	out := output(f.awaitJob("second", inState(v1alpha1.JobSucceeded, "")))
	f.Expect(out).To(ContainSubstring("MINE=yes\n"))
	f.Expect(out).NotTo(Or(ContainSubstring("swordfish"), ContainSubstring("JOB_COMPLETION_INDEX"), ContainSubstring("WORKERPOOL_CA")))
}

// crash ends a worker at once, with all that it runs.
func (f *fixture) crash(worker string) {
	f.t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: worker}}
	f.Expect(cluster.Delete(f.ctx, pod, client.GracePeriodSeconds(0))).To(Succeed())
}

func TestAnAtMostOnceJobThatWasCutOffIsNotRunAgain(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Defaults(v1alpha1.JobDefaults{MaxRetries: new(int32(5))}).Obj())
	f.awaitPool(ready("1/1"))
	f.create(f.job("pay", "sleep 3600").AtMostOnce().Obj())
	job := f.awaitJob("pay", inState(v1alpha1.JobRunning, ""))
	f.crash(job.Status.Worker)
	f.Expect(f.awaitJob("pay", finished())).To(And(inState(v1alpha1.JobFailed, v1alpha1.ReasonInterrupted), startedTimes(1, 0)))
	f.run("after", "true")
	f.Expect(f.get("pay")).To(And(inState(v1alpha1.JobFailed, v1alpha1.ReasonInterrupted), startedTimes(1, 0)))
}

func TestAnAtMostOnceJobIsNotRetried(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Defaults(v1alpha1.JobDefaults{MaxRetries: new(int32(5))}).Obj(),
		f.job("bad", "echo x >>/tmp/tries; exit 1").AtMostOnce().Obj(), f.job("good", "true").AtMostOnce().Obj())
	f.Expect(f.awaitJob("bad", finished())).To(And(inState(v1alpha1.JobFailed, v1alpha1.ReasonExitCode), startedTimes(1, 0)))
	f.Expect(f.awaitJob("good", finished())).To(And(inState(v1alpha1.JobSucceeded, ""), startedTimes(1, 0)))
	f.Expect(f.run("witness", "cat /tmp/tries")).To(Equal("x\n"))
}

func TestSuspensionInterruptsAnAtMostOnceJobForGood(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Obj(), f.job("pay", "sleep 3600").AtMostOnce().Obj())
	f.awaitJob("pay", inState(v1alpha1.JobRunning, ""))
	f.patch(f.get("pay"), `{"spec":{"suspend":true}}`)
	f.Expect(f.awaitJob("pay", finished())).To(And(inState(v1alpha1.JobFailed, v1alpha1.ReasonInterrupted), startedTimes(1, 0)))
}
