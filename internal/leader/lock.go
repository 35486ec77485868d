package leader

import (
	"context"
	"fmt"
	"os"
	"time"

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
	// RenewDeadline is after how long a leader gives up that can't renew. With RenewInterval it is well below
	// LeaseDuration: it has ended before another leads.
	RenewDeadline = 8 * time.Second
	// RetryPeriod is how often a replica that waits looks at the Lease, and how often a leader thinks of renewing.
	RetryPeriod = 250 * time.Millisecond
	// RenewInterval is how often a leader writes.
	RenewInterval = 2 * time.Second
)

// NewLock returns this process's hold on the Lease. What it says goes over the connections of config, whose requests
// must not be tried again for longer than they are asked to.
func NewLock(config *rest.Config, lease types.NamespacedName, clk clock.Clock) (resourcelock.Interface, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("naming this process: %w", err)
	}
	inner, err := resourcelock.NewFromKubeconfig(resourcelock.LeasesResourceLock, lease.Namespace, lease.Name,
		resourcelock.ResourceLockConfig{Identity: host + "_" + string(uuid.NewUUID())}, config, RenewDeadline)
	if err != nil {
		return nil, fmt.Errorf("making a lock of the lease: %w", err)
	}
	return &thrifty{Interface: inner, clock: clk}, nil
}

// thrifty leaves out renewals that come too soon after another: the elector has one interval for those who wait and
// look, which should be short, and for the leader, who writes.
type thrifty struct {
	resourcelock.Interface

	clock clock.Clock
	// leads is set from the acquisition on, until the release.
	leads bool
	// stored is what was written last, and when. Its holder is empty after a write that has failed.
	stored resourcelock.LeaderElectionRecord
	at     time.Time
}

// Get is resourcelock.Interface's. Who waits for the Lease waits for the API server too: to be told of each try would
// fill the log. Who leads must know in time.
func (l *thrifty) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	for {
		record, raw, err := l.Interface.Get(ctx)
		if l.leads || !apiserver.Unreachable(err) {
			return record, raw, err
		}
		select {
		case <-l.clock.After(RetryPeriod):
		case <-ctx.Done():
			return record, raw, err
		}
	}
}

// Create is resourcelock.Interface's.
func (l *thrifty) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	return l.note(record, l.Interface.Create(ctx, record))
}

// Update is resourcelock.Interface's.
func (l *thrifty) Update(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	renewed := l.stored
	renewed.RenewTime = record.RenewTime
	if record == renewed && record.HolderIdentity == l.Identity() && l.clock.Since(l.at) < RenewInterval {
		return nil
	}
	return l.note(record, l.Interface.Update(ctx, record))
}

func (l *thrifty) note(record resourcelock.LeaderElectionRecord, err error) error {
	l.stored, l.at = record, l.clock.Now()
	if err != nil {
		l.stored = resourcelock.LeaderElectionRecord{}
		return err
	}
	l.leads = record.HolderIdentity == l.Identity()
	return nil
}
