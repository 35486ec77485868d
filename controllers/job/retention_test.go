package job

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	testingclock "k8s.io/utils/clock/testing"
	"pgregory.net/rapid"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

var noon = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// ended is a Job that finished, at noon, so long ago. It was created a minute before.
func ended(name string, state v1alpha1.JobState, ago time.Duration) v1alpha1.Job {
	job := testutil.MakeJob("ns", name, "demo").Obj()
	job.UID = types.UID(name)
	job.CreationTimestamp = metav1.NewTime(noon.Add(-ago - time.Minute))
	job.Status.State = state
	job.Status.CompletionTime = &metav1.MicroTime{Time: noon.Add(-ago)}
	return *job
}

func good(name string, ago time.Duration) v1alpha1.Job {
	return ended(name, v1alpha1.JobSucceeded, ago)
}
func bad(name string, ago time.Duration) v1alpha1.Job { return ended(name, v1alpha1.JobFailed, ago) }

func names(jobs []*v1alpha1.Job) []string {
	out := []string{}
	for _, job := range jobs {
		out = append(out, job.Name)
	}
	return out
}

func TestSurplus(t *testing.T) {
	going := good("going", 9*time.Minute)
	going.DeletionTimestamp = new(metav1.NewTime(noon))
	waiting := good("waiting", 9*time.Minute)
	waiting.Status = v1alpha1.JobStatus{State: v1alpha1.JobQueued}
	running := good("running", 9*time.Minute)
	running.Status.State = v1alpha1.JobRunning
	unknownEnd := good("unknownEnd", 4*time.Minute)
	unknownEnd.Status.CompletionTime = nil
	createdLater := good("a", 3*time.Minute)
	createdLater.CreationTimestamp = metav1.NewTime(noon.Add(-3 * time.Minute))

	for name, c := range map[string]struct {
		jobs []v1alpha1.Job
		keep int
		want []string
		wait time.Duration
	}{
		"nothing":     {keep: 1},
		"fewer":       {jobs: []v1alpha1.Job{good("a", time.Hour)}, keep: 2},
		"just enough": {jobs: []v1alpha1.Job{good("a", time.Hour), bad("b", time.Hour)}, keep: 2},
		"the oldest go first": {
			jobs: []v1alpha1.Job{good("b", 3*time.Minute), good("c", 2*time.Minute), good("a", 4*time.Minute)},
			keep: 1, want: []string{"a", "b"},
		},
		"failed ones are kept for longer": {
			jobs: []v1alpha1.Job{bad("b", 5*time.Minute), good("c", 2*time.Minute), bad("a", 4*time.Minute)},
			keep: 2, want: []string{"c"},
		},
		"failed ones go when no others are left": {
			jobs: []v1alpha1.Job{bad("b", 4*time.Minute), good("c", 2*time.Minute), bad("a", 5*time.Minute)},
			keep: 1, want: []string{"c", "a"},
		},
		"what has just finished is kept": {
			jobs: []v1alpha1.Job{good("a", 60*time.Second-1), good("b", 50*time.Second), good("c", 0)},
			keep: 1, want: []string{}, wait: 1,
		},
		"what finished a minute ago is not": {
			jobs: []v1alpha1.Job{good("a", 60*time.Second), good("b", 45*time.Second), good("c", 40*time.Second), good("d", 0)},
			keep: 1, want: []string{"a"}, wait: 15 * time.Second,
		},
		"no failed one goes in place of one that has just succeeded": {
			jobs: []v1alpha1.Job{good("a", 10*time.Second), good("b", 20*time.Second), bad("c", time.Hour)},
			keep: 1, want: []string{}, wait: 40 * time.Second,
		},
		"failed ones too many even without those that have just succeeded": {
			jobs: []v1alpha1.Job{good("a", 10*time.Second), bad("b", time.Hour), bad("c", 2*time.Hour), bad("d", 3*time.Hour)},
			keep: 1, want: []string{"d", "c"}, wait: 50 * time.Second,
		},
		"what has just failed is kept": {
			jobs: []v1alpha1.Job{good("a", time.Hour), bad("b", 20*time.Second), bad("c", 10*time.Second)},
			keep: 1, want: []string{"a"}, wait: 40 * time.Second,
		},
		"the wait is that for the first": {
			jobs: []v1alpha1.Job{good("a", 10*time.Second), bad("b", 20*time.Second), bad("c", 10*time.Second)},
			keep: 1, want: []string{}, wait: 40 * time.Second,
		},
		"nobody waits for what is kept": {
			jobs: []v1alpha1.Job{good("a", 2*time.Minute), good("b", 10*time.Second)},
			keep: 1, want: []string{"a"},
		},
		"what is being deleted is not kept": {
			jobs: []v1alpha1.Job{going, good("a", 2*time.Minute), good("b", time.Minute)},
			keep: 2,
		},
		"what has not finished is neither kept nor deleted": {
			jobs: []v1alpha1.Job{waiting, running, good("a", 2*time.Minute), good("b", time.Minute)},
			keep: 1, want: []string{"a"},
		},
		"without completionTime it is as old as its creation": {
			jobs: []v1alpha1.Job{good("a", 6*time.Minute), unknownEnd, good("b", 4*time.Minute), good("c", time.Minute)},
			keep: 2, want: []string{"a", "unknownEnd"},
		},
		"of those that finished at once the one created first goes": {
			jobs: []v1alpha1.Job{createdLater, good("c", 3*time.Minute), good("b", 3*time.Minute)},
			keep: 1, want: []string{"b", "c"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			over, wait := surplus(c.jobs, c.keep, noon)
			g.Expect(names(over)).To(HaveExactElements(c.want))
			g.Expect(wait).To(Equal(c.wait))
		})
	}
}

