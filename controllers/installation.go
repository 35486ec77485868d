package controllers

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/engine"
)

// ours is an engine that hears only of the Jobs that are this installation's: those of its pools, and those whose pool
// does not exist. A pool that is no installation's yet is adopted first, and its Jobs are submitted then.
type ours struct {
	*engine.Engine

	pools        client.Reader
	installation string
}

// Submit is engine.Engine's.
func (o ours) Submit(job engine.Job) {
	pool := &v1alpha1.WorkerPool{}
	key := types.NamespacedName{Namespace: job.Namespace, Name: job.Spec.Pool}
	err := o.pools.Get(context.Background(), key, pool, client.UnsafeDisableDeepCopy) // from the cache: it does not wait
	if apierrors.IsNotFound(err) || err == nil && pool.InstalledBy(o.installation) {
		o.Engine.Submit(job)
	}
}
