package mock

import (
	"fmt"
	"math"
	"sync"

	"github.com/workerpool-dev/workerpool/pkg/worker"
)

// Resource is a worker.ResourceController that counts: what is held and what is free follow from the
// calls. CPU is counted to a billionth of a core, rounded to the nearest.
type Resource struct {
	BeforeCheck   func(usage worker.ResourceUsage) error
	BeforeAcquire func(usage worker.ResourceUsage) error

	limits worker.ResourceLimits

	checks, acquires, releases record[worker.ResourceUsage]

	mu   sync.Mutex
	used amounts // not negative, and not more than limits
}

var _ worker.ResourceController = (*Resource)(nil)

// NewResource returns a controller with nothing in use.
func NewResource(limits worker.ResourceLimits) *Resource {
	return &Resource{limits: limits}
}

// Check returns nil if the usage could be had now, else ErrInvalid, ErrTooLarge or ErrUnavailable.
func (r *Resource) Check(usage worker.ResourceUsage) error {
	if err := r.checks.call(r.BeforeCheck, usage); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.checkLocked(usage)
}

// Acquire reserves all of the usage or nothing. The errors are those of Check.
func (r *Resource) Acquire(usage worker.ResourceUsage) error {
	if err := r.acquires.call(r.BeforeAcquire, usage); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.checkLocked(usage); err != nil {
		return err
	}
	for i, n := range amountsOf(usage) {
		r.used[i] += n
	}
	return nil
}

func (r *Resource) checkLocked(usage worker.ResourceUsage) error {
	if !makesSense(usage) {
		return fmt.Errorf("%w: usage %+v", worker.ErrInvalid, usage)
	}
	var err error
	want, limits := amountsOf(usage), amountsOf(worker.ResourceUsage(r.limits))
	for i, limit := range limits {
		switch {
		case limit == 0 && want[i] > math.MaxInt64-r.used[i]: // no limit, but int64 has one
			err = worker.ErrUnavailable
		case limit == 0:
		case want[i] > limit:
			return fmt.Errorf("%w: usage %+v of %+v", worker.ErrTooLarge, usage, r.limits)
		case want[i] > limit-r.used[i]:
			err = worker.ErrUnavailable
		}
	}
	return err
}

// Release frees what was acquired. It panics if the usage makes no sense or is more than is held.
func (r *Resource) Release(usage worker.ResourceUsage) {
	_ = r.releases.call(nil, usage)
	r.mu.Lock()
	defer r.mu.Unlock()
	left := r.used
	for i, n := range amountsOf(usage) {
		left[i] -= n
	}
	if !makesSense(usage) || min(left[0], left[1], left[2]) < 0 {
		panic(fmt.Sprintf("mock: %+v released, but only %+v is held", usage, r.used.usage()))
	}
	r.used = left
}

// Status returns the limits and what is held. Nobody waits.
func (r *Resource) Status() worker.ResourceStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	return worker.ResourceStatus{Limits: r.limits, Used: r.used.usage()}
}

// Checks returns the arguments of the calls of Check.
func (r *Resource) Checks() []worker.ResourceUsage { return r.checks.all() }

// Acquires returns the arguments of the calls of Acquire.
func (r *Resource) Acquires() []worker.ResourceUsage { return r.acquires.all() }

// Releases returns the arguments of the calls of Release.
func (r *Resource) Releases() []worker.ResourceUsage { return r.releases.all() }

// amounts is a usage in bytes, billionths of a core, and files.
type amounts [3]int64

const billion = 1e9

func amountsOf(u worker.ResourceUsage) amounts {
	return amounts{u.Memory, int64(math.Round(u.CPU * billion)), int64(u.Files)}
}

func (a amounts) usage() worker.ResourceUsage {
	return worker.ResourceUsage{Memory: a[0], CPU: float64(a[1]) / billion, Files: int(a[2])}
}

func makesSense(u worker.ResourceUsage) bool {
	return u.Memory >= 0 && u.CPU >= 0 && !math.IsInf(u.CPU, 1) && u.Files >= 0 // no NaN is >= 0
}
