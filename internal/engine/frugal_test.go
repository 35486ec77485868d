package engine

import (
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// How often the status of a Job is stored is most of what it costs. See promise 9 of the design.
func TestHowOftenAJobIsStored(t *testing.T) {
	for _, c := range []struct {
		name string
		run  func(*world) types.UID
		want int
	}{
		{"short", func(w *world) types.UID {
			uid := w.runJob()
			w.live(runningDue - TickInterval)
			w.exit(uid, 0, 0)
			return uid
		}, 1},
		{"short, failed", func(w *world) types.UID {
			uid := w.runJob()
			w.exit(uid, 0, 1)
			return uid
		}, 1},
		{"ten minutes", func(w *world) types.UID {
			uid := w.runJob()
			w.live(10 * time.Minute)
			w.exit(uid, 0, 0)
			return uid
		}, 2},
		{"queued, then ten minutes", func(w *world) types.UID {
			p := w.pods[0]
			w.drop(p)
			uid := w.runJob()
			w.live(waitingDue + time.Second)
			w.wantState(uid, v1alpha1.JobQueued, "")
			w.connect(p)
			w.live(10 * time.Minute)
			w.exit(uid, 0, 0)
			return uid
		}, 3},
		{"retried twice, long", func(w *world) types.UID {
			uid := w.runJob(retries(2), backoff(1, 1, 1))
			for range 2 {
				w.live(5 * time.Second)
				w.exit(uid, 0, 1)
				w.live(2 * time.Second)
			}
			w.live(5 * time.Second)
			w.exit(uid, 0, 0)
			return uid
		}, 2 + 2*2},
		{"retried twice, short", func(w *world) types.UID {
			uid := w.runJob(retries(2), backoff(1, 1, 1))
			for range 2 {
				w.exit(uid, 0, 1)
				w.live(1100 * time.Millisecond)
			}
			w.exit(uid, 0, 0)
			return uid
		}, 1 + 2},
		{"at most once, long", func(w *world) types.UID {
			uid := w.runJob(atMostOnce)
			w.live(10 * time.Minute)
			w.exit(uid, 0, 0)
			return uid
		}, 2},
		{"at most once, short", func(w *world) types.UID {
			uid := w.runJob(atMostOnce)
			w.exit(uid, 0, 0)
			return uid
		}, 2},
		{"at most once, onFailure", func(w *world) types.UID {
			uid := w.runJob(atMostOnce, onFailure)
			w.exit(uid, 0, 1)
			w.turn()
			w.exit(uid, 1, 0)
			return uid
		}, 3},
		{"onFailure, short", func(w *world) types.UID {
			uid := w.runJob(onFailure)
			w.exit(uid, 0, 1)
			w.turn()
			w.exit(uid, 1, 0)
			return uid
		}, 2},
		{"one long task", func(w *world) types.UID {
			uid := w.runJob(completions(1))
			w.live(time.Minute)
			w.exit(uid, 0, 0)
			return uid
		}, 2},
		{"two long tasks", func(w *world) types.UID {
			uid := w.runJob(completions(2))
			w.live(time.Minute)
			w.exit(uid, 0, 0)
			w.live(time.Minute)
			w.exit(uid, 1, 0)
			return uid
		}, 3},
		{"three short tasks", func(w *world) types.UID {
			uid := w.runJob(completions(3))
			for i := range int32(3) {
				w.exit(uid, i, 0)
				w.turn()
			}
			return uid
		}, 1},
		{"1,000 tasks in 10 s", func(w *world) types.UID {
			uid := w.runJob(completions(1000))
			for range 100 {
				for range 10 {
					w.exit(uid, w.runs(uid)[0], 0)
					w.agents()
				}
				w.live(100 * time.Millisecond)
			}
			return uid
		}, 12},
		{"100 tasks retried", func(w *world) types.UID {
			uid := w.runJob(completions(100), retries(1), backoff(0, 1, 0))
			for n := 0; n < 200 && !w.status(uid).State.Finished(); n++ {
				for _, index := range w.runs(uid) {
					w.exit(uid, index, int32(2-w.jobs[uid].starts[index]))
				}
				w.live(100 * time.Millisecond)
			}
			t.Logf("100 tasks retried took %s", w.now.Sub(w.jobs[uid].job.Created))
			return uid
		}, int(12)},
		{"suspended and resumed", func(w *world) types.UID {
			uid := w.runJob()
			w.live(time.Minute)
			w.suspend(uid, true)
			w.live(time.Minute)
			w.suspend(uid, false)
			w.live(time.Minute)
			w.exit(uid, 0, 0)
			return uid
		}, 5},
		{"not yet", func(w *world) types.UID {
			uid := w.runJob(startAfter(time.Minute))
			w.live(time.Minute)
			w.exit(uid, 0, 0)
			return uid
		}, 2},
		{"priority changed", func(w *world) types.UID {
			uid := w.runJob()
			w.live(time.Second)
			for n := range int32(5) {
				spec := w.jobs[uid].job.Spec.DeepCopy()
				spec.Priority = new(n)
				w.change(uid, spec)
				w.live(5 * time.Second)
			}
			w.exit(uid, 0, 0)
			return uid
		}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, _ := lone(t)
			w.t, w.engine.chance = t, func() float64 { return 1 }
			uid := c.run(w)
			w.turn()
			if !w.status(uid).State.Finished() {
				t.Fatalf("it has not ended: %s", describeStatus(w.status(uid)))
			}
			n := w.jobs[uid].writes
			t.Logf("stored %d times", n)
			if n > c.want {
				t.Errorf("stored %d times, want %d", n, c.want)
			}
		})
	}
}

