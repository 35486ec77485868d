package agent

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// TestMain also stands in for the agent's program where that executes itself.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == LimitedCommand {
		ExecLimited(os.Args[2:])
	}
	if len(os.Args) > 1 && os.Args[1] == "run" {
		if err := runProgram(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

var discard = slog.New(slog.DiscardHandler)

// runProgram does what the agent's program does.
func runProgram(args []string) error {
	c, err := ParseConfig(args, os.Environ())
	if err != nil {
		return err
	}
	a, err := New(c, os.Stdout, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		return err
	}
	a.HandleSignals()
	return a.Run(context.Background())
}
