package engine

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/pkg/worker"
)

// world is a cluster around a real engine: an API server, a status writer, worker pods and their
// agents as small models, driven by one source of chance, so that a seed replays exactly.
type world struct {
	t    *testing.T
	rng  *rand.Rand
	seed uint64

	now    time.Time
	epoch  Epoch
	engine *Engine
	// config is that of the pool, and what new pods are made from. See configure.
	config PoolConfig

	jobs  map[types.UID]*storedJob
	pods  []*simPod
	names int

	// writes, looks and opened are what the engine has asked for and what was not carried out yet.
	writes map[types.UID]Write
	looks  []JobRef
	loads  []JobRef
	opened bool
	// changes is how often the engine has said that the pool has changed.
	changes int
	// deleting: the pool is being deleted.
	deleting bool
	// bytes of the Jobs that are made, and refused those whose status can't be stored.
	bytes   int
	refused map[types.UID]bool
	// sent is that of all sessions.
	sent map[taskKey]Token
	// issued are the attempts that an agent has a proof of, unless it is of the version before.
	issued map[issue]bool
	// log has what happened, for a failing seed.
	log []string
}

// issue is an attempt that was sent to a pod.
type issue struct {
	pod   types.UID
	token Token
}

// storedJob is a Job in the API server.
type storedJob struct {
	job     Job
	version int
	// gone: the Job was deleted.
	gone bool
	// exits are the exit codes with which processes of each task have ended by themselves.
	exits map[int32][]int32
	// starts are how often each task was started.
	starts map[int32]int
	// writes is how often its status was stored.
	writes int
}

// simPod is a worker pod with its agent.
type simPod struct {
	uid         types.UID
	ordinal     int
	slots       int
	resources   worker.ResourceLimits
	handler     v1alpha1.HandlerType
	terminating bool
	gone        bool
	// old: its agent is of the version before, and has no proofs.
	old bool
	// hidden: no list has it, though it is there.
	hidden bool

	instance int
	session  *simSession
	heard    time.Time
	epoch    Epoch
	seen     uint64
	running  map[Token]*simProcess
	results  []Result
	// reported is how many of results this session has carried.
	reported int
	// resets is how many slots are being reset, known those of them after attempts that the engine knew to run,
	// and failure why a reset has failed.
	resets, known int
	failure       string
	// trouble is why it takes nothing for now.
	trouble string
	// assigned and kills are what the agent was ever told to start, and to end.
	assigned []Assignment
	kills    []Kill
}

type simProcess struct {
	job      string
	started  time.Time
	recorded bool
	// reset: the agent resets its slot afterwards.
	reset bool
}

type simSession struct {
	pod    types.UID
	inbox  []Command
	closed bool
	// sent has the highest token that was sent of each task, over all sessions.
	sent map[taskKey]Token
	// unfit: the engine was told that a reset has failed. world is to be told if it sends something all the
	// same.
	unfit bool
	world *world
}

func (s *simSession) Send(cmd Command) {
	s.inbox = append(s.inbox, cmd)
	for _, a := range cmd.Assignments {
		if s.unfit {
			s.world.checkUnfit(a)
		}
		s.world.issued[issue{s.pod, a.Token}] = true
		if key := a.Token.key(); a.Token.Compare(s.sent[key]) > 0 {
			s.sent[key] = a.Token
		}
	}
}

func (s *simSession) Close(string) { s.closed = true }

var poolKey = types.NamespacedName{Namespace: "default", Name: "pool"}

const (
	simSlots    = 2
	simCapacity = 5
	workerLost  = time.Minute
)

var simResources = worker.ResourceLimits{CPU: 1, Memory: 1 << 30}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{
		t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 0)),
		now:  time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		jobs: map[types.UID]*storedJob{}, sent: map[taskKey]Token{}, issued: map[issue]bool{},
		config: PoolConfig{
			Key: poolKey, UID: "pool", Capacity: simCapacity, Aging: 300 * time.Second, Slots: simSlots, Resources: simResources,
			LostAfter: workerLost,
		},
	}
	if seed%2 == 0 {
		w.config.Reset = &ResetCommand{Argv: []string{"reset"}, Timeout: time.Minute}
	}
	for range 3 {
		w.addPod()
	}
	w.lead()
	return w
}

