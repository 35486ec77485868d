package engine

import (
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// large makes a Job's spec so large that it is not kept whole.
func large(s *v1alpha1.JobSpec) { s.Stdin = strings.Repeat("x", largeSpec) }

// starts tells how often the pod's agent was told to start the Job.
func (p *simPod) starts(uid types.UID) (n int) {
	for _, a := range p.assigned {
		if a.Token.Job == uid {
			n++
		}
	}
	return n
}

func (w *world) wantReduced(uid types.UID) {
	w.t.Helper()
	if j := w.engine.jobs[uid]; j == nil || !j.reduced || j.object.Spec.Stdin != "" {
		w.t.Errorf("%s is kept whole", uid)
	}
}

func TestALargeJobIsStartedOnceAllOfItIsThere(t *testing.T) {
	w, p := room(t, 2)
	uid := w.create(command(large))
	w.wantReduced(uid)
	w.agents()
	if len(w.loads) != 1 || len(w.looks) != 0 || len(p.assigned) != 0 {
		t.Fatalf("%d were read, and %d looked at; %d assigned", len(w.loads), len(w.looks), len(p.assigned))
	}
	small := w.create(command())
	w.agents()
	w.wantRuns(small, 0) // it waits for nothing of the large one
	if s := w.pool().Snapshot(); s.Active != 2 {
		t.Errorf("%d are active: the slot of the large Job is not held", s.Active)
	}
	w.submit(uid) // the cache has nothing new
	w.agents()
	w.wantRuns(uid)
	if len(w.loads) != 1 {
		t.Errorf("it is read %d times", len(w.loads))
	}
	w.turn()
	w.wantRuns(uid, 0)
	w.wantReduced(uid)
	if got := p.assigned[1].Stdin; len(got) != largeSpec {
		t.Errorf("it was sent with %d bytes", len(got))
	}
	w.exit(uid, 0, 0)
	w.turn()
	w.wantState(uid, v1alpha1.JobSucceeded, "")
}

func TestASmallJobIsNotReadAgain(t *testing.T) {
	w, p := room(t, 1)
	uid := w.create(command())
	if len(w.loads) != 0 || w.engine.jobs[uid].reduced {
		t.Errorf("%d were read", len(w.loads))
	}
	w.agents()
	if p.starts(uid) != 1 {
		t.Error("it does not run at once")
	}
}

func TestALargeJobThatGoesWhileItIsReadLeavesNothing(t *testing.T) {
	for name, leave := range map[string]func(*world, types.UID){
		"deleted":   func(w *world, uid types.UID) { w.jobs[uid].gone = true; w.engine.Cancel(uid) },
		"suspended": func(w *world, uid types.UID) { w.suspend(uid, true) },
		"too late":  func(w *world, _ types.UID) { w.idle(6 * time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			w, p := room(t, 1)
			uid := w.create(command(large, deadline(5)))
			next := w.create(command())
			w.agents()
			w.wantRuns(next)
			leave(w, uid)
			w.turn()
			w.wantRuns(next, 0)
			w.wantRuns(uid)
			if p.starts(uid) != 0 {
				t.Error("it was started")
			}
			if name == "suspended" {
				w.wantReducedOrShed(uid)
				w.exit(next, 0, 0)
				w.turn()
				w.suspend(uid, false)
				w.live(time.Second)
				w.wantRuns(uid, 0)
				if n := deref(w.engine.jobs[uid].object.Status.Attempts); n != 1 {
					t.Errorf("%d attempts are counted", n)
				}
			}
		})
	}
}

func (w *world) wantReducedOrShed(uid types.UID) {
	w.t.Helper()
	if j := w.engine.jobs[uid]; !j.isShed() && !j.reduced {
		w.t.Errorf("%s is kept whole", uid)
	}
}

// The API server may not answer for long: the slot is for others then.
func TestALargeJobThatCannotBeReadGivesItsSlotBack(t *testing.T) {
	w, p := room(t, 1)
	uid := w.create(command(large))
	next := w.create(command())
	w.agents()
	w.idle(loadPatience - time.Second)
	w.agents()
	w.wantRuns(next)
	w.idle(2 * time.Second)
	w.agents()
	w.wantRuns(next, 0)
	w.idle(time.Minute)
	if p.starts(uid) != 0 || len(w.loads) != 1 {
		t.Errorf("it was started, or %d were read", len(w.loads))
	}
	w.storeDue()
	w.wantState(uid, v1alpha1.JobPending, v1alpha1.ReasonRetrying)
	w.lookAll() // it is answered at last: it is not kept until there is room
	w.wantReduced(uid)
	w.exit(next, 0, 0)
	w.live(time.Second)
	w.wantRuns(uid, 0)
	if n := deref(w.engine.jobs[uid].object.Status.Attempts); n != 1 {
		t.Errorf("%d attempts are counted", n)
	}
}

func TestALargeJobIsReadForEachTry(t *testing.T) {
	w, p := room(t, 1)
	uid := w.runJob(large, retries(1), backoff(0, 1, 0), func(s *v1alpha1.JobSpec) {
		s.OnFailure = &v1alpha1.FailureHandler{Command: []string{"tell"}, Args: []string{"all"}}
		s.FailurePolicy = &v1alpha1.FailurePolicy{Rules: []v1alpha1.FailureRule{{Action: v1alpha1.ActionRetry, ExitCodes: []int32{3}}}}
	})
	for range 2 {
		w.wantRuns(uid, 0)
		w.wantReduced(uid)
		w.exit(uid, 0, 3)
		w.live(2 * time.Second)
	}
	w.wantRuns(uid, 1)
	if last := p.assigned[len(p.assigned)-1]; !reflect.DeepEqual(last.Argv, []string{"tell", "all"}) {
		t.Errorf("onFailure is %v", last.Argv)
	}
	w.exit(uid, 1, 0)
	w.turn()
	w.wantState(uid, v1alpha1.JobFailed, v1alpha1.ReasonExitCode)
}

func TestALargeJobThatRunsOnceIsReadBeforeThatIsStored(t *testing.T) {
	w, p := room(t, 1)
	uid := w.create(command(large, func(s *v1alpha1.JobSpec) { s.Execution = v1alpha1.AtMostOnce }))
	w.idle(loadPatience + time.Second) // it is not read
	w.storeDue()
	if n := deref(w.status(uid).Attempts); n != 0 || w.status(uid).Attempt != nil {
		t.Errorf("%d attempts are stored of what was not sent", n)
	}
	w.lookAll()
	w.submit(uid) // the cache has nothing new, and does not undo what was read
	w.agents()
	if p.starts(uid) != 0 {
		t.Fatal("it is started before that is stored")
	}
	if j := w.engine.jobs[uid]; j.reduced || len(w.loads) != 0 {
		t.Error("it is to be read a second time")
	}
	w.live(time.Second)
	w.wantRuns(uid, 0)
	if p.starts(uid) != 1 || deref(w.status(uid).Attempts) != 1 {
		t.Errorf("it was started %d times, and %d are stored", p.starts(uid), deref(w.status(uid).Attempts))
	}
	w.wantReduced(uid)
}

func TestALargeJobWaitsForTheConnectionOfItsWorker(t *testing.T) {
	w, p := room(t, 1)
	uid := w.create(command(large))
	w.drop(p)
	w.lookAll()
	w.wantRuns(uid)
	w.connect(p)
	w.turn()
	w.wantRuns(uid, 0)
	w.wantReduced(uid)
}

// A worker that is heard of late has the result of an attempt of an earlier leader, and nothing was sent since.
func TestWhatIsBookedOutranksNothingBeforeItIsSent(t *testing.T) {
	w, p := room(t, 1)
	uid := w.runJob(large)
	token := w.assignment(uid, 0).Token
	p.running[token].recorded = true // so that it is not ended while there is no leader
	w.lead()
	w.idle(silentWorkers)
	w.join()
	if j := w.engine.jobs[uid]; j.running != 1 || !j.loading {
		t.Fatal("no other attempt is booked")
	}
	w.jobs[uid].exits[0] = []int32{0}
	w.end(p, token, Exited, 0)
	w.connect(p)
	w.turn()
	w.wantState(uid, v1alpha1.JobSucceeded, "")
}

func TestALargeJobIsNotSentToAWorkerThatIsUnfitMeanwhile(t *testing.T) {
	w, p := room(t, 1)
	uid := w.create(command(large))
	p.failure = "exit code 1"
	w.report(p)
	w.lookAll()
	if j := w.engine.jobs[uid]; j.running != 0 || j.place != queued {
		t.Errorf("it is still booked: place %d", j.place)
	}
	w.join()
	w.turn()
	w.wantRuns(uid, 0)
}

func TestALargeJobIsLostWithItsWorkerBeforeItIsSent(t *testing.T) {
	w, p := room(t, 1)
	uid := w.create(command(large))
	w.drop(p)
	p.gone = true
	w.listPods()
	w.lookAll()
	w.wantReduced(uid)
	w.join()
	w.turn()
	w.wantRuns(uid, 0)
	if s := w.engine.jobs[uid].object.Status; s.LostWorkers != nil {
		t.Errorf("%d workers are counted as lost", *s.LostWorkers)
	}
}

func TestTheNextLeaderJudgesTheResultOfALargeJob(t *testing.T) {
	w, p := room(t, 1)
	uid := w.runJob(large, func(s *v1alpha1.JobSpec) {
		s.MaxRetries = new(int32(5))
		s.FailurePolicy = &v1alpha1.FailurePolicy{Rules: []v1alpha1.FailureRule{{Action: v1alpha1.ActionFail, ExitCodes: []int32{7}}}}
	})
	w.live(time.Second)
	w.lead()
	w.finishUnreported(p, uid)
	w.connect(p)
	w.agents()
	if len(w.loads) != 0 {
		t.Errorf("%d were read", len(w.loads))
	}
	w.turn()
	w.wantState(uid, v1alpha1.JobFailed, v1alpha1.ReasonExitCode)
}

// finishUnreported ends what a pod runs of a Job while it has no session, with exit code 7.
func (w *world) finishUnreported(p *simPod, uid types.UID) {
	w.t.Helper()
	for _, token := range sortedTokens(p.running) {
		if token.Job == uid {
			w.jobs[uid].exits[0] = append(w.jobs[uid].exits[0], 7)
			w.end(p, token, Exited, 7)
		}
	}
}

// The items of a large Job are kept while there are more tasks to start, and read once.
func TestTheTasksOfALargeJobHaveTheirItems(t *testing.T) {
	const n = 20
	w, p := room(t, 2)
	uid := w.runJob(func(s *v1alpha1.JobSpec) {
		for i := range n {
			s.Items = append(s.Items, fmt.Sprint(i, strings.Repeat("y", 1000)))
		}
		s.Args = []string{"{}"}
	})
	if !w.engine.jobs[uid].reduced && len(w.engine.kept) != 1 {
		t.Error("what is kept is not counted")
	}
	for i := range int32(n) {
		w.exit(uid, i, 0)
		w.agents()
		if len(w.loads) != 0 {
			t.Fatalf("it is read again for task %d", i)
		}
		w.turn()
	}
	w.wantState(uid, v1alpha1.JobSucceeded, "")
	for i, a := range p.assigned {
		if item := a.Command()[len(a.Argv)-1]; !strings.HasPrefix(item, fmt.Sprint(i, "y")) {
			t.Errorf("task %d was sent with %.10s", i, item)
		}
	}
	if len(w.engine.kept) != 0 || w.engine.keptBytes != 0 {
		t.Errorf("%d are still kept, with %d bytes", len(w.engine.kept), w.engine.keptBytes)
	}
}

func TestOnlySoMuchIsKeptForTasksToCome(t *testing.T) {
	const n = 100
	w, _ := room(t, n)
	w.configure(func(c *PoolConfig) { c.Capacity = n })
	text := strings.Repeat("z", 1<<20)
	for range n {
		w.create(command(func(s *v1alpha1.JobSpec) { s.Stdin, s.Completions, s.Parallelism = text, new(int32(2)), new(int32(1)) }))
	}
	w.turn()
	if w.engine.keptBytes > maxKept || len(w.engine.kept) < maxKept>>20-1 {
		t.Errorf("%d specs are kept, with %d bytes", len(w.engine.kept), w.engine.keptBytes)
	}
	kept := 0
	for _, j := range w.engine.jobs {
		if !j.reduced {
			kept++
		}
	}
	if kept != len(w.engine.kept) {
		t.Errorf("%d are whole, and %d are kept", kept, len(w.engine.kept))
	}
	for _, index := range []int32{0, 1} {
		for _, uid := range w.jobUIDs() {
			w.exit(uid, index, 0)
		}
		w.live(time.Second)
	}
	for _, uid := range w.jobUIDs() {
		w.wantState(uid, v1alpha1.JobSucceeded, "")
	}
}

// What waits is not in memory, in the queue or beyond it.
func TestALargeJobThatWaitsTakesLittleMemory(t *testing.T) {
	const n, most = 300, 8 << 10
	w, _ := room(t, 1)
	w.configure(func(c *PoolConfig) { c.Capacity = n / 2 })
	w.runJob()
	before := heapInUse()
	for i := range n {
		uid := types.UID(fmt.Sprint("large-", i))
		w.engine.Submit(Job{
			JobRef: JobRef{NamespacedName: types.NamespacedName{Namespace: "default", Name: string(uid)}, UID: uid}, ResourceVersion: "1", Created: w.now,
			Spec: &v1alpha1.JobSpec{Pool: "pool", Command: []string{"cat"}, Stdin: strings.Repeat("w", 1<<20)},
		})
	}
	each := int64(heapInUse()-before) / n
	t.Logf("%d bytes each", each)
	if each > most {
		t.Errorf("%d bytes each, want at most %d", each, most)
	}
	runtime.KeepAlive(w)
}

func heapInUse() uint64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

func TestReduceKeepsWhatDecides(t *testing.T) {
	text := strings.Repeat("x", largeSpec)
	spec := &v1alpha1.JobSpec{
		Pool: "pool", Command: []string{"c"}, Args: []string{"a"}, Env: []v1alpha1.EnvVar{{Name: "n", Value: &text}}, WorkingDir: "/", Stdin: "s",
		Items: []string{"1", "2"}, Priority: new(int32(3)), Resources: memory(1), MaxRetries: new(int32(1)), Parallelism: new(int32(2)),
		OnFailure: &v1alpha1.FailureHandler{Command: []string{"f"}}, Execution: v1alpha1.AtLeastOnce, TTLSecondsAfterFinished: new(int32(9)),
	}
	want := *spec
	want.Command, want.Args, want.Env, want.WorkingDir, want.Stdin, want.Items = nil, nil, nil, "", "", nil
	want.Completions, want.OnFailure = new(int32(2)), &v1alpha1.FailureHandler{}
	got, reduced := Reduce(spec)
	if !reduced || !reflect.DeepEqual(got, want) || !IsReduced(&got) || IsReduced(spec) {
		t.Errorf("got %+v, %t", got, reduced)
	}
	if again, reduced := Reduce(&got); reduced || !reflect.DeepEqual(again, got) {
		t.Errorf("a second time it makes %+v", again)
	}
	http := &v1alpha1.JobSpec{HTTP: &v1alpha1.HTTPRequest{Method: "PUT", Path: "/", Body: text}}
	if got, reduced := Reduce(http); !reduced || got.HTTP == nil || got.HTTP.Body != "" || !IsReduced(&got) || IsReduced(http) {
		t.Errorf("got %+v", got)
	}
	many := &v1alpha1.JobSpec{Command: []string{"c"}, Items: make([]string, largeSpec/textSize)}
	if _, reduced := Reduce(many); !reduced {
		t.Error("many short items are kept")
	}
	few := &v1alpha1.JobSpec{Command: []string{"c"}, Stdin: "short"}
	if got, reduced := Reduce(few); reduced || !reflect.DeepEqual(&got, few) {
		t.Errorf("a small one becomes %+v", got)
	}
}

// What the items make of a task is known only once they are there.
func TestATaskOfALargeJobThatIsTooLongFailsAlone(t *testing.T) {
	w, p := room(t, 2)
	uid := w.runJob(func(s *v1alpha1.JobSpec) {
		s.Args, s.Items = []string{strings.Repeat("{}", 16_384)}, []string{strings.Repeat("x", 1024), "y"}
	})
	w.wantRuns(uid, 1)
	if len(p.assigned) != 1 || p.assigned[0].Token.Index != 1 {
		t.Errorf("%d were sent", len(p.assigned))
	}
	w.exit(uid, 1, 0)
	w.turn()
	w.wantState(uid, v1alpha1.JobFailed, v1alpha1.ReasonIndexesFailed)
}

// The job fails while its worker's attempts are gone through, which takes back those that were not sent.
func TestTheLossOfAWorkerMayFailALargeJob(t *testing.T) {
	for name, lose := range map[string]func(*world, *simPod){
		"gone": func(w *world, p *simPod) { w.drop(p); p.gone = true; w.listPods(); w.lookAll() },
		"restarted": func(w *world, p *simPod) {
			w.drop(p)
			p.instance, p.running = p.instance+1, map[Token]*simProcess{}
			w.connect(p)
			w.live(time.Minute)
		},
		"missing": func(w *world, p *simPod) { clear(p.running); w.live(time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			w, p := room(t, 2)
			uid := w.runJob(large, completions(3), rules(onReasons(v1alpha1.ActionFail, v1alpha1.ReasonWorkerLost)))
			w.wantRuns(uid, 0, 1)
			w.live(time.Second)
			w.engine.jobs[uid].reduce()
			w.exit(uid, 0, 0)
			w.agents()
			lose(w, p)
			w.turn()
			w.live(time.Minute)
			w.wantState(uid, v1alpha1.JobFailed, v1alpha1.ReasonWorkerLost)
		})
	}
}
