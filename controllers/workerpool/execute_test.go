package workerpool

import (
	"context"
	"errors"
	"fmt"
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/workerpool-dev/workerpool/internal/testutil"
)

func TestAWorkerThatCannotBeDeletedDoesNotCountAsDeleted(t *testing.T) {
	for name, err := range map[string]error{
		"error":    errors.New("not now, demo-1"),
		"conflict": apierrors.NewConflict(schema.GroupResource{Resource: "pods"}, "demo-1", errors.New("not now")),
	} {
		t.Run(name, func(t *testing.T) { testUndeletable(t, err) })
	}
}

func testUndeletable(t *testing.T, refusal error) {
	t.Helper()
	g := NewWithT(t)
	const workers, refused = removesAtOnce + 2, "demo-1"
	var pods []client.Object
	var intents []Intent
	for ordinal := range workers {
		name := fmt.Sprintf("demo-%d", ordinal)
		pods = append(pods, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, UID: types.UID(name)}})
		intents = append(intents, Intent{Action: Delete, Ordinal: ordinal, UID: types.UID(name)})
	}
	down := true
	remove := func(ctx context.Context, c client.WithWatch, o client.Object, options ...client.DeleteOption) error {
		if down && o.GetName() == refused {
			return refusal
		}
		return c.Delete(ctx, o, options...)
	}
	c := fake.NewClientBuilder().WithScheme(testutil.Scheme()).WithObjects(pods...).WithInterceptorFuncs(interceptor.Funcs{Delete: remove}).Build()
	r := New(c, c, newFakeEngine(), nil, agent, nil)
	s := &scope{
		pool: testutil.MakePool("ns", "demo").Obj(), key: types.NamespacedName{Namespace: "ns", Name: "demo"}, memory: newMemory("uid"),
	}

	g.Expect(r.execute(t.Context(), s, intents)).To(MatchError(ContainSubstring(refused)))
	g.Expect(s.memory.deleted).To(HaveLen(removesAtOnce - 1)) // the next batch waits
	g.Expect(s.memory.deleted).NotTo(HaveKey(types.UID(refused)))

	down = false
	g.Expect(r.execute(t.Context(), s, intents)).To(Succeed())
	g.Expect(s.memory.deleted).To(HaveLen(workers))
	left := &corev1.PodList{}
	g.Expect(c.List(t.Context(), left)).To(Succeed())
	g.Expect(left.Items).To(BeEmpty())
}

func TestAWorkerWhoseNameAnotherPodHasByNowCountsAsDeleted(t *testing.T) {
	g := NewWithT(t)
	other := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "demo-0", UID: "other"}}
	conflict := func(context.Context, client.WithWatch, client.Object, ...client.DeleteOption) error {
		return apierrors.NewConflict(schema.GroupResource{Resource: "pods"}, "demo-0", errors.New("the UID is another"))
	}
	c := fake.NewClientBuilder().WithScheme(testutil.Scheme()).WithObjects(other).WithInterceptorFuncs(interceptor.Funcs{Delete: conflict}).Build()
	r := New(c, c, newFakeEngine(), nil, agent, nil)
	s := &scope{
		pool: testutil.MakePool("ns", "demo").Obj(), key: types.NamespacedName{Namespace: "ns", Name: "demo"}, memory: newMemory("uid"),
	}
	g.Expect(r.execute(t.Context(), s, []Intent{{Action: Delete, UID: "mine"}})).To(Succeed())
	g.Expect(s.memory.deleted).To(HaveKey(types.UID("mine")))
}
