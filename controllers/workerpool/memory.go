package workerpool

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/workerpool-dev/workerpool/internal/engine"
)

// memory is what the controller knows of a pool that neither the cache nor the API tells: what it has
// done itself and the cache does not show yet, and when it did things that it must not do too often.
// One reconcile of the pool uses it at a time.
type memory struct {
	// pool is the UID of the WorkerPool that all this is about.
	pool types.UID
	// created are pods that were made and that the cache has not shown yet.
	created map[types.UID]expected
	// deleted are pods that were deleted; the cache may show them as they were before.
	deleted map[types.UID]bool
	// givenUp are pods that were deleted with hardly any grace.
	givenUp map[types.UID]bool
	// asked are pods that somebody else has deleted, after which it was asked whether the namespace is being deleted; and
	// namespaceGoing whether it is. It never comes back.
	asked          map[types.UID]bool
	namespaceGoing bool
	// unseen are pods that the engine knows and the cache does not show.
	unseen map[types.UID]*unseen
	// resetFailed are pods of which it was told that they could not be reset.
	resetFailed map[types.UID]bool
	// taken are ordinals whose names others' pods have, and when that was seen last.
	taken map[int]time.Time
	// trouble is why the last worker could not be made; empty if it could.
	trouble string
	// told is the trouble that an event has told of last; empty if all workers have been as wanted since.
	told string
	// failures is the number of failed tries in a row, for the generation of the spec that failed.
	failures   int
	generation int64
	// retry is when to try again.
	retry time.Time
	// unserved is since when no worker has taken Jobs; zero if one does, or none is wanted.
	unserved time.Time
	// explained is what the engine was told last of why Jobs wait.
	explained explanation
	// config is what the engine was told of the pool when its spec could be read last; nil if never.
	config *engine.PoolConfig
	// autoscaler is for a pool that has one.
	autoscaler autoscaler
	// written is when the status was written last.
	written time.Time
}

// expected is a pod that the cache should show soon.
type expected struct {
	ordinal int
	hash    string
	since   time.Time
}

const (
	// expectedWithin is how long the cache may take to show a pod before the API is asked for it.
	expectedWithin = 5 * time.Second
	// takenRecheck is how long a name is believed to be taken before the API is asked again.
	takenRecheck = time.Minute
	// retryFirst and retryLongest bound the pause after a worker could not be made; it doubles.
	retryFirst   = time.Second
	retryLongest = time.Minute
)

func newMemory(pool types.UID) *memory {
	return &memory{
		pool:        pool,
		created:     map[types.UID]expected{},
		deleted:     map[types.UID]bool{},
		givenUp:     map[types.UID]bool{},
		asked:       map[types.UID]bool{},
		resetFailed: map[types.UID]bool{},
		taken:       map[int]time.Time{},
	}
}

// observe drops what the cache shows by now, and what is known of pods that are gone.
func (m *memory) observe(cached map[types.UID]bool) {
	for uid := range cached {
		delete(m.created, uid)
	}
	for _, known := range []map[types.UID]bool{m.deleted, m.givenUp, m.asked, m.resetFailed} {
		for uid := range known {
			if _, coming := m.created[uid]; !cached[uid] && !coming {
				delete(known, uid)
			}
		}
	}
}

// expect notes a pod that was made.
func (m *memory) expect(uid types.UID, ordinal int, hash string, now time.Time) {
	m.created[uid] = expected{ordinal: ordinal, hash: hash, since: now}
}

// failed notes that a worker could not be made, and when to try again.
func (m *memory) failed(trouble string, generation int64, now time.Time) {
	if generation != m.generation {
		m.failures = 0
	}
	m.trouble, m.generation = trouble, generation
	m.retry = now.Add(min(retryLongest, retryFirst<<min(m.failures, 10)))
	m.failures++
}

// succeeded notes that workers can be made.
func (m *memory) succeeded() { m.trouble, m.failures, m.retry = "", 0, time.Time{} }

// pause is how long to wait before making workers; a changed spec is tried at once.
func (m *memory) pause(generation int64, now time.Time) time.Duration {
	if generation != m.generation {
		return 0
	}
	return max(0, m.retry.Sub(now))
}

// takenOrdinals are the ordinals whose names others' pods have.
func (m *memory) takenOrdinals() map[int]bool {
	taken := make(map[int]bool, len(m.taken))
	for ordinal := range m.taken {
		taken[ordinal] = true
	}
	return taken
}

// memories has the memory of each pool.
type memories struct {
	// mu guards pools, not what the memories hold.
	mu    sync.Mutex
	pools map[types.NamespacedName]*memory
}

// of returns the memory of a pool; a new one if another pool had the name before.
func (m *memories) of(key types.NamespacedName, uid types.UID) *memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	if known := m.pools[key]; known != nil && known.pool == uid {
		return known
	}
	if m.pools == nil {
		m.pools = map[types.NamespacedName]*memory{}
	}
	m.pools[key] = newMemory(uid)
	return m.pools[key]
}

// pool returns the UID of the pool that there is a memory of; it is empty if there is none.
func (m *memories) pool(key types.NamespacedName) types.UID {
	m.mu.Lock()
	defer m.mu.Unlock()
	if known := m.pools[key]; known != nil {
		return known.pool
	}
	return ""
}

func (m *memories) forget(key types.NamespacedName) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.pools, key)
}

// again is a Result that asks for a reconcile after the shortest of some waits; those that are 0 do
// not count.
func again(waits ...time.Duration) reconcile.Result {
	var result reconcile.Result
	for _, wait := range waits {
		if wait > 0 && (result.RequeueAfter == 0 || wait < result.RequeueAfter) {
			result.RequeueAfter = wait
		}
	}
	return result
}
