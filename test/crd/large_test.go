package crd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/engine"
	"github.com/workerpool-dev/workerpool/internal/status"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

// patchStatus stores a status as the operator does.
func patchStatus(ctx context.Context, job *v1alpha1.Job, status v1alpha1.JobStatus) error {
	body, err := json.Marshal([]map[string]any{{"op": "add", "path": "/status", "value": status}})
	if err != nil {
		return err
	}
	return env.Client.Status().Patch(ctx, job.DeepCopy(), client.RawPatch(types.JSONPatchType, body))
}

// The status writer tells by these answers that it is of no use to try again.
func TestWhatTheAPIServerAnswersToATooLargeJob(t *testing.T) {
	g := NewWithT(t)
	job := testutil.MakeJob(env.Namespace(t, nil), "demo", "pool").Stdin(strings.Repeat("x", 512<<10)).Obj()
	job.Annotations = map[string]string{"a": strings.Repeat("<", 160_000)}
	g.Expect(env.Client.Create(t.Context(), job)).To(Succeed())
	var code int32
	var message string
	answer := func(status v1alpha1.JobStatus) {
		err := patchStatus(t.Context(), job, status)
		var s apierrors.APIStatus
		g.Expect(errors.As(err, &s)).To(BeTrue(), "%v", err)
		code, message = s.Status().Code, s.Status().Message
		t.Log(code, s.Status().Reason, message)
	}
	answer(v1alpha1.JobStatus{SucceededIndexes: strings.Repeat("0", 200_000)})
	g.Expect(code).To(BeEquivalentTo(http.StatusInternalServerError))
	g.Expect(message).To(ContainSubstring("request is too large"))
	answer(v1alpha1.JobStatus{SucceededIndexes: strings.Repeat("0", 1<<20), FailedIndexes: strings.Repeat("0", 1<<20)})
	g.Expect(code).To(BeEquivalentTo(http.StatusInternalServerError))
	g.Expect(message).To(ContainSubstring("message larger than max"))
	answer(v1alpha1.JobStatus{Message: strings.Repeat("m", 1025)})
	g.Expect(code).To(BeEquivalentTo(http.StatusUnprocessableEntity))
	answer(v1alpha1.JobStatus{FailedIndexes: strings.Repeat("0", 3<<20)})
	g.Expect(code).To(BeEquivalentTo(http.StatusRequestEntityTooLarge))
}

// told is the engine's end of a status.Writer.
type told struct {
	mu  sync.Mutex
	all []string
}

func (e *told) tell(format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, fmt.Sprintf(format, args...))
}

func (e *told) Written(w engine.Write, _ string) { e.tell("written %s", w.Job.Name) }
func (e *told) Refused(w engine.Write, _ string) { e.tell("refused %s", w.Job.Name) }
func (e *told) Changed(w engine.Write, _ v1alpha1.JobStatus, _ string) {
	e.tell("changed %s", w.Job.Name)
}
func (e *told) Finished(uid types.UID) { e.tell("finished %s", uid) }
func (e *told) Gone(uid types.UID)     { e.tell("gone %s", uid) }
func (e *told) saw() []string          { e.mu.Lock(); defer e.mu.Unlock(); return slices.Clone(e.all) }

// A Job can grow after it was started, by its annotations.
func TestTheEndOfAJobThatHasGrownIsStoredInPartOrGivenUp(t *testing.T) {
	g := NewWithT(t)
	namespace := env.Namespace(t, nil)
	job := func(name string, annotation int) *v1alpha1.Job {
		job := testutil.MakeJob(namespace, name, "pool").Stdin(strings.Repeat("x", 512<<10)).Obj()
		job.Annotations = map[string]string{"a": strings.Repeat("<", 160_000), "b": strings.Repeat("x", annotation)}
		g.Expect(env.Client.Create(t.Context(), job)).To(Succeed())
		return job
	}
	// The first leaves room for less than the output, the second for less than 500 bytes.
	almost, full := job("almost", 70_000), job("full", 0)
	for grown := 1 << 16; grown > 0; grown /= 2 { // until it takes no more
		larger := full.DeepCopy()
		larger.Annotations["b"] += strings.Repeat("x", grown)
		for env.Client.Update(t.Context(), larger) == nil {
			full = larger.DeepCopy()
			larger.Annotations["b"] += strings.Repeat("x", grown)
		}
	}
	eng := &told{}
	recorder := events.NewFakeRecorder(10)
	w := status.New(status.Config{Client: env.Client, Live: env.Client, Clock: clock.RealClock{}, Recorder: recorder})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); w.Run(ctx, eng) }()
	defer func() { cancel(); <-ended }()
	for _, job := range []*v1alpha1.Job{almost, full} {
		w.Write(engine.Write{
			Job: engine.JobRef{NamespacedName: client.ObjectKeyFromObject(job), UID: job.UID}, ResourceVersion: job.ResourceVersion, Version: 1,
			Status: v1alpha1.JobStatus{State: v1alpha1.JobSucceeded, Result: &v1alpha1.JobResult{ExitCode: new(int32), Output: strings.Repeat("<", 4096)}},
		})
	}
	g.Eventually(eng.saw, "30s", "50ms").Should(ConsistOf("written almost", "refused full"))
	g.Expect(env.Client.Get(t.Context(), client.ObjectKeyFromObject(almost), almost)).To(Succeed())
	g.Expect(almost.Status.State).To(Equal(v1alpha1.JobSucceeded))
	g.Expect(almost.Status.Result.Output).To(BeEmpty())
	g.Expect(almost.Status.Message).To(ContainSubstring("It was shortened."))
	g.Expect(recorder.Events).To(HaveLen(2))
}
