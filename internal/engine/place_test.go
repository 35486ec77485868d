package engine

import (
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/pkg/worker"
)

func priority(n int32) func(*v1alpha1.JobSpec) {
	return func(s *v1alpha1.JobSpec) { s.Priority = new(n) }
}

// takes is a Job's resources; what is 0 is unset.
func takes(cpu, memory string, files int32) func(*v1alpha1.JobSpec) {
	return func(s *v1alpha1.JobSpec) {
		s.Resources = &v1alpha1.JobResources{}
		if cpu != "" {
			s.Resources.CPU = new(resource.MustParse(cpu))
		}
		if memory != "" {
			s.Resources.Memory = new(resource.MustParse(memory))
		}
		if files > 0 {
			s.Resources.Files = new(files)
		}
	}
}

// sized makes a world of one worker with these slots and resources, and a pool whose new workers are so.
func sized(t *testing.T, slots int, limits worker.ResourceLimits) (*world, *simPod) {
	t.Helper()
	w, p := lone(t)
	w.drop(p)
	p.gone = true
	w.configure(func(c *PoolConfig) { c.Slots, c.Resources, c.Capacity = slots, limits, 1000 })
	return w, w.join()
}

const gi = 1 << 30

func TestAJobThatFitsNoWorkerIsToldTheNumbers(t *testing.T) {
	for _, c := range []struct {
		change func(*v1alpha1.JobSpec)
		want   string
	}{
		{takes("", "3Gi", 0), "The Job takes 3Gi of memory, and a worker of the pool has 2Gi for its Jobs. Make the Job smaller, or the requests of the pool's job container larger."},
		{takes("2500m", "", 0), "The Job takes 2500m of cpu, and a worker of the pool has 2 for its Jobs. Make the Job smaller, or the requests of the pool's job container larger."},
	} {
		w, _ := sized(t, 2, worker.ResourceLimits{CPU: 2, Memory: 2 * gi})
		uid := w.runJob(c.change)
		behind := w.runJob()
		w.wantRuns(behind, 0)
		if s := w.pool().Snapshot(); s.Queued != 0 || s.Waiting != 0 {
			t.Errorf("snapshot %+v, want no room taken", s)
		}
		w.live(waitingDue)
		w.wantState(uid, v1alpha1.JobPending, v1alpha1.ReasonDoesNotFit)
		if got := w.status(uid).Message; got != c.want {
			t.Errorf("message %q, want %q", got, c.want)
		}
		if !w.engine.jobs[uid].isShed() {
			t.Error("its spec is kept")
		}
	}
}

func TestAJobThatFitsNoWorkerIsLookedAtAgainWhenThePoolChanges(t *testing.T) {
	w, _ := sized(t, 1, worker.ResourceLimits{CPU: 1, Memory: gi})
	uid := w.runJob(takes("", "2Gi", 0))
	w.live(time.Minute)
	w.wantState(uid, v1alpha1.JobPending, v1alpha1.ReasonDoesNotFit)
	w.configure(func(c *PoolConfig) { c.Aging = time.Hour })
	if len(w.looks) != 0 {
		t.Errorf("looked at again for nothing: %v", w.looks)
	}
	w.configure(func(c *PoolConfig) { c.Resources.Memory = 4 * gi })
	w.turn()
	if s := w.pool().Snapshot(); s.Queued != 1 {
		t.Errorf("snapshot %+v, want it queued", s)
	}
	w.wantRuns(uid) // its worker is not there yet
	w.join()
	w.turn()
	w.wantRuns(uid, 0)
}

// The pool's template has become smaller: what is queued goes on as long as a worker of old is there.
func TestAQueuedJobIsUnfitOnceNoWorkerIsLargeEnough(t *testing.T) {
	w, large := sized(t, 1, worker.ResourceLimits{CPU: 1, Memory: 4 * gi})
	first, second := w.runJob(takes("", "2Gi", 0)), w.runJob(takes("", "2Gi", 0))
	w.wantRuns(first, 0)
	w.configure(func(c *PoolConfig) { c.Resources.Memory = gi })
	w.live(waitingDue)
	w.wantState(second, v1alpha1.JobQueued, "")
	large.terminating = true
	w.listPods()
	w.join()
	w.live(waitingDue + time.Second)
	w.wantState(second, v1alpha1.JobPending, v1alpha1.ReasonDoesNotFit)
	if s := w.pool().Snapshot(); s.Queued != 0 {
		t.Errorf("%d are queued", s.Queued)
	}
}

