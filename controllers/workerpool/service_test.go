package workerpool

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/podspec"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

// wantReady fails the test unless the condition Ready is so: `True Reason`, with this in its message.
func (s *scaled) wantReady(want, message string) {
	s.t.Helper()
	s.wantCondition(v1alpha1.PoolReady, want, message)
}

func (s *scaled) wantCondition(kind, want, message string) {
	s.t.Helper()
	c := meta.FindStatusCondition(s.status.Conditions, kind)
	if got := fmt.Sprintf("%s %s", c.Status, c.Reason); got != want || !strings.Contains(c.Message, message) {
		s.t.Errorf("%s is %s: %q, want %s: %q", kind, got, c.Message, want, message)
	}
}

// wantJob fails the test unless what was asked to be stored of a Job is so.
func (s *scaled) wantJob(uid types.UID, state v1alpha1.JobState, reason, message string) {
	s.t.Helper()
	if is := s.jobs[uid].Status; is.State != state || is.Reason != reason || !strings.Contains(is.Message, message) {
		s.t.Errorf("the Job is %s %s %q, want %s %s %q", is.State, is.Reason, is.Message, state, reason, message)
	}
}

// goOn reconciles as time passes, and again after what that may bring.
func (s *scaled) goOn(d time.Duration) {
	s.t.Helper()
	for end := s.clock.Now().Add(d); s.clock.Now().Before(end); {
		s.pass(time.Second)
		s.catchUp()
		s.reconcile()
	}
	s.store()
}

func (s *scaled) lastJob() types.UID { return types.UID(fmt.Sprintf("job-%06d", s.made)) }

func TestASuspendedPoolAndItsJobsSaySo(t *testing.T) {
	s := newServing(t, 1)
	s.submit(time.Hour)
	s.pool.Spec.Suspend = new(true)
	s.reconcile()
	s.submit(time.Hour)
	s.goOn(time.Second)
	s.wantCondition(v1alpha1.PoolSuspended, "True PoolSuspended", "spec.suspend")
	s.wantReady("True AllWorkersReady", "")
	s.wantJob(s.lastJob(), v1alpha1.JobQueued, v1alpha1.ReasonPoolSuspended, "spec.suspend")
	if running := len(s.runs()); running != 1 {
		t.Fatalf("%d Jobs run, want the one that came before", running)
	}
	s.world.scale(2)
	s.pool.Spec.Suspend = new(false)
	s.goOn(time.Second)
	s.wantCondition(v1alpha1.PoolSuspended, "False NotSuspended", "")
	s.wantJob(s.lastJob(), v1alpha1.JobQueued, "", "")
}

func TestJobsOfAPoolWithoutWorkersSaySo(t *testing.T) {
	s := newServing(t, 0)
	s.submit(time.Hour)
	s.goOn(time.Second)
	s.wantJob(s.lastJob(), v1alpha1.JobQueued, v1alpha1.ReasonNoWorkers, "spec.replicas is 0")
	s.wantReady("True AllWorkersReady", "0 of 0")
	s.world.scale(1)
	s.reconcile()
	s.goOn(time.Second)
	s.wantJob(s.lastJob(), v1alpha1.JobQueued, "", "")
}

// waitingFor has a pod's container wait for a reason.
func (s *scaled) waitingFor(name, reason string) {
	pod := s.pods[name].DeepCopy()
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "worker"}}
	if reason != "" {
		pod.Status.ContainerStatuses[0].State.Waiting = &corev1.ContainerStateWaiting{Reason: reason, Message: "no such image"}
	}
	s.pods[name] = pod
}

