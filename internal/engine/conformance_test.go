package engine

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/jobtest"
	"github.com/workerpool-dev/workerpool/pkg/worker/pool/pooltest"
	"github.com/workerpool-dev/workerpool/pkg/worker/worker/workertest"
)

// cluster is what is around an engine where all goes well: one goroutine does what the engine asks
// for, in order. Other than a world it may be used by many goroutines, and in a bubble all that was
// asked for has happened after a synctest.Wait.
type cluster struct {
	engine *Engine
	// step is held while things happen, until nothing is left to do.
	step sync.Mutex
	wake chan struct{}
	over chan struct{} // closed with the test

	mu   sync.Mutex // guards the rest; it is the last that is taken
	todo []func()
	jobs map[types.UID]*clusterJob
}

// clusterJob is a Job in the API server, and the process of its attempt.
type clusterJob struct {
	job Job
	// accepted: it was not refused at once. status is what was written last. Both by cluster.mu.
	accepted bool
	status   v1alpha1.JobStatus

	// The rest is for the cluster's goroutine. The process of each attempt ends with the next code, once there is one.
	codes []int32
	agent *clusterAgent // nil unless it runs
	token Token
}

// clusterAgent is the agent of a worker pod, and its session.
type clusterAgent struct {
	cluster *cluster
	seen    uint64
	running map[types.UID]Token
}

// newCluster makes a pool, not started, with so many workers of one slot whose agents are not connected.
func newCluster(t *testing.T, workers, capacity int) *cluster {
	c := &cluster{wake: make(chan struct{}, 1), over: make(chan struct{}), jobs: map[types.UID]*clusterJob{}}
	c.engine = New(time.Now, half, c)
	c.engine.Begin(Epoch{LeaseCreated: 1})
	c.engine.SetPool(PoolConfig{Key: poolKey, UID: "pool", Capacity: capacity, Slots: 1, LostAfter: workerLost})
	var pods []WorkerPod
	for i := range workers {
		name := fmt.Sprintf("pool-%d", i)
		pods = append(pods, WorkerPod{UID: types.UID(name), Name: name, Ordinal: i, Slots: 1, Started: true})
	}
	c.engine.SetWorkers(poolKey, pods)
	var running sync.WaitGroup
	running.Go(c.run)
	t.Cleanup(func() {
		close(c.over)
		running.Wait()
	})
	return c
}

func (c *cluster) run() {
	for {
		select {
		case <-c.over:
			return
		case <-c.wake:
		}
		c.step.Lock()
		for do := c.next(); do != nil; do = c.next() {
			do()
		}
		c.step.Unlock()
	}
}

func (c *cluster) next() func() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.todo) == 0 {
		return nil
	}
	do := c.todo[0]
	c.todo = c.todo[1:]
	return do
}

// post has something happen.
func (c *cluster) post(do func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.todo = append(c.todo, do)
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *cluster) pool(t *testing.T) *Manager {
	t.Helper()
	m, ok := c.engine.Manager(poolKey)
	if !ok {
		t.Fatal("there is no pool")
	}
	return m
}

// connect begins the session of a worker's agent.
func (c *cluster) connect(t *testing.T, name string) {
	t.Helper()
	a := &clusterAgent{cluster: c, running: map[types.UID]Token{}}
	err := c.engine.Connect(a, Hello{Pool: poolKey, PoolUID: "pool", Pod: types.UID(name), PodName: name})
	if err != nil {
		t.Errorf("connect: %v", err)
	}
}

// submit is what the Job controller does with a new Job. A Job that is not let into the queue is
// refused, and does not wait in the API as it would otherwise.
func (c *cluster) submit() (end func(error), err error) { return c.submitRetried(0) }

