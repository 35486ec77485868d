package mock_test

import (
	"math"
	"testing"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/mock"
	"github.com/workerpool-dev/workerpool/pkg/worker/resource/resourcetest"
)

func TestResourceKeepsTheContract(t *testing.T) {
	resourcetest.Run(t, func(_ *testing.T, limits worker.ResourceLimits) worker.ResourceController {
		return mock.NewResource(limits)
	})
}

func TestResourceRecordsCalls(t *testing.T) {
	r := mock.NewResource(worker.ResourceLimits{Files: 1})
	one, two := worker.ResourceUsage{Files: 1}, worker.ResourceUsage{Files: 2}
	wantErr(t, r.Check(one), nil)
	wantErr(t, r.Acquire(two), worker.ErrTooLarge)
	wantErr(t, r.Acquire(one), nil)
	r.Release(one)
	wantList(t, "checks", r.Checks(), one)
	wantList(t, "acquires", r.Acquires(), two, one)
	wantList(t, "releases", r.Releases(), one)
}

func TestAResourceWhoseHooksFailHoldsNothing(t *testing.T) {
	r := mock.NewResource(worker.ResourceLimits{})
	fail := mock.FailTimes(1, errScript)
	r.BeforeAcquire = func(worker.ResourceUsage) error { return fail() }
	r.BeforeCheck = func(u worker.ResourceUsage) error {
		if u.Files > 5 {
			return worker.ErrUnavailable
		}
		return nil
	}
	few, many := worker.ResourceUsage{Files: 5}, worker.ResourceUsage{Files: 6}
	wantErr(t, r.Acquire(few), errScript)
	wantEqual(t, "usage", r.Status().Used, worker.ResourceUsage{})
	wantErr(t, r.Acquire(few), nil)
	wantErr(t, r.Check(few), nil)
	wantErr(t, r.Check(many), worker.ErrUnavailable)
}

func TestResourcesWithoutALimitEndWhereTheirTypeDoes(t *testing.T) {
	r := mock.NewResource(worker.ResourceLimits{})
	wantErr(t, r.Acquire(worker.ResourceUsage{Memory: math.MaxInt64}), nil)
	wantErr(t, r.Acquire(worker.ResourceUsage{Memory: 1}), worker.ErrUnavailable)
}