func TestJobsOfAPoolWhoseWorkersCannotStartSayWhy(t *testing.T) {
	s := newServing(t, 0)
	s.world.scale(2)
	s.reconcile()
	s.submit(time.Hour)
	for _, name := range s.live() {
		s.waitingFor(name, "ImagePullBackOff")
	}
	s.goOn(time.Second)
	job := s.lastJob()
	s.wantJob(job, v1alpha1.JobQueued, v1alpha1.ReasonWorkerCannotStart, "ImagePullBackOff: no such image")

	// Between two tries nothing seems to be in the way.
	written := s.writes
	for range 20 {
		for _, reason := range []string{"", "ImagePullBackOff"} {
			s.waitingFor("demo-0", reason)
			s.waitingFor("demo-1", reason)
			s.goOn(time.Second)
		}
	}
	s.wantJob(job, v1alpha1.JobQueued, v1alpha1.ReasonWorkerCannotStart, "")
	if s.writes != written {
		t.Errorf("%d further writes", s.writes-written)
	}
	s.startPods()
	s.goOn(time.Second)
	s.wantRuns("demo-0")
	s.submit(time.Hour)
	s.submit(time.Hour)
	s.goOn(time.Second)
	s.wantJob(s.lastJob(), v1alpha1.JobQueued, "", "")
}

func TestAPoolWhoseWorkersTakeNothingIsNotReady(t *testing.T) {
	s := newServing(t, 2)
	s.reconcile()
	s.wantReady("True AllWorkersReady", "")
	for _, agent := range s.agents {
		agent.unavailable = "its server does not answer: connection refused"
	}
	s.submit(time.Hour)
	s.wantRuns("demo-0") // it was sent a moment before
	s.goOn(time.Second)
	s.submit(time.Hour)
	s.goOn(time.Second)
	s.wantReady("True AllWorkersReady", "") // it may be over in a moment
	s.wantJob(s.lastJob(), v1alpha1.JobQueued, "", "")
	s.goOn(unavailableAfter)
	s.wantReady("False WorkersUnavailable", "Worker demo-0 takes no Jobs: its server does not answer: connection refused.")
	s.wantJob(s.lastJob(), v1alpha1.JobQueued, v1alpha1.ReasonUnavailable, "connection refused")

	// The next leader does not take it back for a moment.
	s.pool.Status = s.status
	s.reconciler.memories.forget(poolKey)
	s.reconcile()
	s.wantReady("False WorkersUnavailable", "")

	for _, agent := range s.agents {
		agent.unavailable = ""
	}
	s.goOn(time.Second)
	s.wantReady("True AllWorkersReady", "")
}

func TestAPoolWhoseAgentsAreGoneForAMomentStaysReady(t *testing.T) {
	s := newServing(t, 2)
	for _, agent := range s.agents {
		s.engine.Disconnect(agent)
	}
	for range 5 {
		s.clock.Step(time.Second)
		s.reconcile()
		s.wantReady("True AllWorkersReady", "")
	}
	s.clock.Step(unavailableAfter)
	s.reconcile()
	s.wantReady("False WorkersUnavailable", "no session")
}

func TestAPoolSaysWhatItsAgentSeesOfAServerThatDoesNotAnswer(t *testing.T) {
	s := newServing(t, 1)
	pod := s.pods["demo-0"].DeepCopy()
	pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse, Message: "containers with unready status: [worker]"}}
	s.pods["demo-0"] = pod
	s.goOn(time.Second)
	s.wantReady("False WorkersNotReady", "Worker demo-0 is not ready: containers with unready status: [worker].")
	s.agents[pod.UID].unavailable = "its server does not answer: connection refused"
	s.submit(time.Hour)
	s.goOn(time.Second)
	s.wantReady("False WorkersNotReady", "connection refused")
	s.submit(time.Hour)
	s.goOn(unavailableAfter)
	s.wantJob(s.lastJob(), v1alpha1.JobQueued, v1alpha1.ReasonNotReady, "connection refused")
}

// Else the statuses of all Jobs that wait would be written anew with each change of the leader.
func TestANewLeaderKnowsWhyJobsWaitBeforeItKnowsThem(t *testing.T) {
	pool := testutil.MakePool("ns", "demo").Obj()
	pool.Spec.Suspend = new(true)
	c := fake.NewClientBuilder().WithScheme(testutil.Scheme()).WithObjects(pool).WithIndex(&corev1.Pod{}, ownerIndex, ownerOf).Build()
	eng := newFakeEngine()
	if err := New(c, c, eng, nil, podspec.Agent{}, clock.RealClock{}).Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := eng.explained[poolKey]; got != v1alpha1.ReasonPoolSuspended {
		t.Errorf("Jobs wait for %q", got)
	}
}
