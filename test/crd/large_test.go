package crd

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
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
