package job

import (
	"context"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	testingclock "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

// exists tells whether this very Job is still there.
func (f *fixture) exists(job *v1alpha1.Job) bool {
	f.t.Helper()
	found := &v1alpha1.Job{}
	err := f.client.Get(f.t.Context(), client.ObjectKeyFromObject(job), found)
	f.Expect(client.IgnoreNotFound(err)).To(Succeed())
	return err == nil && found.UID == job.UID
}

// fakeCounter counts all Jobs but these.
type fakeCounter struct {
	mu        sync.Mutex
	uncounted map[types.UID]types.NamespacedName
}

// allBut is a counter that counts all Jobs but these.
func allBut(jobs ...*v1alpha1.Job) *fakeCounter {
	c := &fakeCounter{uncounted: map[types.UID]types.NamespacedName{}}
	for _, job := range jobs {
		c.uncounted[job.UID] = types.NamespacedName{Namespace: job.Namespace, Name: job.Spec.Pool}
	}
	return c
}

func (c *fakeCounter) Counted(pool types.NamespacedName, job types.UID) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	waits, ok := c.uncounted[job]
	return !ok || waits != pool
}

// count counts all.
func (c *fakeCounter) count() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.uncounted)
}

// createPool makes the WorkerPool demo, which the fixture's Jobs are of.
func (f *fixture) createPool(change func(*v1alpha1.WorkerPoolSpec)) *v1alpha1.WorkerPool {
	f.t.Helper()
	pool := testutil.MakePool(f.namespace, "demo").Obj()
	change(&pool.Spec)
	f.Expect(f.client.Create(f.t.Context(), pool)).To(Succeed())
	return pool
}

// expire reconciles a Job at a time, and returns after how long it is to be looked at again.
func (f *fixture) expire(job *v1alpha1.Job, now time.Time) time.Duration {
	f.t.Helper()
	r := &ExpiryReconciler{Client: f.client, Counter: allBut(), Clock: testingclock.NewFakePassiveClock(now)}
	return f.look(r, job)
}

// look reconciles a Job, and returns after how long it is to be looked at again.
func (f *fixture) look(r *ExpiryReconciler, job *v1alpha1.Job) time.Duration {
	f.t.Helper()
	result, err := r.Reconcile(f.t.Context(), reconcile.Request{NamespacedName: client.ObjectKeyFromObject(job)})
	f.Expect(err).NotTo(HaveOccurred())
	return result.RequeueAfter
}

func TestFinishedJobIsDeletedAfterItsTTLAndNotBefore(t *testing.T) {
	f := newFixture(t)
	// Long after the creation, so that it is seen which of the two counts.
	ended := time.Now().Add(10 * time.Hour).Truncate(time.Microsecond)
	job := f.create(f.job("a").TTL(60).Obj())
	f.finish(job, ended)

	f.Expect(f.expire(job, ended.Add(time.Second))).To(Equal(59 * time.Second))
	f.Expect(f.expire(job, ended.Add(time.Minute-time.Microsecond))).To(Equal(time.Microsecond))
	f.Expect(f.exists(job)).To(BeTrue())

	f.Expect(f.expire(job, ended.Add(time.Minute))).To(BeZero())
	f.Expect(f.exists(job)).To(BeFalse())
	f.Expect(f.expire(job, ended.Add(time.Hour))).To(BeZero())
}

func TestFinishedJobWithoutCompletionTimeCountsFromItsCreation(t *testing.T) {
	f := newFixture(t)
	job := f.create(f.job("a").TTL(60).Obj())
	f.finish(job, time.Time{})

	f.Expect(f.expire(job, job.CreationTimestamp.Add(59*time.Second))).To(Equal(time.Second))
	f.Expect(f.exists(job)).To(BeTrue())
	f.expire(job, job.CreationTimestamp.Add(time.Minute))
	f.Expect(f.exists(job)).To(BeFalse())
}

