package crd

import (
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
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
		noLifecycle = "the job container may not set lifecycle: the worker's agent ends its jobs by itself"
		noPreStop   = "the job container may not set lifecycle.preStop: the worker's agent holds it there"
		port        = "port must be set for the handler HTTP, and for no other"
		noReset     = "recycle.resetCommand is for the handler Exec: for HTTP, have the server clean up after each request, or set recycle.maxJobs"
	)
	hook := &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"true"}}}}
	with := func(change func(*v1alpha1.WorkerPoolSpec)) *testutil.PoolBuilder { return pool().Spec(change) }
	scaling := func(least, most int32) *testutil.PoolBuilder { return pool().Autoscaling(least, most) }
	reset := func(r v1alpha1.RecycleSpec) *testutil.PoolBuilder {
		return with(recycle(r))
	}
	update := func(surge, unavailable int32) v1alpha1.UpdateSpec {
		return v1alpha1.UpdateSpec{MaxSurge: new(surge), MaxUnavailable: new(unavailable)}
	}
	for name, tc := range map[string]struct {
		pool *testutil.PoolBuilder
		want string
	}{
		"name too long":        {testutil.MakePool(namespace, strings.Repeat("a", 53)), "metadata.name must be a DNS label of at most 52 characters"},
		"name with a dot":      {testutil.MakePool(namespace, "a.b"), "metadata.name must be a DNS label of at most 52 characters"},
		"unknown container":    {pool().Container("other"), "container must be the name of one of template.spec.containers"},
		"command":              {pool().Template(job(func(c *corev1.Container) { c.Command = []string{"sh"} })), noCommand},
		"command, named":       {pool().Container("job").Template(second(func(c *corev1.Container) { c.Command = []string{"sh"} })), noCommand},
		"liveness probe":       {pool().Template(job(func(c *corev1.Container) { c.LivenessProbe = probe() })), noProbes},
		"readiness probe":      {pool().Template(job(func(c *corev1.Container) { c.ReadinessProbe = probe() })), noProbes},
		"startup probe":        {pool().Template(job(func(c *corev1.Container) { c.StartupProbe = probe() })), noProbes},
		"probe, named":         {pool().Container("job").Template(second(func(c *corev1.Container) { c.LivenessProbe = probe() })), noProbes},
		"lifecycle":            {pool().Template(job(func(c *corev1.Container) { c.Lifecycle = hook })), noLifecycle},
		"lifecycle, named":     {pool().Container("job").Template(second(func(c *corev1.Container) { c.Lifecycle = hook })), noLifecycle},
		"restart policy":       {pool().Template(func(t *corev1.PodTemplateSpec) { t.Spec.RestartPolicy = corev1.RestartPolicyNever }), "template.spec.restartPolicy must be Always"},
		"host's processes":     {pool().Template(func(t *corev1.PodTemplateSpec) { t.Spec.HostPID = true }), "template.spec.hostPID may not be true"},
		"shared processes":     {pool().Template(func(t *corev1.PodTemplateSpec) { t.Spec.ShareProcessNamespace = new(true) }), "template.spec.shareProcessNamespace may not be true"},
		"negative replicas":    {pool().Replicas(-1), "spec.replicas"},
		"too many replicas":    {pool().Replicas(10001), "spec.replicas"},
		"too many slots":       {pool().Slots(257), "spec.slots"},
		"too large a queue":    {pool().Capacity(100001), "spec.queue.capacity"},
		"negative drain time":  {pool().DrainTimeout(-1), "spec.drainTimeoutSeconds"},
		"HTTP's preStop":       {pool().HTTP(80).Template(job(func(c *corev1.Container) { c.Lifecycle = hook })), noPreStop},
		"preStop, named":       {pool().HTTP(80).Container("job").Template(second(func(c *corev1.Container) { c.Lifecycle = hook })), noPreStop},
		"HTTP without a port":  {pool().Handler(v1alpha1.HandlerSpec{Type: v1alpha1.HandlerHTTP}), port},
		"Exec with a port":     {pool().Handler(v1alpha1.HandlerSpec{Type: v1alpha1.HandlerExec, Port: new(int32(80))}), port},
		"a port alone":         {pool().Handler(v1alpha1.HandlerSpec{Port: new(int32(80))}), port},
		"unknown handler":      {pool().Handler(v1alpha1.HandlerSpec{Type: "GRPC"}), `spec.handler.type: Unsupported value: "GRPC": supported values: "Exec", "HTTP"`},
		"port 0":               {pool().HTTP(0), "spec.handler.port in body should be greater than or equal to 1"},
		"port 65536":           {pool().HTTP(65536), "spec.handler.port in body should be less than or equal to 65535"},
		"negative aging":       {pool().Aging(-1), "spec.queue.agingSeconds in body should be greater than or equal to 0"},
		"too slow an aging":    {pool().Aging(31536001), "spec.queue.agingSeconds in body should be less than or equal to 31536000"},
		"negative retention":   {pool().Retain(-1), "spec.retention.maxFinished in body should be greater than or equal to 0"},
		"too much retention":   {pool().Retain(1000001), "spec.retention.maxFinished in body should be less than or equal to 1000000"},
		"no defaults":          {pool().Defaults(v1alpha1.JobDefaults{}), "spec.jobDefaults in body should have at least 1 properties"},
		"default retries":      {pool().Defaults(v1alpha1.JobDefaults{MaxRetries: new(int32(-1))}), "spec.jobDefaults.maxRetries in body should be greater than or equal to 0"},
		"default backoff":      {pool().Defaults(v1alpha1.JobDefaults{Backoff: &v1alpha1.Backoff{Factor: new(int32(0))}}), "spec.jobDefaults.backoff.factor in body should be greater than or equal to 1"},
		"default timeout":      {pool().Defaults(v1alpha1.JobDefaults{TimeoutSeconds: new(int32(0))}), "spec.jobDefaults.timeoutSeconds in body should be greater than or equal to 1"},
		"default time to live": {pool().Defaults(v1alpha1.JobDefaults{TTLSecondsAfterFinished: new(int32(-1))}), "spec.jobDefaults.ttlSecondsAfterFinished in body should be greater than or equal to 0"},
		"default processors":   {pool().Defaults(v1alpha1.JobDefaults{Resources: cpus("0")}), cpu},
		"default files":        {pool().Defaults(v1alpha1.JobDefaults{Resources: &v1alpha1.JobResources{Files: new(int32(3))}}), "spec.jobDefaults.resources.files in body should be greater than or equal to 4"},
		"no limits":            {with(func(s *v1alpha1.WorkerPoolSpec) { s.Limits = &v1alpha1.PoolLimits{} }), "spec.limits in body should have at least 1 properties"},
		"limit of 0 cpu":       {with(func(s *v1alpha1.WorkerPoolSpec) { s.Limits = &v1alpha1.PoolLimits{CPU: new(resource.MustParse("0"))} }), cpu},
		"limit of 0 files":     {with(func(s *v1alpha1.WorkerPoolSpec) { s.Limits = &v1alpha1.PoolLimits{Files: new(int32(0))} }), "spec.limits.files in body should be greater than or equal to 1"},
		"no update":            {with(func(s *v1alpha1.WorkerPoolSpec) { s.Update = update(0, 0) }), "maxSurge and maxUnavailable may not both be 0: no worker could be replaced"},
		"negative surge":       {with(func(s *v1alpha1.WorkerPoolSpec) { s.Update = update(-1, 1) }), "spec.update.maxSurge in body should be greater than or equal to 0"},
		"negative unavailable": {with(func(s *v1alpha1.WorkerPoolSpec) { s.Update = update(1, -1) }), "spec.update.maxUnavailable in body should be greater than or equal to 0"},
		"no recycling":         {with(func(s *v1alpha1.WorkerPoolSpec) { s.Recycle = &v1alpha1.RecycleSpec{} }), "spec.recycle in body should have at least 1 properties"},
		"recycling after 0":    {with(func(s *v1alpha1.WorkerPoolSpec) { s.Recycle = &v1alpha1.RecycleSpec{MaxJobs: new(int32(0))} }), "spec.recycle.maxJobs in body should be greater than or equal to 1"},
		"recycling at once":    {with(func(s *v1alpha1.WorkerPoolSpec) { s.Recycle = &v1alpha1.RecycleSpec{MaxAgeSeconds: new(int32(59))} }), "spec.recycle.maxAgeSeconds in body should be greater than or equal to 60"},
		"empty reset":          {reset(v1alpha1.RecycleSpec{MaxJobs: new(int32(1)), ResetCommand: []string{""}}), "resetCommand must begin with the name of a program"},
		"too long a reset":     {reset(v1alpha1.RecycleSpec{ResetCommand: slices.Repeat([]string{"x"}, 65)}), "spec.recycle.resetCommand: Too many: 65: must have at most 64 items"},
		"too long a word":      {reset(v1alpha1.RecycleSpec{ResetCommand: []string{"echo", strings.Repeat("x", 32769)}}), "spec.recycle.resetCommand[1]: Too long: may not be more than 32768"},
		"a reset of no time":   {reset(v1alpha1.RecycleSpec{ResetCommand: []string{"true"}, ResetTimeoutSeconds: new(int32(0))}), "spec.recycle.resetTimeoutSeconds in body should be greater than or equal to 1"},
		"too slow a reset":     {reset(v1alpha1.RecycleSpec{ResetCommand: []string{"true"}, ResetTimeoutSeconds: new(int32(3601))}), "spec.recycle.resetTimeoutSeconds in body should be less than or equal to 3600"},
		"time for no reset":    {reset(v1alpha1.RecycleSpec{ResetTimeoutSeconds: new(int32(5))}), "resetTimeoutSeconds is for pools with resetCommand: set that too, or leave both out"},
		"HTTP's reset":         {reset(v1alpha1.RecycleSpec{ResetCommand: []string{"true"}}).HTTP(80), noReset},
		"lost too soon":        {with(func(s *v1alpha1.WorkerPoolSpec) { s.WorkerLostTimeoutSeconds = new(int32(29)) }), "spec.workerLostTimeoutSeconds in body should be greater than or equal to 30"},
		"scaled twice":         {scaling(1, 5).Replicas(3), "replicas may not be set beside autoscaling, which chooses the number of workers: remove one of the two"},
		"more than the most":   {scaling(6, 5), "minReplicas may not be larger than maxReplicas"},
		"no most":              {scaling(0, 0), "spec.autoscaling.maxReplicas"},
		"negative least":       {scaling(-1, 5), "spec.autoscaling.minReplicas in body should be greater than or equal to 0"},
		"no wait": {with(func(s *v1alpha1.WorkerPoolSpec) {
			s.Autoscaling = &v1alpha1.AutoscalingSpec{MaxReplicas: 1, TargetWaitSeconds: new(int32(0))}
		}), "spec.autoscaling.targetWaitSeconds in body should be greater than or equal to 1"},
		"negative delay": {with(func(s *v1alpha1.WorkerPoolSpec) {
			s.Autoscaling = &v1alpha1.AutoscalingSpec{MaxReplicas: 1, ScaleDownDelaySeconds: new(int32(-1))}
		}), "spec.autoscaling.scaleDownDelaySeconds in body should be greater than or equal to 0"},
		"no containers": {pool().Template(func(t *corev1.PodTemplateSpec) { t.Spec.Containers = []corev1.Container{} }), "must have at least one container"},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			err := env.Client.Create(t.Context(), tc.pool.Obj())
			g.Expect(apierrors.IsInvalid(err)).To(BeTrue(), "%v", err)
			g.Expect(err.Error()).To(ContainSubstring(tc.want))
		})
	}
}

