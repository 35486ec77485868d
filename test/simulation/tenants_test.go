package simulation

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/internal/engine"
)

// tenant is a pool, with its Jobs and its workers. Most worlds have one; a world with a hostile worker has a second, which
// shares nothing with the first but the operator.
type tenant struct {
	config   engine.PoolConfig
	replicas int
	// explained is why its queued Jobs wait, as far as the pool controller says so.
	explained string
}

func newTenant(key types.NamespacedName, replicas int) *tenant {
	return &tenant{replicas: replicas, config: engine.PoolConfig{
		Key: key, UID: types.UID("uid of " + key.String()), Capacity: 5, Aging: 300 * time.Second, Slots: slots, LostAfter: workerLost,
	}}
}

func (t *tenant) podName(ordinal int) string { return fmt.Sprint(t.config.Key.Name, "-", ordinal) }

// populate gives the world its tenants, and says what kind of workers they have. Its chance is its own, so that a world in which
// nobody is hostile stays as it is, whatever is added here.
func (w *world) populate() {
	w.plan = newPlan(w.seed)
	w.tenants = []*tenant{newTenant(types.NamespacedName{Namespace: "default", Name: "pool"}, 3)}
	w.chooseVillain()
	if w.villain.exists {
		w.tenants[0].replicas = 2
		namespace := []string{"default", "elsewhere"}[w.plan.IntN(2)]
		w.tenants = append(w.tenants, newTenant(types.NamespacedName{Namespace: namespace, Name: "other"}, 2))
	}
}

// someTenant is one of them. It takes no chance where there is only one.
func (w *world) someTenant() *tenant {
	if len(w.tenants) == 1 {
		return w.tenants[0]
	}
	return pick(w.rng, w.tenants)
}
