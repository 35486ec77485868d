package job

import (
	"encoding/json"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

func TestTheCacheKnowsHowLargeALargeJobIs(t *testing.T) {
	for name, c := range map[string]struct {
		stdin string
		noted bool
	}{
		"small":                           {"<<<", false},
		"512 KiB of letters":              {strings.Repeat("x", 512<<10), false},
		"512 KiB of dense XML":            {strings.Repeat("<a>&amp;</a>", 43690), true},
		"200 KiB that JSON writes as six": {strings.Repeat("\x01", 200<<10), true},
	} {
		t.Run(name, func(t *testing.T) {
			j := testutil.MakeJob("ns", "demo", "pool").Command("cat").Stdin(c.stdin).Obj()
			j.Annotations = map[string]string{bytesAnnotation: "7"} // as a user may write
			j.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "kubectl", FieldsV1: metav1.NewFieldsV1(`{"f:spec":{}}`)}}
			j.Status.Message = "of no matter"
			bare := j.DeepCopy()
			bare.Status = v1alpha1.JobStatus{}
			delete(bare.Annotations, bytesAnnotation)
			text, err := json.Marshal(bare)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Trim(j); err != nil {
				t.Fatal(err)
			}
			got, want := Convert(j).Bytes, 0
			if c.noted {
				want = len(text)
			}
			if got < want || got > want+30 { // an empty map of annotations is one
				t.Errorf("%d bytes, want %d", got, want)
			}
		})
	}
}

func TestNoJobIsLargerThanItIsTakenFor(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := func(name string) string {
			return strings.Repeat(rapid.SampledFrom([]string{"", "<", "\x01", "世", "x"}).Draw(t, name), rapid.SampledFrom([]int{1, 100, 1000}).Draw(t, name+" times"))
		}
		texts := func(name string) []string { return []string{text(name + " 1"), text(name + " 2")} }
		env := func(name string) []v1alpha1.EnvVar {
			return []v1alpha1.EnvVar{{Name: text(name), Value: new(text(name + " value"))}}
		}
		job := testutil.MakeJob("ns", "demo", "pool").Obj()
		job.Spec.Command, job.Spec.Args, job.Spec.Items, job.Spec.Env = texts("command"), texts("args"), texts("items"), env("env")
		job.Spec.Stdin, job.Spec.WorkingDir = text("stdin"), text("dir")
		job.Spec.OnFailure = &v1alpha1.FailureHandler{Command: texts("handler"), Args: texts("handler args"), Env: env("handler env")}
		job.Spec.HTTP = &v1alpha1.HTTPRequest{Path: text("path"), Body: text("body"), Headers: []v1alpha1.HTTPHeader{{Name: text("header"), Value: new(text("header value"))}}}
		job.Annotations, job.Labels = map[string]string{text("key"): text("annotation")}, map[string]string{text("label"): text("label value")}
		job.Finalizers = texts("finalizers")
		job.OwnerReferences = []metav1.OwnerReference{{APIVersion: text("api"), Kind: text("kind"), Name: text("owner"), UID: types.UID(text("uid"))}}
		raw := `{"f:` + strings.Repeat("x", 1000) + `":{}}`
		job.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: text("manager"), FieldsV1: metav1.NewFieldsV1(raw)}}
		most := storedAtMost(job) - elsewhere
		if stored := storedBytes(job) - storedBytes(testutil.MakeJob("ns", "demo", "pool").Obj()); stored > most+1000 {
			t.Fatalf("%d bytes, and at most %d were expected", stored, most)
		}
	})
}