func TestWhatPassesQuicklyIsNotStored(t *testing.T) {
	w, _ := lone(t)
	first := w.runJob()
	var rest []types.UID
	for range simSlots + simCapacity {
		rest = append(rest, w.runJob())
	}
	w.live(runningDue - TickInterval)
	w.wantState(first, v1alpha1.JobPending, v1alpha1.ReasonWaiting)
	w.live(TickInterval)
	w.wantState(first, v1alpha1.JobRunning, "")
	w.live(waitingDue - runningDue - TickInterval)
	for _, uid := range rest[simSlots-1:] {
		w.wantState(uid, v1alpha1.JobPending, v1alpha1.ReasonWaiting)
	}
	w.live(TickInterval)
	for _, uid := range rest[simSlots-1 : len(rest)-1] {
		w.wantState(uid, v1alpha1.JobQueued, "")
	}
	w.wantState(rest[len(rest)-1], v1alpha1.JobPending, v1alpha1.ReasonQueueFull)
	w.live(time.Minute)
	for _, uid := range rest[simSlots-1:] {
		if n := w.jobs[uid].writes; n != 1 {
			t.Errorf("a Job that waits is stored %d times", n)
		}
	}
}

// The agent may refuse what it is sent.
func TestWhatIsNotKnownToRunIsNotStoredAsRunning(t *testing.T) {
	w, _ := lone(t)
	uid := w.create(command())
	for range 20 {
		w.idle(time.Second / 2)
		if s := w.writes[uid].Status; s.State == v1alpha1.JobRunning || deref(s.Attempts) != 0 {
			t.Fatalf("to be stored: %s", describeStatus(&s))
		}
	}
	w.agents()
	w.live(runningDue)
	w.wantState(uid, v1alpha1.JobRunning, "")
}

// An indexed Job of which nothing was stored for long is stored as running as soon as any other.
func TestAnIndexedJobIsStoredAsRunningInTime(t *testing.T) {
	for _, waited := range []time.Duration{0, time.Second, 30 * time.Second} {
		t.Run(fmt.Sprint("queued for ", waited), func(t *testing.T) {
			w, p := lone(t)
			w.drop(p)
			uid := w.runJob(completions(3))
			w.live(waited)
			w.connect(p)
			w.turn()
			w.live(runningDue)
			if waited == time.Second {
				w.live(statusInterval)
			}
			w.wantState(uid, v1alpha1.JobRunning, "")
			if s := w.status(uid); len(s.RunningIndexes) != 1 || s.RunningIndexes[0].Indexes != "0-1" || deref(s.Active) != 2 {
				t.Errorf("stored: %s", describeStatus(s))
			}
			if !p.running[w.assignment(uid, 0).Token].recorded || !p.running[w.assignment(uid, 1).Token].recorded {
				t.Error("the agent is not told that they are recorded")
			}
		})
	}
}

// A write may be under way when the Job ends, and be answered before its end is stored.
func TestAJobIsSettledByTheWriteThatEndsItAlone(t *testing.T) {
	w, p := lone(t)
	uid := w.runJob()
	w.idle(runningDue)
	early := w.writes[uid]
	w.exit(uid, 0, 0)
	if final := w.writes[uid]; early.Final() || !final.Final() {
		t.Fatalf("asked for %s, and then for %s", early.Status.State, final.Status.State)
	}
	w.engine.Written(early, "2")
	w.agents()
	if s := w.pool().Snapshot(); s.Active != 1 || s.Processed != 0 || len(p.results) != 1 {
		t.Errorf("snapshot %+v, %d results are left; want nothing settled", s, len(p.results))
	}
	w.turn()
	w.wantState(uid, v1alpha1.JobSucceeded, "")
	if s := w.pool().Snapshot(); s.Active != 0 || s.Processed != 1 || len(p.results) != 0 {
		t.Errorf("snapshot %+v, %d results are left; want it settled", s, len(p.results))
	}
}

// A recorded attempt outlives the operator's absence, and the agent must be told so.
func TestAgentsAreToldWhatIsRecorded(t *testing.T) {
	for name, change := range map[string]func(*v1alpha1.JobSpec){"plain": func(*v1alpha1.JobSpec) {}, "indexed": completions(2), "at most once": atMostOnce} {
		w, p := lone(t)
		uid := w.runJob(change)
		w.live(runningDue + TickInterval)
		for token, process := range p.running {
			if !process.recorded {
				t.Errorf("%s: %v is not recorded", name, token)
			}
		}
		w.wantState(uid, v1alpha1.JobRunning, "")
	}
}

// The engine's word on what the pool's stored counters hold keeps retention from deleting a Job too early.
func TestAJobIsCountedOnceThePoolsCountersAreStored(t *testing.T) {
	w, _ := lone(t)
	counted := func(uid types.UID) bool { return w.engine.Counted(poolKey, uid) }
	first, second := w.runJob(), w.runJob()
	if counted(first) {
		t.Error("a Job that runs is counted")
	}
	w.exit(first, 0, 0)
	if counted(first) {
		t.Error("a Job whose end is not stored is counted")
	}
	w.turn()
	w.exit(second, 0, 1)
	w.turn()
	if counted(first) || counted(second) {
		t.Error("counted before the pool's counters are stored")
	}
	w.configure(func(c *PoolConfig) { c.Processed = 1 })
	if !counted(first) || counted(second) {
		t.Errorf("first %t, second %t; want the first", counted(first), counted(second))
	}
	w.configure(func(c *PoolConfig) { c.Processed, c.Failed = 2, 1 })
	if !counted(second) || len(w.engine.pools[poolKey].uncounted) != 0 {
		t.Error("the second is not counted")
	}
	if !counted("unknown") || !w.engine.Counted(types.NamespacedName{Name: "unknown"}, first) {
		t.Error("what is not known is not counted, so that it would be kept for ever")
	}
}
