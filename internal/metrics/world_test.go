package metrics

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/engine"
)

var demo = types.NamespacedName{Namespace: "team", Name: "demo"}

// world is an engine with a pool called demo, its surroundings, and a registry of its metrics.
type world struct {
	t        *testing.T
	registry *prometheus.Registry
	engine   *engine.Engine
	now      time.Time
	config   engine.PoolConfig
	pods     []engine.WorkerPod
	writes   []engine.Write
	created  int
}

// newWorld makes one whose pool has no workers. Edits change the pool.
func newWorld(t *testing.T, edits ...func(*engine.PoolConfig)) *world {
	t.Helper()
	w := &world{
		t: t, registry: prometheus.NewPedanticRegistry(), now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		config: engine.PoolConfig{Key: demo, UID: "demo", Capacity: 100, Slots: 1, LostAfter: time.Minute},
	}
	for _, edit := range edits {
		edit(&w.config)
	}
	whole := func() float64 { return 1 } // backoffs are not shortened
	w.engine = engine.New(func() time.Time { return w.now }, whole, w)
	if err := Register(w.registry, w.engine); err != nil {
		t.Fatal(err)
	}
	w.engine.Begin(engine.Epoch{LeaseCreated: 1})
	w.engine.Loaded()
	w.open()
	return w
}

