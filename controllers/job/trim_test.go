package job

import (
	"reflect"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

// Each of these may be as large as the whole Job, and nothing reads it.
func TestMetadataThatIsNotReadIsNotKeptInMemory(t *testing.T) {
	j := testutil.MakeJob("default", "demo", "pool").Command("/bin/cat").Obj()
	want := j.ObjectMeta
	want.UID, want.ResourceVersion, want.Generation = "uid", "1", 2
	want.CreationTimestamp, want.DeletionTimestamp = metav1.Unix(1, 0), new(metav1.Unix(2, 0))
	j.ObjectMeta = want
	j.Labels, j.Annotations = map[string]string{"a": "b"}, map[string]string{"last-applied": "a lot"}
	j.OwnerReferences, j.Finalizers, j.GenerateName = []metav1.OwnerReference{{Name: "owner"}}, []string{"some/finalizer"}, "demo-"
	if _, err := Trim(j); err != nil || !reflect.DeepEqual(j.ObjectMeta, want) {
		t.Errorf("what is left is %+v, %v", j.ObjectMeta, err)
	}
}

func TestALargeJobThatWaitsIsReducedInTheCacheAndWholeWhenItIsRead(t *testing.T) {
	text := strings.Repeat("x", 1<<14)
	for _, j := range []*v1alpha1.Job{
		testutil.MakeJob("default", "demo", "pool").Command("/bin/cat").Stdin(text).Obj(),
		testutil.MakeJob("default", "demo", "pool").Command("/bin/cat").Stdin("short").Obj(),
	} {
		large := len(j.Spec.Stdin) > 1000
		if c := Convert(j); c.Reduced {
			t.Error("what is stored counts as reduced")
		}
		for range 2 { // the informer may do it again
			if _, err := Trim(j); err != nil {
				t.Fatal(err)
			}
			if c := Convert(j); c.Reduced != large || (c.Spec.Stdin == "") != large || c.Spec.Pool != "pool" {
				t.Errorf("large: %t; it is reduced: %t, with %d bytes of stdin", large, c.Reduced, len(c.Spec.Stdin))
			}
		}
	}
}

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
