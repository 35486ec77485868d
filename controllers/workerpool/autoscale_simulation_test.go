package workerpool

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/engine"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

// scaled is a world whose pool scales itself, with the real engine, under a load. Its pods take a while to
// start, and their agents do nothing but wait for as long as each Job takes.
type scaled struct {
	*world
	engine *engine.Engine
	random *rand.Rand
	// coldStart is how long a pod takes to become ready; 0 is for ever.
	coldStart time.Duration
	agents    map[types.UID]*idler

	began   time.Time
	made    int
	jobs    map[types.UID]*v1alpha1.Job
	written []engine.Write
	// writes are those that were stored, counted.
	writes int
	looks  []types.UID
	result scaling
}

// scaling is what came of a load.
type scaling struct {
	waits []time.Duration
	// targets are the numbers of workers that there should be, each once until it changes.
	targets []int
	// most is the number of pods that there were at the most.
	most int
	// worked is how long workers ran Jobs, and there how long they were there, in seconds.
	worked, there float64
}

// idler is an agent whose Jobs do nothing for as long as their args say.
type idler struct {
	pod     *corev1.Pod
	started map[engine.Token]time.Time
	ends    map[engine.Token]time.Time
	inbox   []engine.Command
	seen    uint64
	// unavailable is why it takes nothing, if so.
	unavailable string
}

func (a *idler) Send(cmd engine.Command) { a.inbox = append(a.inbox, cmd) }
func (a *idler) Close(string)            {}

func newScaled(t *testing.T, autoscaling v1alpha1.AutoscalingSpec, coldStart time.Duration) *scaled {
	s := &scaled{
		world: newWorld(t, 0), random: rand.New(rand.NewPCG(1, 2)), coldStart: coldStart,
		agents: map[types.UID]*idler{}, jobs: map[types.UID]*v1alpha1.Job{},
	}
	s.pool.Spec.Replicas, s.pool.Spec.Autoscaling, s.pool.Spec.Queue.Capacity = nil, &autoscaling, 100
	s.pool.Spec.Update.MaxSurge = new(int32(0))
	s.began = s.clock.Now()
	s.engine = engine.New(s.clock.Now, s.random.Float64, s)
	s.engine.Begin(engine.Epoch{LeaseCreated: 1})
	s.engine.Loaded()
	s.reconciler.engine = InMemory{s.engine}
	s.scale()
	return s
}

// The engine's Outbox.

func (s *scaled) Write(w engine.Write)             { s.written = append(s.written, w) }
func (s *scaled) DropWrite(types.UID)              {}
func (s *scaled) Look(ref engine.JobRef)           { s.looks = append(s.looks, ref.UID) }
func (s *scaled) Load(ref engine.JobRef)           { s.Look(ref) }
func (s *scaled) PoolOpened(types.NamespacedName)  {}
func (s *scaled) PoolChanged(types.NamespacedName) {}

var poolKey = types.NamespacedName{Namespace: "ns", Name: "demo"}

const (
	scaledTick = 250 * time.Millisecond
	// reconcileEvery is how often a pool is looked at in which much happens.
	reconcileEvery = time.Second
)

// run lets time pass under a load: arrivals tells how many Jobs are made in a tick, and how long they take.
func (s *scaled) run(d time.Duration, arrivals func(at time.Duration) []time.Duration) {
	s.t.Helper()
	for end := s.clock.Now().Add(d); s.clock.Now().Before(end); {
		s.clock.Step(scaledTick)
		at := s.clock.Since(s.began)
		for _, takes := range arrivals(at) {
			s.submit(takes)
		}
		s.engine.Tick()
		s.runAgents()
		s.store()
		if at%reconcileEvery == 0 {
			s.scale()
		}
		s.result.there += float64(len(s.pods)) * scaledTick.Seconds()
		s.result.most = max(s.result.most, len(s.pods))
	}
}

func (s *scaled) submit(takes time.Duration) {
	s.made++
	name := fmt.Sprintf("job-%06d", s.made)
	job := testutil.MakeJob("ns", name, "demo").Command("sleep", takes.String()).Obj()
	job.UID, job.CreationTimestamp.Time = types.UID(name), s.clock.Now()
	job.Status.State = v1alpha1.JobPending
	s.jobs[job.UID] = job
	s.tell(job)
}

func (s *scaled) tell(job *v1alpha1.Job) {
	s.engine.Submit(engine.Job{
		JobRef:  engine.JobRef{NamespacedName: types.NamespacedName{Namespace: "ns", Name: job.Name}, UID: job.UID},
		Created: job.CreationTimestamp.Time, Spec: &job.Spec, Status: job.Status,
	})
}

