package engine

import (
	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/pkg/worker"
)

// Manager is a pool as a worker.Manager. It is a view of what the engine holds and has no state of its
// own: there may be many of one pool, and one may outlast its pool. Its methods are safe for
// concurrent use, and none but Stop waits.
type Manager struct{ pool *pool }

// Worker is a worker pod as a worker.Worker, and a view like Manager.
type Worker struct{ worker *podWorker }

var (
	_ worker.Manager = (*Manager)(nil)
	_ worker.Worker  = (*Worker)(nil)
)

// Manager returns the pool of this name, and false if there is none.
func (e *Engine) Manager(key types.NamespacedName) (*Manager, bool) {
	e.enter()
	defer e.leave()
	p := e.pools[key]
	return &Manager{p}, p != nil
}

// Start begins dispatch. It returns ErrStopped after Close.
func (m *Manager) Start() error {
	m.pool.engine.enter()
	defer m.pool.engine.leave()
	return m.pool.start()
}

// Close ends dispatch, without a wait for what runs: that goes on as long as its worker does. Jobs that
// are queued, or come back from a worker, leave the pool and wait in the API for another of its name.
func (m *Manager) Close() {
	m.pool.engine.enter()
	defer m.pool.engine.leave()
	m.pool.close()
}

// Kill ends what runs in the pool at once, because all around it goes: nobody is left who could read what becomes of it.
func (m *Manager) Kill() {
	m.pool.engine.enter()
	defer m.pool.engine.leave()
	m.pool.kill()
}

// Stop is Close that waits until nothing runs, and all results are stored.
func (m *Manager) Stop() error {
	m.Close()
	m.pool.engine.await(func() bool { return m.pool.active() == 0 })
	return nil
}

// Queue returns the pool's queue, to be looked at. Its Jobs come in by Engine.Submit, which has the
// API told of what becomes of them; a job that is pushed by itself has no pod to run in and fails, and
// one that is popped by others is not run.
func (m *Manager) Queue() worker.Queue { return m.pool.queue }

// Status counts the Jobs that have, or had, a place in the queue.
func (m *Manager) Status() worker.PoolStatus {
	m.pool.engine.enter()
	defer m.pool.engine.leave()
	return m.pool.status()
}

// Snapshot is Status with what else there is to know.
func (m *Manager) Snapshot() PoolSnapshot {
	m.pool.engine.enter()
	defer m.pool.engine.leave()
	return m.pool.snapshot()
}

// Cordon declares which workers are about to be deleted, all of them. These take no further Job, and all others serve
// again, unless they are being deleted. A worker that is not what it was thought to be is left to serve. The answer has
// those that may be deleted.
func (m *Manager) Cordon(victims []Victim) map[types.UID]bool {
	m.pool.engine.enter()
	defer m.pool.engine.leave()
	done := m.pool.cordon(victims)
	m.pool.match()
	return done
}

// Explain declares why queued Jobs do not start, for people. The reason is empty if they only wait for their turn.
func (m *Manager) Explain(reason, message string) {
	m.pool.engine.enter()
	defer m.pool.engine.leave()
	m.pool.explain(obstacle{reason, message})
}

// Worker returns the pool's worker in this pod, and false if there is none.
func (m *Manager) Worker(pod types.UID) (*Worker, bool) {
	m.pool.engine.enter()
	defer m.pool.engine.leave()
	w := m.pool.workers[pod]
	return &Worker{w}, w != nil
}

// Start lets the worker take Jobs whenever its agent is connected. The agent's first session does so
// too. It returns ErrStopped once the worker drains.
func (w *Worker) Start() error {
	w.worker.pool.engine.enter()
	defer w.worker.pool.engine.leave()
	err := w.worker.start()
	w.worker.pool.match()
	return err
}

// Gone says that the worker's pod does not exist any more. Lists of pods say so of those that one has shown before;
// this is for a pod that came and went without.
func (w *Worker) Gone() {
	p := w.worker.pool
	p.engine.enter()
	defer p.engine.leave()
	if p.workers[w.worker.uid] == w.worker {
		w.worker.gone()
		p.match()
		p.engine.collect(p)
	}
}

// Stop has the worker take no further Job, and waits until nothing runs, and all results are stored.
func (w *Worker) Stop() error {
	w.worker.pool.engine.enter()
	w.worker.stop()
	w.worker.pool.engine.leave()
	w.worker.pool.engine.await(func() bool { return !w.worker.busy() })
	return nil
}

// ID is the worker's ordinal.
func (w *Worker) ID() int {
	w.worker.pool.engine.enter()
	defer w.worker.pool.engine.leave()
	return w.worker.id
}

// Status is what the worker does and has done since this engine knows it. It is busy until the results
// of its Jobs are stored.
func (w *Worker) Status() worker.WorkerStatus {
	w.worker.pool.engine.enter()
	defer w.worker.pool.engine.leave()
	return w.worker.status()
}
