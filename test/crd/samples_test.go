package crd

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	. "github.com/onsi/gomega"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
	sigsyaml "sigs.k8s.io/yaml"
)

const samples = "../../config/samples"

// sample returns the objects of a file.
func sample(g Gomega, path string) []*unstructured.Unstructured {
	text, err := os.ReadFile(path)
	g.Expect(err).NotTo(HaveOccurred())
	var objects []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for {
		o := &unstructured.Unstructured{}
		err := decoder.Decode(o)
		if errors.Is(err, io.EOF) {
			return objects
		}
		g.Expect(err).NotTo(HaveOccurred(), path)
		objects = append(objects, o)
	}
}

// resources are the files that the samples' kustomization.yaml names.
func resources(g Gomega) []string {
	text, err := os.ReadFile(filepath.Join(samples, "kustomization.yaml"))
	g.Expect(err).NotTo(HaveOccurred())
	var kustomization struct{ Resources []string }
	g.Expect(sigsyaml.Unmarshal(text, &kustomization)).To(Succeed())
	return kustomization.Resources
}

// Whoever begins copies a sample: each must be taken as it is, and all of them together.
func TestEachSampleIsTaken(t *testing.T) {
	g := NewWithT(t)
	namespace := env.Namespace(t, nil)
	strict := client.WithFieldValidation(env.Client, metav1.FieldValidationStrict)
	pools, jobs := map[string]string{}, []*unstructured.Unstructured{}
	for _, name := range resources(g) {
		for _, o := range sample(g, filepath.Join(samples, name)) {
			o.SetNamespace(namespace)
			g.Expect(strict.Create(t.Context(), o)).To(Succeed(), name)
			if o.GetKind() == "Job" {
				jobs = append(jobs, o)
				continue
			}
			pools[o.GetName()], _, _ = unstructured.NestedString(o.Object, "spec", "handler", "type")
		}
	}
	g.Expect(len(jobs)).To(BeNumerically(">=", 10))
	for _, job := range jobs {
		pool, _, _ := unstructured.NestedString(job.Object, "spec", "pool")
		g.Expect(pools).To(HaveKey(pool), job.GetName())
		_, request, _ := unstructured.NestedMap(job.Object, "spec", "http")
		g.Expect(pools[pool] == "HTTP").To(Equal(request), "%s must be what its pool runs", job.GetName())
	}
}

func TestEachSampleIsListed(t *testing.T) {
	g := NewWithT(t)
	files, err := filepath.Glob(filepath.Join(samples, "*.yaml"))
	g.Expect(err).NotTo(HaveOccurred())
	listed := []string{"kustomization.yaml"}
	listed = append(listed, resources(g)...)
	var names []string
	for _, file := range files {
		names = append(names, filepath.Base(file))
	}
	g.Expect(names).To(ConsistOf(listed))
}
