// The agent runs jobs in a worker's pod. "agent install DEST" copies it there; "agent run" is the
// container's first process.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/workerpool-dev/workerpool/internal/agent"
)

func main() {
	var err error
	switch args := os.Args[1:]; {
	case len(args) == 2 && args[0] == "install":
		err = agent.Install(args[1])
	case len(args) > 0 && args[0] == agent.LimitedCommand:
		agent.ExecLimited(args[1:])
	case len(args) == 1 && args[0] == "run":
		err = run()
	default:
		fmt.Fprintln(os.Stderr, "usage: agent install DEST | agent run")
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
		os.Exit(1)
	}
}

func run() error {
	config, err := agent.ConfigFromEnviron(os.Environ())
	if err != nil {
		return err
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		config.Version = info.Main.Version
	}
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil)).With(
		"pod", os.Getenv("WORKERPOOL_POD_NAME"), "namespace", os.Getenv("WORKERPOOL_POD_NAMESPACE"), "pool", os.Getenv("WORKERPOOL_POOL"))
	// More threads than jobs would look for work in vain, which costs short jobs a fifth of the agent's time.
	runtime.GOMAXPROCS(min(runtime.GOMAXPROCS(0), config.Slots))
	a, err := agent.New(config, os.Stdout, log)
	if err != nil {
		return err
	}
	terminate := make(chan os.Signal, 1)
	signal.Notify(terminate, syscall.SIGTERM, syscall.SIGINT)
	// Unless somebody asks for it, a log that nobody reads any more would end the program.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	go func() {
		for range terminate {
			a.Drain()
		}
	}()
	return a.Run(context.Background())
}