// lead makes a new leader: what the last one held in memory is lost.
func (w *world) lead() {
	w.epoch.Transitions++
	w.writes, w.looks, w.loads, w.opened = map[types.UID]Write{}, nil, nil, false
	for _, p := range w.pods {
		p.session = nil
	}
	w.engine = New(func() time.Time { return w.now }, w.rng.Float64, w)
	w.engine.Measure(newStrictMeter(w.t))
	w.engine.Begin(w.epoch)
	w.openPool()
	for _, uid := range w.jobUIDs() {
		w.submit(uid)
	}
	w.engine.Loaded()
}

// replacePool deletes the pool, or if that has happened makes another of its name. The pods of the first are
// gone by then.
func (w *world) replacePool() {
	if !w.deleting {
		w.note("the pool is deleted")
		w.deleting = true
		for _, p := range w.pods {
			p.terminating = true
		}
		w.pool().Close()
		w.listPods()
		return
	}
	w.note("there is another pool")
	for _, p := range w.pods {
		w.drop(p)
		p.gone, p.running, p.results = true, nil, nil
	}
	w.listPods()
	w.deleting = false
	w.names++
	w.config.UID = types.UID(fmt.Sprint("pool-", w.names))
	for range 3 {
		w.addPod()
	}
	w.openPool()
}

// openPool is the pool controller.
func (w *world) openPool() {
	w.engine.SetPool(w.config)
	w.listPods()
	if err := w.pool().Start(); err != nil {
		w.t.Fatalf("seed %d: start: %v", w.seed, err)
	}
	if w.deleting {
		w.pool().Close()
	}
}

// pool is the engine's only one.
func (w *world) pool() *Manager {
	m, ok := w.engine.Manager(poolKey)
	if !ok {
		w.t.Fatalf("seed %d: there is no pool", w.seed)
	}
	return m
}

func (w *world) jobUIDs() []types.UID {
	return slices.SortedFunc(maps.Keys(w.jobs), func(a, b types.UID) int {
		x, y := w.jobs[a].job, w.jobs[b].job
		return cmp.Or(x.Created.Compare(y.Created), cmp.Compare(x.Name, y.Name))
	})
}

// submit is the Job controller, which sees what the cache shows.
func (w *world) submit(uid types.UID) { w.submitAs(uid, false) }

func (w *world) submitAs(uid types.UID, whole bool) {
	stored := w.jobs[uid]
	switch {
	case stored == nil || stored.gone:
		w.engine.Cancel(uid)
	case stored.job.Status.State.Finished():
		w.engine.Forget(uid)
	default:
		job := stored.job
		job.ResourceVersion = fmt.Sprint(stored.version)
		if spec, reduced := Reduce(job.Spec); reduced && !whole {
			job.Spec, job.Reduced = &spec, true
		}
		w.engine.Submit(job)
	}
}

func (w *world) note(format string, args ...any) {
	w.log = append(w.log, w.now.Format("04:05.000 ")+fmt.Sprintf(format, args...))
}

// The engine's Outbox.

func (w *world) Write(write Write)                { w.writes[write.Job.UID] = write }
func (w *world) DropWrite(job types.UID)          { delete(w.writes, job) }
func (w *world) Look(ref JobRef)                  { w.looks = append(w.looks, ref) }
func (w *world) Load(ref JobRef)                  { w.loads = append(w.loads, ref) }
func (w *world) PoolOpened(types.NamespacedName)  { w.opened = true }
func (w *world) PoolChanged(types.NamespacedName) { w.changes++ }

// Things that happen.

func (w *world) createJob() {
	w.create(&v1alpha1.JobSpec{Command: []string{"true"}})
}

func (w *world) create(spec *v1alpha1.JobSpec) types.UID {
	w.names++
	name := fmt.Sprintf("job-%03d", w.names)
	uid := types.UID("uid-" + name)
	spec.Pool = "pool"
	if spec.Priority == nil {
		spec.Priority = new(int32(w.rng.IntN(3)))
	}
	w.jobs[uid] = &storedJob{version: 1, exits: map[int32][]int32{}, starts: map[int32]int{}, job: Job{
		JobRef:  JobRef{NamespacedName: types.NamespacedName{Namespace: "default", Name: name}, UID: uid},
		Created: w.now.Truncate(time.Second), Spec: spec, Bytes: w.bytes,
		Status: v1alpha1.JobStatus{State: v1alpha1.JobPending, Reason: v1alpha1.ReasonWaiting},
	}}
	w.note("create %s %s", uid, describe(spec))
	w.submit(uid)
	return uid
}

