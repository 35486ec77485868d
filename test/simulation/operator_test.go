package simulation

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/controllers/job"
	"github.com/workerpool-dev/workerpool/controllers/workerpool"
	"github.com/workerpool-dev/workerpool/internal/engine"
	"github.com/workerpool-dev/workerpool/internal/leader"
	"github.com/workerpool-dev/workerpool/internal/status"
)

// phase is how far an operator's process is.
type phase int

const (
	standby phase = iota
	taking
	leading
)

const (
	// tenure is how long after its last renewal a process acts as the leader, as in leader.Lease.
	tenure = leader.RenewDeadline + leader.RenewInterval
	// noticed is how long a process that was stopped may go on before it finds that it does not lead any more. It is
	// longer than it need be.
	noticed = tenure
	// concurrency is how many requests the status writer has under way at once.
	concurrency = 16
	drainGrace  = 300 * time.Second
	giveUpGrace = time.Second
)

// operator is one process: the real engine, status writer, leader and Job controller on caches of its own.
type operator struct {
	w      *world
	id     int
	ctx    context.Context //nolint:containedctx // that of the process
	cancel context.CancelFunc

	jobs *cache[*v1alpha1.Job]
	pods *cache[*podObject]

	phase phase
	dead  bool
	// paused: the process is stopped. cut: it does not reach the API server.
	paused, cut bool
	// renewed is when it last renewed its Lease, and noticeBy when it finds at the latest that it could not.
	renewed, noticeBy time.Time
	epoch             engine.Epoch
	began             time.Time

	engine     *engine.Engine
	writer     *status.Writer
	lead       *leader.Leader
	reconciler *job.Reconciler

	calls   []*call
	current *call
	queue   []job.Request
	queued  map[job.Request]bool
	// reconciling: the Job controller is at work.
	reconciling bool
	// poolChanged: the engine has said so.
	poolChanged bool
	// created, deleted and givenUp are what it has done about pods, for as long as its cache may not show it.
	created          map[types.UID]*podObject
	deleted, givenUp map[types.UID]bool
	// plans are those that were made and are to be carried out.
	plans map[*tenant][]workerpool.Intent
	// told are the successes that its agents have told it of.
	told map[engine.Token]bool
	// heard are all results that its agents have told it of.
	heard map[engine.Token]bool
	// left is when a pod's session with it has ended.
	left map[types.UID]time.Time
}

// boot starts another process.
func (w *world) boot() *operator {
	w.booted++
	op := &operator{
		w: w, id: w.booted, jobs: w.api.jobs.watch(), pods: w.api.pods.watch(), queued: map[job.Request]bool{},
		created: map[types.UID]*podObject{}, deleted: map[types.UID]bool{}, givenUp: map[types.UID]bool{}, told: map[engine.Token]bool{}, heard: map[engine.Token]bool{},
		left: map[types.UID]time.Time{}, plans: map[*tenant][]workerpool.Intent{},
	}
	op.ctx, op.cancel = context.WithCancel(w.ctx)
	cached, live, clock := cachedClient{op: op}, liveReader{op: op}, simClock{op: op}
	op.engine = engine.New(clock.Now, w.rng.Float64, op)
	op.lead = leader.New(leader.Config{
		Client: cached, Live: live, Held: op.held, Engine: op.engine, Clock: clock, Load: op.load, Lease: types.NamespacedName{Namespace: "system", Name: "lease"},
	})
	op.writer = status.New(status.Config{Client: cached, Live: live, Leading: op.lead.Leading, Clock: clock})
	op.reconciler = &job.Reconciler{Client: cached, Live: live, Engine: op.engine}
	w.operators = append(w.operators, op)
	return op
}

func (op *operator) identity() string { return fmt.Sprint("operator-", op.id) }

// acts tells whether the process can do anything.
func (op *operator) acts() bool { return !op.dead && !op.paused }

// held tells whether no other process can lead, as leader.Lease does.
func (op *operator) held() bool { return op.w.now.Sub(op.renewed) < tenure }