// The worker of old was to be deleted, and is not.
func TestAJobThatFitsOnlyAWorkerThatServesAgainIsQueuedAgain(t *testing.T) {
	w, large := sized(t, 1, worker.ResourceLimits{CPU: 1, Memory: 4 * gi})
	first, second := w.runJob(takes("", "2Gi", 0)), w.runJob(takes("", "2Gi", 0))
	w.configure(func(c *PoolConfig) { c.Resources.Memory = gi })
	if done := w.pool().Cordon([]Victim{{Pod: large.uid, Idle: true}}); done[large.uid] || w.snapshot(large).Cordoned {
		t.Error("a worker that runs a Job was taken for an idle one")
	}
	w.pool().Cordon([]Victim{{Pod: large.uid}})
	w.live(waitingDue + time.Second)
	w.wantState(second, v1alpha1.JobPending, v1alpha1.ReasonDoesNotFit)
	w.pool().Cordon(nil)
	w.exit(first, 0, 0)
	w.turn()
	w.wantRuns(second, 0)
}

func TestWorkersGetNoJobsThatTheyDoNotServe(t *testing.T) {
	w, p := lone(t)
	get, run := w.runJob(asksHTTP), w.runJob()
	w.wantRuns(run, 0)
	w.live(waitingDue)
	w.wantState(get, v1alpha1.JobPending, v1alpha1.ReasonWrongHandler)
	second := w.runJob(parallelism(1), completions(2))

	// The pool becomes one of HTTP; its worker of old is not.
	w.configure(func(c *PoolConfig) { c.Handler = v1alpha1.HandlerHTTP })
	w.turn()
	w.exit(run, 0, 0)
	w.live(waitingDue)
	w.wantRuns(get)
	w.wantState(get, v1alpha1.JobQueued, "")
	if len(p.running) != 1 {
		t.Errorf("%d run on the worker of old", len(p.running))
	}
	w.exit(second, 0, 0)
	w.live(2 * time.Second)
	w.wantState(second, v1alpha1.JobPending, v1alpha1.ReasonWrongHandler)
	fresh := w.join()
	w.turn()
	w.wantRuns(get, 0)
	if len(fresh.running) != 1 || len(p.running) != 0 {
		t.Errorf("%d run on the new worker, %d on the old one", len(fresh.running), len(p.running))
	}
}

// Defaults of the pool.

func TestThePoolsDefaultsAreForWhatAJobDoesNotSay(t *testing.T) {
	w, p := sized(t, 4, worker.ResourceLimits{CPU: 4, Memory: 4 * gi})
	w.configure(func(c *PoolConfig) {
		c.Defaults = v1alpha1.JobDefaults{
			MaxRetries: new(int32(1)), TimeoutSeconds: new(int32(9)), Backoff: &v1alpha1.Backoff{InitialSeconds: new(int32(5))},
			Resources: &v1alpha1.JobResources{CPU: new(resource.MustParse("500m")), Memory: new(resource.MustParse("256Mi")), Files: new(int32(64))},
		}
	})
	none := w.runJob()
	own := w.runJob(takes("", "1Gi", 0), retries(0), func(s *v1alpha1.JobSpec) { s.TimeoutSeconds = new(int32(3)) })
	if a := w.assignment(none, 0); a.Timeout != 9*time.Second || a.MemoryLimit != 256<<20 || a.MemoryShare != 256<<20 || a.MaxOpenFiles != 64 {
		t.Errorf("assignment %+v, want the pool's defaults", a)
	}
	if a := w.assignment(own, 0); a.Timeout != 3*time.Second || a.MemoryLimit != gi || a.MemoryShare != gi || a.MaxOpenFiles != 64 {
		t.Errorf("assignment %+v, want its own, and the pool's where it says nothing", a)
	}
	if used := w.engine.pools[poolKey].workers[p.uid].resources.Status().Used; used.CPU != 1 || used.Memory != gi+256<<20 || used.Files != 128 {
		t.Errorf("used %+v", used)
	}
	w.exit(own, 0, 1)
	w.turn()
	w.wantState(own, v1alpha1.JobFailed, v1alpha1.ReasonExitCode)
	w.exit(none, 0, 1)
	w.turn()
	w.wantState(none, v1alpha1.JobPending, v1alpha1.ReasonRetrying)

	// What changes counts from the next try on.
	w.configure(func(c *PoolConfig) {
		c.Defaults = v1alpha1.JobDefaults{
			MaxRetries: new(int32(2)), TimeoutSeconds: new(int32(11)), Resources: &v1alpha1.JobResources{Memory: new(resource.MustParse("2Gi"))},
		}
	})
	w.live(6 * time.Second)
	if a := w.assignment(none, 0); a.Token.Try != 2 || a.Timeout != 11*time.Second || a.MemoryLimit != 2*gi || a.MaxOpenFiles != 0 {
		t.Errorf("assignment %+v, want the pool's new defaults", a)
	}
	w.exit(none, 0, 1)
	w.live(3 * time.Second)
	w.wantRuns(none, 0)
	w.exit(none, 0, 1)
	w.turn()
	w.wantState(none, v1alpha1.JobFailed, v1alpha1.ReasonExitCode)
	if w.pool().Snapshot().Active != 0 {
		t.Error("something is active")
	}
	if used := w.engine.pools[poolKey].workers[p.uid].resources.Status().Used; used != (worker.ResourceUsage{}) {
		t.Errorf("%+v are still taken", used)
	}
}