func TestSurplusIsBounded(t *testing.T) {
	g := NewWithT(t)
	var jobs []v1alpha1.Job
	var want []string
	for i := range maxDeletes + 10 {
		// The failed ones are the older ones.
		job := good(fmt.Sprint("good-", i), time.Hour+time.Duration(i)*time.Second)
		if i >= maxDeletes-20 {
			job = bad(fmt.Sprint("bad-", i), time.Hour+time.Duration(i)*time.Second)
		}
		jobs = append(jobs, job)
		want = append(want, job.Name)
	}
	over, wait := surplus(jobs, 3, noon)
	g.Expect(wait).To(BeZero())
	slices.Reverse(want)
	g.Expect(names(over)).To(Equal(append(slices.Clone(want[30:]), want[:20]...)))
}

// simpleSurplus is the rule to the letter: of all finished Jobs in the order in which they go, as many as
// are too many, but those that are too young.
func simpleSurplus(jobs []v1alpha1.Job, maxFinished int) (over []string, wait time.Duration) {
	jobs = slices.DeleteFunc(slices.Clone(jobs), func(job v1alpha1.Job) bool {
		return !job.Status.State.Finished() || job.DeletionTimestamp != nil
	})
	failed := func(job v1alpha1.Job) int { return len(job.Status.State) - len(v1alpha1.JobSucceeded) }
	slices.SortFunc(jobs, func(a, b v1alpha1.Job) int {
		return cmp.Or(
			-cmp.Compare(failed(a), failed(b)), finishedAt(&a).Compare(finishedAt(&b)),
			a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	over = []string{}
	for i := range max(0, len(jobs)-maxFinished) {
		age := noon.Sub(finishedAt(&jobs[i]))
		if age >= time.Minute {
			over = append(over, jobs[i].Name)
		} else if wait == 0 || time.Minute-age < wait {
			wait = time.Minute - age
		}
	}
	return over, wait
}

func drawJobs(t *rapid.T) []v1alpha1.Job {
	states := []v1alpha1.JobState{v1alpha1.JobSucceeded, v1alpha1.JobSucceeded, v1alpha1.JobFailed, v1alpha1.JobFailed, v1alpha1.JobRunning}
	jobs := make([]v1alpha1.Job, rapid.IntRange(0, 40).Draw(t, "jobs"))
	for i := range jobs {
		ago := time.Duration(rapid.IntRange(-2, 130).Draw(t, "ago")) * time.Second
		jobs[i] = ended(fmt.Sprint("job-", i), rapid.SampledFrom(states).Draw(t, "state"), ago)
		switch rapid.IntRange(0, 9).Draw(t, "oddity") {
		case 0:
			jobs[i].Status.CompletionTime = nil
		case 1:
			jobs[i].DeletionTimestamp = new(metav1.NewTime(noon))
		}
	}
	return rapid.Permutation(jobs).Draw(t, "order")
}

func TestSurplusOfAnyJobs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := NewWithT(t)
		jobs, keep := drawJobs(t), rapid.IntRange(1, 30).Draw(t, "keep")
		over, wait := surplus(jobs, keep, noon)
		want, wantWait := simpleSurplus(jobs, keep)
		g.Expect(names(over)).To(Equal(want))
		g.Expect(wait).To(Equal(wantWait))

		finished, succeeded := 0, 0
		for _, job := range jobs {
			if job.Status.State.Finished() && job.DeletionTimestamp == nil {
				finished++
			}
			if job.Status.State == v1alpha1.JobSucceeded && job.DeletionTimestamp == nil {
				succeeded++
			}
		}
		g.Expect(len(over)).To(BeNumerically("<=", max(0, finished-keep)), "no more than needed")
		for i, job := range over {
			g.Expect(noon.Sub(finishedAt(job))).To(BeNumerically(">=", time.Minute), "none that has just finished")
			if job.Status.State == v1alpha1.JobFailed {
				g.Expect(finished-succeeded).To(BeNumerically(">", keep), "no failed one while succeeded ones are kept")
			}
			if i > 0 && over[i-1].Status.State == job.Status.State {
				g.Expect(finishedAt(over[i-1]).After(finishedAt(job))).To(BeFalse(), "the oldest first")
			}
			if i > 0 && over[i-1].Status.State == v1alpha1.JobFailed {
				g.Expect(job.Status.State).To(Equal(v1alpha1.JobFailed), "succeeded ones first")
			}
		}
	})
}

