package crd

import (
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/internal/testutil"
)

// job is the container that runs jobs in the pools of these tests.
func job(change func(*corev1.Container)) func(*corev1.PodTemplateSpec) {
	return func(t *corev1.PodTemplateSpec) { change(&t.Spec.Containers[0]) }
}

// second adds a container to the template, called job, which spec.container may name.
func second(change func(*corev1.Container)) func(*corev1.PodTemplateSpec) {
	return func(t *corev1.PodTemplateSpec) {
		c := corev1.Container{Name: "job", Image: "busybox:1"}
		change(&c)
		t.Spec.Containers = append(t.Spec.Containers, c)
	}
}

func probe() *corev1.Probe {
	return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"true"}}}}
}

func TestWorkerPoolIsRefused(t *testing.T) {
	namespace := env.Namespace(t, nil)
	pool := func() *testutil.PoolBuilder { return testutil.MakePool(namespace, "demo") }
	const (
		noCommand   = "the job container may not set command"
		noProbes    = "the job container may not set probes"
		noLifecycle = "the job container may not set lifecycle"
	)
	hook := &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"true"}}}}
	for name, tc := range map[string]struct {
		pool *testutil.PoolBuilder
		want string
	}{
		"name too long":       {testutil.MakePool(namespace, strings.Repeat("a", 53)), "metadata.name must be a DNS label of at most 52 characters"},
		"name with a dot":     {testutil.MakePool(namespace, "a.b"), "metadata.name must be a DNS label of at most 52 characters"},
		"unknown container":   {pool().Container("other"), "container must be the name of one of template.spec.containers"},
		"command":             {pool().Template(job(func(c *corev1.Container) { c.Command = []string{"sh"} })), noCommand},
		"command, named":      {pool().Container("job").Template(second(func(c *corev1.Container) { c.Command = []string{"sh"} })), noCommand},
		"liveness probe":      {pool().Template(job(func(c *corev1.Container) { c.LivenessProbe = probe() })), noProbes},
		"readiness probe":     {pool().Template(job(func(c *corev1.Container) { c.ReadinessProbe = probe() })), noProbes},
		"startup probe":       {pool().Template(job(func(c *corev1.Container) { c.StartupProbe = probe() })), noProbes},
		"probe, named":        {pool().Container("job").Template(second(func(c *corev1.Container) { c.LivenessProbe = probe() })), noProbes},
		"lifecycle":           {pool().Template(job(func(c *corev1.Container) { c.Lifecycle = hook })), noLifecycle},
		"lifecycle, named":    {pool().Container("job").Template(second(func(c *corev1.Container) { c.Lifecycle = hook })), noLifecycle},
		"restart policy":      {pool().Template(func(t *corev1.PodTemplateSpec) { t.Spec.RestartPolicy = corev1.RestartPolicyNever }), "template.spec.restartPolicy must be Always"},
		"host's processes":    {pool().Template(func(t *corev1.PodTemplateSpec) { t.Spec.HostPID = true }), "template.spec.hostPID may not be true"},
		"shared processes":    {pool().Template(func(t *corev1.PodTemplateSpec) { t.Spec.ShareProcessNamespace = new(true) }), "template.spec.shareProcessNamespace may not be true"},
		"negative replicas":   {pool().Replicas(-1), "spec.replicas"},
		"too many replicas":   {pool().Replicas(10001), "spec.replicas"},
		"too many slots":      {pool().Slots(257), "spec.slots"},
		"too large a queue":   {pool().Capacity(100001), "spec.queue.capacity"},
		"negative drain time": {pool().DrainTimeout(-1), "spec.drainTimeoutSeconds"},
		"no containers":       {pool().Template(func(t *corev1.PodTemplateSpec) { t.Spec.Containers = []corev1.Container{} }), "must have at least one container"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			err := env.Client.Create(t.Context(), tc.pool.Obj())
			g.Expect(apierrors.IsInvalid(err)).To(BeTrue(), "%v", err)
			g.Expect(err.Error()).To(ContainSubstring(tc.want))
		})
	}
}

func TestWorkerPoolIsTaken(t *testing.T) {
	namespace := env.Namespace(t, nil)
	pool := func(name string) *testutil.PoolBuilder { return testutil.MakePool(namespace, name) }
	for name, b := range map[string]*testutil.PoolBuilder{
		"longest name":                 pool(strings.Repeat("a", 52)),
		"no replicas":                  pool("none").Replicas(0),
		"command of another container": pool("other").Container("job").Template(job(func(c *corev1.Container) { c.Command = []string{"sh"} })).Template(second(func(*corev1.Container) {})),
		"probes of another container":  pool("probes").Template(second(func(c *corev1.Container) { c.LivenessProbe = probe() })),
		"restart policy Always":        pool("always").Template(func(t *corev1.PodTemplateSpec) { t.Spec.RestartPolicy = corev1.RestartPolicyAlways }),
		"processes not shared":         pool("own").Template(func(t *corev1.PodTemplateSpec) { t.Spec.ShareProcessNamespace = new(false) }),
	} {
		t.Run(name, func(t *testing.T) {
			NewWithT(t).Expect(env.Client.Create(t.Context(), b.Obj())).To(Succeed())
		})
	}
}

func TestWorkerPoolDefaults(t *testing.T) {
	g := NewWithT(t)
	pool := testutil.MakePool(env.Namespace(t, nil), "demo").Template(func(t *corev1.PodTemplateSpec) {
		t.Labels = map[string]string{"team": "a"}
	}).Obj()
	g.Expect(env.Client.Create(t.Context(), pool)).To(Succeed())
	g.Expect(pool.Spec.Replicas).To(BeNil(), "an autoscaler must be able to own it")
	g.Expect(pool.Spec.Slots).To(Equal(int32(1)))
	g.Expect(pool.Spec.Queue.Capacity).To(Equal(int32(1000)))
	g.Expect(pool.Spec.DrainTimeoutSeconds).To(HaveValue(Equal(int32(300))))
	g.Expect(pool.Spec.Template.Labels).To(HaveKeyWithValue("team", "a"))
}

// Scale is what `kubectl scale` and autoscalers use.
func TestWorkerPoolScale(t *testing.T) {
	g := NewWithT(t)
	pool := testutil.MakePool(env.Namespace(t, nil), "demo").Replicas(1).Obj()
	g.Expect(env.Client.Create(t.Context(), pool)).To(Succeed())
	pool.Status.Replicas, pool.Status.Selector = new(int32(1)), "workerpool.dev/pool=demo"
	g.Expect(env.Client.Status().Update(t.Context(), pool)).To(Succeed())

	scale := &autoscalingv1.Scale{}
	g.Expect(env.Client.SubResource("scale").Get(t.Context(), pool, scale)).To(Succeed())
	g.Expect(scale.Status).To(Equal(autoscalingv1.ScaleStatus{Replicas: 1, Selector: "workerpool.dev/pool=demo"}))

	scale.Spec.Replicas = 5
	g.Expect(env.Client.SubResource("scale").Update(t.Context(), pool, client.WithSubResourceBody(scale))).To(Succeed())
	g.Expect(env.Client.Get(t.Context(), client.ObjectKeyFromObject(pool), pool)).To(Succeed())
	g.Expect(pool.Spec.Replicas).To(HaveValue(Equal(int32(5))))
}