func TestJobIsKeptAsLongAsItOrItsPoolSays(t *testing.T) {
	says := func(ttl *int32) *v1alpha1.JobDefaults { return &v1alpha1.JobDefaults{TTLSecondsAfterFinished: ttl} }
	for name, c := range map[string]struct {
		job    *int32
		noPool bool
		pool   *v1alpha1.JobDefaults
		want   time.Duration
	}{
		"neither says, nor is there a pool": {noPool: true, want: 24 * time.Hour},
		"neither says":                      {want: 24 * time.Hour},
		"the pool has other defaults":       {pool: &v1alpha1.JobDefaults{MaxRetries: new(int32(1))}, want: 24 * time.Hour},
		"the pool says":                     {pool: says(new(int32(60))), want: time.Minute},
		"the pool says 0":                   {pool: says(new(int32(0))), want: 0},
		"the Job says, and there's no pool": {job: new(int32(60)), noPool: true, want: time.Minute},
		"both say":                          {job: new(int32(7)), pool: says(new(int32(60))), want: 7 * time.Second},
		"both say, the Job 0":               {job: new(int32(0)), pool: says(new(int32(60))), want: 0},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			if !c.noPool {
				f.createPool(func(spec *v1alpha1.WorkerPoolSpec) { spec.JobDefaults = c.pool })
			}
			ended := time.Now().Truncate(time.Microsecond)
			job := f.job("a").Obj()
			job.Spec.TTLSecondsAfterFinished = c.job
			f.create(job)
			f.finish(job, ended)
			f.Expect(f.expire(job, ended.Add(-time.Second))).To(Equal(c.want + time.Second))
			f.Expect(f.exists(job)).To(BeTrue())
			f.expire(job, ended.Add(c.want))
			f.Expect(f.exists(job)).To(BeFalse())
		})
	}
}

func TestPoolsTTLIsTheOneItHasWhenTheJobIsLookedAt(t *testing.T) {
	f := newFixture(t)
	pool := f.createPool(func(spec *v1alpha1.WorkerPoolSpec) {
		spec.JobDefaults = &v1alpha1.JobDefaults{TTLSecondsAfterFinished: new(int32(60))}
	})
	ended := time.Now().Truncate(time.Microsecond)
	job := f.create(f.job("a").Obj())
	f.finish(job, ended)
	f.Expect(f.expire(job, ended)).To(Equal(time.Minute))

	pool.Spec.JobDefaults.TTLSecondsAfterFinished = new(int32(100))
	f.Expect(f.client.Update(t.Context(), pool)).To(Succeed())
	f.Expect(f.expire(job, ended.Add(time.Minute))).To(Equal(40 * time.Second))
	f.Expect(f.exists(job)).To(BeTrue())
}

func TestExpiredJobIsKeptUntilItsPoolCountsIt(t *testing.T) {
	f := newFixture(t)
	f.createPool(func(*v1alpha1.WorkerPoolSpec) {})
	job := f.create(f.job("a").TTL(0).Obj())
	f.finish(job, time.Now())
	counter := allBut(job)
	r := &ExpiryReconciler{
		Client: f.client, Counter: counter, Clock: testingclock.NewFakePassiveClock(time.Now().Add(time.Hour)),
	}
	f.Expect(f.look(r, job)).To(Equal(time.Second))
	f.Expect(f.exists(job)).To(BeTrue())

	counter.count()
	f.Expect(f.look(r, job)).To(BeZero())
	f.Expect(f.exists(job)).To(BeFalse())
}

func TestExpiredJobWithoutAPoolIsCountedByNone(t *testing.T) {
	f := newFixture(t)
	job := f.create(f.job("a").TTL(0).Obj())
	f.finish(job, time.Now())
	r := &ExpiryReconciler{
		Client: f.client, Counter: allBut(job), Clock: testingclock.NewFakePassiveClock(time.Now().Add(time.Hour)),
	}
	f.Expect(f.look(r, job)).To(BeZero())
	f.Expect(f.exists(job)).To(BeFalse())
}

