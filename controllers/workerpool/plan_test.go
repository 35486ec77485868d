package workerpool

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/engine"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestLives plays a few lives of a pool and compares what is done with the files in testdata, which
// are there to be read.
func TestLives(t *testing.T) {
	for name, life := range map[string]struct {
		replicas int32
		play     func(*world)
	}{
		"scale":            {3, playScale},
		"rollout":          {3, playRollout},
		"rollout-in-place": {3, playRolloutInPlace},
		"rollout-at-once":  {4, playRolloutAtOnce},
		"recycle":          {3, playRecycle},
		"broken-rollout":   {2, playBrokenRollout},
		"replaced-workers": {2, playReplacedWorkers},
		"foreign-pod":      {2, playForeignPod},
		"late-cache":       {3, playLateCache},
		"relabelled-pod":   {1, playRelabelledPod},
		"new-leader":       {3, playNewLeader},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, life.replicas)
			life.play(w)
			golden(t, name+".golden", strings.Join(w.log, "\n")+"\n")
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; -update writes it anew. Got:\n%s\nwant:\n%s", path, got, want)
	}
}

// begin brings the first workers up.
func (w *world) begin() {
	w.settle()
	w.allReady()
	w.settle()
}

func (w *world) busy(names ...string) {
	for _, name := range names {
		w.set(name, engine.PodSnapshot{Connected: true, Busy: true})
		w.note("%s is busy", name)
	}
}

// rounds lets the cluster catch up with the pool so many times.
func (w *world) rounds(n int) {
	for range n {
		w.settle()
		w.sweep()
		w.allReady()
	}
}

func (w *world) gone() {
	w.sweep()
	w.note("what was deleted is gone")
	w.settle()
}

func playScale(w *world) {
	w.begin()
	w.busy("demo-2")
	w.scale(1)
	w.settle()
	w.note("pods: %v", w.live())
	w.scale(3)
	w.settle()
	w.gone()
	w.busy("demo-2", "demo-3", "demo-4")
	w.scale(1)
	w.settle()
	w.scale(0)
	w.settle()
}

func playRollout(w *world) {
	w.begin()
	w.busy("demo-0")
	w.rollOut("busybox:2")
	w.rounds(8)
	w.note("pods: %v", w.live())
}

func playRecycle(w *world) {
	w.begin()
	w.set("demo-1", engine.PodSnapshot{Connected: true, Spent: true})
	w.note("demo-1 has run enough")
	w.settle()
	w.set("demo-2", engine.PodSnapshot{Connected: true, Spent: true, Busy: true})
	w.note("demo-2 has run enough, and is busy")
	w.settle()
	w.allReady()
	w.gone()
	w.set("demo-2", engine.PodSnapshot{Connected: true, Spent: true})
	w.note("demo-2 is idle")
	w.settle()
	w.gone()
	w.pool.Spec.Recycle = &v1alpha1.RecycleSpec{MaxAgeSeconds: new(int32(3600))}
	w.clock.Step(time.Hour)
	w.note("an hour passes, which is as old as workers become")
	w.rounds(6)
	w.note("pods: %v", w.live())
}

// playRolloutInPlace has no room for workers beyond those wanted.
func playRolloutInPlace(w *world) {
	w.pool.Spec.Update = v1alpha1.UpdateSpec{MaxSurge: new(int32(0)), MaxUnavailable: new(int32(1))}
	w.begin()
	w.busy("demo-0")
	w.rollOut("busybox:2")
	w.rounds(8)
	w.note("pods: %v", w.live())
}

// playRolloutAtOnce may have twice the workers for a while.
func playRolloutAtOnce(w *world) {
	w.pool.Spec.Update = v1alpha1.UpdateSpec{MaxSurge: new(int32(4)), MaxUnavailable: new(int32(2))}
	w.begin()
	w.rollOut("busybox:2")
	w.rounds(4)
	w.note("pods: %v", w.live())
}

func playBrokenRollout(w *world) {
	w.begin()
	w.rollOut("busybox:missing")
	w.settle()
	w.note("the new worker does not become ready")
	w.settle()
	w.note("pods: %v", w.live())
	w.rollOut("busybox:2")
	w.rounds(5)
	w.note("pods: %v", w.live())
}

