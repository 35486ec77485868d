// The isolation program has one tenant attack the operator, and sees what another notices. Tenant B runs Jobs, first
// alone and then while tenant A attacks from its workers' shells, from the pod network and with the objects it may
// create. B's Jobs must have the right results and run once. The operator must stay small and must not restart. And by it
// B's Jobs must become at most twice as slow (p99, in the same run): what A takes from the API server and the node all
// notice, with the operator or without, so ConfigMaps that no operator touches are made beside the Jobs, and the slowdown
// of these is not the operator's. `make test-isolation` runs the program.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

const (
	operatorNamespace = "workerpool-system"
	// nodeAddress is the node's address, which pods reach.
	nodeAddress = "198.18.0.1"
	tenantA     = "isolation-a"
	tenantB     = "isolation-b"
	// callTimeout is that of one request to the API server.
	callTimeout = 30 * time.Second
	// cleaning bounds what is done at the end, whatever happened before.
	cleaning = 5 * time.Minute
)

// Bounds that B and the operator must keep.
const (
	maxSlowdown      = 2.0
	maxOperatorBytes = 512 << 20
)

type settings struct {
	alone, minutes float64
	perMinute      int
	image, out     string
}

func main() {
	var s settings
	flag.Float64Var(&s.alone, "alone", 1.5, "for how many minutes B runs alone")
	flag.Float64Var(&s.minutes, "minutes", 5, "for how many minutes A attacks")
	flag.IntVar(&s.perMinute, "per-minute", 200, "how many Jobs B creates each minute")
	flag.StringVar(&s.image, "image", "", "the image of A's workers: busybox and the attacker")
	flag.StringVar(&s.out, "o", "build/isolation.json", "the report")
	flag.Parse()
	ctrl.SetLogger(logr.Discard())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "isolation:", err)
		os.Exit(1) //nolint:gocritic // the signals need not be given back
	}
}

func run(ctx context.Context, s settings) (err error) {
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	admin, err := newClient(config)
	if err != nil {
		return err
	}
	defer func() {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleaning)
		defer cancel()
		err = errors.Join(err, clean(ending, admin))
	}()
	if err := clean(ctx, admin); err != nil {
		return err
	}
	watched, err := watchOperator(ctx, admin)
	if err != nil {
		return err
	}
	b, err := newVictim(ctx, admin, s.perMinute)
	if err != nil {
		return err
	}
	say("B runs alone for %.1f minutes", s.alone)
	if err := b.run(ctx, "alone", minutes(s.alone)); err != nil {
		return err
	}
	a, err := newAttack(ctx, admin, config, s.image, b)
	if err != nil {
		return err
	}
	say("A attacks for %.1f minutes", s.minutes)
	attacking, stopAttack := context.WithCancel(ctx)
	defer stopAttack()
	attacked := make(chan struct{})
	go func() { defer close(attacked); a.run(attacking) }()
	err = b.run(ctx, "attacked", minutes(s.minutes))
	stopAttack()
	<-attacked
	if err != nil {
		return err
	}
	return judge(ctx, s, b, a, watched)
}

func minutes(n float64) time.Duration { return time.Duration(n * float64(time.Minute)) }

// newClient makes a client without a limit of its own.
func newClient(config *rest.Config) (client.WithWatch, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	config = rest.CopyConfig(config)
	config.QPS, config.Timeout = -1, 0
	return client.NewWithWatch(config, client.Options{Scheme: scheme})
}

// clean deletes both tenants and waits until they are gone.
func clean(ctx context.Context, admin client.Client) error {
	for _, name := range []string{tenantA, tenantB} {
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if err := client.IgnoreNotFound(admin.Delete(ctx, namespace)); err != nil {
			return err
		}
	}
	for _, name := range []string{tenantA, tenantB} {
		gone := func() bool {
			return apierrors.IsNotFound(admin.Get(ctx, client.ObjectKey{Name: name}, &corev1.Namespace{}))
		}
		if !await(ctx, cleaning, gone) {
			return fmt.Errorf("the namespace %s is not gone", name)
		}
	}
	return nil
}

// report is the outcome, as it is written.
type report struct {
	Phases map[string]latency `json:"phases"`
	// Probes are of objects that no operator touches, beside B's Jobs: what the API server and the machine take.
	Probes map[string]latency `json:"probes"`
	// Slowdown is the Jobs' p99 while A attacks over that alone, ProbeSlowdown the probes', and OwnSlowdown the first over the
	// second: the operator's part.
	Slowdown      float64 `json:"slowdown"`
	ProbeSlowdown float64 `json:"probeSlowdown"`
	OwnSlowdown   float64 `json:"ownSlowdown"`
	// Wrong has each Job of B with another result than it should have, or with more than one start.
	Wrong []string `json:"wrong"`
	// OperatorPeakBytes is the largest resident set of a replica, and OperatorRestarts the sum of all restarts.
	OperatorPeakBytes int64 `json:"operatorPeakBytes"`
	OperatorRestarts  int32 `json:"operatorRestarts"`
	// Attacks counts what was tried.
	Attacks map[string]int64 `json:"attacks"`
}

func judge(ctx context.Context, s settings, b *victim, a *attack, watched *operator) error {
	peak, restarts, err := watched.finish(ctx)
	if err != nil {
		return err
	}
	jobs, probes := b.latencies()
	r := report{
		Phases: jobs, Probes: probes, Wrong: b.wrong(), OperatorPeakBytes: peak, OperatorRestarts: restarts, Attacks: a.counts(),
	}
	r.Slowdown = jobs["attacked"].P99 / jobs["alone"].P99
	r.ProbeSlowdown = probes["attacked"].P99 / probes["alone"].P99
	r.OwnSlowdown = r.Slowdown / max(1, r.ProbeSlowdown)
	content, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(s.out), 0o750); err != nil {
		return err
	}
	if err := os.WriteFile(s.out, append(content, '\n'), 0o600); err != nil {
		return err
	}
	fmt.Println(string(content))
	return errors.Join(r.violations()...)
}

// violations are the bounds that were not kept. An attack that never took place is one too.
func (r *report) violations() []error {
	var all []error
	if !(r.OwnSlowdown <= maxSlowdown) { // not a number neither
		all = append(all, fmt.Errorf("the p99 of B is %.2f times that alone, %.2f times beside the probes, and may be %.1f times",
			r.Slowdown, r.OwnSlowdown, maxSlowdown))
	}
	if len(r.Wrong) > 0 {
		all = append(all, fmt.Errorf("%d Jobs of B went wrong: %v", len(r.Wrong), r.Wrong[:min(5, len(r.Wrong))]))
	}
	if r.OperatorPeakBytes > maxOperatorBytes {
		all = append(all, fmt.Errorf("the operator took %d MiB, and may take %d", r.OperatorPeakBytes>>20, maxOperatorBytes>>20))
	}
	if r.OperatorRestarts > 0 {
		all = append(all, fmt.Errorf("the operator restarted %d times", r.OperatorRestarts))
	}
	for _, kind := range attackKinds {
		if r.Attacks[kind] == 0 {
			all = append(all, fmt.Errorf("the attack %q did not take place", kind))
		}
	}
	return all
}

var began = time.Now()

// say what happens, with the time since the start.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%8.1f  %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
}

// await polls until the condition holds; false if it does not in time.
func await(ctx context.Context, patience time.Duration, condition func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for !condition() {
		if !pause(ctx, 100*time.Millisecond) {
			return false
		}
	}
	return true
}

// pause waits; false if the context ends first.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