func describe(spec *v1alpha1.JobSpec) string {
	text, _ := json.Marshal(spec)
	return string(text)
}

// createAny makes a Job that asks for anything.
func (w *world) createAny() {
	spec := &v1alpha1.JobSpec{Command: []string{"true"}, Backoff: &v1alpha1.Backoff{MaxSeconds: new(int32(4))}}
	one := func(of int) bool { return w.rng.IntN(of) == 0 }
	if one(3) {
		spec.MaxRetries = new(int32(w.rng.IntN(4)))
	}
	switch w.rng.IntN(6) {
	case 0, 1:
		spec.Completions = new(int32(1 + w.rng.IntN(6)))
		if one(2) {
			spec.Parallelism = new(int32(1 + w.rng.IntN(3)))
		}
	case 2:
		spec.Items = []string{"a", "b", "c"}
	case 3:
		spec.Execution, spec.MaxRetries = v1alpha1.AtMostOnce, nil
	}
	if one(4) && spec.Execution != v1alpha1.AtMostOnce {
		action := []v1alpha1.FailureAction{v1alpha1.ActionFail, v1alpha1.ActionIgnore, v1alpha1.ActionRetry}[w.rng.IntN(3)]
		spec.FailurePolicy = &v1alpha1.FailurePolicy{Rules: []v1alpha1.FailureRule{{Action: action, ExitCodes: []int32{2}}}}
	}
	if one(4) {
		spec.OnFailure = &v1alpha1.FailureHandler{Command: []string{"tell"}}
	}
	if one(6) {
		spec.ActiveDeadlineSeconds = new(int32(20 + w.rng.IntN(60)))
	}
	if one(6) {
		spec.StartAfter = &metav1.Time{Time: w.now.Truncate(time.Second).Add(time.Duration(w.rng.IntN(20)) * time.Second)}
	}
	if one(6) {
		spec.Suspend = new(true)
	}
	if one(4) {
		spec.Stdin = strings.Repeat("x", largeSpec)
	}
	if one(4) {
		spec.Resources = &v1alpha1.JobResources{Memory: resource.NewQuantity(int64(1+w.rng.IntN(10))<<27, resource.BinarySI)}
	}
	w.create(spec)
}

// changeJob suspends or resumes a Job, or gives it another priority.
func (w *world) changeJob() {
	uid := pick(w.rng, w.jobUIDs())
	if uid == "" || w.jobs[uid].gone {
		return
	}
	spec := w.jobs[uid].job.Spec.DeepCopy()
	if w.rng.IntN(2) == 0 {
		spec.Suspend = new(!deref(spec.Suspend))
	} else {
		spec.Priority = new(int32(w.rng.IntN(3)))
	}
	w.change(uid, spec)
}

func (w *world) change(uid types.UID, spec *v1alpha1.JobSpec) {
	w.note("change %s: suspend %t, priority %d", uid, deref(spec.Suspend), deref(spec.Priority))
	w.jobs[uid].job.Spec = spec
	w.jobs[uid].version++
	w.submit(uid)
}

func (w *world) resumeAll() {
	for _, uid := range w.jobUIDs() {
		if spec := w.jobs[uid].job.Spec; deref(spec.Suspend) {
			spec = spec.DeepCopy()
			spec.Suspend = nil
			w.change(uid, spec)
		}
	}
}

func (w *world) deleteJob() {
	uid := pick(w.rng, w.jobUIDs())
	if uid == "" || w.jobs[uid].gone {
		return
	}
	w.note("delete %s", uid)
	w.jobs[uid].gone = true
	w.engine.Cancel(uid)
}

