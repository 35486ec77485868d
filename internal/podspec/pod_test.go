package podspec

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

var update = flag.Bool("update", false, "write the golden files anew")

var agent = Agent{
	Image:     "ghcr.io/workerpool-dev/workerpool:v0",
	Addresses: []string{"10.96.0.17:443", "workerpool-dispatch.workerpool-system.svc:443"},
	CA:        "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
}

// plain is the smallest pool, changed in some ways.
func plain(changes ...func(*v1alpha1.WorkerPoolSpec)) *v1alpha1.WorkerPool {
	pool := &v1alpha1.WorkerPool{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "demo"}}
	pool.Spec.Template.Spec.Containers = []corev1.Container{{Name: "worker", Image: "busybox:1"}}
	for _, change := range changes {
		change(&pool.Spec)
	}
	return pool
}

// rich is a pool that sets much of what the operator sets too.
func rich() *v1alpha1.WorkerPool {
	pool := plain()
	pool.ObjectMeta = metav1.ObjectMeta{Namespace: "team-a", Name: "render", UID: "0b1f"}
	pool.Spec.Slots, pool.Spec.Container, pool.Spec.DrainTimeoutSeconds = 2, "blender", new(int32(60))
	t := &pool.Spec.Template
	t.Labels = map[string]string{"team": "a", v1alpha1.LabelPool: "other", v1alpha1.LabelOrdinal: "99"}
	t.Annotations = map[string]string{"note": "x", annotationLocalVolumes: "scratch"}
	t.Spec.InitContainers = []corev1.Container{{Name: "models", Image: "models:1"}}
	t.Spec.Volumes = []corev1.Volume{{Name: "scratch", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	t.Spec.Containers = append(t.Spec.Containers, corev1.Container{
		Name: "blender", Image: "blender:4", Args: []string{"--never-used"},
		Env: []corev1.EnvVar{{Name: "HOME", Value: "/scratch"}, {Name: "WORKERPOOL_SLOTS", Value: "100"}},
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2"), corev1.ResourceMemory: resource.MustParse("1Gi")},
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("2Gi"), "nvidia.com/gpu": resource.MustParse("1")},
		},
		VolumeMounts: []corev1.VolumeMount{{Name: "scratch", MountPath: "/scratch"}},
	})
	return pool
}

// serving makes a pool one of HTTP.
func serving(s *v1alpha1.WorkerPoolSpec) {
	s.Handler = v1alpha1.HandlerSpec{Type: v1alpha1.HandlerHTTP, Port: new(int32(8080))}
}

func TestPodAsAWhole(t *testing.T) {
	http := rich()
	serving(&http.Spec)
	testGolden(t, "pod.yaml", Pod(rich(), 3, agent))
	testGolden(t, "http.yaml", Pod(http, 3, agent))
}

func testGolden(t *testing.T, file string, pod *corev1.Pod) {
	t.Helper()
	got, err := yaml.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; -update writes it anew. Got:\n%s", path, got)
	}
}

// A pod without a grace period is gone from the API before its processes have ended.
func TestAWorkerAlwaysHasAGracePeriod(t *testing.T) {
	for name, change := range map[string]func(*v1alpha1.WorkerPoolSpec){
		"the pool's":     func(s *v1alpha1.WorkerPoolSpec) { s.DrainTimeoutSeconds = new(int32(0)) },
		"the template's": func(s *v1alpha1.WorkerPoolSpec) { s.Template.Spec.TerminationGracePeriodSeconds = new(int64(0)) },
	} {
		t.Run(name, func(t *testing.T) {
			NewWithT(t).Expect(Pod(plain(change), 0, agent).Spec.TerminationGracePeriodSeconds).To(HaveValue(Equal(int64(1))))
		})
	}
}

func TestPodKeepsWhatTheTemplateDecides(t *testing.T) {
	g := NewWithT(t)
	pod := Pod(plain(func(s *v1alpha1.WorkerPoolSpec) {
		s.Template.Spec.TerminationGracePeriodSeconds = new(int64(7))
		s.Template.Spec.AutomountServiceAccountToken = new(true)
		s.Template.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{RunAsUser: new(int64(0))}
	}), 0, agent)
	g.Expect(pod.Spec.TerminationGracePeriodSeconds).To(HaveValue(Equal(int64(7))))
	g.Expect(pod.Spec.AutomountServiceAccountToken).To(HaveValue(BeTrue()))
	g.Expect(pod.Spec.Containers[0].SecurityContext).To(Equal(&corev1.SecurityContext{RunAsUser: new(int64(0))}))
}