var allDefaults = v1alpha1.JobDefaults{
	MaxRetries: new(int32(3)), Backoff: &v1alpha1.Backoff{}, TimeoutSeconds: new(int32(60)),
	Resources: cpus("500m"), TTLSecondsAfterFinished: new(int32(0)),
}

func recycle(r v1alpha1.RecycleSpec) func(*v1alpha1.WorkerPoolSpec) {
	return func(s *v1alpha1.WorkerPoolSpec) { s.Recycle = &r }
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
		"server": pool("server").HTTP(8080).Template(job(func(c *corev1.Container) {
			c.Command, c.ReadinessProbe = []string{"serve"}, probe()
			c.Lifecycle = &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"true"}}}}
		})),
		"server that sees all": pool("all").HTTP(8080).Template(func(t *corev1.PodTemplateSpec) { t.Spec.ShareProcessNamespace = new(true) }),
		"strict order":         pool("strict").Aging(0),
		"all kept":             pool("keep").Retain(0),
		"a default of each":    pool("defaults").Defaults(allDefaults),
		"a reset":              pool("reset").Spec(recycle(v1alpha1.RecycleSpec{ResetCommand: []string{"sh", "-c", "true"}})),
		"a large, slow reset":  pool("large").Spec(recycle(v1alpha1.RecycleSpec{ResetCommand: slices.Repeat([]string{strings.Repeat("x", 16384)}, 64), ResetTimeoutSeconds: new(int32(3600))})),
		"HTTP, recycled":       pool("served").HTTP(80).Spec(recycle(v1alpha1.RecycleSpec{MaxJobs: new(int32(1))})),
		"processes not shared": pool("own").Template(func(t *corev1.PodTemplateSpec) { t.Spec.ShareProcessNamespace = new(false) }),
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
	g.Expect(pool.Spec.Handler).To(Equal(v1alpha1.HandlerSpec{Type: v1alpha1.HandlerExec}))
	g.Expect(pool.Spec.Queue).To(Equal(v1alpha1.QueueSpec{Capacity: 1000, AgingSeconds: new(int32(300))}))
	g.Expect(pool.Spec.JobDefaults).To(BeNil())
	g.Expect(pool.Spec.Retention.MaxFinished).To(HaveValue(Equal(int32(1000))))
	g.Expect(pool.Spec.DrainTimeoutSeconds).To(HaveValue(Equal(int32(300))))
	g.Expect(pool.Spec.Template.Labels).To(HaveKeyWithValue("team", "a"))
}

