package podspec

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// hashLength in characters of base32: 50 bits.
const hashLength = 10

// Hash tells templates apart: pods whose label LabelTemplateHash has another value than this are out
// of date. It covers what the user says about the pods and nothing that the operator adds, so that
// another version of the operator replaces no worker. The slots are among it: with one slot an agent
// leaves no process at all after a job, with more it must know which are whose.
func Hash(pool *v1alpha1.WorkerPool) string {
	if IsReduced(pool) {
		return pool.Annotations[hashAnnotation]
	}
	content := struct {
		Template  corev1.PodTemplateSpec `json:"template"`
		Container string                 `json:"container,omitempty"`
		HTTPPort  int32                  `json:"httpPort,omitempty"`
		Slots     int32                  `json:"slots"`
	}{pool.Spec.Template, pool.Spec.Container, httpPort(pool), max(1, pool.Spec.Slots)}
	sum := sha256.Sum256(canonical(content))
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:]))[:hashLength]
}

// canonical is JSON with sorted keys and without what the Go types of one Kubernetes version write
// out of themselves and those of another do not.
func canonical(v any) []byte {
	var tree any
	if err := json.Unmarshal(mustMarshal(v), &tree); err != nil {
		panic(fmt.Sprintf("read back JSON of %T: %v", v, err))
	}
	return mustMarshal(prune(tree))
}

// prune removes nulls, and the empty structs that the types never leave out.
func prune(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			value = prune(value)
			v[key] = value
			empty, isMap := value.(map[string]any)
			if value == nil || isMap && len(empty) == 0 && (key == "metadata" || key == "resources") {
				delete(v, key)
			}
		}
	case []any:
		for i := range v {
			v[i] = prune(v[i])
		}
	}
	return v
}

// mustMarshal panics on what can't be JSON; the API's types always can.
func mustMarshal(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("write %T as JSON: %v", v, err))
	}
	return b
}
