// Package crd tests what the API server itself says about our kinds: validation, defaults, scale.
package crd

import (
	"os"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

var env *testutil.Environment

func TestMain(m *testing.M) { os.Exit(testutil.Run(m, &env, nil)) }

// fromYAML makes an object called demo, whose spec no type has seen.
func fromYAML(t *testing.T, namespace, kind, spec string) *unstructured.Unstructured {
	t.Helper()
	var content map[string]any
	if err := yaml.Unmarshal([]byte(spec), &content); err != nil {
		t.Fatalf("%s: %v", spec, err)
	}
	return object(namespace, kind, content)
}

func object(namespace, kind string, spec map[string]any) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	o.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(kind))
	o.SetNamespace(namespace)
	o.SetName("demo")
	return o
}

// schemaOf returns the schema of a kind, as the API server has it.
func schemaOf(t *testing.T, crd string) map[string]any {
	t.Helper()
	o := &unstructured.Unstructured{}
	o.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"})
	if err := env.Client.Get(t.Context(), client.ObjectKey{Name: crd}, o); err != nil {
		t.Fatal(err)
	}
	versions, _, err := unstructured.NestedSlice(o.Object, "spec", "versions")
	if err != nil {
		t.Fatal(err)
	}
	root, _, err := unstructured.NestedMap(versions[0].(map[string]any), "schema", "openAPIV3Schema")
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// properties returns the fields of an object in a schema, found along the path.
func properties(schema map[string]any, path ...string) map[string]any {
	for _, name := range path {
		schema = properties(schema)[name].(map[string]any)
	}
	fields, _ := schema["properties"].(map[string]any)
	return fields
}
