package workerpool

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/tolerant"
)

// invalidMessage is what a user is told of a pool that can't be read.
const invalidMessage = "The operator can't read the WorkerPool: %s. Correct this field. Until then no worker is made or replaced."

// confirmFault tells whether the status may be written. That a pool can't be read is said only after the API server
// itself has shown so.
func (r *Reconciler) confirmFault(ctx context.Context, s *scope) (bool, error) {
	ready := meta.FindStatusCondition(s.pool.Status.Conditions, v1alpha1.PoolReady)
	if !s.unreadable() || s.deleting() || ready != nil && ready.Reason == v1alpha1.ReasonInvalid {
		return true, nil
	}
	live := &v1alpha1.WorkerPool{}
	if err := r.apiReader.Get(ctx, s.key, live); err != nil {
		return false, fmt.Errorf("get the pool, which can't be read: %w", err)
	}
	if live.UID != s.pool.UID || tolerant.FaultOf(live).Part == tolerant.None {
		return false, nil // the cache will show it
	}
	log.FromContext(ctx).Info("Set apart a WorkerPool that can't be read", "WorkerPool", klog.KObj(live), "fault", s.fault.Message)
	return true, nil
}