// elect gives the Lease to a process, if it is free.
func (w *world) elect(op *operator) {
	l := &w.api.lease
	if !op.acts() || op.cut || op.phase != standby || l.holder != nil && w.now.Sub(l.renewed) < leader.LeaseDuration {
		return
	}
	if old := l.holder; old != nil && !old.dead {
		w.count(electedBeside, objectOfPhase(old.phase))
	}
	l.holder, l.renewed = op, w.now
	l.transitions++
	op.phase, op.renewed = taking, w.now
	w.note("operator %d has the Lease: transition %d", op.id, l.transitions)
	op.run(func(ctx context.Context) {
		if err := op.lead.TakeOver(ctx); err != nil {
			w.doomed = append(w.doomed, op) // its process ends
			return
		}
		op.phase, op.began = leading, w.now
		w.published = append(w.published, op)
		w.note("operator %d leads", op.id)
		for _, name := range sortedKeys(op.jobs.live) {
			op.changed(op.jobs.live[name])
		}
	})
}

// load is what fills an engine: pools first.
func (op *operator) load(ctx context.Context) error {
	for _, t := range op.w.tenants {
		op.tellPool(t)
	}
	return job.Load(ctx, op.reconciler.Client, op.engine)
}

// crash ends a process at once. What it has asked the API server for may take effect yet.
func (w *world) crash(op *operator, why string) {
	if op.dead {
		return
	}
	w.note("operator %d ends: %s", op.id, why)
	op.dead = true
	op.cancel()
	for len(op.calls) > 0 {
		c := op.calls[len(op.calls)-1]
		op.calls = op.calls[:len(op.calls)-1]
		if c.request != nil {
			w.count(crashed, c.request.object)
			w.history.abandoned(c, c.request)
			if c.request.write && w.chance(2) {
				w.api.ghosts = append(w.api.ghosts, c.request.perform)
			}
		}
		c.stop()
	}
	for _, s := range w.streams {
		if s.op == op && !s.opEnded {
			w.count(crashed, objectOfStream(s))
			s.endByOperator()
		}
	}
	w.operators = without(w.operators, op)
	w.published = without(w.published, op)
	for len(w.operators) < 2 {
		w.boot()
	}
}

// release is a clean stop: the sessions end first, and then the Lease is free.
func (w *world) release(op *operator) {
	if op.phase != leading || w.api.lease.holder != op || op.cut {
		return
	}
	w.count(released, objectOfPhase(op.phase))
	w.crash(op, "it was told to")
	w.api.lease.holder = nil
}

// renew is leader election, as time passes.
func (w *world) renew() {
	l := &w.api.lease
	for _, op := range append([]*operator(nil), w.operators...) {
		switch {
		case !op.acts() || op.phase == standby:
		case l.holder == op && !op.cut && w.now.Sub(op.renewed) < tenure:
			op.renewed, l.renewed, op.noticeBy = w.now, w.now, time.Time{}
		case w.now.Sub(op.renewed) < tenure:
		case op.noticeBy.IsZero() && op.resumed():
			op.noticeBy = w.now.Add(time.Duration(w.rng.Int64N(int64(noticed))))
		case w.now.Before(op.noticeBy):
		default:
			w.count(deposed, objectOfPhase(op.phase))
			w.crash(op, "it has lost its Lease")
		}
	}
}

// resumed tells whether the process was stopped for so long that its Lease is over.
func (op *operator) resumed() bool {
	return op.w.now.Sub(op.renewed) > tenure+2*time.Second
}

// The engine's Outbox.

// Write is engine.Outbox's.
func (op *operator) Write(write engine.Write) { op.writer.Write(write) }

// DropWrite is engine.Outbox's.
func (op *operator) DropWrite(uid types.UID) { op.writer.DropWrite(uid) }

// Look is engine.Outbox's.
func (op *operator) Look(ref engine.JobRef) {
	op.enqueue(job.Request{NamespacedName: ref.NamespacedName, UID: ref.UID})
}

// Load is engine.Outbox's.
func (op *operator) Load(ref engine.JobRef) {
	op.enqueue(job.Request{NamespacedName: ref.NamespacedName, UID: ref.UID, Cause: job.Wanted})
}

// PoolOpened is engine.Outbox's.
func (op *operator) PoolOpened(pool types.NamespacedName) {
	op.enqueue(job.Request{NamespacedName: pool, Cause: job.PoolOpened})
}

