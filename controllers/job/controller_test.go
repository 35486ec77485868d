package job

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/engine"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

func TestCreatedJobIsSubmittedWithAllThatItSays(t *testing.T) {
	f := start(t)
	job := f.job("a").Command("sh", "-c").Args("echo $0 $A", "x").Env("A", "1").WorkingDir("/tmp").Priority(7).Obj()
	job.Spec.Env = append(job.Spec.Env, v1alpha1.EnvVar{Name: "NO_VALUE"})
	f.create(job)
	f.expectCalls(submit(job))
	f.Expect(f.engine.latest()).To(Equal(engine.Job{
		JobRef:          engine.JobRef{NamespacedName: client.ObjectKeyFromObject(job), UID: job.UID},
		ResourceVersion: job.ResourceVersion,
		Generation:      1,
		Created:         job.CreationTimestamp.Time,
		Spec:            &job.Spec,
		Status:          v1alpha1.JobStatus{State: v1alpha1.JobPending, Reason: v1alpha1.ReasonWaiting},
	}))
}

func TestChangedPriorityIsSubmittedAgain(t *testing.T) {
	f := start(t)
	job := f.create(f.job("a").Obj())
	f.expectCalls(submit(job))
	f.Expect(*f.engine.latest().Spec.Priority).To(BeZero())

	job.Spec.Priority = ptr.To[int32](-5)
	f.Expect(f.client.Update(t.Context(), job)).To(Succeed())
	f.expectCalls(submit(job), submit(job))
	f.Expect(*f.engine.latest().Spec.Priority).To(BeEquivalentTo(-5))
	f.Expect(f.engine.latest().ResourceVersion).To(Equal(job.ResourceVersion))
}

func TestDeletedJobIsCancelledByItsUID(t *testing.T) {
	f := start(t)
	job := f.create(f.job("a").Obj())
	f.expectCalls(submit(job))
	f.delete(job)
	f.expectCalls(submit(job), cancel(job.UID))
}

func TestJobMadeAgainIsAnother(t *testing.T) {
	f := start(t)
	first := f.create(f.job("a").Obj())
	f.expectCalls(submit(first))
	f.delete(first)
	second := f.create(f.job("a").Obj())
	f.expectCalls(submit(first), cancel(first.UID), submit(second))
}

// A watch that was cut off shows a Job that was made again meanwhile as an update.
func TestJobReplacedUnseenIsCancelledAndSubmitted(t *testing.T) {
	g := NewWithT(t)
	before, after := testutil.MakeJob("ns", "a", "demo").Obj(), testutil.MakeJob("ns", "a", "demo").Obj()
	before.UID, after.UID = "before", "after"
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[Request]())
	defer queue.ShutDown()
	requests().UpdateFunc(t.Context(), event.TypedUpdateEvent[*v1alpha1.Job]{ObjectOld: before, ObjectNew: after}, queue)

	name := types.NamespacedName{Namespace: "ns", Name: "a"}
	for _, want := range []Request{{name, "before", Deleted}, {name, "after", Changed}} {
		got, _ := queue.Get()
		g.Expect(got).To(Equal(want))
	}
	g.Expect(queue.Len()).To(BeZero())
}

func TestFinishedJobIsForgotten(t *testing.T) {
	f := start(t)
	job := f.create(f.job("a").Obj())
	f.expectCalls(submit(job))
	f.finish(job, time.Time{})
	f.expectCalls(submit(job), forget(job.UID))
}

func TestJobThatWasFinishedBeforeTheStartIsNotSubmitted(t *testing.T) {
	f := newFixture(t)
	job := f.create(f.job("a").Obj())
	f.finish(job, time.Now())
	f.run(f.namespace, ready)
	f.expectCalls(forget(job.UID))
}

// It is there as long as a finalizer holds it, and its status is to say that it has ended.
func TestJobThatIsBeingDeletedIsSubmittedAsSuchUntilItIsGone(t *testing.T) {
	f := start(t)
	job := f.job("a").Obj()
	job.Finalizers = []string{"example.com/test"}
	f.create(job)
	f.expectCalls(submit(job))
	f.Expect(f.engine.latest().Deleted).To(BeFalse())
	f.delete(job)
	f.expectCalls(submit(job), submit(job))
	f.Expect(f.engine.latest().Deleted).To(BeTrue())

	f.Expect(f.client.Get(t.Context(), client.ObjectKeyFromObject(job), job)).To(Succeed())
	job.Finalizers = nil
	f.Expect(f.client.Update(t.Context(), job)).To(Succeed())
	f.Eventually(f.engine.took(cancel(job.UID))).Should(BeTrue())
}

