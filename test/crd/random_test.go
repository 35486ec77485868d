package crd

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The API server must take or refuse whatever a user may write, and never fail at it.
func TestAnyJobIsTakenOrRefused(t *testing.T) {
	const jobs = 500
	namespace := env.Namespace(t, nil)
	config := rest.CopyConfig(env.Config)
	config.QPS = -1
	c, err := client.New(config, client.Options{})
	g := NewWithT(t)
	g.Expect(err).NotTo(HaveOccurred())
	random := generator{rand.New(rand.NewPCG(20, 26))}
	var taken, refused int
	for i := range jobs {
		spec := random.spec()
		o := object(namespace, "Job", spec)
		o.SetName(fmt.Sprint("job-", i))
		switch err := c.Create(t.Context(), o); {
		case err == nil:
			taken++
		case apierrors.IsInvalid(err):
			refused++
		default:
			t.Errorf("%v: %v", spec, err)
		}
	}
	g.Expect(taken).To(BeNumerically(">", jobs/10), "the generator must make good ones")
	g.Expect(refused).To(BeNumerically(">", jobs/10), "the generator must make bad ones")
}

// generator makes specs that look like those of Jobs: each field, if it is there, mostly has a good
// value and seldom one that is not.
type generator struct{ *rand.Rand }

func (r generator) spec() map[string]any {
	spec := map[string]any{"pool": r.one("demo", "demo", "demo", "demo", "Demo", "")}
	if r.IntN(5) > 0 {
		spec["command"] = r.list(r.text)
	} else {
		spec["http"] = r.some(0.7, map[string]func() any{
			"path":    func() any { return r.one("/", "/a?b={}", "a", "/ä") },
			"method":  func() any { return r.one("GET", "POST", "get") },
			"body":    r.text,
			"headers": func() any { return r.list(r.variable) },
		})
	}
	maps.Copy(spec, r.some(0.08, r.fields()))
	return spec
}

func (r generator) fields() map[string]func() any {
	return map[string]func() any{
		"command":                       func() any { return r.list(r.text) },
		"args":                          func() any { return r.list(r.text) },
		"env":                           func() any { return r.list(r.variable) },
		"workingDir":                    func() any { return r.one("/", "/tmp", "tmp") },
		"stdin":                         r.text,
		"priority":                      r.number,
		"resources":                     r.resources,
		"maxRetries":                    r.number,
		"backoff":                       r.backoff,
		"failurePolicy":                 r.policy,
		"timeoutSeconds":                r.number,
		"activeDeadlineSeconds":         r.number,
		"terminationGracePeriodSeconds": r.number,
		"completions":                   r.number,
		"parallelism":                   r.number,
		"items":                         func() any { return r.list(r.text) },
		"startAfter": func() any {
			return r.one("2030-01-01T00:00:00Z", "2030-01-01T00:00:00.5+14:00", "tomorrow", "9999-99-99T00:00:00Z")
		},
		"suspend":                 func() any { return r.one(true, false, "yes") },
		"execution":               func() any { return r.one("AtLeastOnce", "AtMostOnce", "Once") },
		"onFailure":               r.handler,
		"ttlSecondsAfterFinished": r.number,
	}
}

// some makes each of the fields with this chance.
func (r generator) some(chance float64, fields map[string]func() any) map[string]any {
	made := map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(fields)) { // in order, so that a seed makes the same ones
		if r.Float64() < chance {
			made[name] = fields[name]()
		}
	}
	return made
}

func (r generator) one(values ...any) any { return values[r.IntN(len(values))] }

// list has mostly a few values, and seldom none or many. Many more would be a test of the API server,
// which is slow at saying that 90,000 values are wrong.
func (r generator) list(value func() any) any {
	n := r.one(1, 1, 2, 3, 5, 0, 30).(int)
	list := make([]any, 0, n)
	for range n {
		list = append(list, value())
	}
	return list
}

func (r generator) number() any {
	return r.one(int64(1), int64(2), int64(7), int64(60), int64(300), int64(0), int64(-1), int64(1<<31), int64(1<<40), 0.5, "1")
}

func (r generator) text() any {
	return r.one("true", "-c", "{}", "ä世🙂", "a\x00b", "\ufffd", "", "1", strings.Repeat("x", 1000), strings.Repeat("世", 2000))
}

func (r generator) quantity() any {
	return r.one("1", "500m", "64Mi", "0.1", "1e3", int64(2), "0", "-1", "1e999999999", "1E", ".", "Mi", "", strings.Repeat("9", 60))
}

func (r generator) variable() any {
	return r.some(0.9, map[string]func() any{
		"name":  func() any { return fmt.Sprint(r.one("A", "b-c", "d=e", "ä"), r.IntN(1000)) },
		"value": r.text,
	})
}

func (r generator) resources() any {
	return r.some(0.5, map[string]func() any{"cpu": r.quantity, "memory": r.quantity, "files": r.number})
}

func (r generator) backoff() any {
	return r.some(0.5, map[string]func() any{"initialSeconds": r.number, "factor": r.number, "maxSeconds": r.number})
}

func (r generator) policy() any {
	return map[string]any{"rules": r.list(func() any {
		return r.some(0.5, map[string]func() any{
			"action":    func() any { return r.one("Fail", "Retry", "Ignore", "Stop") },
			"exitCodes": func() any { return r.list(r.number) },
			"reasons":   func() any { return r.list(func() any { return r.one("Timeout", "ExitCode", "Bored") }) },
		})
	})}
}

func (r generator) handler() any {
	return r.some(0.8, map[string]func() any{
		"command": func() any { return r.list(r.text) },
		"args":    func() any { return r.list(r.text) },
		"env":     func() any { return r.list(r.variable) },
	})
}