func TestOldestOfMany(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := NewWithT(t)
		var jobs []*v1alpha1.Job
		for i, ago := range rapid.SliceOfN(rapid.IntRange(0, 50), 0, 60).Draw(t, "ago") {
			jobs = append(jobs, new(good(fmt.Sprint("job-", i), time.Duration(ago)*time.Second)))
		}
		n := rapid.IntRange(1, 10).Draw(t, "n")
		got := oldest(slices.Clone(jobs), n)
		slices.SortFunc(jobs, compareAge)
		g.Expect(names(got)).To(Equal(names(jobs[:min(n, len(jobs))])))
	})
}

func BenchmarkSurplusOf100000(b *testing.B) {
	var jobs []v1alpha1.Job
	for i := range 100_000 {
		// As from a map: in no order.
		jobs = append(jobs, good(fmt.Sprint("job-", i), time.Duration(i*7919%100_000)*time.Second/10))
	}
	for b.Loop() {
		surplus(jobs, 1000, noon)
	}
}

// memory is a client whose cache has a pool that keeps one Job, and these Jobs.
type memory struct {
	client.Client
	jobs   []v1alpha1.Job
	delete func(ctx context.Context, name string) error
}

func (c *memory) Get(_ context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	pool := testutil.MakePool(key.Namespace, key.Name).Obj()
	pool.Spec.Retention.MaxFinished = new(int32(1))
	pool.DeepCopyInto(into.(*v1alpha1.WorkerPool))
	return nil
}

func (c *memory) List(_ context.Context, into client.ObjectList, _ ...client.ListOption) error {
	into.(*v1alpha1.JobList).Items = c.jobs
	return nil
}

func (c *memory) Delete(ctx context.Context, o client.Object, _ ...client.DeleteOption) error {
	return c.delete(ctx, o.GetName())
}

func manyJobs(n int) []v1alpha1.Job {
	var jobs []v1alpha1.Job
	for i := range n {
		jobs = append(jobs, good(fmt.Sprint("job-", i), time.Hour))
	}
	return jobs
}

func (c *memory) reconcile(ctx context.Context) (reconcile.Result, error) {
	r := &RetentionReconciler{
		Client: c, Counter: allBut(), Clock: testingclock.NewFakePassiveClock(noon), Interval: 5 * time.Second,
	}
	return r.Reconcile(ctx, reconcile.Request{NamespacedName: types.NamespacedName{Namespace: "ns", Name: "demo"}})
}

func TestDeletesAreAFewAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewWithT(t)
		var mu sync.Mutex
		var at, most, deleted int
		open := make(chan struct{})
		c := &memory{jobs: manyJobs(50), delete: func(context.Context, string) error {
			mu.Lock()
			at++
			most = max(most, at)
			mu.Unlock()
			<-open
			mu.Lock()
			defer mu.Unlock()
			at--
			deleted++
			return nil
		}}
		done := make(chan error)
		go func() {
			_, err := c.reconcile(t.Context())
			done <- err
		}()
		synctest.Wait()
		mu.Lock()
		g.Expect(at).To(Equal(concurrentDeletes))
		mu.Unlock()
		close(open)
		g.Expect(<-done).To(Succeed())
		g.Expect(most).To(Equal(concurrentDeletes))
		g.Expect(deleted).To(Equal(49))
	})
}

func TestFullRoundIsFollowedByAnother(t *testing.T) {
	for _, c := range []struct {
		jobs, deleted int
		again         time.Duration
	}{
		{jobs: maxDeletes, deleted: maxDeletes - 1},
		{jobs: maxDeletes + 2, deleted: maxDeletes, again: 5 * time.Second},
	} {
		t.Run(fmt.Sprint(c.jobs), func(t *testing.T) {
			g := NewWithT(t)
			deleted := make(chan string, c.jobs)
			m := &memory{jobs: manyJobs(c.jobs), delete: func(_ context.Context, name string) error {
				deleted <- name
				return nil
			}}
			result, err := m.reconcile(t.Context())
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(result.RequeueAfter).To(Equal(c.again))
			g.Expect(deleted).To(HaveLen(c.deleted))
		})
	}
}

func TestJobThatCannotBeDeletedHoldsUpNoOther(t *testing.T) {
	g := NewWithT(t)
	errRefused := errors.New("admission webhook denied the request")
	deleted := make(chan string, 10)
	c := &memory{jobs: manyJobs(10), delete: func(ctx context.Context, name string) error {
		switch name {
		case "job-0":
			return errRefused
		case "job-1":
			return apierrors.NewNotFound(schema.GroupResource{Resource: "jobs"}, name)
		}
		deleted <- name
		return ctx.Err()
	}}
	_, err := c.reconcile(t.Context())
	g.Expect(err).To(MatchError(errRefused))
	g.Expect(deleted).To(HaveLen(7))
}

func TestJobThatIsGoneAlreadyIsNoError(t *testing.T) {
	g := NewWithT(t)
	c := &memory{jobs: manyJobs(3), delete: func(_ context.Context, name string) error {
		return apierrors.NewNotFound(schema.GroupResource{Resource: "jobs"}, name)
	}}
	result, err := c.reconcile(t.Context())
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(result).To(BeZero())
}

func TestManyFinishedJobsAreOneLookAtTheirPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewWithT(t)
		queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
		defer queue.ShutDown()
		r := &RetentionReconciler{Interval: 5 * time.Second}
		finish := func(name string) {
			before, after := good(name, 0), good(name, 0)
			before.Status.State = v1alpha1.JobRunning
			r.onFinish().Update(t.Context(), event.UpdateEvent{ObjectOld: &before, ObjectNew: &after}, queue)
		}
		for i := range 600 {
			finish(fmt.Sprint("job-", i))
			g.Expect(queue.Len()).To(BeZero())
			time.Sleep(time.Second / 200) // of the bubble's time: 3 seconds in all
		}
		time.Sleep(2*time.Second - time.Millisecond)
		synctest.Wait()
		g.Expect(queue.Len()).To(BeZero())
		time.Sleep(time.Millisecond)
		synctest.Wait()
		g.Expect(queue.Len()).To(Equal(1))
		request, _ := queue.Get()
		g.Expect(request.NamespacedName).To(Equal(types.NamespacedName{Namespace: "ns", Name: "demo"}))

		// What finishes while the pool is looked at has it looked at again, as long after.
		finish("late")
		queue.Done(request)
		time.Sleep(5*time.Second - time.Millisecond)
		synctest.Wait()
		g.Expect(queue.Len()).To(BeZero())
		time.Sleep(time.Millisecond)
		synctest.Wait()
		g.Expect(queue.Len()).To(Equal(1))
	})
}

