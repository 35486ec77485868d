package crd

import (
	"fmt"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

// setting is an immutable field of a Job: set gives it a value, change another, and remove, if the
// field may be unset, takes it away.
type setting struct{ set, change, remove func(*v1alpha1.JobSpec) }

type spec = v1alpha1.JobSpec

var at = time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)

// settings are all immutable fields but command, pool and those with a default. Where one requires
// another, it sets that too.
var settings = map[string]setting{
	"args":                  {func(s *spec) { s.Args = []string{"a"} }, func(s *spec) { s.Args = []string{"b"} }, func(s *spec) { s.Args = nil }},
	"env":                   {func(s *spec) { s.Env = []v1alpha1.EnvVar{{Name: "a"}} }, func(s *spec) { s.Env[0].Value = new("b") }, func(s *spec) { s.Env = nil }},
	"workingDir":            {func(s *spec) { s.WorkingDir = "/a" }, func(s *spec) { s.WorkingDir = "/b" }, func(s *spec) { s.WorkingDir = "" }},
	"stdin":                 {func(s *spec) { s.Stdin = "a" }, func(s *spec) { s.Stdin = "b" }, func(s *spec) { s.Stdin = "" }},
	"resources":             {func(s *spec) { s.Resources = cpus("1") }, func(s *spec) { s.Resources = cpus("2") }, func(s *spec) { s.Resources = nil }},
	"maxRetries":            {func(s *spec) { s.MaxRetries = new(int32(0)) }, func(s *spec) { s.MaxRetries = new(int32(1)) }, func(s *spec) { s.MaxRetries = nil }},
	"backoff":               {func(s *spec) { s.Backoff = &v1alpha1.Backoff{} }, func(s *spec) { s.Backoff.Factor = new(int32(3)) }, func(s *spec) { s.Backoff = nil }},
	"failurePolicy":         {func(s *spec) { s.FailurePolicy = policy() }, func(s *spec) { s.FailurePolicy.Rules[0].Action = v1alpha1.ActionRetry }, func(s *spec) { s.FailurePolicy = nil }},
	"timeoutSeconds":        {func(s *spec) { s.TimeoutSeconds = new(int32(1)) }, func(s *spec) { s.TimeoutSeconds = new(int32(2)) }, func(s *spec) { s.TimeoutSeconds = nil }},
	"activeDeadlineSeconds": {func(s *spec) { s.ActiveDeadlineSeconds = new(int32(1)) }, func(s *spec) { s.ActiveDeadlineSeconds = new(int32(2)) }, func(s *spec) { s.ActiveDeadlineSeconds = nil }},
	"completions":           {func(s *spec) { s.Completions = new(int32(1)) }, func(s *spec) { s.Completions = new(int32(2)) }, func(s *spec) { s.Completions = nil }},
	"parallelism": {
		func(s *spec) { s.Parallelism, s.Items = new(int32(1)), []string{"a"} },
		func(s *spec) { s.Parallelism = new(int32(2)) },
		func(s *spec) { s.Parallelism = nil },
	},
	"items":      {func(s *spec) { s.Items = []string{"a"} }, func(s *spec) { s.Items = []string{"b"} }, func(s *spec) { s.Items = nil }},
	"startAfter": {func(s *spec) { s.StartAfter = new(metav1.NewTime(at)) }, func(s *spec) { s.StartAfter = new(metav1.NewTime(at.Add(time.Second))) }, func(s *spec) { s.StartAfter = nil }},
	"onFailure":  {func(s *spec) { s.OnFailure = handler("a") }, func(s *spec) { s.OnFailure = handler("b") }, func(s *spec) { s.OnFailure = nil }},
}

func cpus(quantity string) *v1alpha1.JobResources {
	return &v1alpha1.JobResources{CPU: new(resource.MustParse(quantity))}
}

func policy() *v1alpha1.FailurePolicy {
	return &v1alpha1.FailurePolicy{Rules: []v1alpha1.FailureRule{{Action: v1alpha1.ActionFail, ExitCodes: []int32{1}}}}
}

func handler(command string) *v1alpha1.FailureHandler {
	return &v1alpha1.FailureHandler{Command: []string{command}}
}

// expectImmutable makes a Job, changes it and expects to be told that this may not be.
func expectImmutable(t *testing.T, job *v1alpha1.Job, change func(*spec), want string) {
	t.Helper()
	g := NewWithT(t)
	g.Expect(env.Client.Create(t.Context(), job)).To(Succeed())
	change(&job.Spec)
	err := env.Client.Update(t.Context(), job)
	g.Expect(apierrors.IsInvalid(err)).To(BeTrue(), "%v", err)
	g.Expect(err.Error()).To(ContainSubstring(want))
}

