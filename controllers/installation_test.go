package controllers

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/controllers/job"
	"github.com/workerpool-dev/workerpool/internal/engine"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

// written is an Outbox that counts what is to be stored of Jobs.
type written struct {
	engine.Outbox

	jobs map[string]int
}

func (w written) Write(write engine.Write) { w.jobs[write.Job.Name]++ }

func TestNothingIsWrittenOfTheJobsOfAnotherInstallation(t *testing.T) {
	theirs, nobodys := testutil.MakePool("ns", "theirs").Obj(), testutil.MakePool("ns", "nobodys").Obj()
	theirs.Annotations = map[string]string{v1alpha1.Installation: "other"}
	of := func(pool string) *v1alpha1.Job {
		j := testutil.MakeJob("ns", "of-"+pool, pool).Obj()
		j.UID = types.UID(pool)
		return j
	}
	c := fake.NewClientBuilder().WithScheme(testutil.Scheme()).
		WithObjects(theirs, nobodys, of("theirs"), of("nobodys"), of("missing")).Build()
	out := written{jobs: map[string]int{}}
	eng := engine.New(time.Now, nil, out)
	eng.Begin(engine.Epoch{LeaseCreated: 1})
	eng.Loaded()
	if err := job.Load(t.Context(), c, ours{eng, c, "test"}); err != nil {
		t.Fatal(err)
	}
	if len(out.jobs) != 1 || out.jobs["of-missing"] == 0 {
		t.Errorf("written are %v, want that a pool does not exist, and no more", out.jobs)
	}
}
