package podspec

import (
	"fmt"
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	"pgregory.net/rapid"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

func TestHTTPLeavesTheJobContainerAsItIs(t *testing.T) {
	g := NewWithT(t)
	pool := plain(serving, func(s *v1alpha1.WorkerPoolSpec) {
		s.Template.Spec.HostPID, s.Template.Spec.ShareProcessNamespace = true, new(true)
		c := &s.Template.Spec.Containers[0]
		c.Command, c.Args = []string{"serve"}, []string{"--fast"}
		c.LivenessProbe = &corev1.Probe{PeriodSeconds: 7}
		c.Lifecycle = &corev1.Lifecycle{
			PostStart:  &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"warm-up"}}},
			StopSignal: new(corev1.SIGUSR1),
		}
	})
	pod := Pod(pool, 0, agent)
	got := pod.Spec.Containers[0]
	preStop := got.Lifecycle.PreStop
	got.Lifecycle.PreStop = nil
	g.Expect(got).To(Equal(pool.Spec.Template.Spec.Containers[0]))
	g.Expect(preStop.HTTPGet.Path).To(Equal("/drain"))
	g.Expect(preStop.HTTPGet.Port).To(Equal(pod.Spec.InitContainers[0].ReadinessProbe.HTTPGet.Port))
	g.Expect(pod.Spec.HostPID).To(BeTrue())
	g.Expect(pod.Spec.ShareProcessNamespace).To(HaveValue(BeTrue()))
}

func TestTheAgentLeavesTheServerItsPort(t *testing.T) {
	g := NewWithT(t)
	for port, want := range map[int32]int{8080: 9808, 9808: 9809, 9809: 9808} {
		pod := Pod(plain(serving, func(s *v1alpha1.WorkerPoolSpec) { s.Handler.Port = &port }), 0, agent)
		agent := pod.Spec.InitContainers[0]
		g.Expect(agent.ReadinessProbe.HTTPGet.Port.IntValue()).To(Equal(want))
		g.Expect(pod.Spec.Containers[0].Lifecycle.PreStop.HTTPGet.Port.IntValue()).To(Equal(want))
		g.Expect(agent.Args).To(ContainElement(fmt.Sprint("--health-address=:", want)))
	}
}

// On a node's network two agents can't have the same port. Those that run commands have none.
func TestWorkersOnANodesNetworkAreKeptApart(t *testing.T) {
	g := NewWithT(t)
	onNode := func(s *v1alpha1.WorkerPoolSpec) { s.Template.Spec.HostNetwork = true }
	beside := Pod(plain(serving, onNode), 0, agent).Spec.InitContainers[0]
	g.Expect(beside.Ports).To(HaveLen(1))
	g.Expect(beside.Ports[0].ContainerPort).To(Equal(beside.ReadinessProbe.HTTPGet.Port.IntVal))
	g.Expect(Pod(plain(serving), 0, agent).Spec.InitContainers[0].Ports).To(BeEmpty())
	within := Pod(plain(onNode), 0, agent).Spec
	g.Expect(within.Containers[0].Ports).To(BeEmpty())
	g.Expect(within.Containers[0].ReadinessProbe).To(BeNil())
	g.Expect(within.Containers[0].Args).NotTo(ContainElement(HavePrefix("--health-address")))
}

func TestSidecarResources(t *testing.T) {
	list := func(cpu, memory string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
	}
	memory := func(most string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(most)}
	}
	type requirements = corev1.ResourceRequirements
	kept := requirements{Requests: list("200m", "100Mi"), Limits: list("200m", "100Mi")}
	equal := requirements{Requests: list("1", "1Gi"), Limits: list("1", "1Gi")}
	limits := requirements{Limits: list("1", "1Gi")}
	for name, tc := range map[string]struct {
		pod        *requirements
		containers []requirements
		slots      int
		want       requirements
	}{
		"nothing said":        {containers: []requirements{{}}},
		"nothing but a GPU":   {containers: []requirements{{Limits: corev1.ResourceList{"gpu": resource.MustParse("1")}}}},
		"of another said":     {containers: []requirements{{}, equal}},
		"requests only":       {containers: []requirements{{Requests: list("2", "1Gi")}}, want: requirements{Requests: list("10m", "32Mi")}},
		"memory limited":      {containers: []requirements{{Requests: list("2", "1Gi"), Limits: memory("2Gi")}}, want: requirements{Requests: list("10m", "50Mi"), Limits: memory("100Mi")}},
		"much more":           {containers: []requirements{{Requests: list("10m", "16Mi"), Limits: list("4", "8Gi")}}, want: requirements{Requests: list("10m", "32Mi"), Limits: list("500m", "100Mi")}},
		"four times as much":  {containers: []requirements{{Requests: list("1", "1Gi"), Limits: list("4", "4Gi")}}, want: requirements{Requests: list("125m", "32Mi"), Limits: list("500m", "100Mi")}},
		"less than the agent": {containers: []requirements{{Requests: list("50m", "1Gi"), Limits: list("100m", "1Gi")}}, want: requirements{Requests: list("50m", "100Mi"), Limits: list("100m", "100Mi")}},
		"guaranteed":          {containers: []requirements{equal, limits}, want: kept},
		"one not guaranteed":  {containers: []requirements{equal, {}}, want: requirements{Requests: list("500m", "100Mi"), Limits: list("500m", "100Mi")}},
		"said for the pod":    {containers: []requirements{equal}, pod: &limits},
		"many slots":          {containers: []requirements{equal}, slots: 256, want: requirements{Requests: list("200m", "1120Mi"), Limits: list("200m", "1120Mi")}},
	} {
		t.Run(name, func(t *testing.T) {
			spec := &corev1.PodSpec{Resources: tc.pod}
			for _, r := range tc.containers {
				spec.Containers = append(spec.Containers, corev1.Container{Resources: r})
			}
			got := sidecarResources(spec, &spec.Containers[0], agentMemory(max(1, tc.slots)))
			if !equality.Semantic.DeepEqual(got, tc.want) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
	if guaranteed(&corev1.PodSpec{
		InitContainers: []corev1.Container{{}}, Containers: []corev1.Container{{Resources: equal}},
	}) {
		t.Error("an init container without resources was not looked at")
	}
}

// A limit may be at most so many times the request by a LimitRange that lets the job container in.
func TestTheSidecarKeepsTheRatioOfTheJobContainer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		job := corev1.Container{Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{}, Limits: corev1.ResourceList{}}}
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			request := rapid.Int64Range(1, 1<<40).Draw(t, "request")
			limit := rapid.Int64Range(request, 1<<41).Draw(t, "limit")
			job.Resources.Requests[name] = *resource.NewMilliQuantity(request*1000, resource.DecimalSI)
			job.Resources.Limits[name] = *resource.NewMilliQuantity(limit*1000, resource.DecimalSI)
		}
		got := sidecarResources(&corev1.PodSpec{Containers: []corev1.Container{job}}, &job, agentMemory(1))
		for name, limit := range got.Limits {
			request, its, most := got.Requests[name], job.Resources.Requests[name], job.Resources.Limits[name]
			if request.Cmp(limit) > 0 || limit.AsApproximateFloat64()*its.AsApproximateFloat64() > request.AsApproximateFloat64()*most.AsApproximateFloat64()*(1+1e-9) {
				t.Fatalf("%s: %v of %v, beside %v of %v", name, &request, &limit, &its, &most)
			}
		}
	})
}