// poolless is a client that fails to read pools.
type poolless struct{ client.Client }

func (c poolless) Get(ctx context.Context, key client.ObjectKey, into client.Object, opts ...client.GetOption) error {
	if _, ok := into.(*v1alpha1.WorkerPool); ok {
		return errAway
	}
	return c.Client.Get(ctx, key, into, opts...)
}

func TestJobWhosePoolCannotBeReadIsNotDeleted(t *testing.T) {
	f := newFixture(t)
	job := f.create(f.job("a").TTL(0).Obj())
	f.finish(job, time.Now())
	r := &ExpiryReconciler{Client: poolless{f.client}, Counter: allBut(), Clock: clock.RealClock{}}
	_, err := r.Reconcile(t.Context(), reconcile.Request{NamespacedName: client.ObjectKeyFromObject(job)})
	f.Expect(err).To(MatchError(errAway))
	f.Expect(f.exists(job)).To(BeTrue())
}

func TestUnfinishedJobNeverExpires(t *testing.T) {
	f := newFixture(t)
	job := f.create(f.job("a").TTL(0).Obj())
	f.Expect(f.expire(job, job.CreationTimestamp.Add(1000*time.Hour))).To(BeZero())
	f.Expect(f.exists(job)).To(BeTrue())
}

func TestJobWithAFinalizerIsDeletedOnce(t *testing.T) {
	f := newFixture(t)
	job := f.job("a").TTL(0).Obj()
	job.Finalizers = []string{"example.com/test"}
	f.create(job)
	f.finish(job, time.Now())
	f.expire(job, time.Now().Add(time.Hour))
	f.Expect(f.client.Get(t.Context(), client.ObjectKeyFromObject(job), job)).To(Succeed())
	f.Expect(job.DeletionTimestamp.IsZero()).To(BeFalse())

	r := &ExpiryReconciler{Client: noDelete{f.client, t}, Counter: allBut(), Clock: clock.RealClock{}}
	_, err := r.Reconcile(t.Context(), reconcile.Request{NamespacedName: client.ObjectKeyFromObject(job)})
	f.Expect(err).NotTo(HaveOccurred())
}

type noDelete struct {
	client.Client
	t *testing.T
}

func (c noDelete) Delete(context.Context, client.Object, ...client.DeleteOption) error {
	c.t.Error("a Job that is being deleted was deleted again")
	return nil
}

// stale is a cache that shows a Job as it was once.
type stale struct {
	client.Client
	job *v1alpha1.Job
}

func (c stale) Get(ctx context.Context, key client.ObjectKey, into client.Object, opts ...client.GetOption) error {
	if job, ok := into.(*v1alpha1.Job); ok {
		c.job.DeepCopyInto(job)
		return nil
	}
	return c.Client.Get(ctx, key, into, opts...)
}

// expectConflict expires a Job that the cache shows as it was once, and expects the API server to refuse.
func (f *fixture) expectConflict(job *v1alpha1.Job) {
	f.t.Helper()
	r := &ExpiryReconciler{
		Client: stale{f.client, job}, Counter: allBut(), Clock: testingclock.NewFakePassiveClock(time.Now().Add(time.Hour)),
	}
	_, err := r.Reconcile(f.t.Context(), reconcile.Request{NamespacedName: client.ObjectKeyFromObject(job)})
	f.Expect(apierrors.IsConflict(err)).To(BeTrue(), "the error is %v", err)
}

func TestJobThatTookTheNameOfAnExpiredOneIsNotDeleted(t *testing.T) {
	f := newFixture(t)
	expired := f.create(f.job("a").TTL(0).Obj())
	f.finish(expired, time.Now())
	f.delete(expired)
	another := f.create(f.job("a").TTL(0).Obj())
	f.expectConflict(expired)
	f.Expect(f.exists(another)).To(BeTrue())
}

