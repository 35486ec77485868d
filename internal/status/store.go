package status

import (
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

// errConflict: the Job has changed; the write goes again on top of what is stored now.
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
func (w *Writer) store(ctx context.Context, epoch engine.Epoch, write engine.Write) (outcome, error) {
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
		return w.rethink(ctx, epoch, write)
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

// rethink looks at a Job that has changed, or at one that a write has reached whose answer was lost.
func (w *Writer) rethink(ctx context.Context, epoch engine.Epoch, write engine.Write) (outcome, error) {
	live := &v1alpha1.Job{}
	err := w.Live.Get(ctx, write.Job.NamespacedName, live)
	switch {
	case apierrors.IsNotFound(err):
		return outcome{gone: true}, nil
	case err != nil:
		return outcome{}, fmt.Errorf("reading the Job: %w", err)
	case live.UID != write.Job.UID:
		return outcome{gone: true}, nil
	case live.Status.State.Finished():
		return outcome{finished: true}, nil
	}
	if stored := live.Status.Attempt; stored != nil {
		if ours := write.Status.Attempt; ours != nil && ours.Token == stored.Token {
			return outcome{resourceVersion: live.ResourceVersion}, nil
		}
		if token, err := engine.ParseToken(live.UID, stored.Token); err == nil && token.Epoch.Compare(epoch) > 0 {
			// A later leader has written the Job, unless the Lease was edited, or etcd restored: this one may lead still.
			if err := w.Leading(ctx); err != nil {
				return outcome{}, fmt.Errorf("the Job has an attempt of a later leader: %w", err)
			}
		}
	}
	return outcome{resourceVersion: live.ResourceVersion}, errConflict
}
