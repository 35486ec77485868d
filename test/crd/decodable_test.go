package crd

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/internal/testutil"
)

var (
	seed    = flag.Uint64("crd.seed", 0, "Which objects are made from the schemas; 0 stands for a seed of the clock's.")
	objects = flag.Int("crd.objects", 300, "How many objects are made from each schema.")
)

// What the API server takes, a client with our types must be able to read, and at once.
func TestWhatIsTakenCanBeDecoded(t *testing.T) {
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-crd.seed=%d", *seed)
	namespace := env.Namespace(t, nil)
	config := rest.CopyConfig(env.Config)
	config.QPS = -1
	c, err := client.New(config, client.Options{})
	NewWithT(t).Expect(err).NotTo(HaveOccurred())
	for kind, tc := range map[string]struct {
		crd  string
		spec map[string]any
	}{
		"Job":        {"jobs.workerpool.dev", map[string]any{"pool": "demo", "command": []any{"true"}}},
		"WorkerPool": {"workerpools.workerpool.dev", map[string]any{"template": map[string]any{"spec": map[string]any{"containers": []any{map[string]any{"name": "a"}}}}}},
	} {
		t.Run(kind, func(t *testing.T) {
			g := NewWithT(t)
			root := schemaOf(t, tc.crd)
			random := bounds{rand.New(rand.NewPCG(*seed, uint64(len(kind))))}
			base := object(namespace, kind, tc.spec)
			g.Expect(c.Create(t.Context(), base.DeepCopy())).To(Succeed())
			taken := 0
			for range *objects {
				o, err := random.try(t, c, base, root)
				switch {
				case err == nil:
					taken++
					decodes(t, o)
				case !apierrors.IsInvalid(err) && !apierrors.IsBadRequest(err):
					t.Errorf("-crd.seed=%d: %v: %v", *seed, o.Object, err)
				}
			}
			g.Expect(taken).To(BeNumerically(">", *objects/10), "the generator must make good ones")
			g.Expect(taken).To(BeNumerically("<", *objects), "the generator must make bad ones")
		})
	}
}

// decodes fails the test if an ordinary client can't decode an object as it is stored.
func decodes(t *testing.T, o *unstructured.Unstructured) {
	t.Helper()
	data, err := o.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, _, err := serializer.NewCodecFactory(testutil.Scheme()).UniversalDeserializer().Decode(data, nil, nil)
		done <- err
	}()
	select {
	case err = <-done:
		if err != nil {
			t.Errorf("-crd.seed=%d: the API server has taken %s: %v", *seed, data, err)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("-crd.seed=%d: the API server has taken what takes ages to decode: %s", *seed, data)
	}
}

// bounds makes values at the bounds of a schema, and beyond them.
type bounds struct{ *rand.Rand }

// try changes a few fields of an object, or of its status, and has the API server say what it would store.
func (r bounds) try(t *testing.T, c client.Client, base *unstructured.Unstructured, root map[string]any) (*unstructured.Unstructured, error) {
	t.Helper()
	part := r.one("spec", "spec", "status").(string)
	schema := properties(root)[part].(map[string]any)
	value := map[string]any{}
	if part == "spec" {
		value = base.DeepCopy().Object["spec"].(map[string]any)
	}
	for range 1 + r.IntN(2) {
		r.change(value, schema)
	}
	// As JSON, which the client's own decoder need not understand: 1.5 and 1e30 are sent as they are.
	body, err := json.Marshal(map[string]any{part: value})
	if err != nil {
		t.Fatal(err)
	}
	o := base.DeepCopy()
	if part == "status" {
		return o, c.Status().Patch(t.Context(), o, client.RawPatch(types.MergePatchType, body),
			&client.SubResourcePatchOptions{PatchOptions: client.PatchOptions{DryRun: []string{"All"}}})
	}
	o.SetName("other")
	o.Object[part] = value
	return o, c.Create(t.Context(), o, client.DryRunAll)
}

// change gives one field of an object, at any depth, another value. Each kind of field has its turn as often: there are
// few times among many texts.
func (r bounds) change(object, schema map[string]any) {
	byKind := map[string][][]string{}
	fields(schema, nil, func(kind string, path []string) { byKind[kind] = append(byKind[kind], path) })
	kind := r.one(asAny(slices.Sorted(maps.Keys(byKind)))...).(string)
	path := byKind[kind][r.IntN(len(byKind[kind]))]
	for _, name := range path[:len(path)-1] {
		schema = properties(schema)[name].(map[string]any)
		if items, ok := schema["items"].(map[string]any); ok {
			schema = items
			list, _ := object[name].([]any)
			if len(list) == 0 {
				list = []any{least(schema)}
			}
			object[name] = list
			object = list[0].(map[string]any)
			continue
		}
		if _, ok := object[name].(map[string]any); !ok {
			object[name] = least(schema)
		}
		object = object[name].(map[string]any)
	}
	last := path[len(path)-1]
	if object[last] = nil; r.IntN(20) > 0 {
		object[last] = r.value(properties(schema)[last].(map[string]any))
	}
}

