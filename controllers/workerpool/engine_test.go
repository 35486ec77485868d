package workerpool

import (
	"errors"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/internal/engine"
	"github.com/workerpool-dev/workerpool/pkg/worker"
)

// silent is an Outbox that nobody reads.
type silent struct{ engine.Outbox }

func (silent) PoolOpened(types.NamespacedName)  {}
func (silent) PoolChanged(types.NamespacedName) {}

func TestThePoolsInMemoryAreThoseOfTheEngine(t *testing.T) {
	eng := InMemory{engine.New(time.Now, silent{})}
	key := types.NamespacedName{Namespace: "ns", Name: "demo"}
	if _, ok := eng.Pool(key); ok {
		t.Fatal("a pool is known before it was set")
	}
	eng.SetPool(engine.PoolConfig{Key: key, UID: "pool", Capacity: 1})
	eng.SetWorkers(key, []engine.WorkerPod{{UID: "a", Name: "demo-0"}, {UID: "b", Name: "demo-1", Ordinal: 1}})
	pool, ok := eng.Pool(key)
	if !ok {
		t.Fatal("the pool is not known")
	}
	pool.Drain("b")
	pool.Drain("unknown")
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
