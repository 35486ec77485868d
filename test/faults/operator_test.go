package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/test/simulated"
)

const (
	leaseName = "workerpool-controller-manager"
	// gathering is how long a kill waits for other writes that are to be met by one: the operator dies of one kill
	// while several writes are under way.
	gathering = 300 * time.Millisecond
	// minLife is how long each run lasts at the least. What the operator does after a while it would never come to if it
	// were killed each second.
	minLife = 3 * time.Second
	// restartPause is that of the kubelet, which would wait longer.
	restartPause = 100 * time.Millisecond
)

// operator keeps the operator's program running, as the kubelet does.
type operator struct {
	t    *testing.T
	c    client.Client
	file *simulated.Operator
	args []string
	log  *os.File
	// note tells of what happens to it, and of kills.
	note func(what string, kills int)

	mu      sync.Mutex
	program *simulated.Program
	started time.Time
	// killed is the latest run that was killed, or is about to be.
	killed *simulated.Program
	// stopped operators are not started again.
	stopped bool
	// exits counts the ends that nobody has asked for.
	exits int
	done  chan struct{}
}

// startOperator runs it until the test ends.
func startOperator(t *testing.T, c client.Client, file *simulated.Operator, note func(string, int), args ...string) *operator {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "operator.log"))
	if err != nil {
		t.Fatal(err)
	}
	o := &operator{t: t, c: c, file: file, args: args, log: log, note: note, done: make(chan struct{})}
	go o.keep()
	t.Cleanup(o.stop)
	return o
}

func (o *operator) keep() {
	defer close(o.done)
	for {
		program, err := o.file.Start(o.log, o.args...)
		if err != nil {
			o.t.Error(err)
			return
		}
		o.mu.Lock()
		o.program, o.started = program, time.Now()
		stopped := o.stopped
		o.mu.Unlock()
		if stopped {
			program.Signal(syscall.SIGTERM)
		}
		<-program.Ended()
		o.mu.Lock()
		stopped = o.stopped
		if !stopped && o.killed != program {
			o.exits++
		}
		o.mu.Unlock()
		if stopped {
			return
		}
		o.note(fmt.Sprintf("the operator has ended: %v", program.Err()), 1)
		time.Sleep(restartPause)
		o.expireLease()
	}
}

// expireLease ends the lead of a process that is dead. The Lease would run out by itself, but later.
func (o *operator) expireLease() {
	lease := &coordinationv1.Lease{}
	if err := o.c.Get(o.t.Context(), key(o.file.Namespace, leaseName), lease); err != nil {
		return
	}
	lease.Spec.HolderIdentity = new("")
	_ = o.c.Update(o.t.Context(), lease) // a conflict is with a write of the dead one: then the next waits
}

// kill ends it soon, with SIGKILL.
func (o *operator) kill() {
	o.mu.Lock()
	defer o.mu.Unlock()
	program := o.program
	if o.killed == program {
		return
	}
	o.killed = program
	time.AfterFunc(max(gathering, minLife-time.Since(o.started)), func() { program.Signal(syscall.SIGKILL) })
}

// stop ends it in its own time.
func (o *operator) stop() {
	o.mu.Lock()
	o.stopped = true
	program := o.program
	o.mu.Unlock()
	if program != nil {
		program.Signal(syscall.SIGTERM)
	}
	<-o.done
	o.log.Close()
}
