package job

import (
	"context"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/engine"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

// listed has these Jobs, and no others.
type listed struct {
	client.Reader
	jobs []v1alpha1.Job
}

// List is client.Reader's.
func (l listed) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	list.(*v1alpha1.JobList).Items = slices.Clone(l.jobs)
	return nil
}

// line has the names of the Jobs that were submitted.
type line struct{ names []string }

// Submit is the engine's.
func (l *line) Submit(job engine.Job) { l.names = append(l.names, job.Name) }

func TestJobsOfOneSecondAreLoadedInTheOrderInWhichTheyWereQueued(t *testing.T) {
	second := time.Unix(1_700_000_000, 0)
	job := func(name string, queued time.Duration) v1alpha1.Job {
		j := testutil.MakeJob("default", name, "demo").Obj()
		j.CreationTimestamp = metav1.NewTime(second)
		if queued > 0 {
			j.Status.QueuedTime = new(metav1.NewMicroTime(second.Add(queued)))
		}
		return *j
	}
	const never = 0
	jobs := []v1alpha1.Job{
		job("a", never), job("b", 3*time.Millisecond), job("c", never), job("d", time.Millisecond), job("e", 2*time.Millisecond),
	}
	want := []string{"d", "e", "b", "a", "c"}
	for range 2 {
		got := &line{}
		if err := Load(t.Context(), listed{jobs: jobs}, got); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.names, want) {
			t.Errorf("they are submitted as %v, want %v", got.names, want)
		}
		slices.Reverse(jobs)
	}
}
