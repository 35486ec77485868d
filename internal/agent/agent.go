// Package agent is the program in a worker's pod: it keeps a session with the leading operator, runs the
// attempts that it is given as processes, and keeps their results until the operator has stored them.
//
// It trusts no leader for longer than it hears of it. What it decides is in table and leader, which do
// nothing; Agent does it.
package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	mathrand "math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	pb "github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
)

// Agent is one run of the agent's program. There can be one in a process, and nothing else in it may
// start processes.
type Agent struct {
	Config
	log         *slog.Logger
	lines       *lineLog
	spool       *spool
	reaper      *reaper
	environment environment
	tmp         *tmpDirs
	instance    string
	health      health
	now         func() time.Time
	// chance returns a number from 0 to 1.
	chance func() float64
	// attempts are the goroutines of attempts.
	attempts sync.WaitGroup
	// changed has an element when there is something to report, begun when that is only a start.
	changed, begun chan struct{}
	// watch has an element when there may be memory to look at.
	watch chan struct{}
	// drained is closed when an agent that was told to end may do so.
	drained   chan struct{}
	drainOnce sync.Once
	// told is closed when the pod is to end, idle when there is nothing left to do then or when the agent has drained.
	told, idle         chan struct{}
	toldOnce, idleOnce sync.Once
	// serverAt is which of serverHosts has answered last.
	serverAt atomic.Int32
	// serverGone has an element when the job container's server did not answer an attempt.
	serverGone chan struct{}

	// mu guards the rest. A process's end is signalled under it, so that the reason is known before.
	mu     sync.Mutex
	table  *table
	leader leader
	// leaving is set by Drain.
	leaving bool
	// disordered is since when the agent's folder has been out of order, zero if it is in order.
	disordered time.Time
	// session numbers the sessions, from 1. seen is the last message of it that was acted on.
	session, seen uint64
	// fence fires when the leader has not been heard for too long. It is nil before Run.
	fence *time.Timer
	oom   oomCounter
}

// New prepares an agent. It writes the lines of jobs to stdout.
func New(config Config, stdout io.Writer, log *slog.Logger) (*Agent, error) {
	if err := config.unready(); err != nil {
		return nil, err
	}
	spool, results, err := openSpool(config.SpoolDir, log)
	if err != nil {
		return nil, err
	}
	tmp, err := newTmpDirs(filepath.Dir(config.SpoolDir))
	if err != nil {
		return nil, errors.Join(err, spool.file.Close())
	}
	instance := rand.Text()
	reaper, err := newReaper(instance, log)
	if err != nil {
		return nil, errors.Join(err, spool.file.Close())
	}
	a := &Agent{
		Config:      config,
		log:         log,
		lines:       newLineLog(stdout, log),
		spool:       spool,
		reaper:      reaper,
		environment: newEnvironment(config.Environ),
		tmp:         tmp,
		instance:    instance,
		now:         time.Now,
		chance:      mathrand.Float64,
		changed:     make(chan struct{}, 1),
		begun:       make(chan struct{}, 1),
		told:        make(chan struct{}),
		idle:        make(chan struct{}),
		serverGone:  make(chan struct{}, 1),
		watch:       make(chan struct{}, 1),
		drained:     make(chan struct{}),
		oom:         newOOMCounter(),
		table:       newTable(config.Slots),
	}
	for _, r := range results {
		a.table.add(r)
	}
	if config.HTTPPort != 0 {
		a.health.server = a.probeServer
		a.health.told, a.health.idle, a.health.toldWithin = a.told, a.idle, toldWithin
	}
	return a, nil
}

// Run returns nil when the agent was told to drain and is done, or when the context has ended: then it
// has killed what ran. It may be called once.
func (a *Agent) Run(ctx context.Context) error {
	defer a.reaper.close()
	defer a.spool.close()
	stopListening, err := a.listen()
	if err != nil {
		return err
	}
	a.mu.Lock()
	a.leader = leader{heard: a.now(), fence: a.timing.fence, forget: a.timing.forget}
	a.fence = time.AfterFunc(a.timing.fence, a.fenceOff)
	a.mu.Unlock()

	var reaping, serving sync.WaitGroup
	reapCtx, stopReaping := context.WithCancel(context.Background())
	reaping.Go(func() { a.reaper.run(reapCtx) })
	reaping.Go(func() { a.watchMemory(reapCtx) })
	serveCtx, stopServing := context.WithCancel(ctx)
	a.lookForServer(serveCtx)
	serving.Go(func() { a.awaitServer(serveCtx) })
	serving.Go(func() { a.serve(serveCtx) })

	select {
	case <-ctx.Done():
	case <-a.drained:
		a.log.Info("Drained")
	}
	stopServing()
	stopListening()
	serving.Wait()
	a.fence.Stop()
	a.shutDown()
	a.attempts.Wait()
	stopReaping()
	reaping.Wait()
	return nil
}

