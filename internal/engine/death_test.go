package engine

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// dying makes a worker that ran two Jobs, of which the first was seen with more memory than its share, and
// whose agent is back without them.
func dying(t *testing.T) (w *world, p *simPod, large, small types.UID) {
	t.Helper()
	w, p = lone(t)
	w.createJob()
	w.createJob()
	w.receive(p)
	w.receive(p)
	large, small = w.jobUIDs()[0], w.jobUIDs()[1]
	memory := map[types.UID]int64{large: simResources.Memory, small: 1 << 20}
	running := w.runningOf(p)
	for i := range running {
		running[i].Memory = memory[running[i].Token.Job]
	}
	w.engine.Report(p.session, Report{Seen: p.seen, Running: running})
	w.restartAgent(p)
	w.connect(p)
	return w, p, large, small
}

func (w *world) listWithDeath(p *simPod, death Death) {
	pod := w.podOf(p)
	pod.Death = death
	w.engine.SetWorkers(poolKey, []WorkerPod{pod})
}

// On cgroup v2 the kernel ends a container that is out of memory as a whole.
func TestTheJobFurthestOverItsShareIsToBlameForAWorkerOutOfMemory(t *testing.T) {
	w, p, large, small := dying(t)
	if w.writes[large].Status.State.Finished() || w.engine.jobs[small].running != 1 {
		t.Fatal("decided before it is known why the agent died")
	}
	w.listWithDeath(p, Death{At: w.now.Truncate(time.Second), OutOfMemory: true})
	if got := w.writes[large].Status; got.State != v1alpha1.JobFailed || got.Reason != v1alpha1.ReasonOOMKilled {
		t.Errorf("the large Job is %s %s, want Failed OOMKilled", got.State, got.Reason)
	} else if want := "The worker ran out of memory and was ended by the kernel. The command was last seen with 1Gi; its share is 512Mi."; got.Message != want {
		t.Errorf("message %q, want %q", got.Message, want)
	}
	if got := w.engine.jobs[small]; got.running != 1 || got.object.Status.LostWorkers != nil {
		t.Errorf("the small Job runs %d times and has lost %v workers; want it sent again, and none", got.running, got.object.Status.LostWorkers)
	}
}

func TestAnAgentThatDiedOtherwiseCountsAsALostWorker(t *testing.T) {
	w, p, large, small := dying(t)
	w.listWithDeath(p, Death{At: w.now.Add(-time.Hour), OutOfMemory: true}) // an earlier one
	if got := w.engine.jobs[large].object.Status.LostWorkers; got != nil {
		t.Fatal("decided by the death of another time")
	}
	w.listWithDeath(p, Death{At: w.now})
	for _, uid := range []types.UID{large, small} {
		if got := deref(w.engine.jobs[uid].object.Status.LostWorkers); got != 1 {
			t.Errorf("%s has lost %d workers, want 1", uid, got)
		}
	}
}

func TestNobodyWaitsLongForTheReasonOfADeath(t *testing.T) {
	w, _, large, _ := dying(t)
	w.pass(deathNews - time.Millisecond)
	if got := deref(w.engine.jobs[large].object.Status.LostWorkers); got != 0 {
		t.Fatal("decided too early")
	}
	w.pass(time.Second)
	if got := deref(w.engine.jobs[large].object.Status.LostWorkers); got != 1 {
		t.Errorf("has lost %d workers, want 1", got)
	}
}
