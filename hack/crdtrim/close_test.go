package main

import (
	"testing"

	"go.yaml.in/yaml/v3"
)

func TestCloseBoundsWhatGoReads(t *testing.T) {
	for name, tc := range map[string]struct{ open, closed string }{
		"a time": {`
format: date-time
type: string
`, `
format: date-time
pattern: ` + timePattern + `
type: string
`},
		"a time of a status": {`
properties:
  status:
    properties:
      startTime:
        format: date-time
        type: string
`, `
properties:
  status:
    properties:
      startTime:
        format: date-time
        pattern: ` + microTimePattern + `
        type: string
`},
		"a time of a condition": {`
properties:
  status:
    properties:
      conditions:
        items:
          properties:
            lastTransitionTime:
              format: date-time
              type: string
`, `
properties:
  status:
    properties:
      conditions:
        items:
          properties:
            lastTransitionTime:
              format: date-time
              pattern: ` + timePattern + `
              type: string
`},
		"a quantity": {`
additionalProperties:
  anyOf:
  - type: integer
  - type: string
  pattern: ^[0-9]+
  x-kubernetes-int-or-string: true
`, `
additionalProperties:
  anyOf:
  - type: integer
  - type: string
  maxLength: 64
  maximum: 1000000000000000000
  minimum: -1000000000000000000
  pattern: ` + quantityPattern + `
  x-kubernetes-int-or-string: true
`},
		"a port": {`
anyOf:
- type: integer
- type: string
x-kubernetes-int-or-string: true
`, `
anyOf:
- type: integer
- type: string
maximum: 2147483647
minimum: -2147483648
x-kubernetes-int-or-string: true
`},
		"a bounded number": {"format: int32\ntype: integer\n", "format: int32\ntype: integer\n"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, in := range []string{tc.open, tc.closed} { // what is closed stays as it is
				var doc yaml.Node
				if err := yaml.Unmarshal([]byte(in), &doc); err != nil {
					t.Fatal(err)
				}
				closeSchema(doc.Content[0], false)
				var want yaml.Node
				if err := yaml.Unmarshal([]byte(tc.closed), &want); err != nil {
					t.Fatal(err)
				}
				if got, want := text(t, &doc), text(t, &want); got != want {
					t.Errorf("got:\n%s\nwant:\n%s", got, want)
				}
			}
		})
	}
}

func text(t *testing.T, doc *yaml.Node) string {
	t.Helper()
	out, err := encode(doc)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
