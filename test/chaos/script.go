package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/workerpool-dev/workerpool/test/chaos/check"
	"github.com/workerpool-dev/workerpool/test/chaos/ledger"
)

// lane makes its faults one after the other, while the other lanes make theirs.
type lane struct {
	name string
	// kinds of faults; one that is named twice comes twice as often.
	kinds []check.Kind
	// least and most are the pause after each.
	least, most time.Duration
}

const controlPlane = "control plane"

var lanes = []lane{
	{controlPlane, []check.Kind{
		check.KillLeader, check.StopLeader, check.RestartAPI, check.KillEtcd, check.KillAPIAndEtcd, check.RestartKubelet,
	}, time.Second, 5 * time.Second},
	{"workers", []check.Kind{
		check.KillAgent, check.KillAgent, check.KillContainer, check.KillContainer, check.DeletePod, check.DeletePod, check.ForceDeletePod,
	}, 3 * time.Second, 12 * time.Second},
	{"pools", []check.Kind{
		check.PartitionLong, check.PartitionShort, check.DrainNode, check.RollPool, check.ScalePool,
	}, time.Second, 5 * time.Second},
}

const (
	// patience is how long a fault may take until it is seen to have had its effect.
	patience = 60 * time.Second
	// overtime is how much longer than asked a run may take, until all kinds of faults have taken effect often enough.
	overtime = 3 * time.Minute
)

// breakThings makes faults for as long as the run is to take, and until there were enough of each kind.
func (w *world) breakThings(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	end := time.Now().Add(time.Duration(w.minutes * float64(time.Minute)))
	done := make(chan struct{})
	for i := range lanes {
		go func() {
			defer func() { done <- struct{}{} }()
			random := rand.New(rand.NewPCG(w.seed, uint64(2+i))) //nolint:gosec // chance that can be had again
			w.drive(ctx, lanes[i], random, end)
		}()
	}
	for range lanes {
		<-done
	}
	return w.enough()
}

// drive makes the faults of a lane, in rounds of all its kinds, each in another order.
func (w *world) drive(ctx context.Context, l lane, random *rand.Rand, end time.Time) {
	for {
		for _, i := range random.Perm(len(l.kinds)) {
			kind := l.kinds[i]
			late := time.Now().After(end)
			if ctx.Err() != nil || late && w.laneIsDone(l) || time.Now().After(end.Add(overtime)) {
				return
			}
			if late && w.count(kind) >= w.each {
				continue
			}
			if l.name == controlPlane {
				await(ctx, 3*patience, func() bool { return !w.calm.Load() })
			}
			w.make(ctx, kind, random)
			pause(ctx, l.least+time.Duration(random.Int64N(int64(l.most-l.least))))
		}
	}
}

// make a fault, and count it if it has taken effect under load.
func (w *world) make(ctx context.Context, kind check.Kind, random *rand.Rand) {
	w.keepAlive(ctx)
	if !await(ctx, patience, func() bool { return len(w.ledger.Running()) > 0 }) {
		return
	}
	f := &check.Fault{Kind: kind, From: ledger.Now()}
	running := len(w.ledger.Running())
	err := w.maker(kind)(ctx, f, random)
	f.To = ledger.Now()
	// It may explain something even if its effect was not seen.
	w.remember(*f)
	if err != nil {
		w.say("%s was without effect: %s: %v", kind, f.Detail, err)
		return
	}
	w.mu.Lock()
	w.effective[kind]++
	n := w.effective[kind]
	w.mu.Unlock()
	w.say("%s no. %d, %v, with %d processes: %s", kind, n, (f.To - f.From).Round(time.Millisecond), running, f.Detail)
}

// keepAlive starts again what ends by itself under these faults, as a real cluster would: a scheduler whose watch has missed too
// much does.
func (w *world) keepAlive(ctx context.Context) {
	for _, name := range []string{"kube-scheduler", "kube-controller-manager", "kube-proxy"} {
		if daemonPID(name) != 0 {
			continue
		}
		w.say("%s has ended by itself", name)
		if err := w.do(ctx, "restart", name); err != nil {
			w.say("starting %s: %v", name, err)
		}
	}
}

func (w *world) count(kind check.Kind) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.effective[kind]
}

func (w *world) laneIsDone(l lane) bool {
	for _, kind := range l.kinds {
		if w.count(kind) < w.each {
			return false
		}
	}
	return true
}

// enough is an error unless each kind of fault, and all together, have taken effect as often as they should.
func (w *world) enough() error {
	all := 0
	for _, l := range lanes {
		for _, kind := range l.kinds {
			if n := w.count(kind); n < w.each {
				return fmt.Errorf("%s has taken effect %d times, not %d: the run proves nothing about it", kind, n, w.each)
			}
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range w.effective {
		all += n
	}
	if all < w.least {
		return fmt.Errorf("%d faults have taken effect, and there are to be %d", all, w.least)
	}
	return nil
}