func TestPoolOpenedSubmitsTheUnfinishedJobsOfThatPoolInOrder(t *testing.T) {
	f := newFixture(t)
	elsewhere := newFixture(t)
	oldest := f.create(f.job("z").Obj())
	done := f.create(f.job("done").Obj())
	f.finish(done, time.Now())
	going := f.job("going").Obj()
	going.Finalizers = []string{"example.com/test"}
	f.delete(f.create(going))
	f.Expect(f.client.Get(t.Context(), client.ObjectKeyFromObject(going), going)).To(Succeed())
	otherPool := f.create(testutil.MakeJob(f.namespace, "b", "other").Obj())
	otherNamespace := elsewhere.create(elsewhere.job("c").Obj())
	sameSecond := f.createInOneSecondAfter(oldest, "y", "v", "x", "u", "w")

	f.run("", ready)
	want := []string{submit(oldest)}
	for _, name := range []string{"u", "v", "w", "x", "y"} {
		want = append(want, submit(sameSecond[name]))
	}
	for _, call := range append([]string{submit(otherPool), submit(otherNamespace)}, want...) {
		f.Eventually(f.engine.took(call)).Should(BeTrue())
	}
	f.Eventually(f.engine.took(forget(done.UID))).Should(BeTrue())
	f.settle()
	f.engine.clear()

	f.wishes.Add(Request{NamespacedName: types.NamespacedName{Namespace: f.namespace, Name: "demo"}, Cause: PoolOpened})
	f.settle()
	f.Expect(f.engine.took(submit(going))()).To(BeTrue())
	others := slices.DeleteFunc(f.engine.told(), func(call string) bool { return call == submit(going) })
	f.Expect(others).To(Equal(append(want, cancel(types.UID(t.Name())))))
}

// createInOneSecondAfter makes Jobs, in this order, in the same second: one after that of another Job.
func (f *fixture) createInOneSecondAfter(before *v1alpha1.Job, names ...string) map[string]*v1alpha1.Job {
	f.t.Helper()
	jobs := map[string]*v1alpha1.Job{}
	f.Eventually(func() bool {
		for _, job := range jobs {
			f.delete(job)
		}
		for _, name := range names {
			jobs[name] = f.create(f.job(name).Obj())
		}
		second := jobs[names[0]].CreationTimestamp.Time
		for _, job := range jobs {
			if !job.CreationTimestamp.Time.Equal(second) {
				return false
			}
		}
		return second.After(before.CreationTimestamp.Time)
	}).Should(BeTrue())
	return jobs
}

func TestWishForAJobThatIsNowhereIsCancelledIfTheEngineKnowsIt(t *testing.T) {
	f := start(t)
	f.engine.know("known")
	f.wish("a", "unknown")
	f.wish("a", "known")
	f.expectCalls(absent(f.namespace, "a", "known"))
}

func TestWishForAJobThatTheCacheHasIsSubmitted(t *testing.T) {
	f := start(t)
	job := f.create(f.job("a").Obj())
	f.expectCalls(submit(job))
	f.wish("a", job.UID)
	f.expectCalls(submit(job), submit(job))
}

func TestWishForTheFormerJobOfANameLeavesTheNewOneAlone(t *testing.T) {
	f := start(t)
	job := f.create(f.job("a").Obj())
	f.expectCalls(submit(job))
	f.engine.know("former")
	f.wish("a", "former")
	f.expectCalls(submit(job), absent(f.namespace, "a", "former"))
}

// blind is a cache that has not seen any Job yet.
type blind struct{ client.Client }

func (blind) Get(_ context.Context, key client.ObjectKey, _ client.Object, _ ...client.GetOption) error {
	return apierrors.NewNotFound(schema.GroupResource{Resource: "jobs"}, key.Name)
}

func TestKnownJobThatTheCacheDoesNotShowYetIsReadLive(t *testing.T) {
	f := newFixture(t)
	job := f.create(f.job("a").Obj())
	f.engine.know(job.UID)
	r := &Reconciler{Client: blind{f.client}, Live: f.client, Engine: f.engine}
	request := Request{NamespacedName: client.ObjectKeyFromObject(job), UID: job.UID}
	_, err := r.Reconcile(t.Context(), request)
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(f.engine.told()).To(Equal([]string{submit(job)}))
}

// away is an API server that does not answer.
type away struct{ client.Reader }

var errAway = errors.New("no route to host")

func (away) Get(context.Context, client.ObjectKey, client.Object, ...client.GetOption) error {
	return errAway
}

func TestKnownJobIsNotCancelledWhileTheAPIServerIsAway(t *testing.T) {
	f := newFixture(t)
	f.engine.know("known")
	r := &Reconciler{Client: blind{f.client}, Live: away{}, Engine: f.engine}
	_, err := r.Reconcile(t.Context(), Request{NamespacedName: types.NamespacedName{Namespace: f.namespace, Name: "a"}, UID: "known"})
	f.Expect(err).To(MatchError(errAway))
	f.Expect(f.engine.told()).To(BeEmpty())
}

func TestNothingIsReconciledBeforeReady(t *testing.T) {
	f := newFixture(t)
	job := f.create(f.job("a").Obj())
	asked, open := make(chan struct{}, 1), make(chan struct{})
	f.run(f.namespace, func(ctx context.Context) error {
		select {
		case asked <- struct{}{}:
		default:
		}
		select {
		case <-open:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	f.Eventually(asked).Should(Receive())
	f.Expect(f.engine.told()).To(BeEmpty())
	close(open)
	f.expectCalls(submit(job))
}

func TestWhatCameBeforeReadyIsTriedAgain(t *testing.T) {
	f := newFixture(t)
	job := f.create(f.job("a").Obj())
	var asked atomic.Int32
	f.run(f.namespace, func(context.Context) error {
		if asked.Add(1) < 3 {
			return errAway
		}
		return nil
	})
	f.expectCalls(submit(job))
}