// store answers the engine's writes, and tells of Jobs that it has asked about.
func (s *scaled) store() {
	for len(s.written) > 0 {
		w := s.written[0]
		s.written = s.written[1:]
		s.writes++
		job := s.jobs[w.Job.UID]
		job.Status = w.Status
		s.engine.Written(w, "1")
		if w.Final() {
			s.engine.Forget(job.UID)
			delete(s.jobs, job.UID)
		}
	}
	for len(s.looks) > 0 {
		if job := s.jobs[s.looks[0]]; job != nil {
			s.tell(job)
		}
		s.looks = s.looks[1:]
	}
}

func (s *scaled) scale() {
	s.catchUp()
	s.reconcile()
	if p, ok := s.engine.Manager(poolKey); ok {
		s.pool.Status.ProcessedJobs = new(int64(p.Snapshot().Processed))
	}
	target := s.reconciler.memories.of(poolKey, s.pool.UID).autoscaler.needs[0].workers
	if targets := s.result.targets; len(targets) == 0 || targets[len(targets)-1] != target {
		s.result.targets = append(targets, target)
	}
	for name, pod := range s.pods {
		switch agent := s.agents[pod.UID]; {
		case !pod.DeletionTimestamp.IsZero() && (agent == nil || len(agent.ends) == 0):
			s.remove(name, agent)
		case agent == nil && pod.DeletionTimestamp.IsZero() && s.coldStart > 0 && s.clock.Since(pod.CreationTimestamp.Time) >= s.coldStart:
			s.ready(name)
			s.connect(s.pods[name])
		}
	}
}

func (s *scaled) remove(name string, agent *idler) {
	if agent != nil {
		s.engine.Disconnect(agent)
		delete(s.agents, agent.pod.UID)
	}
	delete(s.pods, name)
}

