package metrics

import (
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/engine"
	"github.com/workerpool-dev/workerpool/pkg/worker"
)

func TestAnEngineWithoutPoolsShowsNothing(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	if err := Register(registry, engine.New(time.Now, nil, &world{})); err != nil {
		t.Fatal(err)
	}
	if n, err := testutil.GatherAndCount(registry); n != 0 || err != nil {
		t.Errorf("there are %d metrics (%v), want none", n, err)
	}
}

func TestTheMetricsAreNamedAsPrometheusWants(t *testing.T) {
	w := newWorld(t, func(c *engine.PoolConfig) { c.Limits = worker.ResourceLimits{CPU: 1, Memory: 1, Files: 1} })
	w.addWorker(func(p *engine.WorkerPod) { p.Resources = worker.ResourceLimits{CPU: 1, Memory: 1} })
	families, err := w.registry.Gather()
	if err != nil || len(families) != len(read)+4 {
		t.Fatalf("there are %d metrics (%v), want %d", len(families), err, len(read)+4)
	}
	problems, err := testutil.GatherAndLint(w.registry)
	if len(problems) > 0 || err != nil {
		t.Errorf("promlint: %v %v", problems, err)
	}
	for _, f := range families {
		if help := f.GetHelp(); help == "" || help[len(help)-1] != '.' {
			t.Errorf("the help of %s is no sentence: %q", f.GetName(), help)
		}
	}
}

// TestAPoolHasSoManySeriesAndNoMore has the number that docs/metrics.md gives.
func TestAPoolHasSoManySeriesAndNoMore(t *testing.T) {
	all := worker.ResourceLimits{CPU: 100, Memory: 1 << 40, Files: 100}
	w := newWorld(t, func(c *engine.PoolConfig) { c.Limits = all })
	a := w.addWorker(func(p *engine.WorkerPod) { p.Resources = all })
	for range 20 {
		w.addPod()
		w.submit()
		a.run(0)
	}
	families, err := w.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, f := range families {
		n += len(f.GetMetric())
		for _, m := range f.GetMetric() {
			if h := m.GetHistogram(); h != nil {
				n += len(h.GetBucket()) + len([]string{"+Inf", "_sum"}) // and _count, which is counted already
			}
		}
	}
	if n != 73 {
		t.Errorf("there are %d series, want 73", n)
	}
}

func TestJobsAreShownWhereTheyAre(t *testing.T) {
	w := newWorld(t, func(c *engine.PoolConfig) { c.Capacity = 2 })
	for range 5 {
		w.submit()
	}
	w.expect("workerpool_queue_jobs", one(2))
	w.expect("workerpool_queue_capacity_jobs", one(2))
	w.expect("workerpool_waiting_jobs", one(3))
	w.expect("workerpool_running_jobs", one(0))

	a := w.addWorker()
	w.expect("workerpool_queue_jobs", one(2))
	w.expect("workerpool_waiting_jobs", one(2))
	w.expect("workerpool_running_jobs", one(1))
	a.end(engine.Exited, 0)
	w.expect("workerpool_running_jobs", one(2)) // the end of one is not stored
	w.store()
	w.expect("workerpool_running_jobs", one(1))
}

func TestWorkersAreShownByTheirState(t *testing.T) {
	w := newWorld(t)
	w.addPod()
	w.addPod()
	w.expect("workerpool_workers", values{"idle": 0, "busy": 0, "draining": 0, "disconnected": 2})
	for range 4 {
		w.addWorker()
	}
	w.submit()
	full := w.addPod()
	full.hello.Draining = true
	full.connect()
	w.expect("workerpool_workers", values{"idle": 3, "busy": 1, "draining": 1, "disconnected": 2})
}

func TestFinishedJobsAreCountedOnFromTheStoredStatus(t *testing.T) {
	w := newWorld(t, func(c *engine.PoolConfig) { c.Processed, c.Failed = 10, 4 })
	w.expect("workerpool_jobs_total", values{"succeeded": 6, "failed": 4})
	a := w.addWorker()
	for _, code := range []int32{0, 1, 0} {
		w.submit()
		a.run(code)
	}
	w.expect("workerpool_jobs_total", values{"succeeded": 8, "failed": 5})
}

func TestAStatusThatDoesNotAddUpIsShownAllTheSame(t *testing.T) {
	w := newWorld(t, func(c *engine.PoolConfig) { c.Processed, c.Failed = 1, 5 })
	w.expect("workerpool_jobs_total", values{"succeeded": 0, "failed": 1})
}

func atMostOnce(s *v1alpha1.JobSpec) { s.Execution = v1alpha1.AtMostOnce }
func onFailure(s *v1alpha1.JobSpec) {
	s.OnFailure = &v1alpha1.FailureHandler{Command: []string{"tell"}}
}
func retriedOnce(s *v1alpha1.JobSpec) { s.MaxRetries = new(int32(1)) }

func ignoringExitCode(code int32) func(*v1alpha1.JobSpec) {
	return func(s *v1alpha1.JobSpec) {
		s.FailurePolicy = &v1alpha1.FailurePolicy{Rules: []v1alpha1.FailureRule{{Action: v1alpha1.ActionIgnore, ExitCodes: []int32{code}}}}
	}
}