// open is the pool controller.
func (w *world) open() {
	w.t.Helper()
	w.engine.SetPool(w.config)
	w.engine.SetWorkers(w.config.Key, w.pods)
	if err := w.pool().Start(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) pool() *engine.Manager {
	w.t.Helper()
	m, ok := w.engine.Manager(w.config.Key)
	if !ok {
		w.t.Fatal("there is no pool")
	}
	return m
}

// The engine's Outbox.

func (w *world) Write(write engine.Write)         { w.writes = append(w.writes, write) }
func (w *world) DropWrite(types.UID)              {}
func (w *world) Look(engine.JobRef)               {}
func (w *world) Load(engine.JobRef)               {}
func (w *world) PoolOpened(types.NamespacedName)  {}
func (w *world) PoolChanged(types.NamespacedName) {}

// store answers all writes.
func (w *world) store() {
	for len(w.writes) > 0 {
		write := w.writes[0]
		w.writes = w.writes[1:]
		w.engine.Written(write, fmt.Sprint(write.Version))
	}
}

// pass lets time pass.
func (w *world) pass(d time.Duration) {
	w.now = w.now.Add(d)
	w.engine.Tick()
}

func (w *world) submit(edits ...func(*v1alpha1.JobSpec)) types.UID {
	w.created++
	name := fmt.Sprintf("job-%d", w.created)
	spec := &v1alpha1.JobSpec{Pool: w.config.Key.Name, Command: []string{"true"}}
	for _, edit := range edits {
		edit(spec)
	}
	w.engine.Submit(engine.Job{
		JobRef:          engine.JobRef{NamespacedName: types.NamespacedName{Namespace: demo.Namespace, Name: name}, UID: types.UID(name)},
		ResourceVersion: "1", Created: w.now, Spec: spec,
	})
	return types.UID(name)
}

// addPod adds a pod whose agent is not connected.
func (w *world) addPod(edits ...func(*engine.WorkerPod)) *agent {
	name := fmt.Sprintf("%s-%d", w.config.Key.Name, len(w.pods))
	pod := engine.WorkerPod{UID: types.UID(name), Name: name, Ordinal: len(w.pods), Slots: 1, Started: true}
	for _, edit := range edits {
		edit(&pod)
	}
	w.pods = append(w.pods, pod)
	w.engine.SetWorkers(w.config.Key, w.pods)
	return &agent{world: w, pod: pod.UID, hello: engine.Hello{
		Pool: w.config.Key, PoolUID: w.config.UID, Pod: pod.UID, PodName: name, Instance: "1",
	}}
}

// addWorker adds a pod with a session.
func (w *world) addWorker(edits ...func(*engine.WorkerPod)) *agent {
	w.t.Helper()
	a := w.addPod(edits...)
	a.connect()
	return a
}

// removePod has a pod gone.
func (w *world) removePod(uid types.UID) {
	w.pods = slices.DeleteFunc(w.pods, func(p engine.WorkerPod) bool { return p.UID == uid })
	w.engine.SetWorkers(w.config.Key, w.pods)
}

// agent is a worker's, and its session.
type agent struct {
	world *world
	pod   types.UID
	hello engine.Hello
	seen  uint64
	// assigned are the attempts that it runs.
	assigned []process
	draining bool
}

type process struct {
	token engine.Token
	// started is zero until it has.
	started time.Time
}

func (a *agent) connect() {
	a.world.t.Helper()
	if err := a.world.engine.Connect(a, a.hello); err != nil {
		a.world.t.Fatal(err)
	}
}

// Send is engine.Session's.
func (a *agent) Send(cmd engine.Command) {
	a.seen = cmd.Sequence
	for i := range cmd.Assignments {
		a.assigned = append(a.assigned, process{token: cmd.Assignments[i].Token})
	}
}

// Close is engine.Session's.
func (a *agent) Close(string) {}

func (a *agent) report(results ...engine.Result) {
	r := engine.Report{Seen: a.seen, Results: results, Draining: a.draining}
	for _, p := range a.assigned {
		r.Running = append(r.Running, engine.Running{
			Token: p.token, JobName: string(p.token.Job), Pending: p.started.IsZero(), StartedAgo: a.world.now.Sub(p.started),
		})
	}
	a.world.engine.Report(a, r)
}

// start has what was assigned start.
func (a *agent) start() {
	for i := range a.assigned {
		a.assigned[i].started = a.world.now
	}
	a.report()
}

// end has what was assigned first end now.
func (a *agent) end(outcome engine.Outcome, code int32) {
	a.world.t.Helper()
	if len(a.assigned) == 0 {
		a.world.t.Fatalf("%s runs nothing", a.pod)
	}
	p := a.assigned[0]
	a.assigned = a.assigned[1:]
	r := engine.Result{Token: p.token, JobName: string(p.token.Job), Outcome: outcome, ExitCode: code}
	if !p.started.IsZero() {
		r.StartedAgo = a.world.now.Sub(p.started)
	}
	a.report(r)
}

// run starts what was assigned first, and ends it a second later.
func (a *agent) run(code int32) {
	a.world.t.Helper()
	a.start()
	a.world.pass(time.Second)
	a.end(engine.Exited, code)
	a.world.store()
}

type values map[string]float64

// values are those of a metric of a pool, by the label that it has beside those of the pool. A histogram has
// a count and a sum. What is 0 and what is not there differ.
func (w *world) values(name string, pool types.NamespacedName) values {
	w.t.Helper()
	families, err := w.registry.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	all := values{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			labels := map[string]string{}
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			if f.GetName() != name || labels["namespace"] != pool.Namespace || labels["pool"] != pool.Name {
				continue
			}
			delete(labels, "namespace")
			delete(labels, "pool")
			key := ""
			for _, value := range labels {
				key = value
			}
			all.add(m, key)
		}
	}
	return all
}

func (v values) add(m *dto.Metric, key string) {
	switch {
	case m.GetHistogram() != nil:
		v["count"], v["sum"] = float64(m.GetHistogram().GetSampleCount()), m.GetHistogram().GetSampleSum()
	case m.GetCounter() != nil:
		v[key] = m.GetCounter().GetValue()
	default:
		v[key] = m.GetGauge().GetValue()
	}
}

// expect compares the values of a metric of demo with what they should be.
func (w *world) expect(name string, want values) {
	w.t.Helper()
	if got := w.values(name, demo); !maps.Equal(got, want) {
		w.t.Errorf("%s is %v, want %v", name, got, want)
	}
}

// expectTasks compares workerpool_tasks_total; what is not given is 0.
func (w *world) expectTasks(want values) {
	w.t.Helper()
	all := values{}
	for _, result := range results {
		all[result] = want[result]
	}
	w.expect("workerpool_tasks_total", all)
}

// one is the value of a metric without labels of its own.
func one(value float64) values { return values{"": value} }

// seconds are what a histogram has: so many times, together so long.
func seconds(count int, sum float64) values { return values{"count": float64(count), "sum": sum} }
