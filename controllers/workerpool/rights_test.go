package workerpool

import (
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/source"
	"sigs.k8s.io/yaml"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// grantTheManifestsRights gives a user the ClusterRole of the manifests, and nothing else.
func (f *fixture) grantTheManifestsRights(user string) {
	f.t.Helper()
	manifest, err := os.ReadFile(filepath.Join("..", "..", "config", "rbac", "role.yaml"))
	f.Expect(err).NotTo(HaveOccurred())
	role := &rbacv1.ClusterRole{}
	f.Expect(yaml.Unmarshal(manifest[:firstDocument(manifest)], role)).To(Succeed())
	f.Expect(role.Kind).To(Equal("ClusterRole"))
	role.Name = user
	f.create(role)
	f.create(&rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: user},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: user},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}},
	})
}

// firstDocument is the length of the first document of a file of YAML that begins with a separator.
func firstDocument(file []byte) int {
	const separator = "\n---\n"
	for i := len(separator); i+len(separator) <= len(file); i++ {
		if string(file[i:i+len(separator)]) == separator {
			return i
		}
	}
	return len(file)
}

// What the controller does in a pool's life, it does with no more rights than the manifests give it.
func TestTheRightsOfTheManifestsAreEnough(t *testing.T) {
	f := newFixture(t, nil)
	f.grantTheManifestsRights("operator-of-" + f.namespace)
	as := *env
	as.Config = rest.CopyConfig(env.Config)
	as.Config.Impersonate = rest.ImpersonationConfig{UserName: "operator-of-" + f.namespace, Groups: []string{"system:authenticated"}}
	as.Manager(t, f.namespace, func(mgr manager.Manager) error {
		r := New(mgr.GetClient(), mgr.GetAPIReader(), f.engine, mgr.GetEventRecorder("workerpool"), agent, clock.RealClock{})
		return r.SetupWithManager(t.Context(), mgr, source.Channel(f.engine.changes, &handler.EnqueueRequestForObject{}), ready)
	})

	pool := f.pool().Replicas(2).Obj()
	f.create(pool)
	f.expectPods("demo-0", "demo-1")
	f.ready("demo-0", "demo-1")
	f.Eventually(f.condition(v1alpha1.PoolReady)).Should(HavePrefix("True AllWorkersReady"))
	f.bind("demo-0")
	f.setAside("demo-0", func(pod *corev1.Pod) { delete(pod.Labels, v1alpha1.LabelPool) })
	f.Eventually(func() (string, error) {
		list := &eventsv1.EventList{}
		err := f.client.List(t.Context(), list, client.InNamespace(f.namespace))
		for i := range list.Items {
			if list.Items[i].Regarding.Name == "demo" {
				return list.Items[i].Reason, err
			}
		}
		return "", err
	}).Should(Equal(v1alpha1.ReasonWorkerChanged))
	f.kill("demo-0")
	f.Expect(f.client.Delete(t.Context(), pool)).To(Succeed())
	f.Eventually(f.gone).Should(BeTrue())
}