// submitRetried is submit of a Job that is tried again so often, at once.
func (c *cluster) submitRetried(retries int32) (end func(error), err error) {
	j := c.create(retries)
	c.engine.Submit(j.job)
	switch c.reason(j) {
	case v1alpha1.ReasonQueueFull:
		c.engine.Cancel(j.job.UID)
		return nil, worker.ErrFull
	case v1alpha1.ReasonPoolNotFound:
		return nil, worker.ErrStopped
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	j.accepted = true
	return func(err error) { c.post(func() { c.end(j, err) }) }, nil
}

func (c *cluster) create(retries int32) *clusterJob {
	c.mu.Lock()
	defer c.mu.Unlock()
	name := fmt.Sprintf("job-%d", len(c.jobs))
	j := &clusterJob{job: Job{
		JobRef:  JobRef{NamespacedName: types.NamespacedName{Namespace: poolKey.Namespace, Name: name}, UID: types.UID(name)},
		Created: time.Now(), Spec: &v1alpha1.JobSpec{
			Pool: poolKey.Name, Command: []string{"true"}, MaxRetries: &retries, Backoff: &v1alpha1.Backoff{InitialSeconds: new(int32(0))},
		},
	}}
	c.jobs[j.job.UID] = j
	return j
}

func (c *cluster) reason(j *clusterJob) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return j.status.Reason
}

// handedBack is the number of Jobs that wait for another pool of the name.
func (c *cluster) handedBack() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, j := range c.jobs {
		if j.accepted && j.status.Reason == v1alpha1.ReasonPoolNotFound {
			n++
		}
	}
	return n
}

// end tells a Job's process to end.
func (c *cluster) end(j *clusterJob, err error) {
	code := int32(0)
	if err != nil {
		code = 1
	}
	j.codes = append(j.codes, code)
	if j.agent != nil {
		j.agent.finish(j)
	}
}

// The engine's Outbox.

func (c *cluster) Write(w Write) {
	c.mu.Lock()
	c.jobs[w.Job.UID].status = w.Status
	c.mu.Unlock()
	if !w.Passing() {
		c.post(func() {
			c.engine.Written(w, "2")
			c.engine.Tick() // a retry has come due
		})
	}
}

func (c *cluster) Look(ref JobRef) {
	c.mu.Lock()
	j := c.jobs[ref.UID]
	c.mu.Unlock()
	c.post(func() { c.engine.Submit(j.job) })
}

// Load is Look: its Jobs are whole.
func (c *cluster) Load(ref JobRef) { c.Look(ref) }

func (c *cluster) DropWrite(types.UID)              {}
func (c *cluster) PoolOpened(types.NamespacedName)  {}
func (c *cluster) PoolChanged(types.NamespacedName) {}

// The engine's Session.

func (a *clusterAgent) Send(cmd Command) { a.cluster.post(func() { a.receive(cmd) }) }
func (a *clusterAgent) Close(string)     {}

func (a *clusterAgent) receive(cmd Command) {
	a.seen = cmd.Sequence
	for _, assignment := range cmd.Assignments {
		a.cluster.mu.Lock()
		j := a.cluster.jobs[assignment.Token.Job]
		a.cluster.mu.Unlock()
		j.agent, j.token = a, assignment.Token
		a.running[j.job.UID] = j.token
		a.report()
		if len(j.codes) > 0 {
			a.finish(j)
		}
	}
}

func (a *clusterAgent) finish(j *clusterJob) {
	delete(a.running, j.job.UID)
	j.agent = nil
	code := j.codes[0]
	j.codes = j.codes[1:]
	a.report(Result{Token: j.token, JobName: j.job.Name, Outcome: Exited, ExitCode: code})
}

func (a *clusterAgent) report(results ...Result) {
	report := Report{Seen: a.seen, Results: results}
	for uid, token := range a.running {
		report.Running = append(report.Running, Running{Token: token, JobName: string(uid)})
	}
	a.cluster.engine.Report(a, report)
}

// steady is a Manager whose status is that of a moment when no result is being written. A Job counts as
// active until its result is stored, while the next one is sent at once: between the two more Jobs are
// active than the workers have slots.
type steady struct {
	*Manager
	step *sync.Mutex
}

func (s steady) Status() worker.PoolStatus {
	s.step.Lock()
	defer s.step.Unlock()
	return s.Manager.Status()
}

func TestAPoolIsAManager(t *testing.T) {
	pooltest.Run(t, func(t *testing.T, workers, capacity int) pooltest.Subject {
		c := newCluster(t, workers, capacity)
		for i := range workers {
			c.connect(t, fmt.Sprintf("pool-%d", i))
		}
		return pooltest.Subject{
			Manager:    steady{c.pool(t), &c.step},
			Submit:     func(*testing.T) (func(error), error) { return c.submit() },
			HandedBack: c.handedBack,
		}
	})
}