func TestDefaultsThatFitNoWorkerParkWhatWaits(t *testing.T) {
	w, _ := sized(t, 1, worker.ResourceLimits{Memory: gi})
	running, waiting := w.runJob(), w.runJob()
	w.configure(func(c *PoolConfig) {
		c.Defaults.Resources = &v1alpha1.JobResources{Memory: new(resource.MustParse("2Gi"))}
	})
	w.live(waitingDue)
	w.wantRuns(running, 0)
	w.wantState(waiting, v1alpha1.JobPending, v1alpha1.ReasonDoesNotFit)
	w.configure(func(c *PoolConfig) { c.Defaults.Resources = nil })
	w.live(waitingDue)
	w.wantState(waiting, v1alpha1.JobQueued, "")
}

func TestTheAssignmentOfAJobThatSaysNothingHasAnEqualShare(t *testing.T) {
	w, p := sized(t, 3, worker.ResourceLimits{CPU: 1, Memory: 3 * gi})
	uid := w.runJob()
	if a := w.assignment(uid, 0); a.MemoryLimit != 0 || a.MemoryShare != gi || a.MaxOpenFiles != 0 {
		t.Errorf("memory limit %d, share %d, files %d; want no limits and a share of %d", a.MemoryLimit, a.MemoryShare, a.MaxOpenFiles, gi)
	}
	for range 2 {
		w.runJob()
	}
	if len(p.running) != 3 { // a third of a core is not a decimal fraction
		t.Errorf("%d run, want one for each slot", len(p.running))
	}
}

// The order.

// order lets the Jobs that wait start one after another, on one slot, and tells in which order.
func order(w *world, p *simPod) []types.UID {
	var started []types.UID
	for len(p.running) > 0 && len(started) < 100 {
		token := sortedTokens(p.running)[0]
		started = append(started, token.Job)
		w.exit(token.Job, token.Index, 0)
		w.turn()
	}
	return started
}

func TestTheOrderIsThatOfPriorityAndWaiting(t *testing.T) {
	w, p := sized(t, 1, worker.ResourceLimits{})
	w.configure(func(c *PoolConfig) { c.Aging = time.Minute })
	first := w.runJob()
	old := w.runJob(priority(-1))
	w.live(30 * time.Second)
	low, high := w.runJob(), w.runJob(priority(1))
	also := w.runJob()
	w.live(31 * time.Second)
	late := w.runJob(priority(1)) // a minute's worth, and a second after the first that waits
	if got, want := order(w, p), []types.UID{first, high, late, low, also, old}; !slices.Equal(got, want) {
		t.Errorf("order %v, want %v", got, want)
	}
}

