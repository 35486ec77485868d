// The agent runs jobs in a worker's pod. "agent install DEST" copies it there; "agent run" is the
// container's first process. The kubelet asks it with "agent ready" and tells it with "agent drain".
package main

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/workerpool-dev/workerpool/internal/agent"
)

func main() {
	var err error
	switch args := os.Args[1:]; {
	case len(args) == 2 && args[0] == "install":
		err = agent.Install(args[1])
	case len(args) == 2 && args[0] == "ready":
		_, err = os.Stat(args[1])
	case len(args) == 2 && args[0] == "drain":
		err = agent.AskToDrain(context.Background(), args[1])
	case len(args) > 0 && args[0] == agent.LimitedCommand:
		agent.ExecLimited(args[1:])
	case len(args) > 0 && args[0] == "run":
		err = run(args[1:])
	default:
		fmt.Fprintln(os.Stderr, "usage: agent install DEST | agent run FLAGS | agent ready FILE | agent drain SOCKET")
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
		if err := agent.Farewell(agent.TerminationLog, err); err != nil {
			fmt.Fprintln(os.Stderr, "agent: leave word of that:", err)
		}
		os.Exit(1)
	}
}

func run(args []string) error {
	config, err := agent.ParseConfig(args, os.Environ())
	if err != nil {
		return err
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		config.Version = info.Main.Version
	}
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil)).With("pod", config.Pod, "namespace", config.Namespace, "pool", config.Pool)
	// More threads than jobs would look for work in vain, which costs short jobs a fifth of the agent's time.
	runtime.GOMAXPROCS(min(runtime.GOMAXPROCS(0), config.Slots))
	if config.HTTPPort == 0 {
		// The container's variables are for its jobs.
		debug.SetGCPercent(100)
		debug.SetMemoryLimit(math.MaxInt64)
	}
	a, err := agent.New(config, os.Stdout, log)
	if err != nil {
		return err
	}
	a.HandleSignals()
	return a.Run(context.Background())
}
