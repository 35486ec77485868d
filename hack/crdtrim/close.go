package main

import (
	"strconv"

	"go.yaml.in/yaml/v3"
)

// What Go reads is less than what the schemas of controller-gen take: a format alone lets a time in lower case pass,
// a port beyond 32 bits, or a quantity whose exponent takes minutes to work out. An object with such a value could be
// stored, and no program that has our types could read it.
const (
	clockPattern = `^[0-9]{4}-[0-9]{2}-[0-9]{2}T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]`
	zonePattern  = `(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$`
	// timePattern is what metav1.Time reads. That the month has such a day is part of the format.
	timePattern = clockPattern + `([.][0-9]{1,9})?` + zonePattern
	// microTimePattern is what metav1.MicroTime reads: six digits, no less and no more.
	microTimePattern = clockPattern + `[.][0-9]{6}` + zonePattern

	// quantityPattern is that of resource.Quantity with a whole exponent of at most two digits: 10^99 is far beyond
	// the largest quantity, and of 1e-99999999 all hundred million digits would be written out.
	quantityPattern = `^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?[0-9]{1,2}))?$`
	// quantityLength in characters. To read a million digits takes seconds.
	quantityLength = 64
	// quantityMost bounds quantities that are written as numbers.
	quantityMost = "1000000000000000000"

	portMost  = "2147483647"
	portLeast = "-2147483648"
)

// closeSchema has a schema, and those in it, refuse what Go can't read. The micro flag says that times in it are
// metav1.MicroTime.
func closeSchema(schema *yaml.Node, micro bool) {
	switch {
	case isTrue(lookup(schema, "x-kubernetes-int-or-string")) && lookup(schema, "pattern") != nil:
		set(schema, "maxLength", strconv.Itoa(quantityLength), "!!int")
		set(schema, "maximum", quantityMost, "!!int")
		set(schema, "minimum", "-"+quantityMost, "!!int")
		set(schema, "pattern", quantityPattern, "!!str")
	case isTrue(lookup(schema, "x-kubernetes-int-or-string")):
		set(schema, "maximum", portMost, "!!int")
		set(schema, "minimum", portLeast, "!!int")
	case is(lookup(schema, "format"), "date-time"):
		pattern := timePattern
		if micro {
			pattern = microTimePattern
		}
		set(schema, "pattern", pattern, "!!str")
	}
	if properties := lookup(schema, "properties"); properties != nil {
		for i := 0; i < len(properties.Content); i += 2 {
			name := properties.Content[i].Value
			closeSchema(properties.Content[i+1], (micro || name == "status") && name != "conditions")
		}
	}
	for _, key := range []string{"items", "additionalProperties"} {
		if nested := lookup(schema, key); nested != nil {
			closeSchema(nested, micro)
		}
	}
}

func isTrue(node *yaml.Node) bool { return is(node, "true") }

func is(node *yaml.Node, value string) bool { return node != nil && node.Value == value }

// set puts a key into a mapping, in place of what it has there or else in the order of the alphabet.
func set(schema *yaml.Node, key, value, tag string) {
	scalar := &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value}
	if i := indexOf(schema, key); i >= 0 {
		schema.Content[i+1] = scalar
		return
	}
	i := 0
	for i < len(schema.Content) && schema.Content[i].Value < key {
		i += 2
	}
	rest := append([]*yaml.Node{{Kind: yaml.ScalarNode, Tag: "!!str", Value: key}, scalar}, schema.Content[i:]...)
	schema.Content = append(schema.Content[:i:i], rest...)
}
