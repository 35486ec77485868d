package crd

import (
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

func newCRD() *unstructured.Unstructured {
	crd := &unstructured.Unstructured{}
	crd.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"})
	return crd
}

func TestJobIsRefused(t *testing.T) {
	namespace := env.Namespace(t, nil)
	job := func() *testutil.JobBuilder { return testutil.MakeJob(namespace, "demo", "pool") }
	for name, tc := range map[string]struct {
		job  *testutil.JobBuilder
		want string
	}{
		"no pool":                 {testutil.MakeJob(namespace, "demo", ""), "spec.pool"},
		"pool is no DNS label":    {testutil.MakeJob(namespace, "demo", "Pool_1"), "pool must be the name of a WorkerPool"},
		"pool's name too long":    {testutil.MakeJob(namespace, "demo", strings.Repeat("a", 53)), "spec.pool"},
		"no command":              {job().Command(), "command must be set: it is the program to run"},
		"args without a command":  {job().Command().Args("-l"), "command must be set where args is"},
		"empty program":           {job().Command(""), "command must begin with the name of a program"},
		"too long a command":      {job().Command(make([]string, 257)...), "spec.command"},
		"relative directory":      {job().WorkingDir("tmp"), "workingDir must be an absolute path"},
		"priority too high":       {job().Priority(1001), "spec.priority"},
		"priority too low":        {job().Priority(-1001), "spec.priority"},
		"negative time to live":   {job().TTL(-1), "spec.ttlSecondsAfterFinished"},
		"variable without a name": {job().Env("", "x"), "spec.env[0].name"},
		"name with an equal sign": {job().Env("a=b", "x"), "spec.env[0].name"},
		"the same variable twice": {job().Env("a", "1").Env("a", "2"), "spec.env[1]"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			err := env.Client.Create(t.Context(), tc.job.Obj())
			g.Expect(apierrors.IsInvalid(err)).To(BeTrue(), "%v", err)
			g.Expect(err.Error()).To(ContainSubstring(tc.want))
		})
	}
}

func TestJobIsImmutable(t *testing.T) {
	namespace := env.Namespace(t, nil)
	for name, tc := range map[string]struct {
		job    *testutil.JobBuilder
		change func(*v1alpha1.JobSpec)
		want   string
	}{
		"pool":            {nil, func(s *v1alpha1.JobSpec) { s.Pool = "other" }, "pool is immutable"},
		"command":         {nil, func(s *v1alpha1.JobSpec) { s.Command = []string{"false"} }, "command is immutable"},
		"args added":      {nil, func(s *v1alpha1.JobSpec) { s.Args = []string{"-v"} }, "only priority and ttlSecondsAfterFinished may be changed"},
		"args":            {testutil.MakeJob(namespace, "args", "pool").Args("-v"), func(s *v1alpha1.JobSpec) { s.Args = []string{"-q"} }, "args is immutable"},
		"args removed":    {testutil.MakeJob(namespace, "args-removed", "pool").Args("-v"), func(s *v1alpha1.JobSpec) { s.Args = nil }, "only priority and ttlSecondsAfterFinished may be changed"},
		"env added":       {nil, func(s *v1alpha1.JobSpec) { s.Env = []v1alpha1.EnvVar{{Name: "a"}} }, "only priority and ttlSecondsAfterFinished may be changed"},
		"env":             {testutil.MakeJob(namespace, "env", "pool").Env("a", "1"), func(s *v1alpha1.JobSpec) { s.Env[0].Value = new("2") }, "env is immutable"},
		"directory":       {testutil.MakeJob(namespace, "dir", "pool").WorkingDir("/a"), func(s *v1alpha1.JobSpec) { s.WorkingDir = "/b" }, "workingDir is immutable"},
		"directory added": {nil, func(s *v1alpha1.JobSpec) { s.WorkingDir = "/b" }, "only priority and ttlSecondsAfterFinished may be changed"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			builder := tc.job
			if builder == nil {
				builder = testutil.MakeJob(namespace, strings.ReplaceAll(name, " ", "-")+"-x", "pool")
			}
			job := builder.Obj()
			g.Expect(env.Client.Create(t.Context(), job)).To(Succeed())
			tc.change(&job.Spec)
			err := env.Client.Update(t.Context(), job)
			g.Expect(apierrors.IsInvalid(err)).To(BeTrue(), "%v", err)
			g.Expect(err.Error()).To(ContainSubstring(tc.want))
		})
	}
}

func TestJobPriorityAndTTLMayChange(t *testing.T) {
	g := NewWithT(t)
	job := testutil.MakeJob(env.Namespace(t, nil), "demo", "pool").Args("-v").Env("a", "1").WorkingDir("/").Obj()
	g.Expect(env.Client.Create(t.Context(), job)).To(Succeed())
	job.Spec.Priority, job.Spec.TTLSecondsAfterFinished = new(int32(-1000)), new(int32(0))
	g.Expect(env.Client.Update(t.Context(), job)).To(Succeed())
	g.Expect(job.Spec.Priority).To(HaveValue(Equal(int32(-1000))))
}

func TestJobDefaults(t *testing.T) {
	g := NewWithT(t)
	job := testutil.MakeJob(env.Namespace(t, nil), "demo", "pool").Obj()
	g.Expect(env.Client.Create(t.Context(), job)).To(Succeed())
	g.Expect(job.Spec.Priority).To(HaveValue(Equal(int32(0))))
	g.Expect(job.Spec.TTLSecondsAfterFinished).To(HaveValue(Equal(int32(86400))))
	g.Expect(job.Status.State).To(Equal(v1alpha1.JobPending), "a new Job must have a state without a write")
	g.Expect(job.Status.Reason).To(Equal(v1alpha1.ReasonWaiting))
}

// A large Job must pass the CEL rules within their cost, as the largest that the schema allows would.
func TestLargeJobIsTaken(t *testing.T) {
	g := NewWithT(t)
	job := testutil.MakeJob(env.Namespace(t, nil), "demo", "pool").Command("sh", "-c", strings.Repeat("x", 30_000))
	for i := range 256 {
		job.Env("v"+strings.Repeat("x", i), strings.Repeat("y", 1000))
	}
	g.Expect(env.Client.Create(t.Context(), job.Obj())).To(Succeed())
	stored := job.Obj()
	g.Expect(env.Client.Get(t.Context(), client.ObjectKeyFromObject(stored), stored)).To(Succeed())
	stored.Spec.Priority = new(int32(1))
	g.Expect(env.Client.Update(t.Context(), stored)).To(Succeed())
}

func TestJobsAreSelectedByPool(t *testing.T) {
	g := NewWithT(t)
	namespace := env.Namespace(t, nil)
	for name, pool := range map[string]string{"one": "a", "two": "b"} {
		g.Expect(env.Client.Create(t.Context(), testutil.MakeJob(namespace, name, pool).Obj())).To(Succeed())
	}
	list := &v1alpha1.JobList{}
	g.Expect(env.Client.List(t.Context(), list, client.InNamespace(namespace), client.MatchingFields{"spec.pool": "b"})).To(Succeed())
	g.Expect(list.Items).To(HaveLen(1))
	g.Expect(list.Items[0].Name).To(Equal("two"))
}