func TestTheOrderIsThatOfTheAgingThatIs(t *testing.T) {
	w, p := sized(t, 1, worker.ResourceLimits{})
	w.configure(func(c *PoolConfig) { c.Aging = time.Second })
	first := w.runJob()
	old := w.runJob()
	w.live(time.Minute)
	late := w.runJob(priority(1))
	w.configure(func(c *PoolConfig) { c.Aging = time.Hour })
	if got, want := order(w, p), []types.UID{first, late, old}; !slices.Equal(got, want) {
		t.Errorf("order %v, want %v", got, want)
	}
}

func TestAChangedPriorityCountsWhereverTheJobWaits(t *testing.T) {
	w, p := sized(t, 1, worker.ResourceLimits{})
	w.configure(func(c *PoolConfig) { c.Capacity = 2 })
	first := w.runJob()
	a, b := w.runJob(), w.runJob()
	c, d := w.runJob(), w.runJob()
	raise := func(uid types.UID) {
		spec := w.jobs[uid].job.Spec.DeepCopy()
		spec.Priority = new(int32(5))
		w.change(uid, spec)
	}
	raise(b)
	raise(d)
	if s := w.pool().Snapshot(); s.Queued != 2 || s.Waiting != 2 {
		t.Errorf("snapshot %+v", s)
	}
	if got, want := order(w, p), []types.UID{first, b, d, a, c}; !slices.Equal(got, want) {
		t.Errorf("order %v, want %v", got, want)
	}
}

func TestALargerQueueTakesInWhatWaited(t *testing.T) {
	w, _ := sized(t, 1, worker.ResourceLimits{})
	w.configure(func(c *PoolConfig) { c.Capacity = 2 })
	var jobs []types.UID
	for range 6 {
		jobs = append(jobs, w.runJob())
	}
	w.live(waitingDue)
	w.wantState(jobs[5], v1alpha1.JobPending, v1alpha1.ReasonQueueFull)
	if got, want := w.status(jobs[5]).Message, "The queue of the pool is full (2 Jobs). The Job comes in, in order, as room appears."; got != want {
		t.Errorf("message %q, want %q", got, want)
	}
	if !w.engine.jobs[jobs[5]].isShed() || w.engine.jobs[jobs[1]].isShed() {
		t.Error("the spec of what waits is kept, or that of what is queued is not")
	}
	w.configure(func(c *PoolConfig) { c.Capacity = 5 })
	w.live(waitingDue)
	w.wantState(jobs[5], v1alpha1.JobQueued, "")
	if s := w.pool().Snapshot(); s.Queued != 5 || s.Waiting != 0 {
		t.Errorf("snapshot %+v", s)
	}
}

func TestNoMoreAreInvitedThanThereIsRoomFor(t *testing.T) {
	w, _ := sized(t, 1, worker.ResourceLimits{})
	w.configure(func(c *PoolConfig) { c.Capacity = 3 })
	first := w.runJob()
	for range 9 {
		w.runJobLater()
	}
	w.exit(first, 0, 0)
	if s := w.pool().Snapshot(); s.Queued != 3 || s.Waiting != 5 || len(w.looks) != 1 {
		t.Errorf("snapshot %+v, %d are looked at; want one to be let in", s, len(w.looks))
	}
	w.configure(func(c *PoolConfig) { c.Capacity = 5 })
	if s := w.pool().Snapshot(); s.Queued != 5 || s.Waiting != 3 || len(w.looks) != 3 {
		t.Errorf("snapshot %+v, %d are looked at; want two more to be let in", s, len(w.looks))
	}
	w.turn()
	if s := w.pool().Snapshot(); s.Queued != 5 || s.Waiting != 3 {
		t.Errorf("snapshot %+v", s)
	}
}

// Room.

func TestAWorkerIsFilledAsFarAsItsResourcesGo(t *testing.T) {
	for _, c := range []struct {
		name  string
		each  func(*v1alpha1.JobSpec)
		slots int
		want  int
	}{
		{"by memory", takes("1m", "1Gi", 0), 10, 4},
		{"by cpu", takes("500m", "1Mi", 0), 10, 4},
		{"by files", takes("1m", "1Mi", 100), 10, 5},
		{"by slots", takes("1m", "1Mi", 0), 3, 3},
		{"in equal shares", func(*v1alpha1.JobSpec) {}, 7, 7},
		{"exactly", takes("2", "4Gi", 500), 10, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, p := sized(t, c.slots, worker.ResourceLimits{CPU: 2, Memory: 4 * gi, Files: 500})
			var jobs []types.UID
			for range 12 {
				jobs = append(jobs, w.runJob(c.each))
			}
			if len(p.running) != c.want {
				t.Errorf("%d run, want %d", len(p.running), c.want)
			}
			w.exit(jobs[0], 0, 0)
			w.turn()
			if len(p.running) != c.want {
				t.Errorf("%d run after one has ended, want %d", len(p.running), c.want)
			}
		})
	}
}

