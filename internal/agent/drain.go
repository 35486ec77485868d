package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
)

// AskToDrain tells the agent that listens on this socket that its pod is to end. It returns when the agent knows.
func AskToDrain(ctx context.Context, socket string) error {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", socket)
	if err != nil {
		return fmt.Errorf("reach the agent: %w", err)
	}
	defer conn.Close()
	_, err = io.Copy(io.Discard, conn)
	return err
}

// listenForDrain takes the place of an earlier run of the agent.
func (a *Agent) listenForDrain() (net.Listener, error) {
	if err := os.Remove(a.DrainSocket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return net.Listen("unix", a.DrainSocket)
}

// serveDrains has every caller be the word that the pod is to end, until the listener is closed.
func (a *Agent) serveDrains(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		a.hold()
		_ = conn.Close()
	}
}

// hold has no more work taken in, for the pod is to end: the kubelet waits with the job container's end until nothing runs and
// all results are stored. The agent itself stays, for it would be started again: it ends by Drain. More calls change
// nothing.
func (a *Agent) hold() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.table.draining = true
	a.toldOnce.Do(func() { close(a.told) })
	a.closeIfDrainedLocked()
	a.wake()
}

// ready lets the kubelet know of the first session.
func (a *Agent) ready() {
	if a.health.ready.Swap(true) || a.ReadyFile == "" {
		return
	}
	file, err := os.OpenFile(a.ReadyFile, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err == nil {
		err = file.Close()
	}
	if err != nil {
		a.health.ready.Store(false) // the next session tries again
		a.log.Error("Cannot tell that the worker is ready", "error", err)
	}
}

// unready removes what an earlier run of the agent has told.
func (c Config) unready() error {
	if c.ReadyFile == "" {
		return nil
	}
	return os.RemoveAll(c.ReadyFile)
}
