package job

import (
	"context"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/clock"
	testingclock "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// exists tells whether this very Job is still there.
func (f *fixture) exists(job *v1alpha1.Job) bool {
	f.t.Helper()
	found := &v1alpha1.Job{}
	err := f.client.Get(f.t.Context(), client.ObjectKeyFromObject(job), found)
	f.Expect(client.IgnoreNotFound(err)).To(Succeed())
	return err == nil && found.UID == job.UID
}

// expire reconciles a Job at a time, and returns after how long it is to be looked at again.
func (f *fixture) expire(job *v1alpha1.Job, now time.Time) time.Duration {
	f.t.Helper()
	r := &ExpiryReconciler{Client: f.client, Clock: testingclock.NewFakePassiveClock(now)}
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

func TestFinishedJobIsKeptForADayIfItDoesNotSay(t *testing.T) {
	f := newFixture(t)
	ended := time.Now().Truncate(time.Microsecond)
	job := f.create(f.job("a").Obj())
	f.finish(job, ended)
	f.Expect(f.expire(job, ended)).To(Equal(24 * time.Hour))
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

	r := &ExpiryReconciler{Client: noDelete{f.client, t}, Clock: clock.RealClock{}}
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

func (c stale) Get(_ context.Context, _ client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	c.job.DeepCopyInto(into.(*v1alpha1.Job))
	return nil
}

// expectConflict expires a Job that the cache shows as it was once, and expects the API server to refuse.
func (f *fixture) expectConflict(job *v1alpha1.Job) {
	f.t.Helper()
	r := &ExpiryReconciler{
		Client: stale{f.client, job}, Clock: testingclock.NewFakePassiveClock(time.Now().Add(time.Hour)),
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
		return (&ExpiryReconciler{Client: mgr.GetClient(), Clock: now}).SetupWithManager(mgr)
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