func TestJobIsImmutable(t *testing.T) {
	namespace := env.Namespace(t, nil)
	const onlyThese = "only suspend, priority and ttlSecondsAfterFinished may be changed: make a new Job"
	n := 0
	job := func() *testutil.JobBuilder {
		n++
		return testutil.MakeJob(namespace, fmt.Sprint("job-", n), "pool")
	}
	for field, s := range settings {
		t.Run(field+" changed", func(t *testing.T) {
			expectImmutable(t, job().Spec(s.set).Obj(), s.change, field+" is immutable: make a new Job")
		})
		t.Run(field+" added", func(t *testing.T) { expectImmutable(t, job().Obj(), s.set, onlyThese) })
		t.Run(field+" removed", func(t *testing.T) {
			expectImmutable(t, job().Spec(s.set).Obj(), s.remove, onlyThese)
		})
	}
	for field, change := range map[string]func(*spec){
		"pool":                          func(s *spec) { s.Pool = "other" },
		"command":                       func(s *spec) { s.Command = []string{"false"} },
		"terminationGracePeriodSeconds": func(s *spec) { s.TerminationGracePeriodSeconds = new(int32(11)) },
		"execution":                     func(s *spec) { s.Execution = v1alpha1.AtMostOnce },
	} {
		t.Run(field+" changed", func(t *testing.T) {
			expectImmutable(t, job().Obj(), change, field+" is immutable: make a new Job")
		})
	}
	t.Run("http changed", func(t *testing.T) {
		expectImmutable(t, job().HTTP(get).Obj(), func(s *spec) { s.HTTP.Path = "/b" }, "http is immutable: make a new Job")
	})
	t.Run("command becomes http", func(t *testing.T) {
		expectImmutable(t, job().Obj(), func(s *spec) { s.Command, s.HTTP = nil, &get }, onlyThese)
	})
	t.Run("processors changed to an exponent", func(t *testing.T) {
		expectImmutable(t, job().CPU("1").Obj(), func(s *spec) { s.Resources = cpus("1e999999999") }, cpu)
	})
	t.Run("files changed", func(t *testing.T) {
		expectImmutable(t, job().Files(10).Obj(), func(s *spec) { s.Resources.Files = new(int32(11)) }, "resources is immutable")
	})
	t.Run("memory changed", func(t *testing.T) {
		expectImmutable(t, job().Memory("1Gi").Obj(), func(s *spec) { s.Resources.Memory = new(resource.MustParse("2Gi")) }, "resources is immutable")
	})
	t.Run("memory added", func(t *testing.T) {
		expectImmutable(t, job().CPU("1").Obj(), func(s *spec) { s.Resources.Memory = new(resource.MustParse("2Gi")) }, "resources is immutable")
	})
}

// All fields of a Job's spec must be known to these tests.
func TestEachFieldIsMutableOrNot(t *testing.T) {
	g := NewWithT(t)
	known := []string{"pool", "command", "http", "terminationGracePeriodSeconds", "execution", "suspend", "priority", "ttlSecondsAfterFinished"}
	for field := range settings {
		known = append(known, field)
	}
	var fields []string
	for field := range properties(schemaOf(t, "jobs.workerpool.dev"), "spec") {
		fields = append(fields, field)
	}
	g.Expect(fields).To(ConsistOf(known))
}

func TestJobsSuspensionPriorityAndTTLMayChange(t *testing.T) {
	g := NewWithT(t)
	job := testutil.MakeJob(env.Namespace(t, nil), "demo", "pool").Args("-v").Env("a", "1").WorkingDir("/").
		CPU("1").StartAfter(at).Timeout(1).Items("a", "b").Parallelism(1).OnFailure("true").OnExitCodes(v1alpha1.ActionFail, 1).Obj()
	g.Expect(env.Client.Create(t.Context(), job)).To(Succeed())
	for range 2 {
		job.Spec.Suspend = new(!*job.Spec.Suspend)
		job.Spec.Priority = new(*job.Spec.Priority - 500)
		job.Spec.TTLSecondsAfterFinished = new(int32(0))
		g.Expect(env.Client.Update(t.Context(), job)).To(Succeed())
	}
	g.Expect(job.Spec.Suspend).To(HaveValue(BeFalse()))
	g.Expect(job.Spec.Priority).To(HaveValue(Equal(int32(-1000))))
	job.Spec.TTLSecondsAfterFinished = nil
	g.Expect(env.Client.Update(t.Context(), job)).To(Succeed())
	g.Expect(job.Spec.TTLSecondsAfterFinished).To(BeNil())
}

// A Go client writes amounts and times in its own way: 0.5 as 500m, and whole seconds.
func TestJobMayBeWrittenAnew(t *testing.T) {
	g := NewWithT(t)
	namespace := env.Namespace(t, nil)
	g.Expect(env.Client.Create(t.Context(), fromYAML(t, namespace, "Job",
		`{pool: demo, command: ["true"], resources: {cpu: 0.50, memory: 1024Ki}, startAfter: "2030-01-02T03:04:05.6+01:00"}`))).
		NotTo(Succeed(), "cpu must be quoted")
	g.Expect(env.Client.Create(t.Context(), fromYAML(t, namespace, "Job",
		`{pool: demo, command: ["true"], resources: {cpu: "0.50", memory: 1024Ki}, startAfter: "2030-01-02T03:04:05.6+01:00"}`))).To(Succeed())
	job := &v1alpha1.Job{}
	g.Expect(env.Client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "demo"}, job)).To(Succeed())
	job.Spec.Priority = new(int32(1))
	g.Expect(env.Client.Update(t.Context(), job)).To(Succeed())

	patch := client.RawPatch(types.MergePatchType, []byte(`{"spec":{"resources":{"cpu":"501m"}}}`))
	g.Expect(env.Client.Patch(t.Context(), job, patch)).To(MatchError(ContainSubstring("resources is immutable")))
}
