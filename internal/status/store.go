package status

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/engine"
)

// errConflict: the Job has changed. What the engine asks for in place of the write goes on top of what is stored now.
var errConflict = errors.New("the Job has changed")

// outcome is what became of a write that needs no further try.
type outcome struct {
	// resourceVersion that is stored now, if it is known.
	resourceVersion string
	// gone: the Job does not exist any more.
	gone bool
	// finished: the Job is stored as finished, by a write that was not answered or by somebody else.
	finished bool
}

func (o outcome) tell(eng Engine, w engine.Write) {
	switch {
	case o.gone:
		eng.Gone(w.Job.UID)
	case o.finished:
		eng.Finished(w.Job.UID)
	default:
		eng.Written(w, o.resourceVersion)
	}
}

// store makes one try.
func (w *Writer) store(ctx context.Context, eng Engine, write engine.Write) (outcome, error) {
	if write.Confirm {
		if err := w.Leading(ctx); err != nil {
			return outcome{}, fmt.Errorf("looking at the lease: %w", err)
		}
	}
	body, err := patch(write)
	if err != nil {
		return outcome{}, err
	}
	// Of the answer only the resource version matters: the Job as a whole would be encoded and read in vain.
	job := &metav1.PartialObjectMetadata{}
	job.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("Job"))
	job.Namespace, job.Name = write.Job.Namespace, write.Job.Name
	err = w.Client.Status().Patch(ctx, job, client.RawPatch(types.JSONPatchType, body))
	switch {
	case err == nil:
		return outcome{resourceVersion: job.ResourceVersion}, nil
	case apierrors.IsNotFound(err):
		return outcome{gone: true}, nil
	case apierrors.IsConflict(err):
		return w.rethink(ctx, eng, write)
	}
	if kind := refusalOf(err); kind != notRefused {
		return outcome{}, &refusedError{kind, err}
	}
	return outcome{}, fmt.Errorf("patching the status: %w", err)
}

// patch replaces the status as a whole, of this very Job in this very version and no other.
func patch(write engine.Write) ([]byte, error) {
	type operation struct {
		Op    string `json:"op"`
		Path  string `json:"path"`
		Value any    `json:"value"`
	}
	body, err := json.Marshal([]operation{
		{"replace", "/metadata/uid", write.Job.UID},
		{"replace", "/metadata/resourceVersion", write.ResourceVersion},
		{"add", "/status", write.Status},
	})
	if err != nil {
		return nil, fmt.Errorf("encoding the status: %w", err)
	}
	return body, nil
}

// find reads the Job of a write. An outcome says that there is nothing more to write.
func (w *Writer) find(ctx context.Context, write engine.Write) (*v1alpha1.Job, *outcome, error) {
	live := &v1alpha1.Job{}
	err := w.Live.Get(ctx, write.Job.NamespacedName, live)
	switch {
	case apierrors.IsNotFound(err):
		return nil, &outcome{gone: true}, nil
	case err != nil:
		return nil, nil, fmt.Errorf("reading the Job: %w", err)
	case live.UID != write.Job.UID:
		return nil, &outcome{gone: true}, nil
	case live.Status.State.Finished():
		return nil, &outcome{finished: true}, nil
	}
	return live, nil, nil
}

// rethink looks at a Job that has changed, or at one that a write has reached whose answer was lost. The engine asks anew for what
// is to be stored then, on top of what is stored now.
func (w *Writer) rethink(ctx context.Context, eng Engine, write engine.Write) (outcome, error) {
	live, over, err := w.find(ctx, write)
	if err != nil {
		return outcome{}, err
	}
	if over != nil {
		return *over, nil
	}
	if same(&live.Status, &write.Status) {
		return outcome{resourceVersion: live.ResourceVersion}, nil
	}
	if live.Status.Leader != write.Status.Leader { // it may be a later one's
		if err := w.Leading(ctx); err != nil {
			return outcome{}, fmt.Errorf("another leader has written the Job: %w", err)
		}
	}
	eng.Changed(write, live.Status, live.ResourceVersion)
	return outcome{resourceVersion: live.ResourceVersion}, errConflict
}

// same compares two statuses as they are stored.
func same(a, b *v1alpha1.JobStatus) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}
