package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"

	"github.com/workerpool-dev/workerpool/test/chaos/check"
)

// report is what the run writes down.
type report struct {
	Seed    uint64             `json:"seed"`
	Minutes float64            `json:"minutes"`
	Faults  map[check.Kind]int `json:"faults"`
	// FaultsInAll are those that have taken effect.
	FaultsInAll int `json:"faults_in_all"`
	Jobs        int `json:"jobs"`
	// Processes in the ledger; CutOff are those that did not end by themselves, Late those that had to try more than once
	// until they reached it.
	Processes int `json:"processes"`
	CutOff    int `json:"cut_off"`
	Late      int `json:"late"`

	Lost              int `json:"lost"`
	ConcurrentTwice   int `json:"concurrent_twice"`
	UnjustifiedRepeat int `json:"unjustified_repeat"`
	AtMostOnceBroken  int `json:"at_most_once_broken"`
	Stuck             int `json:"stuck"`
	Disagree          int `json:"disagree"`
	Orphaned          int `json:"orphaned"`
	DocumentedOverlap int `json:"documented_overlap"`
}

// report prints and writes what was found; true if a promise was broken.
func (w *world) report(h check.History, findings []check.Finding) (bool, error) {
	r := report{Seed: w.seed, Minutes: w.minutes, Faults: maps.Clone(w.effective), Jobs: len(h.Jobs), Processes: len(h.Processes)}
	for _, n := range r.Faults {
		r.FaultsInAll += n
	}
	for _, p := range h.Processes {
		if !p.Ended {
			r.CutOff++
		}
		if p.Late > 0 {
			r.Late++
		}
	}
	violated := false
	for _, f := range findings {
		*r.counter(f.Verdict)++
		violated = violated || f.Verdict != check.DocumentedOverlap
		show(f)
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return violated, err
	}
	fmt.Println(string(text))
	if err := os.MkdirAll(filepath.Dir(w.out), 0o755); err != nil {
		return violated, err
	}
	return violated, os.WriteFile(w.out, append(text, '\n'), 0o644) //nolint:gosec // for everybody to read
}

func (r *report) counter(v check.Verdict) *int {
	return map[check.Verdict]*int{
		check.Lost: &r.Lost, check.ConcurrentTwice: &r.ConcurrentTwice, check.UnjustifiedRepeat: &r.UnjustifiedRepeat,
		check.AtMostOnceBroken: &r.AtMostOnceBroken, check.Stuck: &r.Stuck, check.Disagree: &r.Disagree,
		check.Orphaned: &r.Orphaned, check.DocumentedOverlap: &r.DocumentedOverlap,
	}[v]
}

// show a finding with its timeline.
func show(f check.Finding) {
	fmt.Printf("%s %s: %s\n", f.Verdict, f.Job, f.Text)
	for _, line := range f.Timeline {
		fmt.Println("    " + line)
	}
}
