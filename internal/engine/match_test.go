package engine

import (
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/pkg/worker"
)

// What waits for room, however much it is, keeps none that fit elsewhere from being started.
func TestAJobThatFitsIsStartedWhateverWaits(t *testing.T) {
	const n = 1500
	for name, waits := range map[string]func(i int) func(*v1alpha1.JobSpec){
		"of one kind":            func(int) func(*v1alpha1.JobSpec) { return takes("", "3Gi", 0) },
		"each for more":          func(i int) func(*v1alpha1.JobSpec) { return takes("", fmt.Sprint(2*gi+i), 0) },
		"each for less":          func(i int) func(*v1alpha1.JobSpec) { return takes("", fmt.Sprint(3*gi-i), 0) },
		"for files":              func(int) func(*v1alpha1.JobSpec) { return takes("", "", 100) },
		"each for another thing": func(i int) func(*v1alpha1.JobSpec) { return takes("", fmt.Sprint(3*gi-i), int32(10+i%50)) },
	} {
		t.Run(name, func(t *testing.T) {
			w, _ := sized(t, 3, worker.ResourceLimits{Memory: 3 * gi})
			w.configure(func(c *PoolConfig) { c.Capacity, c.Limits.Files = 2*n, 100 })
			sizedJoin(w, worker.ResourceLimits{Memory: gi})
			blocker := w.runJob(takes("", "3Gi", 50))
			busy := w.runJob(takes("", "1Gi", 0))
			var small types.UID
			var first types.UID
			for i := range n {
				uid := w.runJobLater(waits(i), priority(0))
				if i == 0 {
					first = uid
				}
				if i == n/2 { // neither of the first nor of the last
					small = w.runJobLater(takes("", "1Gi", 0), priority(0))
				}
			}
			w.turn()
			w.wantRuns(small)
			w.exit(busy, 0, 0)
			w.live(time.Second)
			w.wantRuns(small, 0)
			w.wantRuns(first)
			fresh := w.runJobLater(priority(0), takes("", "1Gi", 0))
			w.exit(small, 0, 0)
			w.live(time.Second)
			w.wantRuns(fresh, 0)

			w.exit(blocker, 0, 0) // what was kept for the first is still there
			w.live(time.Second)
			w.wantRuns(first, 0)
		})
	}
}

// What a call costs is bounded by what it looks at, not by what waits.
func TestASearchLooksAtNoMoreThanItsShare(t *testing.T) {
	w, _ := sized(t, 3, worker.ResourceLimits{Memory: 3 * gi})
	w.configure(func(c *PoolConfig) { c.Capacity = 10_000 })
	w.runJob(takes("", "2Gi", 0))
	for i := range 2000 {
		w.runJobLater(takes(fmt.Sprintf("%dm", 1+i), fmt.Sprint(3*gi-i), 0))
	}
	p := w.engine.pools[poolKey]
	m := matcher{pool: p, turns: maxInTurn}
	if m.find() || !m.cut || m.effort > maxEffort+maxRefused+2 || m.looked > maxInTurn {
		t.Errorf("it has looked at %d kinds with an effort of %d, cut short: %t", m.looked, m.effort, m.cut)
	}
	if p.match(); !p.unseen {
		t.Error("nothing is left for the next call")
	}
}

func TestToPassOverJobsOfOneKindIsOneLook(t *testing.T) {
	w, _ := sized(t, 3, worker.ResourceLimits{Memory: 3 * gi})
	w.configure(func(c *PoolConfig) { c.Capacity = 1000 })
	w.runJob(takes("", "2Gi", 0))
	for range 500 {
		w.runJobLater(takes("", "3Gi", 0))
		w.runJobLater(takes("", "2Gi", 0))
	}
	m := matcher{pool: w.engine.pools[poolKey], turns: maxInTurn}
	if m.find() || m.cut || m.inTurn || m.looked != 2 {
		t.Errorf("it has looked at %d, in turn: %t, cut short: %t; want 2 in order", m.looked, m.inTurn, m.cut)
	}
}

