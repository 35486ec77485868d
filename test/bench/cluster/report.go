package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
)

// tolerance is how much worse than recorded a ratio may be.
const tolerance = 1.25

// result is a figure of ours and what it is compared with.
type result struct {
	Name   string  `json:"name"`
	Ours   float64 `json:"ours"`
	Theirs float64 `json:"theirs"`
	Unit   string  `json:"unit"`
	// Ratio of ours to theirs.
	Ratio float64 `json:"ratio"`
	// Budget is the bound of the ratio: the least where more is better, else the most. 0 is none.
	Budget float64 `json:"budget"`
	Met    bool    `json:"met"`
}

// measurement is a result and what it comes from.
type measurement struct {
	result
	more    bool // of ours is better
	samples samples
}

// samples are what was measured, in the unit of the result.
type samples struct {
	Ours   []float64 `json:"ours"`
	Theirs []float64 `json:"theirs"`
}

// atMost is a figure that is to be small: ours may be so many times theirs.
func atMost(name, unit string, budget, ours, theirs float64, from samples) measurement {
	r := result{Name: name, Ours: ours, Theirs: theirs, Unit: unit, Ratio: ratio(ours, theirs), Budget: budget}
	r.Met = budget == 0 || r.Ratio <= budget
	return measurement{result: r, samples: from}
}

// atLeast is a figure that is to be large: ours must be so many times theirs.
func atLeast(name, unit string, budget, ours, theirs float64, from samples) measurement {
	r := result{Name: name, Ours: ours, Theirs: theirs, Unit: unit, Ratio: ratio(ours, theirs), Budget: budget}
	r.Met = budget == 0 || r.Ratio >= budget
	return measurement{result: r, more: true, samples: from}
}

func ratio(ours, theirs float64) float64 {
	if theirs == 0 {
		return 0
	}
	return ours / theirs
}

// report is all that was measured.
type report struct {
	all []measurement
}

func (r *report) add(m ...measurement) { r.all = append(r.all, m...) }

// write writes the table.
func (r *report) write(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(table, "NAME\tOURS\tTHEIRS\tUNIT\tRATIO\tBUDGET\tMET\t")
	for _, m := range r.all {
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n",
			m.Name, figure(m.Ours), figure(m.Theirs), m.Unit, figure(m.Ratio), m.bound(), m.verdict())
	}
	return table.Flush()
}

func (m measurement) bound() string {
	switch {
	case m.Budget == 0:
		return "-"
	case m.more:
		return ">= " + figure(m.Budget)
	default:
		return "<= " + figure(m.Budget)
	}
}

func (m measurement) verdict() string {
	switch {
	case m.Budget == 0:
		return "-"
	case m.Met:
		return "yes"
	default:
		return "NO"
	}
}

func figure(f float64) string {
	switch {
	case f == 0:
		return "-"
	case f >= 1000:
		return fmt.Sprintf("%.0f", f)
	default:
		return fmt.Sprintf("%.3g", f)
	}
}

// save writes the results, the samples and the plots.
func (r *report) save(o options) error {
	if o.out == "" {
		return nil
	}
	results, raw := make([]result, 0, len(r.all)), map[string]samples{}
	for _, m := range r.all {
		results = append(results, m.result)
		raw[m.Name] = m.samples
	}
	beside := strings.TrimSuffix(o.out, filepath.Ext(o.out)) + "-samples.json"
	return errors.Join(saveJSON(o.out, results), saveJSON(beside, raw))
}

func saveJSON(path string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

// judge returns an error if the options ask for one.
func (r *report) judge(o options) error {
	var errs []error
	if o.check && slices.ContainsFunc(r.all, func(m measurement) bool { return !m.Met }) {
		errs = append(errs, errBudget)
	}
	if o.recorded != "" {
		errs = append(errs, r.compare(o.recorded))
	}
	return errors.Join(errs...)
}

// compare returns an error for each ratio that is much worse than recorded. Absolute figures are another
// machine's.
func (r *report) compare(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var recorded []result
	if err := json.Unmarshal(text, &recorded); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	var errs []error
	for _, m := range r.all {
		i := slices.IndexFunc(recorded, func(r result) bool { return r.Name == m.Name })
		if i < 0 || recorded[i].Ratio == 0 || m.Ratio == 0 {
			continue
		}
		if loss := m.loss(recorded[i].Ratio); loss > tolerance {
			errs = append(errs, fmt.Errorf("%s: the ratio was %s and is %s, %.0f %% worse",
				m.Name, figure(recorded[i].Ratio), figure(m.Ratio), 100*(loss-1)))
		}
	}
	return errors.Join(errs...)
}

// loss is how many times worse the ratio is than before.
func (m measurement) loss(before float64) float64 {
	if m.more {
		return before / m.Ratio
	}
	return m.Ratio / before
}
