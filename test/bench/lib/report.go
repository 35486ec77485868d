package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const (
	// us is the name of what is under test, in each kind of benchmark.
	us = "workerpool"

	// floor is the name of the subject that others are compared with.
	floor = "channel"
)

// result is what an operation takes of a subject, in one benchmark.
type result struct {
	Name        string  `json:"name"`
	Subject     string  `json:"subject"`
	Bounded     bool    `json:"bounded"`
	NsPerOp     float64 `json:"ns_per_op"`
	AllocsPerOp float64 `json:"allocs_per_op"`
}

func newResult(name string, c contender, samples []sample) result {
	var ns, allocs []float64
	for _, s := range samples {
		ns = append(ns, s.ns)
		allocs = append(allocs, s.allocs)
	}
	return result{
		Name:        name,
		Subject:     c.subject,
		Bounded:     c.bounded,
		NsPerOp:     hundredths(median(ns)),
		AllocsPerOp: hundredths(median(allocs)),
	}
}

// ratio returns how many times as long as the other's r's operation takes.
func (r result) ratio(other result) float64 {
	return r.NsPerOp / other.NsPerOp
}

// standings are the results of one benchmark, the fastest first.
type standings []result

func (s standings) sorted() standings {
	return slices.SortedStableFunc(slices.Values(s), func(a, b result) int {
		return cmp.Compare(a.NsPerOp, b.NsPerOp)
	})
}

// of returns the result of a subject, and whether it took part.
func (s standings) of(subject string) (result, bool) {
	for _, r := range s {
		if r.Subject == subject {
			return r, true
		}
	}
	return result{}, false
}

// write writes a table of all results.
func (s standings) write(w io.Writer) error {
	var text strings.Builder
	base, compared := s.of(floor)
	for i, r := range s {
		if i == 0 {
			fmt.Fprintf(&text, "\n%-38s %8s %12s %10s %10s\n", r.Name, "bounded", "ns/op", "x "+floor, "allocs/op")
		}
		ratio := "-"
		if compared {
			ratio = fmt.Sprintf("%.2f", r.ratio(base))
		}
		fmt.Fprintf(&text, "  %-36s %8s %12.1f %10s %10.2f\n", r.Subject, yes(r.Bounded), r.NsPerOp, ratio, r.AllocsPerOp)
	}
	_, err := io.WriteString(w, text.String())
	return err
}

func yes(is bool) string {
	if is {
		return "yes"
	}
	return "no"
}

// writeFile writes all results to a file, and makes its folder if need be.
func writeFile(path string, results []result) error {
	if results == nil {
		results = []result{} // a list, even if no benchmark was run
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(file)
	encoder.SetIndent("", "  ")
	return errors.Join(encoder.Encode(results), file.Close())
}

// writeVerdicts writes what became of each budget.
func writeVerdicts(w io.Writer, verdicts []verdict) error {
	var text strings.Builder
	for _, v := range verdicts {
		word := "MISSED"
		if v.met {
			word = "met"
		}
		fmt.Fprintf(&text, "%-6s  %-27s %-30s  %s\n", word, v.benchmark, v.budget, v.by)
	}
	_, err := io.WriteString(w, "\nBudgets\n"+text.String())
	return err
}
