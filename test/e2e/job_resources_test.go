package e2e

import (
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// grow is a script that comes to hold so many bytes, and waits.
func grow(bytes string) string {
	return `x=$(head -c ` + bytes + ` /dev/zero | tr "\0" x); sleep 3600; echo ${#x}`
}

// meet is a script that ends well only if the other runs at the same time.
func meet(me, other string) string {
	return `touch /tmp/` + me + `; until test -e /tmp/` + other + `; do sleep 0.1; done`
}

func TestAWorkerRunsAsManyJobsAsItHasRoomFor(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Slots(2).Template(small("96Mi")).Obj())
	f.awaitPool(ready("1/1"))
	alone := `mkdir /tmp/alone || exit 1; sleep 1; rmdir /tmp/alone`
	for _, name := range []string{"large-1", "large-2", "large-3"} {
		f.create(f.job(name, alone).Memory("40Mi").Obj())
	}
	f.create(f.job("left", meet("left", "right")).Memory("20Mi").Timeout(60).Obj(), f.job("right", meet("right", "left")).Memory("20Mi").Timeout(60).Obj())
	for _, name := range []string{"large-1", "large-2", "large-3", "left", "right"} {
		f.Expect(f.awaitJob(name, finished())).To(And(inState(v1alpha1.JobSucceeded, ""), startedTimes(1, 0)), name)
	}
}

func TestJobsThatDoNotSayHaveAnEqualShare(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Slots(2).Template(small("96Mi")).Obj(),
		f.job("left", meet("left", "right")).Timeout(60).Obj(), f.job("right", meet("right", "left")).Timeout(60).Obj())
	f.awaitJob("left", inState(v1alpha1.JobSucceeded, ""))
	f.awaitJob("right", inState(v1alpha1.JobSucceeded, ""))
}

func TestAJobThatDoesNotFitWaitsUntilItDoes(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Template(small("96Mi")).Obj(), f.job("large", "true").Memory("100Mi").Obj(), f.job("busy", "true").CPU("64").Obj())
	job := f.awaitJob("large", inState(v1alpha1.JobPending, v1alpha1.ReasonDoesNotFit))
	f.Expect(job.Status.Message).To(And(ContainSubstring("memory"), ContainSubstring("100Mi"), ContainSubstring("64Mi")))
	job = f.awaitJob("busy", inState(v1alpha1.JobPending, v1alpha1.ReasonDoesNotFit))
	f.Expect(job.Status.Message).To(And(ContainSubstring("cpu"), ContainSubstring("64")))
	f.run("small", "true")
	f.awaitPool(holding(0, 0))

	f.patch(f.getPool(), `{"spec":{"template":{"spec":{"containers":[{"name":"worker","image":"`+workerImage+`","imagePullPolicy":"IfNotPresent",
		"securityContext":{"allowPrivilegeEscalation":false,"capabilities":{"drop":["ALL"]}},"resources":{"requests":{"cpu":"20m","memory":"160Mi"}}}]}}}}`)
	f.awaitJob("large", inState(v1alpha1.JobSucceeded, ""))
	f.Expect(f.get("busy")).To(inState(v1alpha1.JobPending, v1alpha1.ReasonDoesNotFit))
}

// The script has more files open at once than 32.
func TestFilesBoundsWhatAProcessMayHaveOpen(t *testing.T) {
	f := setup(t)
	script := `cd "$TMPDIR"; echo x | tee $(seq 64) >/dev/null || exit 7; echo "limit $(ulimit -n)"`
	f.create(f.pool().Obj(), f.job("few", script).Files(32).Obj(), f.job("many", script).Files(1000).Obj())
	job := f.awaitJob("few", finished())
	f.Expect(job).To(inState(v1alpha1.JobFailed, v1alpha1.ReasonExitCode))
	f.Expect(*job.Status.Result.ExitCode).To(BeEquivalentTo(7))
	job = f.awaitJob("many", inState(v1alpha1.JobSucceeded, ""))
	f.Expect(output(job)).To(Equal("limit 1000\n"))
}

func TestAJobThatTakesTooMuchMemoryIsEndedAlone(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Slots(2).Template(small("128Mi")).Obj())
	f.awaitPool(ready("1/1"))
	f.create(f.job("neighbour", "until test -e /tmp/over; do sleep 0.1; done; sleep 1").Timeout(60).Obj())
	f.create(f.job("greedy", grow("60000000")).Memory("20Mi").Obj())
	job := f.awaitJob("greedy", finished())
	f.Expect(job).To(And(inState(v1alpha1.JobFailed, v1alpha1.ReasonMemoryExceeded), startedTimes(1, 0)))
	f.Expect(job.Status.Message).To(MatchRegexp(`\b20 ?Mi`))
	f.Expect(*job.Status.Usage.MaxMemoryBytes).To(BeNumerically(">", 20<<20), "the peak that was seen")
	f.run("tell", "touch /tmp/over")
	f.Expect(f.awaitJob("neighbour", finished())).To(And(inState(v1alpha1.JobSucceeded, ""), startedTimes(1, 0)))
}

func TestTheJobFurthestOverItsShareIsOOMKilled(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Slots(2).Template(small("64Mi")).Template(func(t *corev1.PodTemplateSpec) {
		t.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("64Mi")}
	}).Obj())
	f.awaitPool(ready("1/1"))
	f.create(f.job("neighbour", "sleep 3; echo fine").Obj(), f.job("greedy", grow("200000000")).Obj())
	job := f.awaitJob("greedy", finished())
	f.Expect(job).To(inState(v1alpha1.JobFailed, v1alpha1.ReasonOOMKilled))
	f.Expect(f.awaitJob("neighbour", finished())).To(inState(v1alpha1.JobSucceeded, ""), "it runs again if its worker went")
}

func TestUsageIsReported(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Obj(), f.job("busy", `x=$(head -c 40000000 /dev/zero | tr "\0" x); echo ${#x}`).Obj())
	job := f.awaitJob("busy", inState(v1alpha1.JobSucceeded, ""))
	f.Expect(*job.Status.Usage.CPUMilliseconds).To(BeNumerically(">", 10))
	f.Expect(*job.Status.Usage.MaxMemoryBytes).To(BeNumerically(">", 40_000_000))
}