// The agent does not know another one.
func TestTheAgentsTerminationLogIsAtItsDefault(t *testing.T) {
	g := NewWithT(t)
	elsewhere := func(s *v1alpha1.WorkerPoolSpec) { s.Template.Spec.Containers[0].TerminationMessagePath = "/elsewhere" }
	g.Expect(Pod(plain(elsewhere), 0, agent).Spec.Containers[0].TerminationMessagePath).To(BeEmpty())
	g.Expect(Pod(plain(elsewhere, serving), 0, agent).Spec.Containers[0].TerminationMessagePath).To(Equal("/elsewhere"), "it is the server's")
}

func TestOurContainersAreNeverRoot(t *testing.T) {
	g := NewWithT(t)
	user := func(pod *corev1.PodSecurityContext) *int64 { return agentSecurity(pod).RunAsUser }
	g.Expect(user(nil)).To(BeNil(), "the image's own user, or the platform's")
	g.Expect(user(&corev1.PodSecurityContext{RunAsUser: new(int64(1000))})).To(BeNil())
	g.Expect(user(&corev1.PodSecurityContext{RunAsUser: new(int64(0))})).To(HaveValue(Equal(int64(agentUser))))
}

func TestInstallerNeitherEnlargesThePodNorChangesItsQualityOfService(t *testing.T) {
	list := func(cpu, memory string) corev1.ResourceList {
		l := corev1.ResourceList{}
		for name, amount := range map[corev1.ResourceName]string{corev1.ResourceCPU: cpu, corev1.ResourceMemory: memory} {
			if amount != "" {
				l[name] = resource.MustParse(amount)
			}
		}
		return l
	}
	requirements := func(requests, limits corev1.ResourceList) corev1.ResourceRequirements {
		return corev1.ResourceRequirements{Requests: requests, Limits: limits}
	}
	for name, tc := range map[string]struct{ job, want corev1.ResourceRequirements }{
		"nothing said":     {},
		"guaranteed":       {job: requirements(list("1", "1Gi"), list("1", "1Gi")), want: requirements(list("1", "1Gi"), list("1", "1Gi"))},
		"limits only":      {job: requirements(nil, list("1", "1Gi")), want: requirements(nil, list("1", "1Gi"))},
		"requests only":    {job: requirements(list("2", "32Mi"), nil), want: requirements(list("2", "32Mi"), nil)},
		"some of each":     {job: requirements(list("2", ""), list("", "1Gi")), want: requirements(list("2", ""), list("", "1Gi"))},
		"devices stay out": {job: corev1.ResourceRequirements{Limits: corev1.ResourceList{"gpu": resource.MustParse("1")}}},
		"storage": {
			job:  corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse("1Gi")}},
			want: corev1.ResourceRequirements{Limits: corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse("1Gi")}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := installerResources(&corev1.Container{Resources: tc.job})
			if !equality.Semantic.DeepEqual(got, tc.want) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

// The template's variables are for its Jobs, whatever they are called, and no flag of the agent's depends on them.
func TestTheTemplatesVariablesStay(t *testing.T) {
	g := NewWithT(t)
	own := []corev1.EnvVar{
		{Name: "WORKERPOOL_SLOTS", Value: "9"}, {Name: "WORKERPOOL_CA", Value: "x"}, {Name: "WORKERPOOL_HTTP_PORT", Value: "tcp://10.0.0.1:80"},
	}
	with := Pod(plain(func(s *v1alpha1.WorkerPoolSpec) { s.Template.Spec.Containers[0].Env = own }), 0, agent).Spec.Containers[0]
	g.Expect(with.Env).To(Equal(own))
	g.Expect(with.Args).NotTo(ContainElement(HavePrefix("--hide")))
	without := Pod(plain(), 0, agent).Spec.Containers[0]
	g.Expect(without.Env).To(Equal([]corev1.EnvVar{{Name: "WORKERPOOL_SLOTS", Value: "1"}}))
	g.Expect(without.Args).To(Equal(append(with.Args, "--hide=WORKERPOOL_SLOTS")))
}

func TestOrdinal(t *testing.T) {
	for name, want := range map[string]int{
		"demo-0": 0, "demo-17": 17, "demo-01": -1, "demo-": -1, "demo--1": -1, "demo-x": -1, "demo": -1, "other-1": -1, "demo-1-2": -1, "demo-+1": -1,
	} {
		got, ok := Ordinal("demo", name)
		if ok != (want >= 0) || ok && got != want {
			t.Errorf("Ordinal(%q) = %d, %t, want %d", name, got, ok, want)
		}
	}
}

// The hash is on pods that run now: if it changes with the operator's version, all are replaced.
func TestHashIsStable(t *testing.T) {
	g := NewWithT(t)
	g.Expect(Hash(rich())).To(Equal("t4ln2purrc"))
	g.Expect(Hash(plain())).To(Equal("puekya5jmg"))
	exec := plain(func(s *v1alpha1.WorkerPoolSpec) { s.Handler.Type = v1alpha1.HandlerExec })
	g.Expect(Hash(exec)).To(Equal("puekya5jmg"), "the default, written out")
	g.Expect(Hash(plain(serving))).To(Equal("tty6mg3ne5"))
}

func TestHashTellsTemplatesApart(t *testing.T) {
	type spec = v1alpha1.WorkerPoolSpec
	near := func(selector *metav1.LabelSelector) func(*spec) {
		terms := []corev1.PodAffinityTerm{{LabelSelector: selector}}
		return func(s *spec) {
			s.Template.Spec.Affinity = &corev1.Affinity{PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: terms}}
		}
	}
	for name, tc := range map[string]struct {
		pool, other *v1alpha1.WorkerPool
		same        bool
	}{
		"image":                  {plain(), plain(func(s *spec) { s.Template.Spec.Containers[0].Image = "busybox:2" }), false},
		"label":                  {plain(), plain(func(s *spec) { s.Template.Labels = map[string]string{"a": "b"} }), false},
		"container":              {plain(), plain(func(s *spec) { s.Container = "worker" }), false},
		"selects none or all":    {plain(near(nil)), plain(near(&metav1.LabelSelector{})), false},
		"handler":                {plain(), plain(serving), false},
		"port":                   {plain(serving), plain(serving, func(s *spec) { s.Handler.Port = new(int32(8081)) }), false},
		"replicas":               {plain(), plain(func(s *spec) { s.Replicas = new(int32(5)) }), true},
		"slots":                  {plain(), plain(func(s *spec) { s.Slots = 5 }), false},
		"queue":                  {plain(), plain(func(s *spec) { s.Queue.Capacity = 5 }), true},
		"drain timeout":          {plain(), plain(func(s *spec) { s.DrainTimeoutSeconds = new(int32(5)) }), true},
		"reset command":          {plain(), plain(func(s *spec) { s.Recycle = &v1alpha1.RecycleSpec{ResetCommand: []string{"true"}} }), true},
		"empty and unset labels": {plain(), plain(func(s *spec) { s.Template.Labels = map[string]string{} }), true},
	} {
		t.Run(name, func(t *testing.T) {
			if same := Hash(tc.pool) == Hash(tc.other); same != tc.same {
				t.Errorf("the same hash: %t, want %t", same, tc.same)
			}
		})
	}
}