func TestJobWhoseTTLWasJustRaisedIsNotDeleted(t *testing.T) {
	f := newFixture(t)
	job := f.create(f.job("a").TTL(0).Obj())
	f.finish(job, time.Now())
	before := job.DeepCopy()
	job.Spec.TTLSecondsAfterFinished = ptr.To[int32](100_000)
	f.Expect(f.client.Update(t.Context(), job)).To(Succeed())
	f.expectConflict(before)
	f.Expect(f.exists(job)).To(BeTrue())
}

func TestExpiryControllerSeesJobsFinish(t *testing.T) {
	f := newFixture(t)
	now := testingclock.NewFakePassiveClock(time.Now())
	env.Manager(t, f.namespace, func(mgr manager.Manager) error {
		return (&ExpiryReconciler{Client: mgr.GetClient(), Counter: allBut(), Clock: now}).SetupWithManager(mgr)
	})
	kept := f.create(f.job("kept").TTL(3600).Obj())
	f.finish(kept, now.Now())
	soon := f.create(f.job("soon").TTL(3600).Obj())
	f.finish(soon, now.Now().Add(-time.Hour).Add(time.Millisecond))
	gone := f.create(f.job("gone").TTL(0).Obj())
	f.finish(gone, now.Now())
	f.Eventually(func() bool { return f.exists(gone) }).Should(BeFalse())

	now.SetTime(now.Now().Add(time.Second))
	f.Eventually(func() bool { return f.exists(soon) }).Should(BeFalse())
	f.Expect(f.exists(kept)).To(BeTrue())
}

func TestChangeOfAFinishedJobsTTLTakesEffect(t *testing.T) {
	f := newFixture(t)
	env.Manager(t, f.namespace, func(mgr manager.Manager) error {
		return (&ExpiryReconciler{Client: mgr.GetClient(), Counter: allBut(), Clock: clock.RealClock{}}).SetupWithManager(mgr)
	})
	kept := f.create(f.job("kept").Obj())
	f.finish(kept, time.Now())
	job := f.create(f.job("a").TTL(3600).Obj())
	f.finish(job, time.Now())

	job.Spec.TTLSecondsAfterFinished = new(int32(0))
	f.Expect(f.client.Update(t.Context(), job)).To(Succeed())
	f.Eventually(func() bool { return f.exists(job) }).Should(BeFalse())
	f.Expect(f.exists(kept)).To(BeTrue())
}

func TestAnExpiredJobOfAnotherInstallationIsLeftToIt(t *testing.T) {
	f := newFixture(t)
	pool := f.createPool(func(*v1alpha1.WorkerPoolSpec) {})
	pool.Annotations = map[string]string{v1alpha1.Installation: "other"}
	f.Expect(f.client.Update(t.Context(), pool)).To(Succeed())
	job := f.create(f.job("a").TTL(0).Obj())
	f.finish(job, time.Now())
	r := &ExpiryReconciler{
		Client: f.client, Counter: allBut(), Clock: testingclock.NewFakePassiveClock(time.Now().Add(time.Hour)), Installation: "test",
	}
	f.Expect(f.look(r, job)).To(Equal(othersInterval))
	f.Expect(f.exists(job)).To(BeTrue())
	r.Installation = "other"
	f.Expect(f.look(r, job)).To(BeZero())
	f.Expect(f.exists(job)).To(BeFalse())
}

// After an upgrade no pool says yet whose it is.
func TestAnExpiredJobOfAPoolThatNobodyHasTakenYetIsDeleted(t *testing.T) {
	f := newFixture(t)
	f.createPool(func(*v1alpha1.WorkerPoolSpec) {})
	job := f.create(f.job("a").TTL(0).Obj())
	f.finish(job, time.Now())
	r := &ExpiryReconciler{
		Client: f.client, Counter: allBut(), Clock: testingclock.NewFakePassiveClock(time.Now().Add(time.Hour)), Installation: "test",
	}
	f.Expect(f.look(r, job)).To(BeZero())
	f.Expect(f.exists(job)).To(BeFalse())
}
