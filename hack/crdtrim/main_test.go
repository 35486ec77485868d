package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const crd = `---
spec:
  versions:
  - schema:
      openAPIV3Schema:
        description: A pool.
        properties:
          spec:
            description: What the pool should be.
            properties:
              slots:
                description: Jobs at once.
                type: integer
              template:
                description: The workers' pods.
                properties:
                  description:
                    type: string
                    description: A field of that name.
                  labels:
                    additionalProperties:
                      description: A label.
                      type: string
                    description: All labels.
                    type: object
                  containers:
                    items:
                      description: A container.
                      properties:
                        name:
                          description: Its name.
                          maximum: 315360000
                          type: string
                      type: object
                    type: array
                type: object
            type: object
        type: object
`

const trimmed = `---
spec:
  versions:
  - schema:
      openAPIV3Schema:
        description: A pool.
        properties:
          spec:
            description: What the pool should be.
            properties:
              slots:
                description: Jobs at once.
                type: integer
              template:
                description: The workers' pods.
                properties:
                  description:
                    type: string
                  labels:
                    additionalProperties:
                      type: string
                    type: object
                  containers:
                    items:
                      properties:
                        name:
                          maximum: 315360000
                          type: string
                      type: object
                    type: array
                type: object
            type: object
        type: object
`

func TestTrimRemovesDescriptionsBelowTemplateOnly(t *testing.T) {
	got, err := trim([]byte(crd))
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != trimmed {
		t.Errorf("got:\n%s\nwant:\n%s", got, trimmed)
	}
}

func TestTrimLeavesATrimmedFileAsItIs(t *testing.T) {
	got, err := trim([]byte(trimmed))
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != trimmed {
		t.Errorf("got:\n%s\nwant it unchanged:\n%s", got, trimmed)
	}
}

func TestTrimRefusesWhatIsNotACRD(t *testing.T) {
	for _, in := range []string{"", "kind: Pod\n", "[1, 2]\n", "a: [\n"} {
		if _, err := trim([]byte(in)); err == nil {
			t.Errorf("trim(%q) succeeded", in)
		}
	}
}

func TestTrimFileRefusesWhatIsTooLargeToApply(t *testing.T) {
	path := filepath.Join(t.TempDir(), "crd.yaml")
	large := strings.Replace(crd, "Jobs at once.", strings.Repeat("x", maxSize), 1)
	if err := os.WriteFile(path, []byte(large), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := trimFile(path); err == nil || !strings.Contains(err.Error(), "too much") {
		t.Errorf("trimFile: %v, want a complaint about the size", err)
	}
}