func playReplacedWorkers(w *world) {
	w.begin()
	w.end("demo-0")
	w.settle()
	w.gone()
	w.allReady()
	w.set("demo-1", engine.PodSnapshot{Lost: true})
	w.note("demo-1 is lost")
	w.settle()
	w.note("pods: %v", w.live())
	w.gone()
}

func playForeignPod(w *world) {
	w.add(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "demo-0", UID: "foreign"}})
	w.note("demo-0 is somebody else's")
	w.settle()
	w.settle()
	w.note("pods: %v", w.live())
	delete(w.pods, "demo-0")
	w.note("demo-0 is gone")
	w.clock.Step(takenRecheck)
	w.scale(3)
	w.settle()
}

// A pod that somebody has taken the label from may run tasks: it is drained and deleted, and another is made.
func playRelabelledPod(w *world) {
	w.begin()
	stranger := w.pods["demo-0"].DeepCopy()
	stranger.Labels = nil
	w.add(stranger)
	w.note("demo-0 has no labels any more")
	w.settle()
	w.settle()
	w.note("pods: %v", w.live())
}

// A new leader has not heard of most workers yet: they may be busy, so an idle one is removed.
func playNewLeader(w *world) {
	w.begin()
	clear(w.does)
	w.set("demo-0", engine.PodSnapshot{Connected: true})
	w.note("only demo-0 has said that it is idle")
	w.scale(2)
	w.settle()
	w.note("pods: %v", w.live())
}

func playLateCache(w *world) {
	w.note("the cache shows nothing")
	w.reconcile()
	w.reconcile()
	w.scale(2)
	w.reconcile()
	w.reconcile()
	w.note("the cache shows all")
	w.settle()
	w.note("pods: %v", w.live())
	w.scale(3)
	w.reconcile()
	w.note("the cache misses a whole life")
	name := w.live()[2]
	delete(w.pods, name)
	w.reconcile()
	w.clock.Step(expectedWithin)
	w.reconcile()
	w.note("pods: %v", w.live())
}

func TestPlanRemovesTheLeastMissed(t *testing.T) {
	worker := func(ordinal int, change func(*Worker)) Worker {
		w := Worker{Ordinal: ordinal, UID: "uid", Ready: true, Current: true}
		change(&w)
		return w
	}
	plain := func(*Worker) {}
	busy := func(w *Worker) { w.Busy = true }
	starting := func(w *Worker) { w.Ready = false }
	old := func(w *Worker) { w.Current = false }
	for name, tc := range map[string]struct {
		workers []Worker
		want    []int
	}{
		"highest ordinal":           {[]Worker{worker(0, plain), worker(1, plain), worker(2, plain)}, []int{2, 1}},
		"idle before busy":          {[]Worker{worker(0, plain), worker(1, busy), worker(2, busy)}, []int{0, 2}},
		"not ready before ready":    {[]Worker{worker(0, starting), worker(1, plain), worker(2, plain)}, []int{0, 2}},
		"idle before not ready":     {[]Worker{worker(0, plain), worker(1, func(w *Worker) { busy(w); starting(w) }), worker(2, busy)}, []int{0, 1}},
		"outdated before current":   {[]Worker{worker(0, old), worker(1, plain), worker(2, plain), worker(3, plain)}, []int{0, 3}},
		"a rollout keeps its surge": {[]Worker{worker(0, old), worker(1, starting)}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var got []int
			for _, i := range Plan(State{Replicas: 1, Surge: 1, Workers: tc.workers}) {
				if i.Action == Delete {
					got = append(got, i.Ordinal)
				}
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("removed %v, want %v", got, tc.want)
			}
		})
	}
}

func TestPlanDoesNothingTwice(t *testing.T) {
	s := State{Replicas: 1, Workers: []Worker{
		{Ordinal: 0, Ready: true, Current: true},
		{Ordinal: 1, Terminating: true, Current: true},
		{Ordinal: 2, Terminating: true, Terminated: true},
		{Ordinal: 3, Lost: true, GivenUp: true},
	}}
	if got := Plan(s); len(got) > 0 {
		t.Errorf("plan: %v", got)
	}
}

func TestPlanGivesUpALostWorkerThatDrains(t *testing.T) {
	got := Plan(State{Workers: []Worker{{Ordinal: 0, Lost: true, Terminating: true}}})
	if len(got) != 1 || got[0].Action != GiveUp {
		t.Errorf("plan: %v", got)
	}
}