func (w *world) addPod() {
	if w.deleting {
		return
	}
	w.names++
	w.pods = append(w.pods, &simPod{
		uid: types.UID(fmt.Sprintf("pod-%d", w.names)), ordinal: w.names, running: map[Token]*simProcess{}, heard: w.now,
		slots: w.config.Slots, resources: w.config.Resources, handler: w.config.Handler, old: w.seed%5 == 0,
	})
}

func (w *world) listPods() {
	var pods []WorkerPod
	for _, p := range w.pods {
		if !p.gone && !p.hidden {
			pods = append(pods, w.podOf(p))
		}
	}
	w.engine.SetWorkers(poolKey, pods)
	w.bury()
}

// bury ends the workers of pods that are gone and that no list has had, as the controller does after a live read.
func (w *world) bury() {
	pool, ok := w.engine.Manager(poolKey)
	if !ok {
		return
	}
	known := pool.Snapshot().Pods
	for _, p := range w.pods {
		if _, is := known[p.uid]; !is || !p.gone {
			continue
		}
		if worker, ok := pool.Worker(p.uid); ok {
			worker.Gone()
		}
	}
}

func (w *world) podOf(p *simPod) WorkerPod {
	return WorkerPod{
		UID: p.uid, Name: string(p.uid), Ordinal: p.ordinal, Started: true, Terminating: p.terminating,
		Slots: p.slots, Resources: p.resources, Handler: p.handler,
	}
}

func (w *world) livePod() *simPod {
	live := slices.DeleteFunc(slices.Clone(w.pods), func(p *simPod) bool { return p.gone })
	return pick(w.rng, live)
}

// deletePod ends a pod: first it is terminating, then gone, and another takes its place.
func (w *world) deletePod() {
	p := w.livePod()
	switch {
	case p == nil:
	case !p.terminating:
		w.note("terminating %s", p.uid)
		p.terminating = true
	default:
		w.note("gone %s", p.uid)
		w.drop(p)
		p.gone, p.running, p.results = true, nil, nil
		w.addPod()
	}
	w.listPods()
}

// loseWorker lets a pod vanish without a warning.
func (w *world) loseWorker() {
	if p := w.livePod(); p != nil {
		w.note("lost %s", p.uid)
		w.drop(p)
		p.gone, p.running, p.results = true, nil, nil
		w.addPod()
		w.listPods()
	}
}

func (w *world) drop(p *simPod) {
	if p.session != nil {
		w.engine.Disconnect(p.session)
		p.session = nil
	}
}

func (w *world) restartAgent(p *simPod) {
	w.note("restart %s, ran %d", p.uid, len(p.running))
	w.drop(p)
	p.instance++
	p.running, p.epoch = map[Token]*simProcess{}, Epoch{}
	p.resets, p.known, p.failure = 0, 0, ""
}

func (w *world) connect(p *simPod) {
	if p.session != nil || p.gone || w.epoch.Compare(p.epoch) < 0 {
		return
	}
	s := &simSession{pod: p.uid, sent: w.sent, world: w, unfit: p.failure != ""}
	if err := w.engine.Connect(s, Hello{
		Pool: poolKey, PoolUID: w.config.UID, Pod: p.uid, PodName: string(p.uid), Instance: fmt.Sprint(p.instance),
		Running: w.runningOf(p), Results: w.resultsOf(p, p.results), Draining: p.terminating || p.failure != "" || p.trouble != "", Unavailable: p.trouble,
		Resets: w.resetsOf(p), Proves: !p.old,
	}); err != nil {
		w.t.Fatalf("seed %d: connect: %v", w.seed, err)
	}
	w.note("connect %s, runs %d, results %d", p.uid, len(p.running), len(p.results))
	p.session, p.heard, p.epoch, p.seen, p.reported = s, w.now, w.epoch, 0, len(p.results)
}

func (w *world) runningOf(p *simPod) []Running {
	var running []Running
	for _, token := range sortedTokens(p.running) {
		running = append(running, Running{Token: token, JobName: p.running[token].job, StartedAgo: w.now.Sub(p.running[token].started), Proven: w.proven(p, token)})
	}
	return running
}

// resultsOf are results of an agent with their proofs.
func (w *world) resultsOf(p *simPod, results []Result) []Result {
	results = slices.Clone(results)
	for i := range results {
		results[i].Proven = w.proven(p, results[i].Token)
	}
	return results
}