// connected is a Worker that its agent's first session starts, as all are.
type connected struct {
	*Worker
	connect func()
}

func (w connected) Start() error {
	w.connect()
	return w.Worker.Start()
}

func TestAWorkerPodIsAWorker(t *testing.T) {
	workertest.Run(t, func(t *testing.T) workertest.Subject {
		c := newCluster(t, 1, 10)
		if err := c.pool(t).Start(); err != nil {
			t.Fatalf("start: %v", err)
		}
		w, ok := c.pool(t).Worker("pool-0")
		if !ok {
			t.Fatal("there is no worker")
		}
		give := func(retries int32) func(t *testing.T) func(error) {
			return func(t *testing.T) func(error) {
				end, err := c.submitRetried(retries)
				if err != nil {
					t.Errorf("submit: %v", err)
				}
				return end
			}
		}
		return workertest.Subject{
			Worker: connected{w, sync.OnceFunc(func() { c.connect(t, "pool-0") })}, Give: give(0), GiveRetried: give(1),
		}
	})
}

// The job runs on a worker already, so that there is nothing left to be sent. Process only sends, and never
// fails: that a failed task can be tried again is the simulation's to show.
func TestAJobOfTheAPIIsAJob(t *testing.T) {
	jobtest.Run(t, func(t *testing.T) worker.Job { return runningJob(t) })
}

func runningJob(t *testing.T) *job {
	t.Helper()
	w, p := lone(t)
	w.createJob()
	w.receive(p)
	w.report(p)
	return w.engine.jobs[w.jobUIDs()[0]]
}

func TestOnFailureSettlesAJobAsFailed(t *testing.T) {
	for _, err := range []error{failure{reason: v1alpha1.ReasonExitCode, message: "boom"}, worker.ErrStopped} {
		j := runningJob(t)
		j.OnFailure(err)
		write := j.pool.engine.out.(*world).writes[j.object.UID]
		want := asFailure(err)
		if got := write.Status; got.State != v1alpha1.JobFailed || got.Reason != want.reason || got.Message != want.message {
			t.Errorf("stored as %s %s %q, want Failed %v", got.State, got.Reason, got.Message, want)
		}
	}
}

// stranger is a job that is not one of the engine's.
type stranger struct {
	pool   *Manager
	failed chan error
}

func (*stranger) Process() error  { panic("a stranger's job has no pod to run in") }
func (*stranger) MaxRetries() int { return 0 }

// OnFailure asks the engine, as it may.
func (s *stranger) OnFailure(err error) {
	s.pool.Status()
	s.failed <- err
}

func TestAJobThatOthersPushFailsAndHoldsNothingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, 2)
		pool := c.pool(t)
		first, last := &stranger{pool, make(chan error, 1)}, &stranger{pool, make(chan error, 1)}
		push := func(s *stranger) {
			t.Helper()
			if err := pool.Queue().Push(s); err != nil {
				t.Fatalf("push: %v", err)
			}
		}
		push(first)
		if _, err := c.submit(); err != nil {
			t.Fatalf("submit: %v", err)
		}
		if _, err := c.submit(); !errors.Is(err, worker.ErrFull) {
			t.Fatalf("error %v of a third job, want %v", err, worker.ErrFull)
		}
		_ = pool.Start()
		c.connect(t, "pool-0")
		synctest.Wait()
		if err := <-first.failed; !errors.Is(err, worker.ErrInvalid) {
			t.Errorf("the stranger was told %v, want %v", err, worker.ErrInvalid)
		}
		want := worker.PoolStatus{Workers: 1, ActiveJobs: 1, ProcessedJobs: 1, FailedJobs: 1}
		if got := pool.Status(); got != want {
			t.Errorf("status %+v, want %+v", got, want)
		}
		push(last)
		pool.Close()
		if err := <-last.failed; !errors.Is(err, worker.ErrStopped) {
			t.Errorf("the stranger was told %v after Close, want %v", err, worker.ErrStopped)
		}
	})
}

// A Job is never lost, whatever others do with the queue.
func TestAJobWaitsWhereOthersHaveClosedTheQueue(t *testing.T) {
	w, p := lone(t)
	if err := w.pool().Queue().Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	w.createJob()
	w.heal()
	w.heal()
	if state := w.jobs[w.jobUIDs()[0]].job.Status.State; !state.Finished() {
		t.Errorf("the Job is %s, %d run, status %+v", state, len(p.running), w.pool().Status())
	}
}