// TestPoolIsNeverChanged makes a pod, changes all of it that could be shared, and looks at the pool.
func TestPoolIsNeverChanged(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.MapOf(rapid.StringMatching(`[a-z]{1,3}|workerpool\.dev/[a-z]{1,3}`), rapid.StringN(0, 3, -1))
		env := rapid.SliceOf(rapid.SampledFrom([]string{"A", "WORKERPOOL_SLOTS", "WORKERPOOL_CA"}))
		pool := rich()
		pool.Spec.Template.Labels, pool.Spec.Template.Annotations = words.Draw(t, "labels"), words.Draw(t, "annotations")
		// Room behind the slices is where an append would write.
		containers := pool.Spec.Template.Spec.Containers
		for _, name := range env.Draw(t, "env") {
			containers[1].Env = append(containers[1].Env, corev1.EnvVar{Name: name})
		}
		if rapid.Bool().Draw(t, "http") {
			serving(&pool.Spec)
			containers[1].Lifecycle = &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{}}
		}
		before := pool.DeepCopy()

		pod := Pod(pool, rapid.IntRange(0, 99999).Draw(t, "ordinal"), agent)
		for _, c := range pod.Spec.Containers {
			clear(c.Env)
			clear(c.VolumeMounts)
			clear(c.Resources.Limits)
		}
		clear(pod.Spec.Containers)
		clear(pod.Spec.Volumes)
		clear(pod.Labels)
		clear(pod.Annotations)
		if !equality.Semantic.DeepEqual(pool, before) {
			t.Fatal("the pool was changed")
		}
		if len(pod.Name) > 63 || !strings.HasPrefix(pod.Name, pool.Name) {
			t.Fatalf("name %q", pod.Name)
		}
	})
}

func TestOnlyTheOperatorSaysThatAnAgentKeepsProofs(t *testing.T) {
	pool := rich()
	if pod := Pod(pool, 0, agent); !KeepsProofs(pod) {
		t.Error("a new pod's agent keeps none")
	}
	hash := Hash(pool)
	pool.Spec.Template.Annotations[annotationProofs] = "false"
	if pod := Pod(pool, 0, agent); !KeepsProofs(pod) {
		t.Error("the template has a say")
	}
	delete(pool.Spec.Template.Annotations, annotationProofs)
	if Hash(pool) != hash {
		t.Error("it is part of the template's hash")
	}
	if KeepsProofs(&corev1.Pod{}) {
		t.Error("a pod of the version before keeps them")
	}
}
