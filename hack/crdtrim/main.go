// Command crdtrim completes the CRD files named on its command line, in place. It closes their schemas:
// what Go can't read is refused. And it removes the descriptions below spec.template, which are those of
// the Kubernetes pod and take two thirds of a file. All others stay, for kubectl explain. It fails if a
// file is still too large for a client-side kubectl apply.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"go.yaml.in/yaml/v3"
)

// maxSize is what Kubernetes allows for all annotations of an object, in bytes. A client-side apply
// keeps the whole object in one of them.
const maxSize = 256 << 10

func main() {
	for _, path := range os.Args[1:] {
		if err := trimFile(path); err != nil {
			fmt.Fprintf(os.Stderr, "crdtrim: %s: %v\n", path, err)
			os.Exit(1)
		}
	}
}

func trimFile(path string) error {
	in, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	out, err := trim(in)
	if err != nil {
		return err
	}
	if len(out) >= maxSize {
		return fmt.Errorf("%d bytes is too much: kubectl apply takes less than %d", len(out), maxSize)
	}
	return os.WriteFile(path, out, 0o600)
}

// trim returns the CRD with the schemas of all its versions closed, and without the descriptions below
// spec.template. The order of keys and the comments are kept.
func trim(crd []byte) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(crd, &doc); err != nil {
		return nil, err
	}
	if doc.Kind != yaml.DocumentNode {
		return nil, errors.New("no YAML document")
	}
	versions := lookup(doc.Content[0], "spec", "versions")
	if versions == nil {
		return nil, errors.New("not a CustomResourceDefinition: it has no spec.versions")
	}
	for _, version := range versions.Content {
		if root := lookup(version, "schema", "openAPIV3Schema"); root != nil {
			closeSchema(root, false)
		}
		template := lookup(version, "schema", "openAPIV3Schema", "properties", "spec", "properties", "template", "properties")
		if template != nil {
			dropDescriptions(template)
		}
	}
	return encode(&doc)
}

// lookup follows keys down from a mapping, and returns nil where one is missing.
func lookup(node *yaml.Node, keys ...string) *yaml.Node {
	for _, key := range keys {
		i := indexOf(node, key)
		if i < 0 {
			return nil
		}
		node = node.Content[i+1]
	}
	return node
}

// indexOf returns where a key of a mapping is in its Content, or -1.
func indexOf(node *yaml.Node, key string) int {
	if node.Kind != yaml.MappingNode {
		return -1
	}
	for i := 0; i < len(node.Content); i += 2 {
		if node.Content[i].Value == key {
			return i
		}
	}
	return -1
}

// dropDescriptions takes the properties of an object and removes the description of each schema in
// and below them. A property that is itself called description stays.
func dropDescriptions(properties *yaml.Node) {
	for i := 1; i < len(properties.Content); i += 2 {
		dropDescription(properties.Content[i])
	}
}

func dropDescription(schema *yaml.Node) {
	if i := indexOf(schema, "description"); i >= 0 {
		schema.Content = append(schema.Content[:i], schema.Content[i+2:]...)
	}
	if properties := lookup(schema, "properties"); properties != nil {
		dropDescriptions(properties)
	}
	for _, key := range []string{"items", "additionalProperties"} {
		if nested := lookup(schema, key); nested != nil {
			dropDescription(nested)
		}
	}
}

// encode writes the document in the style of controller-gen.
func encode(doc *yaml.Node) ([]byte, error) {
	var out bytes.Buffer
	out.WriteString("---\n")
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	enc.CompactSeqIndent()
	if err := enc.Encode(doc); err != nil {
		return nil, err
	}
	if err := enc.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
