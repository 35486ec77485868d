package invalid

import (
	"fmt"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/types"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/workerpool-dev/workerpool/internal/testutil"
)

func status(keys types.GomegaMatcher) types.GomegaMatcher {
	return WithTransform(func(o map[string]any) any { return o["status"] }, keys)
}

func state(want string) types.GomegaMatcher { return status(HaveKeyWithValue("state", want)) }

// conditionIs wants a condition of this type.
func conditionIs(kind, value, reason string) types.GomegaMatcher {
	return status(HaveKeyWithValue("conditions", ContainElement(And(
		HaveKeyWithValue("type", kind), HaveKeyWithValue("status", value), HaveKeyWithValue("reason", reason)))))
}

func beInvalid(field string) types.GomegaMatcher {
	return And(state("Failed"), conditionIs("Failed", "True", "Invalid"), status(And(
		HaveKeyWithValue("reason", "Invalid"), HaveKeyWithValue("message", ContainSubstring(field)), HaveKey("completionTime"))))
}

// expectAll wants what can't be decoded to say so, and all else to go on.
func (w *world) expectAll(name string) {
	w.t.Helper()
	w.Eventually(w.stored("Job", w.other, name)).Should(state("Queued"), "no other namespace is held up")
	w.Eventually(w.stored("Job", w.bad, "good-"+name)).Should(state("Queued"), "nor is a Job beside it")
	w.Eventually(w.stored("Job", w.bad, "bad-"+name)).Should(beInvalid("spec.startAfter"))
	w.Eventually(w.stored("WorkerPool", w.bad, "bad-"+name)).Should(conditionIs("Ready", "False", "Invalid"))
	w.Eventually(w.stored("Job", w.bad, "of-bad-pool-"+name)).Should(state("Queued"), "it waits for its pool to be corrected")
	w.Expect(w.pods("bad-" + name)()).To(BeEmpty())

	w.patch("WorkerPool", "bad-"+name, `{"spec":{"template":{"spec":{"initContainers":null}}}}`, false)
	w.Eventually(w.pods("bad-"+name)).Should(HaveLen(2), "a pool that is corrected goes on")
	w.Eventually(w.stored("WorkerPool", w.bad, "bad-"+name)).Should(conditionIs("Ready", "False", "WorkersNotReady"))
	w.deletePool("bad-" + name)
}

func (w *world) createAll(name string) {
	w.t.Helper()
	w.create(w.badJob("bad-"+name), w.badPool("bad-"+name), testutil.MakeJob(w.bad, "of-bad-pool-"+name, "bad-"+name).Obj(),
		testutil.MakeJob(w.bad, "good-"+name, "good").Obj(), testutil.MakeJob(w.other, name, "good").Obj())
}

func TestWhatCannotBeDecodedIsSetApart(t *testing.T) {
	w := setup(t)
	w.create(testutil.MakePool(w.bad, "good").Replicas(0).Obj(), testutil.MakePool(w.other, "good").Replicas(0).Obj())
	w.createAll("listed")
	w.startOperator()
	w.expectAll("listed")
	w.createAll("watched")
	w.expectAll("watched")
}

func TestAPoolThatCannotBeDecodedAnyMoreKeepsItsWorkers(t *testing.T) {
	w := setup(t)
	w.create(testutil.MakePool(w.bad, "demo").Replicas(2).Obj(), testutil.MakeJob(w.bad, "before", "demo").Obj())
	stop := w.startOperator()
	w.Eventually(w.pods("demo")).Should(HaveLen(2))
	before, err := w.pods("demo")()
	w.Expect(err).NotTo(HaveOccurred())

	port := `{"spec":{"replicas":0,"template":{"spec":{"initContainers":[{"name":"a","image":"b","restartPolicy":"Always","livenessProbe":{"httpGet":{"port":%s}}}]}}}}`
	w.patch("WorkerPool", "demo", fmt.Sprintf(port, "3000000000"), false)
	w.Eventually(w.stored("WorkerPool", w.bad, "demo")).Should(And(
		conditionIs("Ready", "False", "Invalid"), status(HaveKeyWithValue("replicas", BeEquivalentTo(2)))))
	w.Expect(w.pods("demo")()).To(ConsistOf(before), "neither are they removed, nor replaced")
	w.create(testutil.MakeJob(w.bad, "meanwhile", "demo").Obj())
	w.Eventually(w.stored("Job", w.bad, "meanwhile")).Should(state("Queued"))

	stop() // the next operator has never read the pool
	w.startOperator()
	w.create(testutil.MakeJob(w.bad, "later", "demo").Obj())
	w.Eventually(w.stored("Job", w.bad, "later")).Should(state("Queued"))
	w.Expect(w.pods("demo")()).To(ConsistOf(before))

	w.deletePool("demo")
	w.Eventually(w.pods("demo")).Should(BeEmpty())
	w.Eventually(w.stored("Job", w.bad, "meanwhile")).Should(And(state("Pending"), status(HaveKeyWithValue("reason", "PoolNotFound"))))
}

// A Job with such a status may have run, or run: it is neither failed nor started.
func TestAStatusThatCannotBeDecodedStopsItsJobOnly(t *testing.T) {
	w := setup(t)
	w.create(testutil.MakePool(w.bad, "demo").Replicas(0).Obj(), testutil.MakeJob(w.bad, "job", "demo").Obj())
	w.patch("Job", "job", `{"status":{"state":"Running","attempts":1,"startTime":"yesterday"}}`, true)
	w.startOperator()
	setApart := And(state("Running"), status(And(
		HaveKeyWithValue("reason", "Invalid"), HaveKeyWithValue("message", ContainSubstring("status.startTime")), HaveKeyWithValue("startTime", "yesterday"))))
	w.Eventually(w.stored("Job", w.bad, "job")).Should(setApart)
	w.create(testutil.MakeJob(w.bad, "other", "demo").Obj())
	w.Eventually(w.stored("Job", w.bad, "other")).Should(state("Queued"))
	w.Expect(w.stored("Job", w.bad, "job")()).To(setApart, "it is not queued, as the one after it is")
	w.patch("Job", "job", `{"status":{"startTime":null,"state":"Pending"}}`, true)
	w.Eventually(w.stored("Job", w.bad, "job")).Should(And(state("Queued"), status(Not(HaveKeyWithValue("reason", "Invalid")))))
}

// A finished Job stays what it is, and goes when its time to live is over.
func TestAFinishedJobThatCannotBeDecodedIsLeft(t *testing.T) {
	w := setup(t)
	w.create(testutil.MakePool(w.bad, "demo").Replicas(0).Obj())
	for name, ended := range map[string]string{"done": time.Now().UTC().Format(metav1.RFC3339Micro), "old": "2020-01-01T00:00:00.000000Z"} {
		w.create(w.badJob(name))
		w.patch("Job", name, fmt.Sprintf(`{"status":{"state":"Succeeded","completionTime":%q}}`, ended), true)
	}
	w.create(w.badJob("new"))
	w.startOperator()
	w.Eventually(w.stored("Job", w.bad, "new")).Should(beInvalid("spec.startAfter"))
	w.Eventually(func() bool {
		_, err := w.stored("Job", w.bad, "old")()
		return apierrors.IsNotFound(err)
	}).Should(BeTrue())
	w.Expect(w.stored("Job", w.bad, "done")()).To(And(state("Succeeded"), status(Not(HaveKeyWithValue("reason", "Invalid")))))
}