// Jobs beyond the capacity are none that the pool has accepted, until they are invited.
func TestThePlaceOfAnInvitedJobCounts(t *testing.T) {
	w, p := lone(t)
	for range simSlots + simCapacity + 1 {
		w.createJob()
	}
	want := worker.PoolStatus{Workers: 1, ActiveJobs: simSlots, QueueSize: simCapacity}
	wantStatus(t, w, want)
	w.receive(p)
	w.finishProcess(p)
	w.report(p)
	want.ActiveJobs++ // one whose end is not stored; the one that was invited takes the place of the one that runs
	wantStatus(t, w, want)
}

// What is being written would be lost with its worker, if the operator were to die too.
func TestAWorkerIsBusyAndItsPoolActiveUntilResultsAreStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, p := lone(t)
		pool := w.pool()
		handle, _ := pool.Worker(p.uid)
		w.createJob()
		w.receive(p)
		w.finishProcess(p)
		w.report(p)

		var stops sync.WaitGroup
		stopped := make(chan error, 2)
		stops.Go(func() { stopped <- handle.Stop() })
		stops.Go(func() { stopped <- pool.Stop() })
		synctest.Wait()
		wantStatus(t, w, worker.PoolStatus{ActiveJobs: 1})
		if state := handle.Status().State; state != worker.WorkerStopping || !pool.Snapshot().Pods[p.uid].Busy || len(stopped) > 0 {
			t.Errorf("the worker is %s, busy %t, %d stops have returned", state, pool.Snapshot().Pods[p.uid].Busy, len(stopped))
		}
		w.drop(p)
		p.gone = true
		w.listPods()
		if _, ok := w.engine.Manager(poolKey); !ok {
			t.Error("the pool is forgotten before its last result is stored")
		}
		w.store(false)
		stops.Wait()
		if got := pool.Status(); got.ActiveJobs != 0 || got.ProcessedJobs != 1 {
			t.Errorf("status %+v, want one processed Job", got)
		}
		if _, ok := w.engine.Manager(poolKey); ok {
			t.Error("the pool is not forgotten")
		}
		if handle.Status().State != worker.WorkerStopped || handle.Status().ProcessedJobs != 1 {
			t.Errorf("status of the worker %+v, want a stopped one that has processed a Job", handle.Status())
		}
	})
}

func TestAPoolHasNoWorkersBeforeStartAndAfterClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, 2, 1)
		pool := c.pool(t)
		c.connect(t, "pool-0")
		want := func(n int) {
			t.Helper()
			if got := pool.Status().Workers; got != n {
				t.Errorf("%d workers, want %d", got, n)
			}
		}
		want(0)
		_ = pool.Start()
		want(1) // the other has no session
		pool.Close()
		want(0)
	})
}

func TestAWorkerWhosePodIsGoneStaysStopped(t *testing.T) {
	w, p := lone(t)
	handle, _ := w.pool().Worker(p.uid)
	p.gone = true
	w.listPods()
	if err := handle.Start(); !errors.Is(err, worker.ErrStopped) {
		t.Errorf("error %v, want %v", err, worker.ErrStopped)
	}
	if got, want := handle.Status(), (worker.WorkerStatus{State: worker.WorkerStopped}); got != want {
		t.Errorf("status %+v, want %+v", got, want)
	}
}

func wantStatus(t *testing.T, w *world, want worker.PoolStatus) {
	t.Helper()
	if got := w.pool().Status(); got != want {
		t.Errorf("status %+v, want %+v", got, want)
	}
}

func TestTheJobShownIsTheOneThatRunsLongest(t *testing.T) {
	w, p := lone(t)
	w.createJob()
	w.receive(p)
	w.report(p)
	w.now = w.now.Add(time.Second)
	w.createJob() // sent, and not known to have started
	handle, _ := w.pool().Worker(p.uid)
	want := w.jobs[w.jobUIDs()[0]].job.Name
	for range 100 {
		if job := handle.Status().CurrentJob; job == nil || job.ID != want {
			t.Fatalf("shows %+v, want %s", job, want)
		}
	}
}