func TestTheEndOfEachAttemptIsCountedByWhatCameOfIt(t *testing.T) {
	for name, test := range map[string]struct {
		job  func(*v1alpha1.JobSpec)
		do   func(w *world, a *agent, job types.UID)
		want values
	}{
		"success": {
			do:   func(_ *world, a *agent, _ types.UID) { a.run(0) },
			want: values{"succeeded": 1},
		},
		"failure": {
			do:   func(_ *world, a *agent, _ types.UID) { a.run(1) },
			want: values{"failed": 1},
		},
		"retry": {
			job: retriedOnce,
			do: func(w *world, a *agent, _ types.UID) {
				a.run(1)
				w.pass(time.Second)
				a.run(1)
			},
			want: values{"retried": 1, "failed": 1},
		},
		"ignored failure": {
			job:  ignoringExitCode(7),
			do:   func(_ *world, a *agent, _ types.UID) { a.run(7) },
			want: values{"retried": 1},
		},
		"program that cannot be started": {
			do:   func(_ *world, a *agent, _ types.UID) { a.end(engine.CannotStart, 0) },
			want: values{"failed": 1},
		},
		"deadline": {
			do:   func(_ *world, a *agent, _ types.UID) { a.end(engine.DeadlineExceeded, 0) },
			want: values{"failed": 1},
		},
		"onFailure": {
			job: onFailure,
			do: func(_ *world, a *agent, _ types.UID) {
				a.run(1)
				a.run(0)
			},
			want: values{"failed": 1, "succeeded": 1},
		},
		"onFailure that fails": {
			job: onFailure,
			do: func(_ *world, a *agent, _ types.UID) {
				a.run(1)
				a.run(1)
			},
			want: values{"failed": 2},
		},
		"onFailure whose five workers are lost": {
			job: onFailure,
			do: func(w *world, a *agent, _ types.UID) {
				a.run(1)
				w.removePod(a.pod)
				for range 4 {
					w.removePod(w.addWorker().pod)
				}
			},
			want: values{"failed": 2, "lost": 4},
		},
		"worker that is removed": {
			do: func(w *world, a *agent, _ types.UID) {
				w.pods[0].Terminating = true
				w.engine.SetWorkers(demo, w.pods)
				w.removePod(a.pod)
			},
			want: values{"interrupted": 1},
		},
		"attempt that its agent has cut off": {
			do:   func(_ *world, a *agent, _ types.UID) { a.end(engine.Interrupted, 0) },
			want: values{"interrupted": 1},
		},
		"attempt at most once that is cut off": {
			job: atMostOnce,
			do: func(w *world, a *agent, _ types.UID) {
				w.store()
				a.end(engine.Interrupted, 0)
			},
			want: values{"failed": 1},
		},
		"worker that is lost": {
			do:   func(w *world, a *agent, _ types.UID) { w.removePod(a.pod) },
			want: values{"lost": 1},
		},
		"five workers that are lost": {
			do: func(w *world, a *agent, _ types.UID) {
				w.removePod(a.pod)
				for range 4 {
					w.removePod(w.addWorker().pod)
				}
			},
			want: values{"lost": 4, "failed": 1},
		},
		"attempt at most once whose worker is lost before it is sent": {
			job:  atMostOnce,
			do:   func(w *world, a *agent, _ types.UID) { w.removePod(a.pod) },
			want: values{},
		},
		"worker that does not start it": {
			do: func(_ *world, a *agent, _ types.UID) {
				a.assigned = nil
				a.report()
			},
			want: values{"refused": 1},
		},
		"deleted Job": {
			do: func(w *world, a *agent, job types.UID) {
				w.engine.Cancel(job)
				a.end(engine.Killed, 0)
			},
			want: values{"cancelled": 1},
		},
		"deleted Job whose worker is lost": {
			do: func(w *world, a *agent, job types.UID) {
				w.engine.Cancel(job)
				w.removePod(a.pod)
			},
			want: values{"cancelled": 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			a := w.addWorker()
			var edits []func(*v1alpha1.JobSpec)
			if test.job != nil {
				edits = append(edits, test.job)
			}
			job := w.submit(edits...)
			w.expectTasks(nil)
			test.do(w, a, job)
			w.expectTasks(test.want)
		})
	}
}

func TestAnAttemptWhoseWorkerIsGoneWhenALeaderComesIsLost(t *testing.T) {
	w := newWorld(t)
	w.engine.Submit(stored("job", v1alpha1.JobStatus{
		State: v1alpha1.JobRunning, Attempts: new(int32(1)), Attempt: &v1alpha1.Attempt{Token: "1.0.0", Worker: "demo-9", PodUID: "demo-9"},
	}))
	w.expectTasks(nil)
	pool, _ := w.engine.Manager(demo)
	gone, ok := pool.Worker("demo-9")
	if !ok {
		t.Fatal("the worker is not known")
	}
	gone.Gone()
	w.expectTasks(values{"lost": 1})
}

