package agent

import (
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
	goleak.VerifyTestMain(m)
}

var discard = slog.New(slog.DiscardHandler)
