// The chaos program puts a load of Jobs on a cluster built from source and breaks all parts of it, one after the other and some
// at once. In the end it holds what the Jobs' processes wrote into a ledger against what the operator and Kubernetes
// say. `make chaos` runs it. It needs root, because it kills processes and drops packets; whatever ends it, it mends what it
// broke.
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/workerpool-dev/workerpool/test/chaos/check"
	"github.com/workerpool-dev/workerpool/test/chaos/ledger"
)

// settings of a run.
type settings struct {
	seed    uint64
	minutes float64
	// perMinute is how many Jobs are created.
	perMinute int
	// each is how often each kind of fault is to take effect at least.
	each int
	// least is how many faults are to take effect in all.
	least int
	out   string
	// cluster is the program cluster.sh; worker is what the Jobs run.
	cluster, worker string
}

const (
	// settling is how long Jobs may take to end once all is mended.
	settling = 3 * time.Minute
	// mending bounds what is done at the end, whatever happened before.
	mending = 3 * time.Minute
)

func main() {
	var s settings
	flag.Uint64Var(&s.seed, "seed", 0, "the seed of load and faults; 0 takes one by chance")
	flag.Float64Var(&s.minutes, "minutes", 10, "how long the load goes on")
	flag.IntVar(&s.perMinute, "per-minute", 220, "how many Jobs are created each minute")
	flag.IntVar(&s.each, "each", 3, "how often each kind of fault must take effect")
	flag.IntVar(&s.least, "faults", 60, "how many faults must take effect in all")
	flag.StringVar(&s.out, "o", "build/chaos.json", "the report")
	flag.StringVar(&s.cluster, "cluster", "hack/cluster/cluster.sh", "the program that starts the cluster")
	flag.StringVar(&s.worker, "worker", "build/chaos/worker", "the program that the Jobs run")
	flag.Parse()
	if s.seed == 0 {
		s.seed = rand.Uint64N(1_000_000) + 1 //nolint:gosec // any seed will do
	}
	ctrl.SetLogger(logr.Discard())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	violated, err := run(ctx, s)
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
	}
	if violated || err != nil {
		fmt.Fprintf(os.Stderr, "chaos: seed %d\n", s.seed)
		os.Exit(1) //nolint:gocritic // the signals need not be given back
	}
}

// run returns whether a promise was broken. The cluster is mended when it returns.
func run(ctx context.Context, s settings) (violated bool, err error) {
	w, err := newWorld(ctx, s)
	if err != nil {
		return false, err
	}
	defer w.close()
	// Whatever an earlier run may have left.
	if err := w.mend(ctx); err != nil {
		return false, err
	}
	defer func() {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), mending)
		defer cancel()
		if mendErr := w.leave(ending); mendErr != nil && err == nil {
			err = mendErr
		}
	}()
	l := newLoad(w)
	if err := l.prepare(ctx); err != nil {
		return false, err
	}
	w.say("seed %d, %v minutes, ledger at %s", s.seed, s.minutes, w.ledger.Address())
	loading, stopLoad := context.WithCancel(ctx)
	defer stopLoad()
	loaded := make(chan struct{})
	go func() {
		defer close(loaded)
		l.run(loading)
	}()
	breakErr := w.breakThings(ctx)
	stopLoad()
	<-loaded
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	if err := w.mend(ctx); err != nil {
		return false, err
	}
	history := w.settle(ctx, l)
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	violated, err = w.report(history, check.Judge(history))
	if err == nil {
		err = breakErr
	}
	return violated, err
}

// say what happens, with the time of the ledger.
func (w *world) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%10.3f  %s\n", ledger.Now().Seconds(), fmt.Sprintf(format, args...))
}

// await polls until the condition holds; false if it does not in time.
func await(ctx context.Context, patience time.Duration, condition func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for !condition() {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(50 * time.Millisecond):
		}
	}
	return true
}

// pause waits, unless the context ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
