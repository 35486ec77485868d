package leader

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/utils/clock"

	"github.com/workerpool-dev/workerpool/internal/apiserver"
)

// Times of the election. A Lease that is released is taken after one to two RetryPeriods.
const (
	// LeaseDuration is how long others leave a Lease alone that is not renewed.
	LeaseDuration = 15 * time.Second
	// RenewDeadline is after how long a leader gives up that can't renew.
	RenewDeadline = 8 * time.Second
	// RetryPeriod is how often a replica that waits looks at the Lease, and how often a leader thinks of renewing.
	RetryPeriod = 250 * time.Millisecond
	// RenewInterval is how often a leader writes.
	RenewInterval = 2 * time.Second

	// tenure is how long after its last renewal a process acts as the leader. By then it has given up by itself, if it
	// runs. What is left until another may lead is for the requests that are under way.
	tenure = RenewDeadline + RenewInterval

	// RequestTimeout is how long a request may take that another leader must not meet. It has ended then before another leads.
	RequestTimeout = LeaseDuration - tenure - time.Second
)

var (
	// errUnheld: another process may lead by now.
	errUnheld = errors.New("the lease was not renewed in time")
	// errMeddled: the Lease is not the one any more that this process has won, so its epoch is not that of the Lease.
	errMeddled = errors.New("the lease was deleted or changed by another than its holder: this lead is over")
)

// Lease is what a leader is elected by. It knows how long ago this process has renewed it. Leader election itself counts
// its deadline from its first try to renew: a process that was stopped for longer than its Lease would take itself for
// the leader for some seconds more, while another leads.
//
// It leaves out renewals that come too soon after another: the election has one interval for those who wait and look,
// which should be short, and for the leader, who writes.
type Lease struct {
	resourcelock.Interface

	clock clock.Clock

	mu sync.Mutex // guards what follows; no request is made under it
	// leads is set from the acquisition on, until the release.
	leads bool
	// stored is what was written last. It is empty after a write that has failed.
	stored resourcelock.LeaderElectionRecord
	// renewed is when the last request was sent that has renewed the Lease; zero if it is not held.
	renewed time.Time
	// term is the number of transitions with which this process has won, while it leads.
	term int
	// meddled is set for good once it is seen that somebody has deleted or changed the Lease: to make or win it again would
	// be to lead on with an epoch that it does not have.
	meddled bool
}

// NewLease returns the Lease of a name, for a process of its own. What it says goes over the connections of config,
// whose requests must not be tried again for longer than they are asked to.
func NewLease(config *rest.Config, name types.NamespacedName, clk clock.Clock) (*Lease, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("naming this process: %w", err)
	}
	lock, err := resourcelock.NewFromKubeconfig(resourcelock.LeasesResourceLock, name.Namespace, name.Name,
		resourcelock.ResourceLockConfig{Identity: host + "_" + string(uuid.NewUUID())}, config, RenewDeadline)
	if err != nil {
		return nil, fmt.Errorf("preparing the lease: %w", err)
	}
	return &Lease{Interface: lock, clock: clk}, nil
}

// InTime returns a config whose requests take no effect after RequestTimeout. The API server is told to give them up by then. So does the
// kernel, also if this process has ended. They have a connection of their own: no other request is cut off.
func InTime(config *rest.Config) *rest.Config {
	config = rest.CopyConfig(config)
	config.Timeout, config.Dial = RequestTimeout, apiserver.Dial(RequestTimeout)
	return config
}

// Held tells whether no other process can have the Lease. It makes no request.
func (l *Lease) Held() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.renewed.IsZero() && l.clock.Since(l.renewed) < tenure
}

// Fence lets a client write only while the Lease is held. It looks at the latest moment, when a request is about to be
// sent.
func (l *Lease) Fence(next http.RoundTripper) http.RoundTripper { return fence{l, next} }

type fence struct {
	lease *Lease
	next  http.RoundTripper
}

// RoundTrip is http.RoundTripper's.
func (f fence) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet && !f.lease.Held() {
		return nil, errUnheld
	}
	return f.next.RoundTrip(r)
}

// Get is resourcelock.Interface's. Leader election reads the Lease while it leads only where a write was refused. Who waits for the Lease waits for the API server too: to be told of each try would
// fill the log. Who leads must know in time.
func (l *Lease) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	for {
		record, raw, err := l.Interface.Get(ctx)
		leading := l.isLeading()
		if leading && (apierrors.IsNotFound(err) || err == nil && !l.isMine(record)) {
			l.end()
		}
		if !leading && err == nil && record.LeaderTransitions == math.MaxInt32 {
			// One more is none that the Lease can have, and nobody could win it any more. Agents take the lower epoch for
			// what it is where a backup was restored, and accept it within a minute.
			record.LeaderTransitions = 0
		}
		if leading || !apiserver.Unreachable(err) {
			return record, raw, err
		}
		select {
		case <-l.clock.After(RetryPeriod):
		case <-ctx.Done():
			return record, raw, err
		}
	}
}

func (l *Lease) isLeading() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.leads
}

// isMine tells whether the record is of the lead that this process has won.
func (l *Lease) isMine(record *resourcelock.LeaderElectionRecord) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return record.HolderIdentity == l.Identity() && record.LeaderTransitions == l.term
}

// end ends the lead at once, for good. The election would try for some time more, while another may lead already.
func (l *Lease) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.meddled, l.renewed = true, time.Time{}
}

// Create is resourcelock.Interface's.
func (l *Lease) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return l.write(ctx, record, l.Interface.Create)
}

// Update is resourcelock.Interface's.
func (l *Lease) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	if l.isFresh(record) {
		return nil
	}
	return l.write(ctx, record, l.Interface.Update)
}

// isFresh tells whether the record says no more than that the Lease is held still, and was written a moment ago.
func (l *Lease) isFresh(record resourcelock.LeaderElectionRecord) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	stored := l.stored
	stored.RenewTime = record.RenewTime
	return record == stored && record.HolderIdentity == l.Identity() && l.clock.Since(l.renewed) < RenewInterval
}

func (l *Lease) write(
	ctx context.Context, record resourcelock.LeaderElectionRecord, write func(context.Context, resourcelock.LeaderElectionRecord) error,
) error {
	sent, mine := l.clock.Now(), record.HolderIdentity == l.Identity()
	l.mu.Lock()
	if l.meddled && mine { // it may still be given back
		l.mu.Unlock()
		return errMeddled
	}
	l.stored = resourcelock.LeaderElectionRecord{}
	if !mine { // it is given back, from now on
		l.renewed = time.Time{}
	}
	l.mu.Unlock()
	if err := write(ctx, record); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stored, l.leads = record, mine
	if mine {
		l.renewed, l.term = sent, record.LeaderTransitions
	}
	return nil
}
