package e2e

import (
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// TestADrainedNodeLosesNoJob runs alone: no other test could have a pod while the node is cordoned.
func TestADrainedNodeLosesNoJob(t *testing.T) {
	f := setupAlone(t)
	f.create(f.pool().Replicas(2).Template(func(t *corev1.PodTemplateSpec) {
		t.Labels = map[string]string{"drain": f.namespace}
	}).Obj())
	f.awaitPool(ready("2/2"))
	f.create(f.job("running", untilTold).Obj())
	worker := f.awaitJob("running", inState(v1alpha1.JobRunning, "")).Status.Worker
	idle := f.pod(idleBeside(worker))
	drain := []string{"drain", f.pod(worker).Spec.NodeName, "--pod-selector=drain=" + f.namespace, "--timeout=" + patience.String()}
	t.Cleanup(func() { f.kubectl("uncordon", drain[1]) })

	out, err := f.output(append(drain, "--dry-run=server")...)
	f.Expect(err).To(HaveOccurred())
	f.Expect(out).To(ContainSubstring("cannot delete Pods with local storage (use --delete-emptydir-data to override)"))

	drained := make(chan error, 1)
	go func() {
		var err error
		out, err = f.output(append(drain, "--delete-emptydir-data")...)
		drained <- err
	}()
	// The idle worker has ended by the signal that the busy one has got at the same time.
	f.Eventually(f.pods, patience).Should(And(
		ContainElement(And(HaveField("Name", worker), HaveField("DeletionTimestamp", Not(BeNil())))),
		Not(ContainElement(HaveField("UID", idle.UID))),
	))
	f.Expect(drained).NotTo(Receive(), "a Job still runs")
	f.tell(worker)
	f.Eventually(drained, patience).Should(Receive(&err))
	f.Expect(err).NotTo(HaveOccurred(), out)
	f.Expect(strings.Count(out, " evicted\n")).To(Equal(2), out)
	f.Expect(f.awaitJob("running", inState(v1alpha1.JobSucceeded, ""))).To(startedTimes(1, 0))

	f.create(f.job("waiting", "true").Obj())
	f.awaitPool(withCondition(v1alpha1.PoolProgressing, "False", v1alpha1.ReasonUnschedulable))
	f.kubectl("uncordon", drain[1])
	f.awaitPool(ready("2/2"))
	f.Expect(f.awaitJob("waiting", inState(v1alpha1.JobSucceeded, ""))).To(startedTimes(1, 0))
}
