// The controls program plants one bug after the other, and wants the simulation to find each: a check that would not is
// worth nothing. `make test-controls` runs it, in the root of the repository.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"

	"golang.org/x/sync/errgroup"
)

func main() {
	only := flag.String("rule", "", "plant only the bugs whose rule has this in it")
	seeds := flag.Uint64("seeds", 20000, "within how many seeds a bug must be found: those of a default run")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, *only, *seeds)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "controls:", err)
		os.Exit(1)
	}
}

// run plants as many bugs at once as there are processors.
func run(ctx context.Context, only string, seeds uint64) error {
	errs := make([]error, len(controls))
	planted := 0
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, c := range controls {
		if !strings.Contains(c.rule, only) {
			continue
		}
		planted++
		group.Go(func() error {
			found, err := c.run(ctx, seeds)
			if err != nil {
				errs[i] = fmt.Errorf("%s (%s): %w", c.rule, c.file, err)
				return nil // the others go on
			}
			fmt.Printf("%s: %s\n", c.rule, found)
			return nil
		})
	}
	_ = group.Wait() // all errors are in errs
	if planted == 0 {
		return fmt.Errorf("no rule has %q in it", only)
	}
	return errors.Join(errs...)
}

var finding = regexp.MustCompile(`(?m)^\s+simulation_test\.go:\d+: (seed \d+: .*)$`)

// run returns which seed has found the bug, and what it has said.
func (c control) run(ctx context.Context, seeds uint64) (string, error) {
	path, err := filepath.Abs(c.file)
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	if n := strings.Count(string(text), c.old); n != 1 {
		return "", fmt.Errorf("the place where the bug is to be planted is there %d times, not once: say anew what to change\n%s", n, c.old)
	}
	folder, err := os.MkdirTemp("", "control-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(folder)
	overlay, err := writeOverlay(folder, path, strings.Replace(string(text), c.old, c.new, 1))
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, "go", "test", "-vet=off", "-count=1", "-timeout=1h", "-overlay="+overlay, "-run=^TestSimulation$",
		"./test/simulation", fmt.Sprint("-sim.seeds=", seeds))
	output, err := cmd.CombinedOutput()
	said := finding.FindStringSubmatch(string(output))
	switch {
	case err == nil:
		return "", fmt.Errorf("the simulation does not find it within %d seeds", seeds)
	case said == nil:
		return "", fmt.Errorf("the simulation has not failed by an invariant: %w\n%s", err, output)
	}
	return clip(said[1]), nil
}

// writeOverlay writes what the compiler is to read in place of a file, and returns its path.
func writeOverlay(folder, path, text string) (string, error) {
	planted, overlay := filepath.Join(folder, "planted.go"), filepath.Join(folder, "overlay.json")
	content, err := json.Marshal(map[string]map[string]string{"Replace": {path: planted}})
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(planted, []byte(text), 0o600); err != nil {
		return "", err
	}
	return overlay, os.WriteFile(overlay, content, 0o600)
}

func clip(s string) string {
	const most = 160
	if len(s) > most {
		return s[:most] + " ..."
	}
	return s
}
