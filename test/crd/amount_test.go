package crd

import (
	"encoding/json"
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// An amount is worth the same in a Job, in a pool and in a pod, and what no pod takes none of them takes. The values are
// JSON.
func TestAmountsAreThoseOfAPod(t *testing.T) {
	namespace := env.Namespace(t, nil)
	for _, amount := range []string{
		`1`, `2.0`, `1e3`, `"1"`, `"0.5"`, `".5"`, `"1."`, `"+1"`, `"1.5"`, `"500m"`, `"1500m"`, `"0.5m"`, `"1u"`, `"1n"`, `"0.1n"`, `"1k"`, `"1e3"`, `"1E3"`,
		`"1e-3"`, `"5E-1"`, `"1e+2"`, `"0.5Gi"`, `"1.5Gi"`, `"0.3Ki"`, `"1Ki"`, `"64Mi"`, `"123456.7Ki"`, `"100M"`, `"1G"`, `"512m"`, `"1e-99"`, `"2T"`, `"1Pi"`,
		`"-1"`, `-1`, `"abc"`, `""`, `"1 Gi"`, `"1GB"`, `"1gi"`, `"1KI"`, `"0x10"`, `"1,5"`, `"1_000"`, `true`, `[1]`, `{}`, `"Inf"`, `"1e1.5"`,
	} {
		t.Run(amount, func(t *testing.T) {
			g := NewWithT(t)
			var value any
			g.Expect(json.Unmarshal([]byte(amount), &value)).To(Succeed())
			want, err := inPod(t, namespace, value)
			g.Expect(err == nil || refused(err)).To(BeTrue(), "%v", err)
			for _, resource := range []string{"cpu", "memory"} {
				if resource == "cpu" && err == nil && want.Cmp(aMillion) >= 0 {
					continue // a bound of our own
				}
				for place, take := range places {
					got, ownErr := take(t, namespace, resource, value)
					g.Expect(ownErr == nil || refused(ownErr)).To(BeTrue(), "%v", ownErr)
					g.Expect(ownErr == nil).To(Equal(err == nil), "%s of %s: %v; in a pod: %v", resource, place, ownErr, err)
					if err == nil {
						g.Expect(got.Value()).To(Equal(want.Value()), "%s of %s, rounded up", resource, place)
						g.Expect(got.MilliValue()).To(Equal(want.MilliValue()), "%s of %s, in thousandths, rounded up", resource, place)
					}
				}
			}
		})
	}
}

var aMillion = resource.MustParse("1M")

// A number with a fraction is neither of what x-kubernetes-int-or-string stands for, and rules can look at no other schema
// that would take it. Whoever writes one is told where.
func TestANumberWithAFractionNeedsQuotes(t *testing.T) {
	namespace := env.Namespace(t, nil)
	for place, take := range places {
		_, err := take(t, namespace, "cpu", 0.5)
		NewWithT(t).Expect(err).To(MatchError(ContainSubstring(`cpu in body must be of type integer,string: "number"`)), place)
	}
}

func refused(err error) bool { return apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) }

func inPod(t *testing.T, namespace string, value any) (resource.Quantity, error) {
	o := object(namespace, "", map[string]any{"containers": []any{map[string]any{
		"name": "a", "image": "a", "resources": map[string]any{"requests": map[string]any{"memory": value}},
	}}})
	o.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Pod"))
	pod := &corev1.Pod{}
	err := taken(t, o, pod)
	if err != nil {
		return resource.Quantity{}, err
	}
	return *pod.Spec.Containers[0].Resources.Requests.Memory(), nil
}

// places are where our kinds have amounts.
var places = map[string]func(t *testing.T, namespace, name string, value any) (*resource.Quantity, error){
	"a Job's resources": func(t *testing.T, namespace, name string, value any) (*resource.Quantity, error) {
		job := &v1alpha1.Job{}
		o := object(namespace, "Job", map[string]any{"pool": "demo", "command": []any{"true"}, "resources": map[string]any{name: value}})
		if err := taken(t, o, job); err != nil {
			return nil, err
		}
		return pick(name, job.Spec.Resources.CPU, job.Spec.Resources.Memory), nil
	},
	"a pool's limits": func(t *testing.T, namespace, name string, value any) (*resource.Quantity, error) {
		pool := &v1alpha1.WorkerPool{}
		o := poolOf(t, namespace, `{"containers":[{"name":"a","image":"a"}]}`)
		o.Object["spec"].(map[string]any)["limits"] = map[string]any{name: value}
		if err := taken(t, o, pool); err != nil {
			return nil, err
		}
		return pick(name, pool.Spec.Limits.CPU, pool.Spec.Limits.Memory), nil
	},
	"a pool's defaults": func(t *testing.T, namespace, name string, value any) (*resource.Quantity, error) {
		pool := &v1alpha1.WorkerPool{}
		o := poolOf(t, namespace, `{"containers":[{"name":"a","image":"a"}]}`)
		o.Object["spec"].(map[string]any)["jobDefaults"] = map[string]any{"resources": map[string]any{name: value}}
		if err := taken(t, o, pool); err != nil {
			return nil, err
		}
		return pick(name, pool.Spec.JobDefaults.Resources.CPU, pool.Spec.JobDefaults.Resources.Memory), nil
	},
}

func pick(name string, cpu, memory *resource.Quantity) *resource.Quantity {
	if name == "cpu" {
		return cpu
	}
	return memory
}

// taken has the API server say what it would store, and decodes that.
func taken(t *testing.T, o *unstructured.Unstructured, into any) error {
	t.Helper()
	if err := env.Client.Create(t.Context(), o, client.DryRunAll); err != nil {
		return err
	}
	data, err := o.MarshalJSON()
	if err != nil {
		return err
	}
	return json.Unmarshal(data, into)
}
