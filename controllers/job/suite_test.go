package job

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/engine"
	"github.com/workerpool-dev/workerpool/internal/testutil"
	"github.com/workerpool-dev/workerpool/internal/trigger"
)

var env *testutil.Environment

func TestMain(m *testing.M) { os.Exit(testutil.Run(m, &env, nil)) }

// patience is how long a test waits for what should come within a moment.
const patience = 10 * time.Second

// fixture is a controller of the Jobs in one namespace, and the engine that it talks to.
type fixture struct {
	Gomega
	t         *testing.T
	client    client.Client
	namespace string
	engine    *fakeEngine
	wishes    trigger.Source[Request]
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	g := NewWithT(t)
	g.SetDefaultEventuallyTimeout(patience)
	return &fixture{Gomega: g, t: t, client: env.Client, namespace: env.Namespace(t, nil), engine: &fakeEngine{}}
}

// start runs a controller, that is ready, in a new namespace.
func start(t *testing.T) *fixture {
	t.Helper()
	f := newFixture(t)
	f.run(f.namespace, ready)
	return f
}

func ready(context.Context) error { return nil }

// run starts the controller on a namespace, or on all for "".
func (f *fixture) run(namespace string, ready func(context.Context) error) {
	f.t.Helper()
	env.Manager(f.t, namespace, func(mgr manager.Manager) error {
		r := &Reconciler{Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Engine: f.engine}
		return r.SetupWithManager(mgr, &f.wishes, ready)
	})
}

// job begins a Job of the pool demo.
func (f *fixture) job(name string) *testutil.JobBuilder {
	return testutil.MakeJob(f.namespace, name, "demo")
}

// create makes a Job and returns it as it is stored.
func (f *fixture) create(job *v1alpha1.Job) *v1alpha1.Job {
	f.t.Helper()
	f.Expect(f.client.Create(f.t.Context(), job)).To(Succeed())
	return job
}

func (f *fixture) delete(job *v1alpha1.Job) {
	f.t.Helper()
	f.Expect(f.client.Delete(f.t.Context(), job)).To(Succeed())
}

// finish stores that a Job has succeeded at a time; the zero time stands for none.
func (f *fixture) finish(job *v1alpha1.Job, at time.Time) {
	f.t.Helper()
	job.Status.State, job.Status.Reason = v1alpha1.JobSucceeded, ""
	if !at.IsZero() {
		job.Status.CompletionTime = &metav1.MicroTime{Time: at}
	}
	f.Expect(f.client.Status().Update(f.t.Context(), job)).To(Succeed())
}

// expectCalls waits until the engine was told this, in this order, and nothing else.
func (f *fixture) expectCalls(calls ...string) {
	f.t.Helper()
	f.Eventually(f.engine.told).Should(Equal(calls))
}

// settle waits until the controller has done all that it had to do before: it works one request at a
// time, in order, and this is one more.
func (f *fixture) settle() {
	f.t.Helper()
	last := Request{
		NamespacedName: types.NamespacedName{Namespace: f.namespace, Name: "last"}, UID: types.UID(f.t.Name()), Cause: Deleted,
	}
	f.wishes.Add(last)
	f.Eventually(f.engine.took(cancel(last.UID))).Should(BeTrue())
}

// wish asks the controller to look at a Job.
func (f *fixture) wish(name string, uid types.UID) {
	f.wishes.Add(Request{NamespacedName: types.NamespacedName{Namespace: f.namespace, Name: name}, UID: uid})
}

func submit(job *v1alpha1.Job) string {
	return fmt.Sprintf("submit %s/%s %s", job.Namespace, job.Name, job.UID)
}
func cancel(uid types.UID) string { return fmt.Sprintf("cancel %s", uid) }
func absent(namespace, name string, uid types.UID) string {
	return fmt.Sprintf("absent %s/%s %s", namespace, name, uid)
}
func forget(uid types.UID) string { return fmt.Sprintf("forget %s", uid) }

// fakeEngine remembers what it was told, and knows what a test says it does.
type fakeEngine struct {
	mu        sync.Mutex
	calls     []string
	submitted []engine.Job
	known     map[types.UID]bool
}

func (e *fakeEngine) Submit(job engine.Job) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.submitted = append(e.submitted, job)
	e.calls = append(e.calls, fmt.Sprintf("submit %s %s", job.NamespacedName, job.UID))
}

func (e *fakeEngine) Cancel(job types.UID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.calls = append(e.calls, cancel(job))
}

func (e *fakeEngine) Absent(job engine.JobRef) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.calls = append(e.calls, absent(job.Namespace, job.Name, job.UID))
}

func (e *fakeEngine) Forget(job types.UID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.calls = append(e.calls, forget(job))
}

func (e *fakeEngine) Knows(job types.UID) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.known[job]
}

// know makes the engine know these Jobs.
func (e *fakeEngine) know(jobs ...types.UID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.known = map[types.UID]bool{}
	for _, job := range jobs {
		e.known[job] = true
	}
}

// told returns what the engine was told.
func (e *fakeEngine) told() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.calls)
}

func (e *fakeEngine) took(call string) func() bool {
	return func() bool { return slices.Contains(e.told(), call) }
}

// clear forgets what the engine was told.
func (e *fakeEngine) clear() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.calls, e.submitted = nil, nil
}

// latest returns the Job that was submitted last.
func (e *fakeEngine) latest() engine.Job {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.submitted) == 0 {
		return engine.Job{}
	}
	return e.submitted[len(e.submitted)-1]
}