func (w *world) proven(p *simPod, token Token) bool { return !p.old && w.issued[issue{p.uid, token}] }

func (w *world) report(p *simPod) {
	if p.session == nil {
		return
	}
	if p.session.closed {
		p.session = nil
		return
	}
	results := w.resultsOf(p, p.results[p.reported:])
	p.reported = len(p.results)
	p.session.unfit = p.failure != ""
	w.engine.Report(p.session, Report{
		Seen: p.seen, Running: w.runningOf(p), Results: results, Draining: p.terminating || p.failure != "" || p.trouble != "", Unavailable: p.trouble, Resets: w.resetsOf(p),
	})
}

// resetsOf is what an agent tells of its resets.
func (w *world) resetsOf(p *simPod) Resets {
	return Resets{Running: p.resets, Failure: p.failure}
}

// receive lets an agent act on the next command, in the order in which agents do.
func (w *world) receive(p *simPod) {
	if p.session == nil || len(p.session.inbox) == 0 {
		return
	}
	cmd := p.session.inbox[0]
	p.session.inbox = p.session.inbox[1:]
	p.heard, p.seen = w.now, cmd.Sequence
	p.kills, p.assigned = append(p.kills, cmd.Kills...), append(p.assigned, cmd.Assignments...)
	for _, token := range cmd.Settled {
		before := len(p.results)
		w.checkSettling(p, token)
		p.results = slices.DeleteFunc(p.results, func(r Result) bool { return r.Token == token })
		p.reported -= before - len(p.results)
	}
	for _, a := range cmd.Assignments {
		w.start(p, a)
	}
	for _, k := range cmd.Kills {
		if p.running[k.Token] != nil {
			w.note("killed %s[%d] %v on %s", k.Token.Job, k.Token.Index, k.Token, p.uid)
			w.end(p, k.Token, Killed, 137)
		}
	}
	for _, token := range cmd.Recorded {
		if p.running[token] != nil {
			p.running[token].recorded = true
		}
	}
}

func (w *world) start(p *simPod, a Assignment) {
	w.checkSlot(p, a)
	if p.terminating || p.failure != "" || p.running[a.Token] != nil || len(p.running)+p.resets >= p.slots {
		return
	}
	if slices.ContainsFunc(p.results, func(r Result) bool { return r.Token == a.Token }) {
		return
	}
	if len(a.Argv) == 0 && a.HTTP == nil {
		w.fail("%s %v was sent without its command", a.Token.Job, a.Token)
	}
	if spec := w.jobs[a.Token.Job].job.Spec; a.Token.Index < sizeOf(spec) && a.Stdin != spec.Stdin {
		w.fail("%s %v was sent with %d bytes of stdin of %d", a.Token.Job, a.Token, len(a.Stdin), len(spec.Stdin))
	}
	w.note("start %s[%d] %v on %s", a.Token.Job, a.Token.Index, a.Token, p.uid)
	w.checkStart(a)
	w.jobs[a.Token.Job].starts[a.Token.Index]++
	p.running[a.Token] = &simProcess{job: a.JobName, started: w.now, reset: a.Reset != nil}
}

// finishProcess lets a process end by itself.
func (w *world) finishProcess(p *simPod) {
	tokens := sortedTokens(p.running)
	if len(tokens) == 0 {
		return
	}
	token := pick(w.rng, tokens)
	code := []int32{0, 0, 0, 0, 1, 2}[w.rng.IntN(6)]
	exits := w.jobs[token.Job].exits
	exits[token.Index] = append(exits[token.Index], code)
	w.note("exit %d of %s[%d] %v on %s", code, token.Job, token.Index, token, p.uid)
	w.end(p, token, Exited, code)
}

func (w *world) end(p *simPod, token Token, outcome Outcome, code int32) {
	p.results = append(p.results, Result{
		Token: token, JobName: p.running[token].job, Outcome: outcome, ExitCode: code,
		StartedAgo: w.now.Sub(p.running[token].started),
	})
	w.beginReset(p, token)
	delete(p.running, token)
}

