package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var sampleStandings = standings{
	{"pool/noop/w4/p1", floor, true, 50, 0},
	{"pool/noop/w4/p1", us, true, 62.5, 0.004},
	{"pool/noop/w4/p1", "goroutines", false, 200.25, 1.5},
}

func TestATableComparesWithTheFloor(t *testing.T) {
	var text strings.Builder
	if err := sampleStandings.write(&text); err != nil {
		t.Fatal(err)
	}
	got := rows(text.String())
	want := [][]string{
		{"pool/noop/w4/p1", "bounded", "ns/op", "x", floor, "allocs/op"},
		{floor, "yes", "50.0", "1.00", "0.00"},
		{us, "yes", "62.5", "1.25", "0.00"},
		{"goroutines", "no", "200.2", "4.00", "1.50"},
	}
	same(t, got, want)
}

func TestATableWithoutTheFloorComparesNothing(t *testing.T) {
	var text strings.Builder
	if err := (standings{{"resource", us, true, 5, 0}}).write(&text); err != nil {
		t.Fatal(err)
	}
	same(t, rows(text.String())[1:], [][]string{{us, "yes", "5.0", "-", "0.00"}})
}

// rows returns the words of each line that has some.
func rows(text string) [][]string {
	var all [][]string
	for line := range strings.Lines(text) {
		if words := strings.Fields(line); len(words) > 0 {
			all = append(all, words)
		}
	}
	return all
}

func same(t *testing.T, got, want any) {
	t.Helper()
	g, w := asJSON(t, got), asJSON(t, want)
	if g != w {
		t.Errorf("got  %s\nwant %s", g, w)
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTheFileIsAListOfResults(t *testing.T) {
	path := filepath.Join(t.TempDir(), "build", "bench-lib.json")
	if err := writeFile(path, sampleStandings[1:]); err != nil {
		t.Fatal(err)
	}
	same(t, readFile(t, path), []map[string]any{
		{"name": "pool/noop/w4/p1", "subject": "workerpool", "bounded": true, "ns_per_op": 62.5, "allocs_per_op": 0.004},
		{"name": "pool/noop/w4/p1", "subject": "goroutines", "bounded": false, "ns_per_op": 200.25, "allocs_per_op": 1.5},
	})
}

func TestTheFileIsAListEvenOfNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bench-lib.json")
	if err := writeFile(path, nil); err != nil {
		t.Fatal(err)
	}
	same(t, readFile(t, path), []map[string]any{})
}

func readFile(t *testing.T, path string) []map[string]any {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var list []map[string]any
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	return list
}

func TestARunMeasuresWhatItIsToldTo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "bench-lib.json")
	var text strings.Builder
	o := options{rounds: minRounds, short: true, out: path, only: regexp.MustCompile("^queue/push-pop/g1$")}
	if err := run(o, &text); err != nil {
		t.Fatal(err)
	}
	subjects := map[any]bool{}
	for _, r := range readFile(t, path) {
		if r["name"] != "queue/push-pop/g1" {
			t.Errorf("%v was measured", r["name"])
		}
		subjects[r["subject"]] = true
	}
	same(t, len(subjects), len(queueSubjects))
	if !strings.Contains(text.String(), "at most 2 x channel") {
		t.Errorf("there is no verdict on a budget:\n%s", text.String())
	}
}

func TestTooFewRoundsAreRefused(t *testing.T) {
	if _, err := parse([]string{"-rounds", "4"}); err == nil {
		t.Error("4 rounds were accepted")
	}
	o, err := parse([]string{"-rounds", "5", "-check"})
	if err != nil || o.rounds != 5 || !o.check {
		t.Errorf("got %+v, %v", o, err)
	}
}

func TestAPatternThatIsNoneIsRefused(t *testing.T) {
	if _, err := parse([]string{"-run", "("}); err == nil {
		t.Error("( was accepted")
	}
}

func TestOnlyACheckFailsForABudget(t *testing.T) {
	missed := []verdict{{met: true}, {met: false}}
	if err := (options{}).exit(missed); err != nil {
		t.Errorf("without -check: %v", err)
	}
	if err := (options{check: true}).exit(missed); !errors.Is(err, errBudget) {
		t.Errorf("with -check: %v", err)
	}
	if err := (options{check: true}).exit(missed[:1]); err != nil {
		t.Errorf("with -check and all budgets met: %v", err)
	}
}
