package crd

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// Values that an ordinary schema takes and that Go can't decode, or only in minutes.
var (
	badTimes = []string{
		"2020-01-01t00:00:00z", "2020-01-01T00:00:00z", "2020-01-01t00:00:00Z", "2020-01-01T00:00:00+99:00", "2020-01-01T00:00:00-14:99",
		"2020-01-01T00:00:00x5Z", "2020-01-01T00:00:00Zt", "2020-01-01T00:00:00ZT00", "2020-02-30T00:00:00Z", "2020-13-01T00:00:00Z",
		"2020-01-01T24:00:00Z", "2020-01-01T23:59:60Z", "2020-01-01T00:00:00", "20200-01-01T00:00:00Z", "2020-01-01T00:00:00Z\n",
	}
	badQuantities = []string{
		`"1e1.5"`, `"1e.5"`, `"1e1."`, `"1e-99999999"`, `"1e99999999"`, `"1E2147483648"`, `"1e-2147483649"`, `1e300`, `-1e300`,
		`"` + strings.Repeat("9", 65) + `"`, `"0.` + strings.Repeat("0", 65) + `1"`,
	}
	badPorts = []string{"3000000000", "-3000000000", "2147483648", "1e30", "1.5"}
)

func TestATimeThatGoCannotReadIsRefused(t *testing.T) {
	namespace := env.Namespace(t, nil)
	for _, value := range badTimes {
		t.Run(value, func(t *testing.T) {
			o := object(namespace, "Job", map[string]any{"pool": "demo", "command": []any{"true"}, "startAfter": value})
			refuse(t, o, "spec.startAfter")
		})
	}
}

func TestATimeOfAStatusThatGoCannotReadIsRefused(t *testing.T) {
	namespace := env.Namespace(t, nil)
	job := object(namespace, "Job", map[string]any{"pool": "demo", "command": []any{"true"}})
	NewWithT(t).Expect(env.Client.Create(t.Context(), job)).To(Succeed())
	attempt := func(field string) func(string) string {
		return func(value string) string { return fmt.Sprintf(`{"token":"1.1",%q:%q}`, field, value) }
	}
	condition := func(value string) string {
		return fmt.Sprintf(`[{"type":"Complete","status":"True","reason":"x","message":"","lastTransitionTime":%q}]`, value)
	}
	plain := func(value string) string { return fmt.Sprintf("%q", value) }
	ended := func(value string) string { return "[" + attempt("endTime")(value) + "]" }
	const short = "2020-01-01T00:00:00Z" // a metav1.Time, and no metav1.MicroTime
	for name, tc := range map[string]struct {
		field  string
		value  func(string) string
		values []string
	}{
		"queuedTime":      {"queuedTime", plain, append(badTimes, short)},
		"startTime":       {"startTime", plain, append(badTimes, short, "2020-01-01T00:00:00.5Z", "2020-01-01T00:00:00.1234567Z")},
		"completionTime":  {"completionTime", plain, append(badTimes, short)},
		"of an attempt":   {"attempt", attempt("startTime"), append(badTimes, short)},
		"of an ended one": {"endedAttempts", ended, append(badTimes, short)},
		"of a condition":  {"conditions", condition, badTimes},
	} {
		t.Run(name, func(t *testing.T) {
			for _, value := range tc.values {
				patch := fmt.Sprintf(`{"status":{%q:%s}}`, tc.field, tc.value(value))
				err := env.Client.Status().Patch(t.Context(), job.DeepCopy(), client.RawPatch(types.MergePatchType, []byte(patch)))
				NewWithT(t).Expect(apierrors.IsInvalid(err)).To(BeTrue(), "%s: %v", patch, err)
			}
		})
	}
}