// beginReset takes the slot of a process that has ended.
func (w *world) beginReset(p *simPod, token Token) {
	if !p.running[token].reset || p.terminating || p.failure != "" {
		return
	}
	p.resets++
	if pool := w.engine.pools[poolKey]; pool != nil && pool.workers[p.uid] != nil {
		if t := pool.workers[p.uid].tasks[token.key()]; t != nil && t.attempt.token == token {
			p.known++
		}
	}
}

// finishReset lets a reset end, well or, if it may, badly.
func (w *world) finishReset(p *simPod, mayFail bool) {
	if p.resets == 0 {
		return
	}
	p.resets--
	p.known = min(p.known, p.resets)
	if mayFail && w.rng.IntN(8) == 0 {
		w.note("reset failed on %s", p.uid)
		p.failure = "exit code 1"
	}
}

// pass lets time go by: agents that hear nothing end what is not recorded, and the engine ticks.
func (w *world) pass(d time.Duration) {
	w.now = w.now.Add(d)
	for _, p := range w.pods {
		if p.session != nil {
			p.heard = w.now // pings
		}
		for _, token := range sortedTokens(p.running) {
			if w.now.Sub(p.heard) >= FenceTimeout && !p.running[token].recorded {
				w.note("fenced %s[%d] %v on %s", token.Job, token.Index, token, p.uid)
				w.end(p, token, Interrupted, 137)
			}
		}
	}
	w.engine.Tick()
	for _, p := range w.pods {
		if pool, ok := w.engine.Manager(poolKey); ok && pool.Snapshot().Pods[p.uid].Lost && !p.gone {
			w.note("given up %s", p.uid)
			w.drop(p)
			p.gone, p.running, p.results = true, nil, nil
			w.addPod()
			w.listPods()
			return
		}
	}
}

// store carries out a write, badly if faults is set.
func (w *world) store(faults bool) {
	uids := slices.Sorted(maps.Keys(w.writes))
	uid := pick(w.rng, uids)
	if uid == "" || w.writes[uid].Due.After(w.now) {
		return
	}
	fault := 0
	if faults {
		fault = w.rng.IntN(6)
	}
	w.carryOut(uid, fault)
}

// carryOut stores a Job's status as the engine has asked for; 1 and 2 are faults.
func (w *world) carryOut(uid types.UID, fault int) {
	write, stored := w.writes[uid], w.jobs[uid]
	if fault == 1 { // refused
		return
	}
	delete(w.writes, uid)
	switch {
	case stored.gone:
		w.engine.Gone(uid)
		return
	case stored.job.Status.State.Finished():
		w.engine.Finished(uid)
		w.submit(uid)
		return
	case write.ResourceVersion != fmt.Sprint(stored.version): // a conflict: what is asked for then goes on top
		w.engine.Changed(write, stored.job.Status, fmt.Sprint(stored.version))
		if again, asked := w.writes[uid]; asked {
			again.ResourceVersion = fmt.Sprint(stored.version)
			w.writes[uid] = again
		}
		return
	}
	w.note("store %s %s %s", uid, write.Status.State, write.Status.Reason)
	stored.job.Status = write.Status
	stored.version++
	stored.writes++
	if fault == 2 { // stored, but the answer is lost: the writer goes again
		w.writes[uid] = write
		return
	}
	w.engine.Written(write, fmt.Sprint(stored.version))
	w.submit(uid) // the watch
}

func (w *world) look() {
	w.bury()
	if w.opened {
		w.opened = false
		for _, uid := range w.jobUIDs() {
			w.submit(uid)
		}
	}
	if len(w.looks) > 0 {
		ref := w.looks[0]
		w.looks = w.looks[1:]
		w.submit(ref.UID)
	}
	if len(w.loads) > 0 {
		ref := w.loads[0]
		w.loads = w.loads[1:]
		w.submitAs(ref.UID, true)
	}
}

func sortedTokens(m map[Token]*simProcess) []Token {
	return slices.SortedFunc(maps.Keys(m), func(a, b Token) int {
		return cmp.Or(cmp.Compare(a.Job, b.Job), cmp.Compare(a.Index, b.Index), a.Compare(b))
	})
}

func pick[T any](rng *rand.Rand, from []T) T {
	if len(from) == 0 {
		var zero T
		return zero
	}
	return from[rng.IntN(len(from))]
}

// half is a chance where it does not matter.
func half() float64 { return 0.5 }