func (s *scaled) connect(pod *corev1.Pod) {
	agent := &idler{pod: pod, started: map[engine.Token]time.Time{}, ends: map[engine.Token]time.Time{}}
	err := s.engine.Connect(agent, engine.Hello{
		Pool: poolKey, PoolUID: s.pool.UID, Pod: pod.UID, PodName: pod.Name,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.agents[pod.UID] = agent
}

// runAgents lets the agents start what they were sent, and end what has taken its time.
func (s *scaled) runAgents() {
	uids := make([]types.UID, 0, len(s.agents))
	for uid := range s.agents {
		uids = append(uids, uid)
	}
	slices.Sort(uids)
	for _, uid := range uids {
		agent := s.agents[uid]
		s.report(agent)
		for len(agent.inbox) > 0 { // a report may bring the next task
			s.receive(agent)
			s.report(agent)
		}
	}
}

func (s *scaled) receive(a *idler) {
	cmd := a.inbox[0]
	a.inbox, a.seen = a.inbox[1:], cmd.Sequence
	for _, assigned := range cmd.Assignments {
		takes, err := time.ParseDuration(assigned.Argv[1])
		if err != nil {
			s.t.Fatal(err)
		}
		a.started[assigned.Token], a.ends[assigned.Token] = s.clock.Now(), s.clock.Now().Add(takes)
		s.result.waits = append(s.result.waits, s.clock.Since(s.jobs[assigned.Token.Job].CreationTimestamp.Time))
		s.result.worked += takes.Seconds()
	}
}

func (s *scaled) report(a *idler) {
	report := engine.Report{Seen: a.seen, Draining: !s.pods[a.pod.Name].DeletionTimestamp.IsZero() || a.unavailable != "", Unavailable: a.unavailable}
	for token, end := range a.ends {
		if end.After(s.clock.Now()) {
			report.Running = append(report.Running, engine.Running{Token: token, StartedAgo: s.clock.Since(a.started[token])})
			continue
		}
		report.Results = append(report.Results, engine.Result{
			Token: token, Outcome: engine.Exited, StartedAgo: s.clock.Since(a.started[token]), EndedAgo: s.clock.Since(end),
		})
		delete(a.ends, token)
	}
	s.engine.Report(a, report)
}

// Loads.

// poisson makes Jobs that come by chance, so many a second, and take as long each.
func (s *scaled) poisson(rate func(at time.Duration) float64, takes time.Duration) func(time.Duration) []time.Duration {
	return func(at time.Duration) []time.Duration {
		var jobs []time.Duration
		for limit, p := math.Exp(-rate(at)*scaledTick.Seconds()), s.random.Float64(); p > limit; p *= s.random.Float64() {
			jobs = append(jobs, time.Duration((0.5+s.random.Float64())*float64(takes)))
		}
		return jobs
	}
}

func steadily(rate float64) func(time.Duration) float64 {
	return func(time.Duration) float64 { return rate }
}

// regularly makes so many Jobs at once, and again after each while.
func regularly(n int, takes, every time.Duration) func(time.Duration) []time.Duration {
	return func(at time.Duration) []time.Duration {
		if at%every == scaledTick {
			return slices.Repeat([]time.Duration{takes}, n)
		}
		return nil
	}
}

func none(time.Duration) []time.Duration { return nil }

// turns is how often the number of workers began to go the other way.
func (r scaling) turns() int {
	turns, direction := 0, 0
	for i := 1; i < len(r.targets); i++ {
		now := 1
		if r.targets[i] < r.targets[i-1] {
			now = -1
		}
		if direction != 0 && now != direction {
			turns++
		}
		direction = now
	}
	return turns
}

func (r scaling) wait(percent int) time.Duration {
	if len(r.waits) == 0 {
		return 0
	}
	slices.Sort(r.waits)
	return r.waits[min(len(r.waits)-1, len(r.waits)*percent/100)]
}

func (r scaling) row(name string) string {
	return fmt.Sprintf("| %s | %d | %.1f s | %.1f s | %d | %.1f | %.0f %% | %d |\n", name, len(r.waits), r.wait(50).Seconds(), r.wait(99).Seconds(),
		r.most, r.there/3600, 100*(r.there-r.worked)/r.there, r.turns())
}

// TestAutoscaling plays loads of some hours, writes down what came of each, and wants the figures in the
// documentation to be these.
func TestAutoscaling(t *testing.T) {
	hour := time.Hour
	table := "| load | Jobs | wait, median | wait, p99 | most workers | worker hours | of them idle | turns |\n|---|---|---|---|---|---|---|---|\n"
	for _, load := range []struct {
		name string
		max  int32
		play func(*scaled)
		// What may be at the most.
		p99   time.Duration
		turns int
	}{
		{"steady: 5 Jobs of 2 s each second, for 1 h", 100, func(s *scaled) {
			s.run(hour, regularly(5, 2*time.Second, time.Second))
		}, 10 * time.Second, 1},
		{"by chance: 5 Jobs of 1 to 3 s a second, for 1 h", 100, func(s *scaled) {
			s.run(hour, s.poisson(steadily(5), 2*time.Second))
		}, 10 * time.Second, 1},
		{"the same, where a worker takes 60 s to start", 100, func(s *scaled) {
			s.coldStart = time.Minute
			s.run(hour, s.poisson(steadily(5), 2*time.Second))
		}, 90 * time.Second, 1},
		{"by chance: 6 Jobs of 30 to 90 s a minute, for 2 h", 100, func(s *scaled) {
			s.run(2*hour, s.poisson(steadily(0.1), time.Minute))
		}, 20 * time.Second, 60},
		{"bursts: 300 Jobs of 2 s every 10 min, for 1 h", 100, func(s *scaled) {
			s.run(hour, regularly(300, 2*time.Second, 10*time.Minute))
		}, 25 * time.Second, 11},
		{"a wave of 2 h: 0 to 10 Jobs of 1 to 3 s a second, and back", 100, func(s *scaled) {
			s.run(2*hour, s.poisson(func(at time.Duration) float64 { return 5 * (1 - math.Cos(math.Pi*at.Hours())) }, 2*time.Second))
		}, 10 * time.Second, 7},
		{"a batch of 5,000 Jobs of 5 s", 50, func(s *scaled) {
			s.run(hour/2, regularly(5000, 5*time.Second, 100*hour))
		}, 10 * time.Minute, 1},
	} {
		s := newScaled(t, v1alpha1.AutoscalingSpec{MaxReplicas: load.max}, 3*time.Second)
		load.play(s)
		s.run(10*time.Minute, none)
		row := s.result.row(load.name)
		t.Log(row, s.result.targets)
		table += row
		if s.result.wait(99) > load.p99 || s.result.turns() > load.turns {
			t.Errorf("%s: p99 %v, %d turns; want at most %v, %d", load.name, s.result.wait(99), s.result.turns(), load.p99, load.turns)
		}
		if len(s.pods) > 0 || len(s.jobs) > 0 {
			t.Errorf("%s: %d pods and %d Jobs are left", load.name, len(s.pods), len(s.jobs))
		}
	}
	golden(t, "autoscaling.golden", table)
	guide, err := os.ReadFile("../../docs/workerpool.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(guide), table) {
		t.Errorf("docs/workerpool.md has other figures than these:\n%s", table)
	}
}

// A template that does not work costs a few pods, however many Jobs wait.
func TestAutoscalingDoesNotRunAwayWithWorkersThatDoNotStart(t *testing.T) {
	s := newScaled(t, v1alpha1.AutoscalingSpec{MaxReplicas: 100}, 0)
	s.run(10*time.Minute, regularly(1000, time.Second, time.Hour))
	if s.result.most != startingAtOnce {
		t.Errorf("there were %d pods", s.result.most)
	}
	s.coldStart = 3 * time.Second // it is mended
	s.run(10*time.Minute, none)
	if len(s.jobs) > 0 {
		t.Errorf("%d Jobs are left", len(s.jobs))
	}
}
