package workerpool

import (
	"errors"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/internal/engine"
	"github.com/workerpool-dev/workerpool/internal/podspec"
	"github.com/workerpool-dev/workerpool/internal/testutil"
	"github.com/workerpool-dev/workerpool/pkg/worker"
)

// silent is an Outbox that nobody reads.
type silent struct{ engine.Outbox }

func (silent) PoolOpened(types.NamespacedName)  {}
func (silent) PoolChanged(types.NamespacedName) {}

func TestThePoolsInMemoryAreThoseOfTheEngine(t *testing.T) {
	eng := InMemory{engine.New(time.Now, nil, silent{})}
	key := types.NamespacedName{Namespace: "ns", Name: "demo"}
	if _, ok := eng.Pool(key); ok {
		t.Fatal("a pool is known before it was set")
	}
	eng.SetPool(engine.PoolConfig{Key: key, UID: "pool", Capacity: 1})
	eng.SetWorkers(key, []engine.WorkerPod{{UID: "a", Name: "demo-0", Started: true}, {UID: "b", Name: "demo-1", Ordinal: 1, Started: true}})
	pool, ok := eng.Pool(key)
	if !ok {
		t.Fatal("the pool is not known")
	}
	if done := pool.Cordon([]engine.Victim{{Pod: "b", Idle: true}, {Pod: "unknown"}}); !done["b"] || !done["unknown"] {
		t.Errorf("cordoned %v, want all: none runs anything", done)
	}
	if pods := pool.Snapshot().Pods; pods["a"].Draining || !pods["b"].Draining {
		t.Errorf("pods are %+v, want b drained", pods)
	}
	if err := pool.Start(); err != nil {
		t.Errorf("start: %v", err)
	}
	pool.Close()
	if err := pool.Start(); !errors.Is(err, worker.ErrStopped) {
		t.Errorf("start after Close: %v, want %v", err, worker.ErrStopped)
	}
}

func TestTheDeathOfTheJobContainerIsTold(t *testing.T) {
	ended := metav1.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	pool := testutil.MakePool("ns", "demo").Obj()
	pool.Spec.Template.Spec.Containers = append(pool.Spec.Template.Spec.Containers, corev1.Container{Name: "other"})
	last := func(container, reason string) *corev1.Pod {
		pod := podspec.Pod(pool, 0, podspec.Agent{})
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: container, LastTerminationState: corev1.ContainerState{
			Terminated: &corev1.ContainerStateTerminated{Reason: reason, FinishedAt: ended},
		}}}
		return pod
	}
	for name, c := range map[string]struct {
		pod  *corev1.Pod
		want engine.Death
	}{
		"it has not ended":            {podspec.Pod(pool, 0, podspec.Agent{}), engine.Death{}},
		"it ran out of memory":        {last("worker", "OOMKilled"), engine.Death{At: ended.Time, OutOfMemory: true}},
		"it ended otherwise":          {last("worker", "Error"), engine.Death{At: ended.Time}},
		"another ran out of memory":   {last("other", "OOMKilled"), engine.Death{}},
		"the pod is none of a worker": {&corev1.Pod{}, engine.Death{}},
	} {
		if got := deathOf(c.pod); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