// A stream of small Jobs would always take what a large one waits for.
func TestALargeJobIsNotStarvedBySmallOnes(t *testing.T) {
	for name, resources := range map[string]func(*v1alpha1.JobSpec){
		"memory": takes("1m", "4Gi", 0), "cpu": takes("4", "1Mi", 0), "files": takes("1m", "1Mi", 400),
	} {
		t.Run(name, func(t *testing.T) {
			w, p := sized(t, 4, worker.ResourceLimits{CPU: 4, Memory: 4 * gi, Files: 400})
			small := takes("1", "1Gi", 100)
			for range 4 {
				w.runJob(small)
			}
			large := w.runJob(resources)
			for n := range 4 {
				w.wantRuns(large)
				for range 3 {
					w.runJob(small)
				}
				w.live(time.Second)
				if len(p.running) != 4-n {
					t.Errorf("%d run, want %d: what is left is kept for the large Job", len(p.running), 4-n)
				}
				for _, token := range sortedTokens(p.running) {
					w.exit(token.Job, 0, 0)
					break
				}
				w.turn()
			}
			w.wantRuns(large, 0)
			w.exit(large, 0, 0)
			w.turn()
			if len(p.running) != 4 {
				t.Errorf("%d run after the large Job, want 4", len(p.running))
			}
		})
	}
}

func TestALargeJobHoldsUpNoneThatFitElsewhere(t *testing.T) {
	w, p := sized(t, 2, worker.ResourceLimits{CPU: 2, Memory: 2 * gi})
	q := w.join()
	blocker := w.runJob(takes("1", "1Gi", 0))
	other := w.runJob(takes("1", "1Gi", 0))
	if len(p.running) != 1 || len(q.running) != 1 {
		t.Fatal("they do not spread")
	}
	large := w.runJob(takes("1", "2Gi", 0))
	small := w.runJob(takes("1", "1Gi", 0))
	more := w.runJob(takes("1", "1Gi", 0))
	w.wantRuns(large)
	w.wantRuns(small, 0)
	w.wantRuns(more)
	kept := w.engine.pools[poolKey].reserved
	if kept.job == nil || kept.job.object.UID != large {
		t.Fatal("nothing is kept for the large Job")
	}
	if on, _ := w.running(small, 0); on.uid == kept.worker.uid {
		t.Error("the small Job runs on the worker that is kept")
	}
	last := blocker
	if on, _ := w.running(other, 0); on.uid == kept.worker.uid {
		last = other
	}
	w.exit(last, 0, 0)
	w.turn()
	w.wantRuns(large, 0)
	w.wantRuns(more) // both workers are full
}

// A Job that needs nothing of what is scarce, and leaves a slot, is in nobody's way.
func TestALargeJobHoldsUpNoneThatNeedNothingOfWhatItWaitsFor(t *testing.T) {
	w, p := sized(t, 4, worker.ResourceLimits{Files: 100})
	w.runJob(takes("", "", 60))
	large := w.runJob(takes("", "", 100))
	files, none := w.runJob(takes("", "", 40)), w.runJob()
	w.wantRuns(large)
	w.wantRuns(files)
	w.wantRuns(none, 0)
	second := w.runJob()
	w.wantRuns(second, 0)
	third := w.runJob()
	w.wantRuns(third) // the last slot is kept
	if len(p.running) != 3 {
		t.Errorf("%d run", len(p.running))
	}
}