func TestOnlyFinishingCausesALook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewWithT(t)
		queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
		defer queue.ShutDown()
		r := &RetentionReconciler{Interval: time.Second}
		looks := func() int {
			time.Sleep(time.Second)
			synctest.Wait()
			return queue.Len()
		}
		done, running := good("a", 0), ended("a", v1alpha1.JobRunning, 0)
		r.onFinish().Create(t.Context(), event.CreateEvent{Object: &running}, queue)
		r.onFinish().Update(t.Context(), event.UpdateEvent{ObjectOld: &running, ObjectNew: &running}, queue)
		r.onFinish().Update(t.Context(), event.UpdateEvent{ObjectOld: &done, ObjectNew: &done}, queue)
		r.onFinish().Delete(t.Context(), event.DeleteEvent{Object: &done}, queue)
		g.Expect(looks()).To(BeZero())
		r.onFinish().Create(t.Context(), event.CreateEvent{Object: &done}, queue)
		g.Expect(looks()).To(Equal(1))
	})
}

func TestOnlyFinishedJobsAreIndexed(t *testing.T) {
	g := NewWithT(t)
	for state, want := range map[v1alpha1.JobState][]string{
		"": nil, v1alpha1.JobPending: nil, v1alpha1.JobQueued: nil, v1alpha1.JobRunning: nil,
		v1alpha1.JobSucceeded: {"demo"}, v1alpha1.JobFailed: {"demo"},
	} {
		g.Expect(poolOfFinished(new(ended("a", state, 0)))).To(Equal(want), string(state))
	}
}

// startRetention runs the controller with all Jobs counted but these, at a time.
func (f *fixture) startRetention(counter Counter, now time.Time) *testingclock.FakePassiveClock {
	f.t.Helper()
	clk := testingclock.NewFakePassiveClock(now)
	env.Manager(f.t, f.namespace, func(mgr manager.Manager) error {
		r := &RetentionReconciler{Client: mgr.GetClient(), Counter: counter, Clock: clk, Interval: time.Millisecond}
		return r.SetupWithManager(mgr)
	})
	return clk
}

// left returns the names of all Jobs in the namespace, sorted.
func (f *fixture) left() []string {
	f.t.Helper()
	list := &v1alpha1.JobList{}
	f.Expect(f.client.List(f.t.Context(), list, client.InNamespace(f.namespace))).To(Succeed())
	out := []string{}
	for _, job := range list.Items {
		out = append(out, job.Name)
	}
	slices.Sort(out)
	return out
}

// ended makes a Job that ended in a state at a time.
func (f *fixture) ended(name string, state v1alpha1.JobState, at time.Time) *v1alpha1.Job {
	f.t.Helper()
	return f.endedIn("demo", name, state, at)
}

func (f *fixture) endedIn(pool, name string, state v1alpha1.JobState, at time.Time) *v1alpha1.Job {
	f.t.Helper()
	job := f.create(testutil.MakeJob(f.namespace, name, pool).Obj())
	job.Status.State, job.Status.Reason = state, ""
	job.Status.CompletionTime = &metav1.MicroTime{Time: at}
	f.Expect(f.client.Status().Update(f.t.Context(), job)).To(Succeed())
	return job
}

func keep(n int32) func(*v1alpha1.WorkerPoolSpec) {
	return func(spec *v1alpha1.WorkerPoolSpec) { spec.Retention.MaxFinished = new(n) }
}

func TestPoolKeepsAsManyFinishedJobsAsItSays(t *testing.T) {
	f := newFixture(t)
	f.createPool(keep(2))
	f.ended("failed", v1alpha1.JobFailed, noon)
	f.ended("old", v1alpha1.JobSucceeded, noon.Add(time.Second))
	f.ended("older", v1alpha1.JobSucceeded, noon)
	f.ended("young", v1alpha1.JobSucceeded, noon.Add(2*time.Second))
	f.endedIn("other", "of-no-pool-1", v1alpha1.JobSucceeded, noon)
	f.endedIn("other", "of-no-pool-2", v1alpha1.JobSucceeded, noon)
	f.endedIn("other", "of-no-pool-3", v1alpha1.JobSucceeded, noon)
	f.create(f.job("unfinished").Obj())
	f.startRetention(allBut(), noon.Add(time.Hour))
	f.Eventually(f.left).Should(Equal([]string{"failed", "of-no-pool-1", "of-no-pool-2", "of-no-pool-3", "unfinished", "young"}))
}