// PoolChanged is engine.Outbox's.
func (op *operator) PoolChanged(types.NamespacedName) { op.poolChanged = true }

// The Job controller's queue, which has each request once.

func (op *operator) enqueue(r job.Request) {
	if !op.queued[r] {
		op.queued[r] = true
		op.queue = append(op.queue, r)
	}
}

func (op *operator) changed(j *v1alpha1.Job) { op.enqueue(requestFor(j, job.Changed)) }

func requestFor(j *v1alpha1.Job, cause job.Cause) job.Request {
	return job.Request{NamespacedName: types.NamespacedName{Namespace: j.Namespace, Name: j.Name}, UID: j.UID, Cause: cause}
}

// seeJob is what the controller makes of what its watch tells.
func (op *operator) seeJob(before, after *v1alpha1.Job, deleted bool) {
	switch {
	case op.phase == standby:
	case deleted:
		op.enqueue(requestFor(after, job.Deleted))
	default:
		if before != nil && before.UID != after.UID {
			op.enqueue(requestFor(before, job.Deleted))
		}
		op.changed(after)
	}
}

// reconcileJob begins with the next request.
func (op *operator) reconcileJob() {
	if op.phase != leading || op.reconciling || len(op.queue) == 0 {
		return
	}
	r := op.queue[0]
	op.queue = op.queue[1:]
	delete(op.queued, r)
	op.reconciling = true
	op.run(func(ctx context.Context) {
		if result, err := op.reconciler.Reconcile(ctx, r); err != nil || result.RequeueAfter > 0 {
			op.enqueue(r)
		}
		op.reconciling = false
	})
}

// writeStatuses begins the writes whose turn has come.
func (op *operator) writeStatuses() {
	if op.phase != leading {
		return
	}
	for len(op.calls) < concurrency {
		carryOut := op.writer.Take(op.engine)
		if carryOut == nil {
			return
		}
		op.run(carryOut)
	}
}

// The pool controller: a model, around the real plan.

func (op *operator) tellPool(t *tenant) {
	op.engine.SetPool(t.config)
	op.engine.SetWorkers(t.config.Key, op.workerPods(t))
	if p, ok := op.engine.Manager(t.config.Key); ok {
		_ = p.Start()
	}
}

func (op *operator) workerPods(t *tenant) []engine.WorkerPod {
	var pods []engine.WorkerPod
	for _, p := range op.podsOf(t) {
		pods = append(pods, engine.WorkerPod{
			UID: p.uid, Name: p.name, Ordinal: p.ordinal, Started: p.started, Terminating: p.terminating || op.deleted[p.uid],
			Terminated: p.terminated, Slots: t.config.Slots,
		})
	}
	return pods
}

// podsOf are a tenant's pods, as the cache shows them.
func (op *operator) podsOf(t *tenant) []*podObject {
	var pods []*podObject
	for _, name := range sortedKeys(op.pods.live) {
		if p := op.pods.live[name]; p.tenant == t {
			pods = append(pods, p)
		}
	}
	return pods
}

// reconcilePools does that for each tenant.
func (op *operator) reconcilePools() {
	if op.phase != leading {
		return
	}
	op.poolChanged = false
	for _, t := range op.w.tenants {
		op.reconcilePool(t)
	}
}

// reconcilePool tells the engine of the pods, and makes and deletes some as it is planned. Something else may happen
// between the plan and what comes of it.
func (op *operator) reconcilePool(t *tenant) {
	if plan, ok := op.plans[t]; ok {
		delete(op.plans, t)
		op.execute(t, plan)
		return
	}
	op.tellPool(t)
	p, ok := op.engine.Manager(t.config.Key)
	if !ok {
		return
	}
	p.Explain(t.explained, "Why Jobs wait.")
	snapshot := p.Snapshot()
	op.buryUnseen(p, snapshot)
	op.w.checkBusy(op, t, snapshot)
	op.w.checkCounters(op, t, snapshot)
	op.plans[t] = workerpool.Plan(op.state(t, snapshot))
	if op.w.chance(2) {
		op.reconcilePool(t)
	}
}