func TestWhatWasKeptIsGivenBackWhenTheLargeJobGoes(t *testing.T) {
	for name, leave := range map[string]func(*world, types.UID){
		"deleted":   func(w *world, uid types.UID) { w.jobs[uid].gone = true; w.engine.Cancel(uid) },
		"suspended": func(w *world, uid types.UID) { w.suspend(uid, true) },
		"too late":  func(w *world, _ types.UID) { w.live(11 * time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			w, p := sized(t, 2, worker.ResourceLimits{Memory: 2 * gi})
			w.runJob(takes("", "1Gi", 0))
			large := w.runJob(takes("", "2Gi", 0), deadline(10))
			small := w.runJob(takes("", "1Gi", 0))
			w.wantRuns(small)
			p.session.inbox = nil
			leave(w, large)
			w.agents()
			w.wantRuns(small, 0)
		})
	}
}

func TestAWorkerIsKeptThatCanRunTheJob(t *testing.T) {
	w, small := sized(t, 1, worker.ResourceLimits{Memory: gi})
	w.configure(func(c *PoolConfig) { c.Resources.Memory = 4 * gi })
	large := w.join()
	a, b := w.runJob(takes("", "1Gi", 0)), w.runJob(takes("", "1Gi", 0))
	big := w.runJob(takes("", "3Gi", 0))
	next := w.runJob(takes("", "1Gi", 0))
	for _, uid := range []types.UID{a, b} {
		if on, _ := w.running(uid, 0); on == small {
			w.exit(uid, 0, 0)
			w.turn()
			w.wantRuns(next, 0)
		}
	}
	for _, token := range sortedTokens(large.running) {
		w.exit(token.Job, 0, 0)
	}
	w.turn()
	w.wantRuns(big, 0)

	// The worker that is kept goes; another is.
	again := w.runJob(takes("", "4Gi", 0))
	w.turn()
	large.terminating = true
	w.listPods()
	fresh := w.join()
	w.turn()
	w.wantRuns(again, 0)
	if len(fresh.running) != 1 {
		t.Error("it does not run on the new worker")
	}
}

// sizedJoin adds a worker of another size than the pool's, of one slot.
func sizedJoin(w *world, limits worker.ResourceLimits) (*simPod, worker.ResourceLimits) {
	before := w.config
	w.config.Slots, w.config.Resources = 1, limits
	p := w.join()
	w.config = before
	return p, limits
}

// runJobLater makes a Job without letting anything else happen.
func (w *world) runJobLater(change ...func(*v1alpha1.JobSpec)) types.UID {
	return w.create(command(change...))
}

// A worker's size may change beneath what runs: nothing more is begun until there is room.
func TestAWorkerThatBecomesSmallerTakesNoMoreThanItHas(t *testing.T) {
	w, p := sized(t, 4, worker.ResourceLimits{Memory: 4 * gi})
	var jobs []types.UID
	for range 6 {
		jobs = append(jobs, w.runJob(takes("", "1Gi", 0)))
	}
	p.resources.Memory = 2 * gi
	w.listPods()
	for n, want := range []int{3, 2, 2, 2} {
		w.exit(jobs[n], 0, 0)
		w.turn()
		if len(p.running) != want {
			t.Errorf("%d run after %d have ended, want %d", len(p.running), n+1, want)
		}
	}
}

func TestFreeWorkersAreServedInTurn(t *testing.T) {
	w, _ := sized(t, 2, worker.ResourceLimits{})
	w.join()
	w.join()
	for n := range 6 {
		w.runJob()
		for _, p := range w.pods {
			if p.session != nil && (len(p.running) > n/3+1 || len(p.running) < n/3) {
				t.Errorf("after %d Jobs %s runs %d", n+1, p.uid, len(p.running))
			}
		}
	}
}

// The pool's own limits.