func stored(name string, status v1alpha1.JobStatus) engine.Job {
	return engine.Job{
		JobRef:          engine.JobRef{NamespacedName: types.NamespacedName{Namespace: demo.Namespace, Name: name}, UID: types.UID(name)},
		ResourceVersion: "1", Spec: &v1alpha1.JobSpec{Pool: demo.Name, Command: []string{"true"}}, Status: status,
	}
}

func TestResourcesAndLimitsAreShown(t *testing.T) {
	w := newWorld(t, func(c *engine.PoolConfig) {
		c.Limits = worker.ResourceLimits{CPU: 8, Memory: 16 << 30, Files: 500}
		c.Requested = worker.ResourceUsage{CPU: 4.5, Memory: 9 << 30}
		c.Resources = worker.ResourceLimits{CPU: 2, Memory: 4 << 30}
	})
	for range 2 {
		w.addWorker(func(p *engine.WorkerPod) { p.Resources = w.config.Resources })
	}
	w.submit(func(s *v1alpha1.JobSpec) {
		s.Resources = &v1alpha1.JobResources{
			CPU: new(resource.MustParse("500m")), Memory: new(resource.MustParse("1Gi")), Files: new(int32(20)),
		}
	})
	w.expect("workerpool_resources_used", values{"cpu": 0.5, "memory": 1 << 30, "files": 20})
	w.expect("workerpool_resources_capacity", values{"cpu": 4, "memory": 8 << 30, "files": 500})
	w.expect("workerpool_limit", values{"cpu": 8, "memory": 16 << 30, "files": 500})
	w.expect("workerpool_limit_used", values{"cpu": 4.5, "memory": 9 << 30, "files": 20})
}

func TestWhatIsNotLimitedHasNoCapacityAndNoLimit(t *testing.T) {
	w := newWorld(t, func(c *engine.PoolConfig) { c.Limits.Memory = 1 << 30 })
	w.addWorker(func(p *engine.WorkerPod) { p.Resources = worker.ResourceLimits{CPU: 1} })
	w.expect("workerpool_resources_used", values{"cpu": 0, "memory": 0, "files": 0})
	w.expect("workerpool_resources_capacity", values{"cpu": 1})
	w.expect("workerpool_limit", values{"memory": 1 << 30})
	w.expect("workerpool_limit_used", values{"memory": 0})
}

func TestThePoolsMetricsAreGoneWithThePoolAndThoseOfOthersStay(t *testing.T) {
	w := newWorld(t)
	other := w.config
	other.Key.Name, other.UID = "other", "other"
	w.engine.SetPool(other)
	others := func() int {
		n := 0
		for _, name := range []string{"workerpool_queue_jobs", "workerpool_tasks_total", "workerpool_job_wait_seconds"} {
			n += len(w.values(name, other.Key))
		}
		return n
	}
	want := others()
	all, err := testutil.GatherAndCount(w.registry)
	if err != nil {
		t.Fatal(err)
	}
	a := w.addWorker()
	w.submit()
	w.pool().Close()
	a.run(0)
	w.expectTasks(values{"succeeded": 1}) // as long as it has a worker
	w.removePod(a.pod)

	left, err := testutil.GatherAndCount(w.registry)
	if err != nil || left != all/2 {
		t.Errorf("%d series are left (%v), want %d", left, err, all/2)
	}
	if got := others(); got != want || want == 0 {
		t.Errorf("the other pool has %d series, want %d", got, want)
	}
	w.open()
	w.expectTasks(nil)
	w.expect("workerpool_task_run_seconds", seconds(0, 0))
}

func TestAPoolThatTakesTheNameOfAnotherBeginsAnew(t *testing.T) {
	w := newWorld(t)
	w.addWorker()
	w.submit()
	w.pool().Close()
	w.config.UID, w.pods = "another", nil
	w.open()
	w.expectTasks(nil) // though the first has lost a worker
	w.expect("workerpool_job_wait_seconds", seconds(0, 0))
	w.submit()
	a := w.addWorker()
	a.run(0)
	w.expectTasks(values{"succeeded": 1})
}

func TestEventsCostNoAllocation(t *testing.T) {
	m := newCollector(nil).Open(demo)
	allocated := testing.AllocsPerRun(100, func() {
		m.Sent(time.Second)
		m.Started(time.Millisecond)
		m.Ended(engine.TaskSucceeded, time.Minute)
	})
	if allocated > 0 {
		t.Errorf("%v allocations", allocated)
	}
}

func TestPoolsComeAndGoWhileTheMetricsAreRead(t *testing.T) {
	w := newWorld(t)
	w.addWorker()
	var running sync.WaitGroup
	done := make(chan struct{})
	running.Go(func() {
		for {
			if _, err := w.registry.Gather(); err != nil {
				t.Error(err)
			}
			select {
			case <-done:
				return
			default:
			}
		}
	})
	other := w.config
	other.Key.Name = "other"
	for range 200 {
		w.engine.SetPool(other)
		if m, ok := w.engine.Manager(other.Key); ok {
			m.Close()
		}
	}
	close(done)
	running.Wait()
}