// What a pool says in part is completed.
func TestWorkerPoolDefaultsWithinItsParts(t *testing.T) {
	g := NewWithT(t)
	pool := testutil.MakePool(env.Namespace(t, nil), "demo").Capacity(7).
		Defaults(v1alpha1.JobDefaults{Backoff: &v1alpha1.Backoff{Factor: new(int32(1))}}).Obj()
	g.Expect(env.Client.Create(t.Context(), pool)).To(Succeed())
	g.Expect(pool.Spec.Queue).To(Equal(v1alpha1.QueueSpec{Capacity: 7, AgingSeconds: new(int32(300))}))
	g.Expect(pool.Spec.JobDefaults).To(Equal(&v1alpha1.JobDefaults{Backoff: &v1alpha1.Backoff{
		InitialSeconds: new(int32(1)), Factor: new(int32(1)), MaxSeconds: new(int32(300)),
	}}))
}

func TestWorkerPoolDefaultsOfItsAutoscaling(t *testing.T) {
	g := NewWithT(t)
	pool := testutil.MakePool(env.Namespace(t, nil), "demo").Spec(func(s *v1alpha1.WorkerPoolSpec) {
		s.Autoscaling = &v1alpha1.AutoscalingSpec{MaxReplicas: 5}
	}).Obj()
	g.Expect(env.Client.Create(t.Context(), pool)).To(Succeed())
	g.Expect(pool.Spec.Autoscaling).To(Equal(&v1alpha1.AutoscalingSpec{
		MinReplicas: new(int32(0)), MaxReplicas: 5, TargetWaitSeconds: new(int32(10)), ScaleDownDelaySeconds: new(int32(60)),
	}))

	// `kubectl scale` and other autoscalers are refused.
	scale := &autoscalingv1.Scale{Spec: autoscalingv1.ScaleSpec{Replicas: 5}}
	err := env.Client.SubResource("scale").Update(t.Context(), pool, client.WithSubResourceBody(scale))
	g.Expect(err).To(MatchError(ContainSubstring("replicas may not be set beside autoscaling")))
	err = env.Client.SubResource("scale").Patch(t.Context(), pool, client.RawPatch(types.MergePatchType, []byte(`{"spec":{"replicas":5}}`)))
	g.Expect(err).To(MatchError(ContainSubstring("replicas may not be set beside autoscaling")))
}

// Each field of a pool may be changed, its defaults for Jobs too.
func TestWorkerPoolMayChange(t *testing.T) {
	g := NewWithT(t)
	pool := testutil.MakePool(env.Namespace(t, nil), "demo").Defaults(v1alpha1.JobDefaults{Resources: cpus("1")}).Obj()
	g.Expect(env.Client.Create(t.Context(), pool)).To(Succeed())
	pool.Spec.JobDefaults.Resources = cpus("2")
	pool.Spec.Handler = v1alpha1.HandlerSpec{Type: v1alpha1.HandlerHTTP, Port: new(int32(80))}
	pool.Spec.Queue.AgingSeconds, pool.Spec.Retention.MaxFinished = new(int32(0)), new(int32(0))
	g.Expect(env.Client.Update(t.Context(), pool)).To(Succeed())
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