func TestAQuantityThatGoCannotReadIsRefused(t *testing.T) {
	namespace := env.Namespace(t, nil)
	for _, template := range []string{
		`{"containers":[{"name":"a","resources":{"requests":{"cpu":%s}}}]}`,
		`{"containers":[{"name":"a","resources":{"limits":{"memory":%s}}}]}`,
		`{"containers":[{"name":"a"}],"initContainers":[{"name":"b","resources":{"limits":{"example.com/gpu":%s}}}]}`,
		`{"containers":[{"name":"a"}],"overhead":{"cpu":%s}}`,
		`{"containers":[{"name":"a"}],"resources":{"requests":{"cpu":%s}}}`,
		`{"containers":[{"name":"a"}],"volumes":[{"name":"v","emptyDir":{"sizeLimit":%s}}]}`,
		`{"containers":[{"name":"a","env":[{"name":"E","valueFrom":{"resourceFieldRef":{"resource":"limits.cpu","divisor":%s}}}]}]}`,
		`{"containers":[{"name":"a"}],"volumes":[{"name":"v","ephemeral":{"volumeClaimTemplate":{"spec":{"resources":{"requests":{"storage":%s}}}}}}]}`,
	} {
		for _, value := range badQuantities {
			refuse(t, poolOf(t, namespace, fmt.Sprintf(template, value)), "spec.template.spec")
		}
	}
}

func TestAPortThatGoCannotReadIsRefused(t *testing.T) {
	namespace := env.Namespace(t, nil)
	sidecar := `{"containers":[{"name":"a"}],"initContainers":[{"name":"b","restartPolicy":"Always",%s}]}`
	for _, field := range []string{
		`"livenessProbe":{"httpGet":{"port":%s}}`, `"readinessProbe":{"tcpSocket":{"port":%s}}`, `"startupProbe":{"grpc":{"port":%s}}`,
		`"lifecycle":{"postStart":{"httpGet":{"port":%s}}}`, `"lifecycle":{"preStop":{"tcpSocket":{"port":%s}}}`,
		`"ports":[{"containerPort":%s}]`, `"livenessProbe":{"periodSeconds":%s}`,
	} {
		for _, value := range badPorts {
			refuse(t, poolOf(t, namespace, fmt.Sprintf(sidecar, fmt.Sprintf(field, value))), "spec.template.spec")
		}
	}
}

// What users write stays good.
func TestTheUsualTimesQuantitiesAndPortsAreTaken(t *testing.T) {
	namespace := env.Namespace(t, nil)
	g := NewWithT(t)
	for i, value := range []string{
		"2030-01-01T00:00:00Z", "2030-02-28T23:59:59+14:00", "2030-01-01T00:00:00.123456789-03:30", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z",
	} {
		o := object(namespace, "Job", map[string]any{"pool": "demo", "command": []any{"true"}, "startAfter": value})
		o.SetName(fmt.Sprint("job-", i))
		g.Expect(env.Client.Create(t.Context(), o)).To(Succeed(), value)
		g.Expect(env.Client.Get(t.Context(), client.ObjectKeyFromObject(o), &v1alpha1.Job{})).To(Succeed(), value)
	}
	for i, value := range []string{`"1"`, `"500m"`, `"0.5"`, `".5"`, `"1."`, `"1e3"`, `"1E-3"`, `"1e+12"`, `"64Mi"`, `"1Ei"`, `"100n"`, `2`, `1000000000000`} {
		for j, port := range []string{"80", `"http"`, "65535", "8e1", "80.0"} {
			o := poolOf(t, namespace, fmt.Sprintf(`{"containers":[{"name":"a","resources":{"requests":{"cpu":%s}}}],`+
				`"initContainers":[{"name":"b","restartPolicy":"Always","readinessProbe":{"httpGet":{"port":%s}}}]}`, value, port))
			o.SetName(fmt.Sprint("pool-", i, "-", j))
			g.Expect(env.Client.Create(t.Context(), o)).To(Succeed(), "%s %s", value, port)
			g.Expect(env.Client.Get(t.Context(), client.ObjectKeyFromObject(o), &v1alpha1.WorkerPool{})).To(Succeed(), "%s %s", value, port)
		}
	}
}

// poolOf makes a WorkerPool with this pod, in JSON.
func poolOf(t *testing.T, namespace, pod string) *unstructured.Unstructured {
	t.Helper()
	var spec map[string]any
	if err := json.Unmarshal([]byte(pod), &spec); err != nil {
		t.Fatalf("%s: %v", pod, err)
	}
	return object(namespace, "WorkerPool", map[string]any{"template": map[string]any{"spec": spec}})
}

func refuse(t *testing.T, o *unstructured.Unstructured, where string) {
	t.Helper()
	err := env.Client.Create(t.Context(), o, client.DryRunAll)
	if !apierrors.IsInvalid(err) && !apierrors.IsBadRequest(err) || !strings.Contains(err.Error(), where) {
		t.Errorf("%v: got %v", o.Object["spec"], err)
	}
}