func TestWhatAWorkerPodSaysOfItself(t *testing.T) {
	http := rich()
	serving(&http.Spec)
	older := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{
		Name: "worker", Command: []string{agentPath, "run"}, Env: []corev1.EnvVar{{Name: "WORKERPOOL_SLOTS", Value: "7"}},
	}}}}
	named := plain(func(s *v1alpha1.WorkerPoolSpec) {
		s.Template.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "WORKERPOOL_SLOTS", Value: "9"}}
	})
	stranger := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "x"}}}}
	for name, tc := range map[string]struct {
		pod       *corev1.Pod
		handler   v1alpha1.HandlerType
		container string
		slots     int
	}{
		"commands":              {Pod(rich(), 0, agent), v1alpha1.HandlerExec, "blender", 2},
		"commands, plain":       {Pod(plain(), 0, agent), v1alpha1.HandlerExec, "worker", 1},
		"HTTP":                  {Pod(http, 0, agent), v1alpha1.HandlerHTTP, "blender", 2},
		"HTTP, plain":           {Pod(plain(serving), 0, agent), v1alpha1.HandlerHTTP, "worker", 1},
		"made by an older one":  {older, v1alpha1.HandlerExec, "worker", 7},
		"the user's own":        {Pod(named, 0, agent), v1alpha1.HandlerExec, "worker", 1},
		"the pod of a stranger": {stranger, v1alpha1.HandlerExec, "", 1},
	} {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			g.Expect(Handler(tc.pod)).To(Equal(tc.handler))
			g.Expect(Slots(tc.pod)).To(Equal(tc.slots))
			if tc.container == "" {
				g.Expect(JobContainer(tc.pod)).To(BeNil())
				return
			}
			g.Expect(JobContainer(tc.pod).Name).To(Equal(tc.container))
		})
	}
}

func TestStarted(t *testing.T) {
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	waiting := corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{}}
	ended := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}
	of := func(name string, state, last corev1.ContainerState) []corev1.ContainerStatus {
		return []corev1.ContainerStatus{{Name: "other", State: running}, {Name: name, State: state, LastTerminationState: last}}
	}
	none := corev1.ContainerState{}
	for name, tc := range map[string]struct {
		pool      *v1alpha1.WorkerPool
		init, job []corev1.ContainerStatus
		want      bool
	}{
		"no status":                 {pool: plain()},
		"commands: installed":       {pool: plain(), init: of(AgentContainer, ended, none), job: of("worker", waiting, none)},
		"commands: runs":            {pool: plain(), job: of("worker", running, none), want: true},
		"commands: starts again":    {pool: plain(), job: of("worker", waiting, ended), want: true},
		"commands: ended":           {pool: plain(), job: of("worker", ended, none), want: true},
		"HTTP: image is pulled":     {pool: plain(serving), init: of(AgentContainer, running, none), job: of("worker", waiting, none)},
		"HTTP: runs":                {pool: plain(serving), init: of(AgentContainer, running, none), job: of("worker", running, none), want: true},
		"HTTP: both start again":    {pool: plain(serving), init: of(AgentContainer, waiting, ended), job: of("worker", waiting, ended), want: true},
		"HTTP: agent never started": {pool: plain(serving), init: of(AgentContainer, waiting, none), job: of("worker", running, none)},
	} {
		t.Run(name, func(t *testing.T) {
			pod := Pod(tc.pool, 0, agent)
			pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses = tc.init, tc.job
			if got := Started(pod); got != tc.want {
				t.Errorf("started: %t, want %t", got, tc.want)
			}
		})
	}
}
