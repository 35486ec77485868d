package main

import (
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

func TestAProgramTellsWhenItHasStarted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "now")
	if err := writeProgram(path, noteTheTime); err != nil {
		t.Skip(err)
	}
	before := time.Now()
	output, err := exec.CommandContext(t.Context(), path).Output()
	after := time.Now()
	if err != nil {
		t.Fatal(err)
	}
	started, err := timeOf(string(output))
	if err != nil || started.Before(before.Round(0)) || started.After(after.Round(0)) {
		t.Errorf("started at %v (%v), between %v and %v", started, err, before, after)
	}
}

func TestOutputThatIsNoTimeIsRefused(t *testing.T) {
	for _, output := range []string{"", "hello", "ABCDEFGHIJKLMNOPABCDEFGHIJKLMNO?"} {
		if _, err := timeOf(output); err == nil {
			t.Errorf("%q was taken for a time", output)
		}
	}
}