// fields tells of each field that is not an object of fields itself, nor a list of such, with its kind and its path.
func fields(schema map[string]any, path []string, tell func(kind string, path []string)) {
	for _, name := range slices.Sorted(maps.Keys(properties(schema))) {
		field, path := properties(schema)[name].(map[string]any), append(slices.Clone(path), name)
		inner := field
		for _, key := range []string{"items", "additionalProperties"} {
			if nested, ok := inner[key].(map[string]any); ok {
				inner = nested
			}
		}
		_, patterned := inner["pattern"]
		switch {
		case len(properties(inner)) > 0:
			fields(inner, path, tell)
		case inner["x-kubernetes-int-or-string"] == true:
			tell(fmt.Sprint("int or string, with a pattern: ", patterned), path)
		default:
			tell(fmt.Sprint(inner["type"], inner["format"]), path)
		}
	}
}

func (r bounds) value(schema map[string]any) any {
	if items, ok := schema["items"].(map[string]any); ok {
		return []any{r.value(items)}
	}
	if values, ok := schema["additionalProperties"].(map[string]any); ok {
		return map[string]any{"cpu": r.value(values), "ä": r.value(values)}
	}
	if values, ok := schema["enum"].([]any); ok && r.IntN(4) > 0 {
		return r.one(values...)
	}
	_, patterned := schema["pattern"]
	switch {
	case schema["x-kubernetes-int-or-string"] == true && patterned:
		return r.quantity()
	case schema["x-kubernetes-int-or-string"] == true:
		return r.one(r.number(schema), r.text(schema))
	case schema["format"] == "date-time":
		return r.time()
	case schema["type"] == "integer" || schema["type"] == "number":
		return r.number(schema)
	case schema["type"] == "boolean":
		return r.one(true, false, "true", int64(1))
	}
	return r.text(schema)
}

func (r bounds) number(schema map[string]any) any {
	numbers := []any{int64(0), int64(1), int64(-1), int64(1<<31 - 1), int64(1 << 31), int64(-1 << 31), int64(-1<<31 - 1), int64(1<<63 - 1),
		int64(-1 << 63), 1.0, 1.5, 1e3, 1e18, 1e19, 1e30, -1e30, 1e300, int64(3_000_000_000)}
	for _, bound := range []string{"minimum", "maximum"} {
		switch n := schema[bound].(type) {
		case int64:
			numbers = append(numbers, n, n-1, n+1)
		case float64:
			numbers = append(numbers, n, n-1, n+1)
		}
	}
	return r.one(numbers...)
}

func (r bounds) text(schema map[string]any) any {
	texts := []any{"a", "", "1", "null", "ä世🙂", "a\x00b", "\ufffd", "1e30", "2020-01-01T00:00:00Z", int64(7)}
	if most, ok := schema["maxLength"].(int64); ok && most < 1<<16 {
		texts = append(texts, strings.Repeat("x", int(most)), strings.Repeat("世", int(most)))
	}
	return r.one(texts...)
}

func (r bounds) quantity() any {
	if r.IntN(2) == 0 {
		return generator(r).quantity()
	}
	var value any
	_ = json.Unmarshal([]byte(r.one(asAny(badQuantities)...).(string)), &value)
	return r.one(value, "1e99", "1e-99", "-1E", "+.5", "1.", 1.5, 1e18, 1e19, 1e30, int64(1<<63-1), strings.Repeat("9", 64), "1e-100", "1E+1.0")
}

func (r bounds) time() any {
	return r.one(append(asAny(badTimes), "2020-01-01T00:00:00Z", "2020-01-01T00:00:00.123456Z", "2020-01-01T00:00:00.1+01:00", "0000-01-01T00:00:00Z",
		"9999-12-31T23:59:59.999999-23:59", "2020-01-01T00:00:00,5Z", "2020-01-01T00:00:00.Z", "2020-01-01T00:00:00.1234567890Z", "")...)
}

func (r bounds) one(values ...any) any { return generator(r).one(values...) }

// least is the least that a schema wants.
func least(schema map[string]any) any {
	if values, ok := schema["enum"].([]any); ok {
		return values[0]
	}
	switch schema["type"] {
	case "integer":
		if n, ok := schema["minimum"].(int64); ok {
			return n
		}
		return int64(1)
	case "boolean":
		return true
	case "array":
		return []any{least(schema["items"].(map[string]any))}
	case "object":
		object := map[string]any{}
		required, _ := schema["required"].([]any)
		for _, name := range required {
			object[name.(string)] = least(properties(schema)[name.(string)].(map[string]any))
		}
		return object
	}
	switch {
	case schema["format"] == "date-time":
		return "2020-01-01T00:00:00Z"
	case schema["x-kubernetes-int-or-string"] == true:
		return int64(1)
	}
	return "a"
}

func asAny[T any](values []T) []any {
	out := make([]any, 0, len(values))
	for _, v := range values {
		out = append(out, v)
	}
	return out
}
