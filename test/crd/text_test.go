package crd

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// texts are the fields of our kinds that are texts, without those of a pool's pods, and a spec for each in which %s is
// the text.
var texts = map[string]map[string]string{
	"Job": {
		"spec.pool":                        `{pool: %s, command: [a]}`,
		"spec.command":                     `{pool: demo, command: [a, %s]}`,
		"spec.args":                        `{pool: demo, command: [a], args: [b, %s]}`,
		"spec.env.name":                    `{pool: demo, command: [a], env: [{name: %s}]}`,
		"spec.env.value":                   `{pool: demo, command: [a], env: [{name: b, value: %s}]}`,
		"spec.workingDir":                  `{pool: demo, command: [a], workingDir: %s}`,
		"spec.stdin":                       `{pool: demo, command: [a], stdin: %s}`,
		"spec.items":                       `{pool: demo, command: [a], items: [b, %s]}`,
		"spec.execution":                   `{pool: demo, command: [a], execution: %s}`,
		"spec.startAfter":                  `{pool: demo, command: [a], startAfter: %s}`,
		"spec.failurePolicy.rules.action":  `{pool: demo, command: [a], failurePolicy: {rules: [{exitCodes: [1], action: %s}]}}`,
		"spec.failurePolicy.rules.reasons": `{pool: demo, command: [a], failurePolicy: {rules: [{reasons: [%s], action: Fail}]}}`,
		"spec.onFailure.command":           `{pool: demo, command: [a], onFailure: {command: [a, %s]}}`,
		"spec.onFailure.args":              `{pool: demo, command: [a], onFailure: {command: [a], args: [%s]}}`,
		"spec.onFailure.env.name":          `{pool: demo, command: [a], onFailure: {command: [a], env: [{name: %s}]}}`,
		"spec.onFailure.env.value":         `{pool: demo, command: [a], onFailure: {command: [a], env: [{name: b, value: %s}]}}`,
		"spec.http.method":                 `{pool: demo, http: {path: /, method: %s}}`,
		"spec.http.path":                   `{pool: demo, http: {path: %s}}`,
		"spec.http.headers.name":           `{pool: demo, http: {path: /, headers: [{name: %s}]}}`,
		"spec.http.headers.value":          `{pool: demo, http: {path: /, headers: [{name: b, value: %s}]}}`,
		"spec.http.body":                   `{pool: demo, http: {path: /, body: %s}}`,
	},
	"WorkerPool": {
		"spec.container":            `{container: %s, template: {spec: {containers: [{name: a}]}}}`,
		"spec.handler.type":         `{handler: {type: %s}, template: {spec: {containers: [{name: a}]}}}`,
		"spec.recycle.resetCommand": `{recycle: {resetCommand: [a, %s]}, template: {spec: {containers: [{name: a}]}}}`,
	},
}

// A program's arguments, its variables, paths and the head of a request can't hold these characters. An input and a body
// can hold any.
func TestControlCharactersAreRefusedOrKept(t *testing.T) {
	namespace := env.Namespace(t, nil)
	kept := []string{"spec.stdin", "spec.http.body"}
	for kind, fields := range texts {
		for field, spec := range fields {
			for _, bad := range []string{`\x00`, `\x01`, `\n`, `\x1b`, `\x7f`} {
				if bad != `\x00` && !strings.HasPrefix(field, "spec.http.") {
					continue
				}
				t.Run(field+" "+bad, func(t *testing.T) {
					g := NewWithT(t)
					o := fromYAML(t, namespace, kind, fmt.Sprintf(spec, `"/x`+bad+`y"`))
					written := o.DeepCopy()
					err := env.Client.Create(t.Context(), o, client.DryRunAll)
					if slices.Contains(kept, field) {
						g.Expect(err).NotTo(HaveOccurred())
						path := strings.Split(field, ".")
						want, _, _ := unstructured.NestedString(written.Object, path...)
						got, _, _ := unstructured.NestedString(o.Object, path...)
						g.Expect(got).To(Equal(want))
						return
					}
					g.Expect(apierrors.IsInvalid(err)).To(BeTrue(), "%v", err)
					g.Expect(index.ReplaceAllString(err.Error(), "")).To(Or(
						MatchRegexp(regexp.QuoteMeta(field)+"( in body|:)"), ContainSubstring(": "+strings.TrimPrefix(field, "spec.")+" must be")))
				})
			}
		}
	}
}

var index = regexp.MustCompile(`\[\d+\]`)

// A new field must be thought of above.
func TestEachTextIsTried(t *testing.T) {
	for kind, crd := range map[string]string{"Job": "jobs.workerpool.dev", "WorkerPool": "workerpools.workerpool.dev"} {
		var found []string
		for name, field := range properties(schemaOf(t, crd), "spec") {
			if name != "template" {
				found = append(found, textsOf(field.(map[string]any), "spec."+name)...)
			}
		}
		NewWithT(t).Expect(slices.Sorted(maps.Keys(texts[kind]))).To(ConsistOf(found), kind)
	}
}

// textsOf are the paths of a schema's texts, which is itself at the path.
func textsOf(schema map[string]any, path string) []string {
	var found []string
	if schema["type"] == "string" {
		found = append(found, path)
	}
	if items, ok := schema["items"].(map[string]any); ok {
		found = append(found, textsOf(items, path)...)
	}
	for name, field := range properties(schema) {
		found = append(found, textsOf(field.(map[string]any), path+"."+name)...)
	}
	return found
}
