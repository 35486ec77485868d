package tinyprogram_test

import (
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/workerpool-dev/workerpool/internal/tinyprogram"
)

func run(t *testing.T, code tinyprogram.Code) (output string, exitCode int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := tinyprogram.Write(path, code); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path)
	said, err := cmd.Output()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(said), cmd.ProcessState.ExitCode()
}

func TestAProgramTellsWhenItHasStarted(t *testing.T) {
	before := time.Now().Round(0)
	output, _ := run(t, tinyprogram.NoteTheTime)
	after := time.Now().Round(0)
	started, err := tinyprogram.TimeOf(output)
	if err != nil || started.Before(before) || started.After(after) {
		t.Errorf("started at %v (%v), between %v and %v", started, err, before, after)
	}
}

func TestProgramsEndWithTheirExitCodes(t *testing.T) {
	for want, code := range map[int]tinyprogram.Code{0: tinyprogram.ExitZero, 1: tinyprogram.ExitOne} {
		if _, got := run(t, code); got != want {
			t.Errorf("exit code %d, want %d", got, want)
		}
	}
}

func TestOutputThatIsNoTimeIsRefused(t *testing.T) {
	for _, output := range []string{"", "hello", "ABCDEFGHIJKLMNOPABCDEFGHIJKLMNO?"} {
		if _, err := tinyprogram.TimeOf(output); err == nil {
			t.Errorf("%q was taken for a time", output)
		}
	}
}