func TestEachJobThatFinishesMayPushOutAnother(t *testing.T) {
	f := newFixture(t)
	f.createPool(keep(1))
	f.startRetention(allBut(), noon.Add(time.Hour))
	f.ended("a", v1alpha1.JobSucceeded, noon)
	f.ended("b", v1alpha1.JobSucceeded, noon.Add(time.Second))
	f.Eventually(f.left).Should(Equal([]string{"b"}))
	f.ended("c", v1alpha1.JobFailed, noon)
	f.Eventually(f.left).Should(Equal([]string{"c"}))
}

func TestLoweredMaxFinishedTakesEffect(t *testing.T) {
	f := newFixture(t)
	pool := f.createPool(keep(0))
	f.ended("a", v1alpha1.JobSucceeded, noon)
	f.ended("b", v1alpha1.JobSucceeded, noon.Add(time.Second))
	f.ended("c", v1alpha1.JobSucceeded, noon.Add(2*time.Second))
	f.startRetention(allBut(), noon.Add(time.Hour))
	for _, c := range []struct {
		keep int32
		left []string
	}{{2, []string{"b", "c"}}, {1, []string{"c"}}} {
		f.Expect(f.client.Get(t.Context(), client.ObjectKeyFromObject(pool), pool)).To(Succeed())
		keep(c.keep)(&pool.Spec)
		f.Expect(f.client.Update(t.Context(), pool)).To(Succeed())
		f.Eventually(f.left).Should(Equal(c.left))
	}
}

func TestSurplusJobIsKeptUntilItsPoolCountsIt(t *testing.T) {
	f := newFixture(t)
	f.createPool(keep(1))
	oldest := f.ended("a", v1alpha1.JobSucceeded, noon)
	f.ended("b", v1alpha1.JobSucceeded, noon.Add(time.Second))
	f.ended("c", v1alpha1.JobSucceeded, noon.Add(2*time.Second))
	counter := allBut(oldest)
	f.startRetention(counter, noon.Add(time.Hour))
	f.Eventually(f.left).Should(Equal([]string{"a", "c"}))
	counter.count()
	f.Eventually(f.left).Should(Equal([]string{"c"}))
}

func TestSurplusJobIsKeptForAMinute(t *testing.T) {
	f := newFixture(t)
	f.createPool(keep(1))
	f.ended("a", v1alpha1.JobSucceeded, noon)
	f.ended("b", v1alpha1.JobSucceeded, noon.Add(time.Second))
	f.ended("c", v1alpha1.JobSucceeded, noon.Add(2*time.Second))
	clk := f.startRetention(allBut(), noon.Add(time.Minute))
	f.Eventually(f.left).Should(Equal([]string{"b", "c"}))
	// It comes back a second later, which is real.
	clk.SetTime(noon.Add(time.Minute + time.Second))
	f.Eventually(f.left).Should(Equal([]string{"c"}))
}

// retention is a reconciler on a cache of the fixture's namespace, and no controller.
func (f *fixture) retention(counter Counter, now time.Time) *RetentionReconciler {
	f.t.Helper()
	mgr := env.Manager(f.t, f.namespace, func(mgr manager.Manager) error {
		_, err := mgr.GetCache().GetInformer(f.t.Context(), &v1alpha1.WorkerPool{})
		return errors.Join(err, mgr.GetFieldIndexer().IndexField(f.t.Context(), &v1alpha1.Job{}, finishedField, poolOfFinished))
	})
	return &RetentionReconciler{
		Client: mgr.GetClient(), Counter: counter, Clock: testingclock.NewFakePassiveClock(now), Interval: 5 * time.Second,
	}
}

func (f *fixture) retain(r *RetentionReconciler) time.Duration {
	f.t.Helper()
	result, err := r.Reconcile(f.t.Context(), reconcile.Request{NamespacedName: types.NamespacedName{Namespace: f.namespace, Name: "demo"}})
	f.Expect(err).NotTo(HaveOccurred())
	return result.RequeueAfter
}

