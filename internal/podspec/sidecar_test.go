package podspec

import (
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"

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
	pool.UID = "0b1f"
	pod := Pod(pool, 0, agent)
	got := pod.Spec.Containers[0]
	preStop := got.Lifecycle.PreStop
	got.Lifecycle.PreStop = nil
	g.Expect(got).To(Equal(pool.Spec.Template.Spec.Containers[0]))
	g.Expect(preStop.HTTPGet.Path).To(Equal("/drain"))
	g.Expect(preStop.HTTPGet.HTTPHeaders).To(ConsistOf(corev1.HTTPHeader{Name: "Workerpool-Drain-Key", Value: "0b1f"}))
	g.Expect(preStop.HTTPGet.Port).To(Equal(pod.Spec.InitContainers[0].ReadinessProbe.HTTPGet.Port))
	g.Expect(pod.Spec.HostPID).To(BeTrue())
	g.Expect(pod.Spec.ShareProcessNamespace).To(HaveValue(BeTrue()))
}

func TestSidecarResources(t *testing.T) {
	list := func(cpu, memory string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
	}
	memory := func(most string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(most)}
	}
	small := corev1.ResourceRequirements{Requests: list("10m", "32Mi"), Limits: memory("100Mi")}
	bounded := corev1.ResourceRequirements{Requests: list("10m", "32Mi"), Limits: list("500m", "100Mi")}
	kept := corev1.ResourceRequirements{Requests: list("200m", "100Mi"), Limits: list("200m", "100Mi")}
	equal := corev1.ResourceRequirements{Requests: list("1", "1Gi"), Limits: list("1", "1Gi")}
	limits := corev1.ResourceRequirements{Limits: list("1", "1Gi")}
	unequal := corev1.ResourceRequirements{Requests: list("1", "1Gi"), Limits: list("1", "2Gi")}
	for name, tc := range map[string]struct {
		pod        *corev1.ResourceRequirements
		containers []corev1.ResourceRequirements
		slots      int
		want       corev1.ResourceRequirements
	}{
		"nothing said":       {containers: []corev1.ResourceRequirements{{}}, want: small},
		"burstable":          {containers: []corev1.ResourceRequirements{unequal}, want: bounded},
		"guaranteed":         {containers: []corev1.ResourceRequirements{equal, limits}, want: kept},
		"one not guaranteed": {containers: []corev1.ResourceRequirements{equal, {}}, want: bounded},
		"said for the pod":   {containers: []corev1.ResourceRequirements{{}}, pod: &limits},
		"many slots": {
			containers: []corev1.ResourceRequirements{{}}, slots: 256,
			want: corev1.ResourceRequirements{Requests: list("10m", "32Mi"), Limits: memory("1120Mi")},
		},
	} {
		t.Run(name, func(t *testing.T) {
			spec := &corev1.PodSpec{Resources: tc.pod}
			for _, r := range tc.containers {
				spec.Containers = append(spec.Containers, corev1.Container{Resources: r})
			}
			if got := sidecarResources(spec, max(1, tc.slots)); !equality.Semantic.DeepEqual(got, tc.want) {
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

func TestWhatAWorkerPodSaysOfItself(t *testing.T) {
	http := rich()
	serving(&http.Spec)
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
		"commands: installed":       {pool: plain(), init: of(containerAgent, ended, none), job: of("worker", waiting, none)},
		"commands: runs":            {pool: plain(), job: of("worker", running, none), want: true},
		"commands: starts again":    {pool: plain(), job: of("worker", waiting, ended), want: true},
		"commands: ended":           {pool: plain(), job: of("worker", ended, none), want: true},
		"HTTP: image is pulled":     {pool: plain(serving), init: of(containerAgent, running, none), job: of("worker", waiting, none)},
		"HTTP: runs":                {pool: plain(serving), init: of(containerAgent, running, none), job: of("worker", running, none), want: true},
		"HTTP: both start again":    {pool: plain(serving), init: of(containerAgent, waiting, ended), job: of("worker", waiting, ended), want: true},
		"HTTP: agent never started": {pool: plain(serving), init: of(containerAgent, waiting, none), job: of("worker", running, none)},
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
