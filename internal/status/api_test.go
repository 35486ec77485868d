package status_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/engine"
	"github.com/workerpool-dev/workerpool/internal/status"
)

var epoch = engine.Epoch{LeaseCreated: 1000, Transitions: 4}

// request is a status patch that has reached the API server.
type request struct {
	job  string
	body string
	at   time.Time
}

// api is an API server that can fail. It is the engine's end too: what it is told is in told.
type api struct {
	t      *testing.T
	client client.WithWatch

	// before and after, if not nil, run at each status patch, and at each live read with the number 0:
	// before it takes effect, and after. Patches count from 1. An error is the answer.
	before, after func(ctx context.Context, patch int) error
	// onWritten, if not nil, is called by Written.
	onWritten func(w engine.Write, resourceVersion string)
	// silent: it asks for nothing in place of a write that has met a conflict.
	silent bool
	// writer is the one that run has made.
	writer *status.Writer
	// events are those of the Writer that run has made.
	events *events.FakeRecorder

	mu       sync.Mutex
	requests []request
	told     []string
}

func newAPI(t *testing.T, jobs ...*v1alpha1.Job) *api {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	a := &api{t: t}
	builder := fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&v1alpha1.Job{}).
		WithInterceptorFuncs(interceptor.Funcs{SubResourcePatch: a.patch, Get: a.get})
	for _, job := range jobs {
		builder = builder.WithObjects(job)
	}
	a.client = builder.Build()
	return a
}

func (a *api) patch(ctx context.Context, c client.Client, sub string, obj client.Object, patch client.Patch, opts ...client.SubResourcePatchOption) error {
	body, err := patch.Data(obj)
	if err != nil {
		return err
	}
	a.mu.Lock()
	a.requests = append(a.requests, request{job: obj.GetName(), body: string(body), at: time.Now()})
	n := len(a.requests)
	a.mu.Unlock()
	if a.before != nil {
		if err := a.before(ctx, n); err != nil {
			return err
		}
	}
	if err := c.SubResource(sub).Patch(ctx, obj, patch, opts...); err != nil {
		return err
	}
	if a.after != nil {
		return a.after(ctx, n)
	}
	return nil
}

func (a *api) get(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
	if a.before != nil {
		if err := a.before(ctx, 0); err != nil {
			return err
		}
	}
	return c.Get(ctx, key, obj, opts...)
}

// Written is status.Engine's.
func (a *api) Written(w engine.Write, resourceVersion string) {
	a.tell("written %s version %d at %s", w.Job.UID, w.Version, resourceVersion)
	if a.onWritten != nil {
		a.onWritten(w, resourceVersion)
	}
}

// Finished is status.Engine's.
func (a *api) Finished(job types.UID) { a.tell("finished %s", job) }

// Gone is status.Engine's.
func (a *api) Gone(job types.UID) { a.tell("gone %s", job) }

// Refused is status.Engine's.
func (a *api) Refused(w engine.Write, _ string) {
	a.tell("refused %s version %d", w.Job.UID, w.Version)
}

// Changed is status.Engine's. It asks for the same again.
func (a *api) Changed(w engine.Write, stored v1alpha1.JobStatus, resourceVersion string) {
	a.tell("changed %s to %q at %s", w.Job.UID, stored.State, resourceVersion)
	if !a.silent {
		a.writer.Write(w)
	}
}

func (a *api) tell(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.told = append(a.told, fmt.Sprintf(format, args...))
}

func (a *api) sent() []request {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.requests)
}

func (a *api) wantTold(want ...string) {
	a.t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if !slices.Equal(a.told, want) {
		a.t.Errorf("the engine was told %q, want %q", a.told, want)
	}
}

// run starts a Writer in a synctest bubble and returns it. It ends with the test.
func (a *api) run(leading func(context.Context) error) *status.Writer {
	a.events = events.NewFakeRecorder(100)
	w := status.New(status.Config{Client: a.client, Live: a.client, Leading: leading, Clock: clock.RealClock{}, Recorder: a.events})
	a.start(w)
	return w
}

func (a *api) start(w *status.Writer) {
	ctx, cancel := context.WithCancel(a.t.Context())
	ended := make(chan struct{})
	a.writer = w
	go func() {
		w.Run(ctx, a)
		close(ended)
	}()
	a.t.Cleanup(func() {
		cancel()
		<-ended
	})
}

// stored is a Job as the API server has it, in resource version 999 at first.
func stored(name string, status v1alpha1.JobStatus) *v1alpha1.Job {
	job := &v1alpha1.Job{Status: status}
	job.Namespace, job.Name, job.UID = "ns", name, uidOf(name)
	return job
}

func uidOf(name string) types.UID { return types.UID("uid-" + name) }

// running is a status with an attempt of the epoch.
func running(try int32, e engine.Epoch) v1alpha1.JobStatus {
	return v1alpha1.JobStatus{
		State:   v1alpha1.JobRunning,
		Attempt: &v1alpha1.Attempt{Token: engine.Token{Try: try, Epoch: e}.String()},
	}
}

func inState(state v1alpha1.JobState) v1alpha1.JobStatus { return v1alpha1.JobStatus{State: state} }

// write of a Job that is stored as stored has made it, due now.
func write(name string, version uint64, s v1alpha1.JobStatus) engine.Write {
	ref := engine.JobRef{NamespacedName: types.NamespacedName{Namespace: "ns", Name: name}, UID: uidOf(name)}
	return engine.Write{Job: ref, ResourceVersion: "999", Version: version, Status: s, Due: time.Now()}
}

func (a *api) state(name string) v1alpha1.JobState {
	a.t.Helper()
	job := &v1alpha1.Job{}
	if err := a.client.Get(a.t.Context(), types.NamespacedName{Namespace: "ns", Name: name}, job); err != nil {
		a.t.Fatal(err)
	}
	return job.Status.State
}

// change stores a status as somebody else does.
func (a *api) change(name string, s v1alpha1.JobStatus) {
	a.t.Helper()
	job := &v1alpha1.Job{}
	if err := a.client.Get(a.t.Context(), types.NamespacedName{Namespace: "ns", Name: name}, job); err != nil {
		a.t.Fatal(err)
	}
	job.Status = s
	if err := a.client.Status().Update(a.t.Context(), job); err != nil {
		a.t.Fatal(err)
	}
}