func TestAPoolHasOnlySoManyOpenFiles(t *testing.T) {
	w, p := sized(t, 8, worker.ResourceLimits{})
	q := w.join()
	w.configure(func(c *PoolConfig) { c.Limits.Files = 100 })
	first, second := w.runJob(takes("", "", 50)), w.runJob(takes("", "", 40))
	w.wantRuns(first, 0)
	w.wantRuns(second, 0)
	large := w.runJob(takes("", "", 60))
	small, none := w.runJob(takes("", "", 10)), w.runJob()
	w.wantRuns(large)
	w.wantRuns(small) // they are kept for the large one
	w.wantRuns(none, 0)
	if s := w.pool().Snapshot(); s.Used.Files != 90 || s.Capacity.Files != 100 {
		t.Errorf("snapshot %+v", s)
	}
	never := w.runJob(takes("", "", 101))
	w.live(waitingDue)
	w.wantState(never, v1alpha1.JobPending, v1alpha1.ReasonDoesNotFit)
	w.exit(first, 0, 0)
	w.turn()
	w.wantRuns(large, 0)
	w.wantRuns(small)
	w.exit(second, 0, 0)
	w.turn()
	w.wantRuns(small, 0)
	w.configure(func(c *PoolConfig) { c.Limits.Files = 0 })
	w.live(waitingDue)
	w.wantRuns(never, 0)
	if len(p.running)+len(q.running) != 4 {
		t.Errorf("%d and %d run", len(p.running), len(q.running))
	}
	for _, uid := range []types.UID{large, small, none, never} {
		w.exit(uid, 0, 0)
	}
	w.turn()
	if s := w.pool().Snapshot(); s.Used.Files != 0 {
		t.Errorf("%d files are still taken", s.Used.Files)
	}
}

func TestASuspendedPoolStartsNothing(t *testing.T) {
	w, _ := sized(t, 2, worker.ResourceLimits{})
	running := w.runJob(retries(1), backoff(0, 1, 0))
	w.configure(func(c *PoolConfig) { c.Suspend = true })
	waiting := w.runJob()
	w.live(time.Minute)
	w.wantRuns(running, 0)
	w.wantRuns(waiting)
	w.wantState(waiting, v1alpha1.JobQueued, "")
	w.exit(running, 0, 1)
	w.live(time.Minute)
	w.wantRuns(running)
	w.configure(func(c *PoolConfig) { c.Suspend = false })
	w.turn()
	w.wantRuns(running, 0)
	w.wantRuns(waiting, 0)
}

// Nothing is started then, but room that appears in the queue is filled.
func TestASuspendedPoolLetsJobsIntoItsQueue(t *testing.T) {
	w, _ := lone(t)
	w.configure(func(c *PoolConfig) { c.Suspend, c.Capacity = true, 1 })
	first, second := w.runJob(), w.runJob()
	w.live(waitingDue)
	w.wantState(first, v1alpha1.JobQueued, "")
	w.wantState(second, v1alpha1.JobPending, v1alpha1.ReasonQueueFull)
	w.jobs[first].gone = true
	w.engine.Cancel(first)
	w.live(waitingDue)
	w.wantState(second, v1alpha1.JobQueued, "")
}

func TestQueuedJobsSayWhyTheyDoNotStart(t *testing.T) {
	w, _ := lone(t)
	w.configure(func(c *PoolConfig) { c.Suspend, c.Capacity = true, 10*toldPerSweep })
	var jobs []types.UID
	for range 2*toldPerSweep + 1 {
		jobs = append(jobs, w.runJobLater())
	}
	w.live(waitingDue)
	told := func(reason string) int {
		n := 0
		for _, uid := range jobs {
			if s := w.status(uid); s.State == v1alpha1.JobQueued && s.Reason == reason {
				n++
			}
		}
		return n
	}
	if n := told(""); n != len(jobs) {
		t.Fatalf("%d of %d Jobs are queued", n, len(jobs))
	}
	w.pool().Explain("PoolSuspended", "The pool is suspended.")
	asked := len(w.writes)
	for range 100 {
		w.pool().Explain("PoolSuspended", "The pool is suspended, still.")
	}
	if asked != toldPerSweep || len(w.writes) != asked {
		t.Errorf("%d writes are asked for, then %d, want %d at a time", asked, len(w.writes), toldPerSweep)
	}
	late := w.runJob()
	w.live(2*sweepInterval + waitingDue)
	if n := told("PoolSuspended"); n != len(jobs) {
		t.Errorf("%d of %d Jobs say that their pool is suspended", n, len(jobs))
	}
	if s := w.status(jobs[0]); s.Message != "The pool is suspended." {
		t.Errorf("the message is %q", s.Message)
	}
	w.wantState(late, v1alpha1.JobQueued, "PoolSuspended")
	w.pool().Explain("", "")
	w.live(3*sweepInterval + waitingDue)
	if n := told(""); n != len(jobs) {
		t.Errorf("%d of %d Jobs say no more that their pool is suspended", n, len(jobs))
	}
}
