package crd

import (
	"encoding/json"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
)

var crds = []string{"workerpools.workerpool.dev", "jobs.workerpool.dev"}

// `kubectl explain` shows these texts.
func TestEachFieldHasADescription(t *testing.T) {
	for _, crd := range crds {
		g := NewWithT(t)
		described := describedFields(g, schemaOf(t, crd), "")
		g.Expect(described).To(BeNumerically(">", 40), "%s: the walk must have seen its fields", crd)
	}
}

// describedFields counts the fields below one, each of which must have a description. Those of
// Kubernetes itself are left out: metadata, and what is below spec.template.
func describedFields(g Gomega, schema map[string]any, path string) int {
	n := 0
	for name, field := range properties(schema) {
		field, path := field.(map[string]any), path+"."+name
		if path == ".metadata" {
			continue
		}
		g.Expect(field).To(HaveKeyWithValue("description", Not(BeEmpty())), path)
		if path == ".spec.template" {
			continue
		}
		n += 1 + describedFields(g, field, path)
		if items, ok := field["items"].(map[string]any); ok {
			n += describedFields(g, items, path+"[]")
		}
	}
	return n
}

// Each text begins with the field's name, so that it reads as a sentence beside it.
func TestDescriptionsNameTheirField(t *testing.T) {
	g := NewWithT(t)
	for _, crd := range crds {
		for name, field := range properties(schemaOf(t, crd), "spec") {
			g.Expect(strings.Fields(field.(map[string]any)["description"].(string))[0]).To(Equal(name))
		}
	}
}

// A plain `kubectl apply` stores the whole file in an annotation of at most 256 KiB.
func TestCRDsFitIntoAnAnnotation(t *testing.T) {
	for _, crd := range crds {
		g := NewWithT(t)
		text, err := json.Marshal(schemaOf(t, crd))
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(len(text)).To(BeNumerically("<", 250<<10), crd)
	}
}
