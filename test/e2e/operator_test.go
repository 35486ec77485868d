package e2e

import (
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

func leader(f *fixture) string {
	f.t.Helper()
	lease := &coordinationv1.Lease{}
	f.Expect(cluster.Get(f.ctx, client.ObjectKey{Namespace: operatorNamespace, Name: "workerpool-controller-manager"}, lease)).To(Succeed())
	name, _, _ := strings.Cut(ptr.Deref(lease.Spec.HolderIdentity, ""), "_")
	return name
}

// TestJobsOutliveTheLeader runs alone: a leader that is killed misses the counts of its last second,
// which other tests look at.
func TestJobsOutliveTheLeader(t *testing.T) {
	f := setupAlone(t)
	f.create(f.pool().Slots(2).Obj())
	f.awaitPool(ready("1/1"))
	f.create(f.job("recorded", "sleep 6; echo done").Obj())
	f.awaitJob("recorded", inState(v1alpha1.JobRunning, ""))
	before := leader(f)
	f.Expect(before).NotTo(BeEmpty())
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: before}}
	f.Expect(cluster.Delete(f.ctx, pod, client.GracePeriodSeconds(0))).To(Succeed())
	f.create(f.job("meanwhile", "true").Obj())

	job := f.awaitJob("recorded", inState(v1alpha1.JobSucceeded, ""))
	f.Expect(*job.Status.Attempts).To(BeEquivalentTo(1), "it went on while nobody led, and its result arrived")
	f.awaitJob("meanwhile", inState(v1alpha1.JobSucceeded, ""))
	f.Expect(leader(f)).NotTo(Equal(before))
}

func TestKubectlReadsAsAUserExpects(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Obj(), f.job("hello", "echo hello").Obj())
	f.Expect(f.kubectl("wait", "--for=condition=Complete", "wj/hello", "--timeout=60s")).To(ContainSubstring("condition met"))
	f.awaitPool(And(ready("1/1"), HaveField("Status.ProcessedJobs", HaveValue(BeEquivalentTo(1)))))
	f.Expect(f.kubectl("get", "wp")).To(MatchRegexp(`NAME +READY +BUSY +QUEUED +DONE +FAILED +SUSPENDED +AGE\ndemo +1/1 +0 +0 +1 +0 +false `))
	f.Expect(f.kubectl("get", "wj", "-o", "wide")).To(MatchRegexp(
		`NAME +POOL +STATE +REASON +ATTEMPTS +WORKER +COMPLETIONS +STARTED +AGE +EXIT +MESSAGE\nhello +demo +Succeeded +1 +demo-0 .* 0 `))
	f.Expect(f.kubectl("get", "workerpool")).To(ContainSubstring("demo"))
	f.Expect(f.kubectl("scale", "wp", "demo", "--replicas=2")).To(ContainSubstring("scaled"))
	f.awaitPool(ready("2/2"))
	f.Expect(f.kubectl("explain", "job.spec", "--api-version=workerpool.dev/v1alpha1")).To(And(
		ContainSubstring("ttlSecondsAfterFinished"), ContainSubstring("higher goes first")))
	f.Expect(f.kubectl("get", "wj", "--field-selector", "spec.pool=demo")).To(ContainSubstring("hello"))
	f.Expect(f.kubectl("get", "wj", "--field-selector", "spec.pool=other")).NotTo(ContainSubstring("hello"))
}
