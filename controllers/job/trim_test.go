package job

import (
	"reflect"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

func TestWhatAFinishedJobWasToRunIsNotKeptInMemory(t *testing.T) {
	job := func(state v1alpha1.JobState) *v1alpha1.Job {
		j := testutil.MakeJob("default", "demo", "pool").Command("/bin/cat").Stdin("a lot").TTL(60).Obj()
		j.Status.State = state
		return j
	}
	for state, want := range map[v1alpha1.JobState]v1alpha1.JobSpec{
		v1alpha1.JobPending:   job("").Spec,
		v1alpha1.JobRunning:   job("").Spec,
		v1alpha1.JobSucceeded: {Pool: "pool", TTLSecondsAfterFinished: new(int32(60))},
		v1alpha1.JobFailed:    {Pool: "pool", TTLSecondsAfterFinished: new(int32(60))},
	} {
		j := job(state)
		j.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl"}}
		got, err := Trim(j)
		if err != nil || got != any(j) {
			t.Fatalf("%s: it returns %v, %v", state, got, err)
		}
		if !reflect.DeepEqual(j.Spec, want) || j.ManagedFields != nil || j.Status.State != state || j.Name != "demo" {
			t.Errorf("%s: what is left is %+v", state, j)
		}
	}
}
