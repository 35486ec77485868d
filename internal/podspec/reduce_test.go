package podspec

import (
	"fmt"
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// reducible are pools whose workers request what they do in all ways that there are.
func reducible() map[string]*v1alpha1.WorkerPool {
	with := func(change func(*corev1.PodSpec)) *v1alpha1.WorkerPool {
		pool := rich()
		change(&pool.Spec.Template.Spec)
		return pool
	}
	list := func(cpu, memory string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
	}
	http := rich()
	serving(&http.Spec)
	return map[string]*v1alpha1.WorkerPool{
		"plain": plain(), "plain HTTP": plain(serving), "rich": rich(), "HTTP": http,
		"a large init container": with(func(s *corev1.PodSpec) { s.InitContainers[0].Resources.Requests = list("8", "9Gi") }),
		"overhead":               with(func(s *corev1.PodSpec) { s.Overhead = list("1", "1Gi") }),
		"resources of the pod": with(func(s *corev1.PodSpec) {
			s.Resources = &corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("7")}}
		}),
		"no job container": with(func(s *corev1.PodSpec) { s.Containers = nil }),
	}
}

func TestAReducedPoolAndAReducedPodAnswerTheSame(t *testing.T) {
	for name, pool := range reducible() {
		t.Run(name, func(t *testing.T) {
			g := NewWithT(t)
			whole, hash := Pod(pool, 0, agent), Hash(pool)
			whole.Status = corev1.PodStatus{
				InitContainerStatuses: []corev1.ContainerStatus{{Name: AgentContainer, RestartCount: 1, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}},
				ContainerStatuses:     []corev1.ContainerStatus{{Name: "blender", RestartCount: 2, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}},
			}
			pod := whole.DeepCopy()
			for range 2 { // an informer may do it again
				Reduce(pool)
				pod.Spec = ReducePod(pod)
				g.Expect(IsReduced(pool)).To(BeTrue())
				g.Expect(Hash(pool)).To(Equal(hash))
				for _, of := range []*corev1.Pod{Pod(pool, 0, agent), pod} {
					if got, want := Requests(of), Requests(whole); !equality.Semantic.DeepEqual(got, want) {
						t.Errorf("it requests %v, and %v as a whole", got, want)
					}
					g.Expect(Handler(of)).To(Equal(Handler(whole)))
					g.Expect(Slots(of)).To(Equal(Slots(whole)))
					g.Expect(jobOf(of)).To(Equal(jobOf(whole)))
				}
				g.Expect(Started(pod)).To(Equal(Started(whole)))
				g.Expect(AgentStatus(pod)).To(Equal(AgentStatus(whole)))
			}
		})
	}
}

// jobOf are the name of a pod's job container and what it requests, in words.
func jobOf(pod *corev1.Pod) string {
	c := JobContainer(pod)
	if c == nil {
		return "none"
	}
	cpu, limitsCPU := RequestOf(c, corev1.ResourceCPU)
	memory, limitsMemory := RequestOf(c, corev1.ResourceMemory)
	return fmt.Sprint(c.Name, limitsCPU, cpu.String(), limitsMemory, memory.String())
}