func TestRetentionComesBackWhenThereIsMoreToDelete(t *testing.T) {
	f := newFixture(t)
	f.createPool(keep(1))
	first := f.ended("a", v1alpha1.JobSucceeded, noon)
	f.ended("b", v1alpha1.JobSucceeded, noon.Add(10*time.Second))
	for name, c := range map[string]struct {
		now     time.Time
		counter *fakeCounter
		want    time.Duration
	}{
		"in a while":                   {noon.Add(50 * time.Second), allBut(), 10 * time.Second},
		"soon, but not too soon":       {noon.Add(59 * time.Second), allBut(), 5 * time.Second},
		"as soon as it may be counted": {noon.Add(time.Hour), allBut(first), 5 * time.Second},
	} {
		f.Expect(f.retain(f.retention(c.counter, c.now))).To(Equal(c.want), name)
		f.Expect(f.left()).To(Equal([]string{"a", "b"}), name)
	}
	f.Expect(f.retain(f.retention(allBut(), noon.Add(time.Hour)))).To(BeZero())
	f.Expect(f.left()).To(Equal([]string{"b"}))
}

func TestAllAreKeptWithoutALimitOrAPool(t *testing.T) {
	f := newFixture(t)
	f.ended("a", v1alpha1.JobSucceeded, noon)
	f.ended("b", v1alpha1.JobSucceeded, noon)
	f.Expect(f.retain(f.retention(allBut(), noon.Add(time.Hour)))).To(BeZero())
	f.createPool(keep(0))
	f.Expect(f.retain(f.retention(allBut(), noon.Add(time.Hour)))).To(BeZero())
	f.Expect(f.left()).To(Equal([]string{"a", "b"}))
}

// hindsight is a cache that shows the Jobs as they were once.
type hindsight struct {
	client.Client
	jobs []v1alpha1.Job
}

func (c hindsight) List(_ context.Context, into client.ObjectList, _ ...client.ListOption) error {
	into.(*v1alpha1.JobList).Items = c.jobs
	return nil
}

func TestJobThatIsNotAsItWasWhenItWasChosenIsNotDeleted(t *testing.T) {
	f := newFixture(t)
	f.createPool(keep(1))
	again := f.ended("again", v1alpha1.JobSucceeded, noon)
	changed := f.ended("changed", v1alpha1.JobSucceeded, noon)
	last := f.ended("last", v1alpha1.JobSucceeded, noon.Add(time.Second))
	seen := []v1alpha1.Job{*again.DeepCopy(), *changed.DeepCopy(), *last.DeepCopy()}
	f.delete(again)
	f.ended("again", v1alpha1.JobSucceeded, noon)
	changed.Labels = map[string]string{"keep": "me"}
	f.Expect(f.client.Update(t.Context(), changed)).To(Succeed())

	r := f.retention(allBut(), noon.Add(time.Hour))
	r.Client = hindsight{f.client, seen}
	_, err := r.Reconcile(t.Context(), reconcile.Request{NamespacedName: types.NamespacedName{Namespace: f.namespace, Name: "demo"}})
	f.Expect(apierrors.IsConflict(err)).To(BeTrue(), "the error is %v", err)
	f.Expect(f.left()).To(Equal([]string{"again", "changed", "last"}))
}

func TestFinishedJobsOfAnotherInstallationAreLeftToIt(t *testing.T) {
	f := newFixture(t)
	pool := f.createPool(keep(1))
	first := f.ended("a", v1alpha1.JobSucceeded, noon)
	f.ended("b", v1alpha1.JobSucceeded, noon.Add(10*time.Second))
	pool.Annotations = map[string]string{v1alpha1.Installation: "other"}
	f.Expect(f.client.Update(t.Context(), pool)).To(Succeed())
	r := f.retention(allBut(), noon.Add(time.Hour))
	r.Installation = "test"
	f.Expect(f.retain(r)).To(Equal(othersInterval))
	f.Expect(f.exists(first)).To(BeTrue())
	r.Installation = "other"
	f.retain(r)
	f.Expect(f.exists(first)).To(BeFalse())
}

// After an upgrade no pool says yet whose it is.
func TestFinishedJobsOfAPoolThatNobodyHasTakenYetAreDeleted(t *testing.T) {
	f := newFixture(t)
	f.createPool(keep(1))
	first := f.ended("a", v1alpha1.JobSucceeded, noon)
	f.ended("b", v1alpha1.JobSucceeded, noon.Add(10*time.Second))
	r := f.retention(allBut(), noon.Add(time.Hour))
	r.Installation = "test"
	f.Expect(f.retain(r)).To(BeZero())
	f.Expect(f.exists(first)).To(BeFalse())
}