// A worker that was kept for one serves another that goes before it, and none stays idle for that.
func TestAWorkerKeptForOneServesAnotherThatGoesBefore(t *testing.T) {
	w, _ := sized(t, 2, worker.ResourceLimits{Memory: 2 * gi})
	blocker := w.runJob(takes("", "1Gi", 0))
	first := w.runJob(takes("", "2Gi", 0), priority(0))
	w.configure(func(c *PoolConfig) { c.Suspend = true })
	urgent := w.runJob(takes("", "2Gi", 0), priority(1))
	w.exit(blocker, 0, 0)
	w.turn()
	w.configure(func(c *PoolConfig) { c.Suspend = false })
	if w.engine.jobs[urgent].running != 1 {
		t.Error("the worker is idle until something else happens")
	}
	w.turn()
	w.wantRuns(urgent, 0)
	w.exit(urgent, 0, 0)
	w.turn()
	w.wantRuns(first, 0)
}

// The first may wait for the pool's files: the worker that is kept for the second is no less its own.
func TestAWorkerIsKeptForTheFirstThatLacksRoomThere(t *testing.T) {
	w, _ := sized(t, 2, worker.ResourceLimits{Memory: 2 * gi})
	w.configure(func(c *PoolConfig) { c.Limits.Files = 100 })
	blocker := w.runJob(takes("", "1Gi", 50))
	large := w.runJob(takes("", "2Gi", 0), priority(0))
	files := w.runJob(takes("", "1Gi", 60), priority(2))
	w.configure(func(c *PoolConfig) { c.Suspend = true })
	urgent := w.runJob(takes("", "2Gi", 0), priority(1))
	w.exit(blocker, 0, 0)
	w.turn()
	w.jobs[files].gone = true
	w.engine.Cancel(files)
	sizedJoin(w, worker.ResourceLimits{Memory: gi})
	holds := w.runJobLater(takes("", "1Gi", 50), priority(3))
	files = w.runJobLater(takes("", "1Gi", 60), priority(2))
	w.configure(func(c *PoolConfig) { c.Suspend = false })
	if w.engine.jobs[urgent].running != 1 {
		t.Error("the worker is idle until something else happens")
	}
	w.turn()
	w.wantRuns(holds, 0)
	w.wantRuns(files)
	w.wantRuns(urgent, 0)
	w.wantRuns(large)
}

// The pool's defaults change what waiting Jobs ask for: they keep their order.
func TestJobsThatAskForSomethingElseKeepTheirOrder(t *testing.T) {
	w, _ := sized(t, 1, worker.ResourceLimits{Memory: 2 * gi})
	busy := w.runJob(priority(0))
	jobs := []types.UID{w.runJobLater(priority(0)), w.runJobLater(priority(0)), w.runJobLater(priority(0))}
	w.configure(func(c *PoolConfig) { c.Defaults.Resources = memory(gi) })
	for _, uid := range jobs {
		w.exit(busy, 0, 0)
		w.turn()
		w.wantRuns(uid, 0)
		if j := w.engine.jobs[uid]; j.kind.Value().usage.Memory != gi {
			t.Errorf("%s is queued as one that asks for %+v", uid, j.kind.Value())
		}
		busy = uid
	}
}

func TestARequestCoversAnother(t *testing.T) {
	r := func(memory int64, cpu float64, files int) request {
		return request{worker.ResourceUsage{Memory: memory, CPU: cpu, Files: files}, v1alpha1.HandlerExec}
	}
	http := r(1, 1, 1)
	http.handler = v1alpha1.HandlerHTTP
	for _, c := range []struct {
		r, o request
		want bool
	}{
		{r(2, 2, 2), r(2, 2, 2), true},
		{r(3, 2, 2), r(2, 1, 0), true},
		{r(3, 1, 2), r(2, 2, 2), false},
		{r(1, 2, 2), r(2, 2, 2), false},
		{r(2, 2, 1), r(2, 2, 2), false},
		{r(0, 0, 4), r(0, 0, 4), true},
		{r(5, 1, 4), r(0, 1, 4), false}, // a share may be more
		{r(0, 1, 4), r(5, 1, 4), false}, // or less
		{r(5, 1, 4), r(5, 0, 4), false},
		{http, r(1, 1, 1), false},
	} {
		if got := c.r.covers(&c.o); got != c.want {
			t.Errorf("%+v covers %+v: %t, want %t", c.r, c.o, got, c.want)
		}
	}
}