// listen answers the kubelet, where it asks on a port or on a socket, until what it returns is called.
func (a *Agent) listen() (stop func(), err error) {
	var listening sync.WaitGroup
	var closers []io.Closer
	stop = func() {
		for _, c := range closers {
			_ = c.Close()
		}
		listening.Wait()
	}
	if a.HealthAddress != "" {
		listener, err := net.Listen("tcp", a.HealthAddress)
		if err != nil {
			return nil, fmt.Errorf("listen for probes: %w", err)
		}
		server, bounded := a.health.newServer(listener)
		closers = append(closers, server, listener)
		listening.Go(func() { _ = server.Serve(bounded) })
	}
	if a.DrainSocket != "" {
		listener, err := a.listenForDrain()
		if err != nil {
			stop()
			return nil, fmt.Errorf("listen for the end of the pod: %w", err)
		}
		closers = append(closers, listener)
		listening.Go(func() { a.serveDrains(listener) })
	}
	return stop, nil
}

// Drain tells the agent to end: it takes no new work, and Run returns when nothing runs and all results
// are stored. Resets are ended at once. More calls change nothing.
func (a *Agent) Drain() {
	a.mu.Lock()
	a.leaving, a.table.draining = true, true
	a.abandonResetsLocked()
	a.closeIfDrainedLocked()
	a.mu.Unlock()
	a.wake()
}

func (a *Agent) closeIfDrainedLocked() {
	if !a.table.drained() {
		return
	}
	a.idleOnce.Do(func() { close(a.idle) })
	if a.leaving {
		a.drainOnce.Do(func() { close(a.drained) })
	}
}

// wake has the state reported now.
func (a *Agent) wake() { notify(a.changed) }

func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// act does what a message of the accepted leader says. Kills come after assignments: a message may take
// back what it gives.
func (a *Agent) act(m *pb.OperatorMessage) {
	a.mu.Lock()
	settled := a.settleLocked(m.GetSettled())
	refused := 0
	for _, assignment := range m.GetAssignments() {
		if !a.assignLocked(assignment) {
			refused++
		}
	}
	for _, kill := range m.GetKills() {
		if at := a.table.live[tokenOf(kill.GetToken())]; at != nil {
			a.endLocked(at, kill.GetGrace().AsDuration(), pb.Outcome_OUTCOME_KILLED)
		}
	}
	for _, recorded := range m.GetRecorded() {
		a.table.record(tokenOf(recorded))
	}
	a.seen = m.GetSequence()
	a.closeIfDrainedLocked()
	a.mu.Unlock()
	if refused > 0 {
		a.wake()
	}
	if len(settled) > 0 {
		a.forget(settled...)
	}
}

// settleLocked returns the results that are forgotten now.
func (a *Agent) settleLocked(tokens []*pb.Token) []*result {
	var settled []*result
	for _, tok := range tokens {
		if r := a.table.settle(tokenOf(tok)); r != nil {
			settled = append(settled, r)
		}
	}
	return settled
}

// assignLocked returns false if the assignment was not started.
func (a *Agent) assignLocked(assignment *pb.Assignment) bool {
	at, why := a.table.assign(assignment)
	if at == nil {
		a.log.Debug("Assignment not started", "job", assignment.GetJobName(), "reason", why)
		return false
	}
	a.deadlineLocked(at)
	if at.previous != nil {
		a.endLocked(at.previous, 0, pb.Outcome_OUTCOME_KILLED)
	}
	a.attempts.Go(func() { a.run(at) })
	return true
}

// fenceOff kills the attempts that nobody may know of, if no leader was heard for too long.
func (a *Agent) fenceOff() {
	a.mu.Lock()
	due, left := a.leader.fenced(a.now())
	if !due {
		a.fence.Reset(left)
		a.mu.Unlock()
		return
	}
	unrecorded := a.table.unrecorded()
	for _, at := range unrecorded {
		a.endLocked(at, 0, pb.Outcome_OUTCOME_INTERRUPTED)
	}
	a.mu.Unlock()
	if len(unrecorded) > 0 {
		a.log.Warn("Killed what is not recorded: no operator was heard for too long", "attempts", len(unrecorded))
	}
}

// endAll kills all attempts at once.
func (a *Agent) endAll() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.endAllLocked()
}

// shutDown kills everything at once, and lets nothing begin.
func (a *Agent) shutDown() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.endAllLocked()
	a.abandonResetsLocked()
}

func (a *Agent) endAllLocked() {
	for _, at := range a.table.live {
		a.endLocked(at, 0, pb.Outcome_OUTCOME_INTERRUPTED)
	}
}
