package agent

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// lastSignal is the highest number of a signal, those for real time included.
const lastSignal = 64

// HandleSignals has the agent drain on SIGTERM and SIGINT, and go on after every other signal that a process can outlive: a
// job may send any to process 1. It is called once.
//
// They are not ignored, since jobs would inherit that. Handlers end with the execution of a program.
func (a *Agent) HandleSignals() {
	var others []os.Signal
	for s := unix.Signal(1); s <= lastSignal; s++ {
		switch s {
		case unix.SIGTERM, unix.SIGINT: // drain
		case unix.SIGKILL, unix.SIGSTOP: // can't be handled; process 1 gets none from its own container
		case unix.SIGCHLD: // the reaper's
		case unix.SIGURG, unix.SIGCONT: // do nothing by default, and the Go runtime sends itself the first
		default:
			others = append(others, s)
		}
	}
	// One that nobody receives from: what does not fit is dropped.
	signal.Notify(make(chan os.Signal, 1), others...)
	terminate := make(chan os.Signal, 1)
	signal.Notify(terminate, unix.SIGTERM, unix.SIGINT)
	go func() {
		for range terminate {
			a.Drain()
		}
	}()
}