// execute cordons the workers that are to go, deletes them, and makes others. Each request may fail, with or without effect.
func (op *operator) execute(t *tenant, plan []workerpool.Intent) {
	p, ok := op.engine.Manager(t.config.Key)
	if !ok {
		return
	}
	var victims []engine.Victim
	for _, intent := range plan {
		if intent.Action != workerpool.Create {
			victims = append(victims, engine.Victim{Pod: intent.UID, Idle: intent.Idle, Lost: intent.Action == workerpool.GiveUp})
		}
	}
	cordoned, all := p.Cordon(victims), true
	for _, intent := range plan {
		failed := op.cut || op.w.faulty(poolWrite)
		if failed {
			op.w.count(broken, podWrite)
		}
		switch {
		case intent.Action == workerpool.Create && all && !failed:
			op.createWorker(t, intent)
		case intent.Action == workerpool.Create:
		case !cordoned[intent.UID]:
			all = false
		case !failed || !op.cut && op.w.chance(2):
			op.w.checkVictim(op, p, intent)
			op.deleteWorker(t, intent, !failed)
		}
		if failed {
			return
		}
	}
}

// buryUnseen is that of the pool controller.
func (op *operator) buryUnseen(p *engine.Manager, snapshot engine.PoolSnapshot) {
	for _, uid := range sortedKeys(snapshot.Pods) {
		known := snapshot.Pods[uid]
		cached := op.pods.live[known.Name]
		if cached != nil && cached.uid == uid || op.cut {
			continue
		}
		live := op.w.api.pods.live[known.Name]
		if worker, ok := p.Worker(uid); ok && (live == nil || live.uid != uid) {
			worker.Gone()
		}
	}
}

func (op *operator) state(t *tenant, snapshot engine.PoolSnapshot) workerpool.State {
	s := workerpool.State{Replicas: t.replicas, Surge: 1}
	for _, p := range op.podsOf(t) {
		known := snapshot.Pods[p.uid]
		fit := p.started && !known.Spent
		delete(op.created, p.uid)
		s.Workers = append(s.Workers, workerpool.Worker{
			Name: p.name, UID: p.uid, Ordinal: p.ordinal, Current: true, Ready: fit && !known.Cordoned, Cordoned: fit && known.Cordoned, Recycled: known.Spent,
			Busy: known.Busy || fit && !known.Connected, Lost: known.Lost, GivenUp: op.givenUp[p.uid],
			Terminating: p.terminating || op.deleted[p.uid], Terminated: p.terminated,
		})
	}
	for _, uid := range sortedKeys(op.created) {
		p := op.created[uid]
		if live := op.w.api.pods.live[p.name]; !op.cut && (live == nil || live.uid != uid) {
			delete(op.created, uid) // it was gone before the cache has shown it: the controller reads it live
			continue
		}
		if p.tenant == t {
			s.Workers = append(s.Workers, workerpool.Worker{UID: uid, Ordinal: p.ordinal, Current: true})
		}
	}
	return s
}

func (op *operator) createWorker(t *tenant, intent workerpool.Intent) {
	if uid := op.w.createPod(t, intent.Ordinal); uid != "" {
		op.created[uid] = op.w.api.pods.live[t.podName(intent.Ordinal)]
	}
}

// deleteWorker deletes a pod. Without an answer the operator does not know that.
func (op *operator) deleteWorker(t *tenant, intent workerpool.Intent, answered bool) {
	grace := drainGrace
	if intent.Action == workerpool.GiveUp {
		grace = giveUpGrace
		op.w.checkGiveUp(op, intent.UID)
	}
	if answered {
		op.deleted[intent.UID] = true
		op.givenUp[intent.UID] = op.givenUp[intent.UID] || intent.Action == workerpool.GiveUp
	}
	op.w.note("operator %d deletes %s: %s", op.id, intent.UID, intent.Reason)
	_ = op.w.deletePod(t.podName(intent.Ordinal), intent.UID, grace)
}

func without[T comparable](all []T, gone T) []T {
	var kept []T
	for _, one := range all {
		if one != gone {
			kept = append(kept, one)
		}
	}
	return kept
}
