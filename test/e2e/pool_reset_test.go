package e2e

import (
	"fmt"
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apitypes "k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// resets has the workers of a pool run a shell script after each try.
func resets(script string) func(*v1alpha1.WorkerPoolSpec) {
	return func(s *v1alpha1.WorkerPoolSpec) {
		s.Recycle = &v1alpha1.RecycleSpec{ResetCommand: []string{"sh", "-c", script}}
	}
}

// eventsOf are the messages of the pool's events for a reason.
func (f *fixture) eventsOf(reason string) []string {
	f.t.Helper()
	list := &corev1.EventList{}
	f.Expect(cluster.List(f.ctx, list, client.InNamespace(f.namespace))).To(Succeed())
	var messages []string
	for _, event := range list.Items {
		if event.Reason == reason {
			messages = append(messages, event.Message)
		}
	}
	return messages
}

func TestAJobDoesNotSeeWhatTheResetHasRemoved(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Spec(resets("rm /tmp/left && echo removed")).Obj())
	uids := map[apitypes.UID]bool{}
	for i := range 3 {
		name := fmt.Sprint("job-", i)
		f.run(name, "test ! -e /tmp/left && touch /tmp/left")
		uids[f.get(name).Status.EndedAttempts[0].PodUID] = true
	}
	f.Expect(uids).To(HaveLen(1), "it must be the same worker")
	f.Expect(f.eventsOf(v1alpha1.ReasonResetFailed)).To(BeEmpty())
	f.Eventually(func() string { return f.kubectl("logs", "demo-0", "-c", "worker") }, patience).
		Should(MatchRegexp(`"job":"job-2".*"reset":true,"stream":"stdout","line":"removed"`))
}

func TestAJobDoesNotWaitForItsReset(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Spec(resets(untilTold)).Obj())
	f.run("first", "true")
	f.create(f.job("second", "true").Obj())
	f.awaitJob("second", inState(v1alpha1.JobQueued, ""))
	f.tell("demo-0")
	f.awaitJob("second", inState(v1alpha1.JobSucceeded, ""))
}

func TestAWorkerThatCannotBeResetIsReplacedAndNoJobIsLost(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Spec(resets("echo it is too dirty >&2; exit 7")).Obj())
	uids := map[apitypes.UID]bool{}
	for i := range 3 {
		f.create(f.job(fmt.Sprint("job-", i), "true").Obj())
	}
	for i := range 3 {
		job := f.awaitJob(fmt.Sprint("job-", i), finished())
		f.Expect(job).To(And(inState(v1alpha1.JobSucceeded, ""), startedTimes(1, 0)))
		uids[job.Status.EndedAttempts[0].PodUID] = true
	}
	f.Expect(uids).To(HaveLen(3), "each must have had a worker of its own")
	f.Eventually(func() []string { return f.eventsOf(v1alpha1.ReasonResetFailed) }, patience).Should(ContainElement(
		MatchRegexp(`^Worker demo-\d+ is replaced, because its resetCommand has failed: exit code 7: it is too dirty$`)))
	f.awaitPool(ready("1/1"))
}

func TestAWorkerThatIsResetGoesAtOnce(t *testing.T) {
	f := setup(t)
	f.create(f.pool().DrainTimeout(3600).Spec(resets("sleep 3600")).Obj())
	f.run("first", "true")
	f.scale(0)
	f.Eventually(f.pods, patience).Should(BeEmpty())
	f.Expect(f.eventsOf(v1alpha1.ReasonResetFailed)).To(BeEmpty())
}
