package job

import (
	"context"
	"fmt"
	"slices"
	"testing"

	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

// held is an API server that has no Job, and answers each read when it is let.
type held struct {
	client.Reader
	asked chan types.NamespacedName
	let   chan struct{}
}

// Get is client.Reader's.
func (h *held) Get(ctx context.Context, key client.ObjectKey, _ client.Object, _ ...client.GetOption) error {
	h.asked <- key
	select {
	case <-h.let:
	case <-ctx.Done():
	}
	return apierrors.NewNotFound(schema.GroupResource{Resource: "jobs"}, key.Name)
}

func TestClaimsOfUnknownJobsHoldUpNeitherTheIntakeNorThoseOfOtherNamespaces(t *testing.T) {
	f := newFixture(t)
	const claims = 2000
	live := &held{asked: make(chan types.NamespacedName, claims), let: make(chan struct{}, claims)}
	env.Manager(f.t, "", func(mgr manager.Manager) error {
		r := &Reconciler{Client: mgr.GetClient(), Live: live, Engine: f.engine}
		return r.SetupWithManager(mgr, &f.wishes, ready)
	})
	known := []types.UID{"modest"}
	for i := range claims {
		known = append(known, types.UID(fmt.Sprint("greedy-", i)))
	}
	f.engine.know(known...)
	for i, uid := range known[1:] {
		f.wish(fmt.Sprint("claimed-", i), uid)
	}
	for range liveReads {
		f.Eventually(live.asked).Should(Receive())
	}
	job := f.create(f.job("a").Obj())
	f.Eventually(f.engine.took(submit(job))).Should(BeTrue())

	modest := types.NamespacedName{Namespace: "modest", Name: "b"}
	f.wishes.Add(Request{NamespacedName: modest, UID: "modest"})
	f.settle()
	for range 2 {
		live.let <- struct{}{}
	}
	var next []types.NamespacedName
	for range 2 {
		var key types.NamespacedName
		f.Eventually(live.asked).Should(Receive(&key))
		next = append(next, key)
	}
	f.Expect(next).To(ContainElement(modest))
	close(live.let)
	f.Eventually(f.engine.took(absent("modest", "b", "modest"))).Should(BeTrue())
}

func TestOneLiveReadIsForAllClaimsOfAJob(t *testing.T) {
	f := newFixture(t)
	live := &held{asked: make(chan types.NamespacedName, 100), let: make(chan struct{})}
	env.Manager(f.t, f.namespace, func(mgr manager.Manager) error {
		r := &Reconciler{Client: mgr.GetClient(), Live: live, Engine: f.engine}
		return r.SetupWithManager(mgr, &f.wishes, ready)
	})
	known := []types.UID{"claimed", "blocks-0", "blocks-1", "blocks-2", "blocks-3"}
	f.engine.know(known...)
	for i := range liveReads {
		f.wish("other", known[i+1])
	}
	for range liveReads {
		f.Eventually(live.asked).Should(Receive())
	}
	for range 50 {
		f.wish("a", "claimed")
		f.settle()
		f.engine.clear()
	}
	close(live.let)
	f.Eventually(f.engine.took(absent(f.namespace, "a", "claimed"))).Should(BeTrue())
	f.Expect(live.asked).To(HaveLen(1))
}

func TestNamespacesAreServedInTurn(t *testing.T) {
	g := NewWithT(t)
	q := &turns{}
	for _, namespaced := range []string{"a1", "a2", "a3", "b1", "a4", "c1", "c2"} {
		q.Push(Request{NamespacedName: types.NamespacedName{Namespace: namespaced[:1], Name: namespaced}})
	}
	var got []string
	for q.Len() > 0 {
		got = append(got, q.Pop().Name)
		if len(got) == 2 {
			q.Push(Request{NamespacedName: types.NamespacedName{Namespace: "b", Name: "b2"}})
		}
	}
	g.Expect(got).To(Equal([]string{"a1", "b1", "c1", "a2", "b2", "c2", "a3", "a4"}))
	g.Expect(q.waiting).To(BeEmpty())
}

// meanwhile has something happen during a live read.
type meanwhile struct {
	client.Reader
	job  *v1alpha1.Job
	then func()
}

// Get is client.Reader's.
func (m *meanwhile) Get(_ context.Context, _ client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	m.then()
	m.job.DeepCopyInto(into.(*v1alpha1.Job))
	return nil
}

func TestALiveReadDoesNotUndoWhatTheEngineWasToldMeanwhile(t *testing.T) {
	job := testutil.MakeJob("ns", "a", "demo").Obj()
	job.UID, job.ResourceVersion = "uid", "1"
	later := job.DeepCopy()
	later.ResourceVersion = "2"
	request := Request{NamespacedName: client.ObjectKeyFromObject(job), UID: job.UID}
	deleted := request
	deleted.Cause = Deleted
	for name, c := range map[string]struct {
		cache *caching
		then  Request
		want  []string
	}{
		"it was deleted": {&caching{}, deleted, []string{cancel("uid")}},
		"it has changed": {&caching{job: later}, request, []string{submit(later)}},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			eng := &fakeEngine{}
			eng.know(job.UID)
			r := &Reconciler{Client: c.cache, Engine: eng}
			r.Live = &meanwhile{job: job, then: func() {
				c.cache.shows = true
				_, err := r.reconcileCached(t.Context(), c.then)
				g.Expect(err).NotTo(HaveOccurred())
			}}
			result, err := r.Reconcile(t.Context(), request)
			g.Expect(err).NotTo(HaveOccurred())
			g.Expect(eng.told()).To(Equal(c.want))
			g.Expect(result.RequeueAfter).NotTo(BeZero())
			if c.cache.job != nil {
				g.Expect(eng.latest().ResourceVersion).To(Equal("2"))
			}
		})
	}
}

// caching is a cache that shows a Job from some time on.
type caching struct {
	client.Client
	job   *v1alpha1.Job
	shows bool
}

// Get is client.Client's.
func (c *caching) Get(_ context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	if c.job == nil || !c.shows {
		return apierrors.NewNotFound(schema.GroupResource{Resource: "jobs"}, key.Name)
	}
	c.job.DeepCopyInto(into.(*v1alpha1.Job))
	return nil
}

func TestANameThatNoJobCanHaveIsNotLookedFor(t *testing.T) {
	for _, name := range []string{"a/b", "..", "A", "a_b"} {
		g := NewWithT(t)
		eng := &fakeEngine{}
		eng.know("claimed")
		r := &Reconciler{Client: &caching{}, Live: away{}, Engine: eng}
		_, err := r.Reconcile(t.Context(), Request{NamespacedName: types.NamespacedName{Namespace: "ns", Name: name}, UID: "claimed"})
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(slices.Contains(eng.told(), absent("ns", name, "claimed"))).To(BeTrue())
	}
}
