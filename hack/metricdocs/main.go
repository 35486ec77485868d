// Command metricdocs writes the table of the operator's own metrics into the file named on its command
// line, between the two comments that say so.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/internal/engine"
	"github.com/workerpool-dev/workerpool/internal/metrics"
	"github.com/workerpool-dev/workerpool/pkg/worker"
)

const (
	begin = "<!-- This table is written by make generate. -->\n"
	end   = "<!-- The end of what is written by make generate. -->\n"
)

func main() {
	for _, path := range os.Args[1:] {
		if err := write(path); err != nil {
			fmt.Fprintf(os.Stderr, "metricdocs: %s: %v\n", path, err)
			os.Exit(1)
		}
	}
}

func write(path string) error {
	in, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	families, err := gather()
	if err != nil {
		return err
	}
	out, err := replace(in, table(families))
	if err != nil {
		return err
	}
	return os.WriteFile(path, out, 0o600)
}

// replace puts the text between the two comments in place of what is there.
func replace(in, text []byte) ([]byte, error) {
	before, rest, ok := bytes.Cut(in, []byte(begin))
	_, after, closed := bytes.Cut(rest, []byte(end))
	if !ok || !closed {
		return nil, errors.New("the comments that the table goes between are not there")
	}
	return slices.Concat(before, []byte(begin), text, []byte(end), after), nil
}

func table(families []*dto.MetricFamily) []byte {
	var out bytes.Buffer
	fmt.Fprintln(&out, "\n| metric | type | label | meaning |\n|---|---|---|---|")
	for _, f := range families {
		fmt.Fprintf(&out, "| `%s` | %s |%s | %s |\n", f.GetName(), strings.ToLower(f.GetType().String()), labels(f), f.GetHelp())
	}
	fmt.Fprintln(&out)
	return out.Bytes()
}

// labels are those that not all metrics have, with their values.
func labels(f *dto.MetricFamily) string {
	var names, values []string
	for _, m := range f.GetMetric() {
		for _, l := range m.GetLabel() {
			if l.GetName() != "namespace" && l.GetName() != "pool" {
				names, values = append(names, "`"+l.GetName()+"`"), append(values, "`"+l.GetValue()+"`")
			}
		}
	}
	if len(names) == 0 {
		return ""
	}
	slices.Sort(values)
	return " " + names[0] + ": " + strings.Join(slices.Compact(values), ", ")
}

// gather returns the metrics of a pool that has all of them.
func gather() ([]*dto.MetricFamily, error) {
	registry := prometheus.NewRegistry()
	eng := engine.New(time.Now, nil, idle{})
	if err := metrics.Register(registry, eng); err != nil {
		return nil, err
	}
	if _, err := metrics.NewRefusals(registry); err != nil {
		return nil, err
	}
	key, limits := types.NamespacedName{Namespace: "namespace", Name: "pool"}, worker.ResourceLimits{CPU: 1, Memory: 1, Files: 1}
	eng.Begin(engine.Epoch{})
	eng.SetPool(engine.PoolConfig{Key: key, UID: "pool", Capacity: 1, Slots: 1, Limits: limits})
	eng.SetWorkers(key, []engine.WorkerPod{{UID: "pod", Name: "pod", Started: true, Slots: 1, Resources: limits}})
	if err := eng.Connect(idle{}, engine.Hello{Pool: key, PoolUID: "pool", Pod: "pod", PodName: "pod"}); err != nil {
		return nil, err
	}
	return registry.Gather()
}

// idle is the surroundings of an engine that does nothing.
type idle struct{}

func (idle) Write(engine.Write)               {}
func (idle) DropWrite(types.UID)              {}
func (idle) Look(engine.JobRef)               {}
func (idle) Load(engine.JobRef)               {}
func (idle) PoolOpened(types.NamespacedName)  {}
func (idle) PoolChanged(types.NamespacedName) {}
func (idle) Send(engine.Command)              {}
func (idle) Close(string)                     {}
