package workerpool

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/engine"
	"github.com/workerpool-dev/workerpool/internal/podspec"
)

// statusInterval is the shortest time between two writes of a pool's status.
const statusInterval = time.Second

// writeStatus writes the status if it has changed and its time has come, and then tells of what is
// new in it.
func (r *Reconciler) writeStatus(ctx context.Context, s *scope) error {
	before := s.pool.Status.DeepCopy()
	status := s.status()
	if equality.Semantic.DeepEqual(*before, status) {
		return nil
	}
	if wait := statusInterval - s.now.Sub(s.memory.written); wait > 0 {
		s.waits = append(s.waits, wait)
		return nil
	}
	if confirmed, err := r.confirmFault(ctx, s); !confirmed || err != nil {
		return err
	}
	s.pool.Status = status
	if err := r.storeStatus(ctx, s); err != nil {
		return fmt.Errorf("write the status: %w", err)
	}
	s.memory.written = s.now
	r.progressChanged(s.pool, s.memory, before.Conditions)
	return nil
}

// storeStatus replaces the status of this very pool in this very version. The cache has not all of the pool: so only the
// status is sent. Only metadata comes back, which can be decoded of any pool.
func (r *Reconciler) storeStatus(ctx context.Context, s *scope) error {
	type operation struct {
		Op    string `json:"op"`
		Path  string `json:"path"`
		Value any    `json:"value"`
	}
	body, err := json.Marshal([]operation{
		{"replace", "/metadata/uid", s.pool.UID},
		{"replace", "/metadata/resourceVersion", s.pool.ResourceVersion},
		{"add", "/status", s.pool.Status},
	})
	if err != nil {
		return fmt.Errorf("encode the status: %w", err)
	}
	return r.client.Status().Patch(ctx, metadataOf(s.pool), client.RawPatch(types.JSONPatchType, body))
}

// status is what the pool is.
func (s *scope) status() v1alpha1.WorkerPoolStatus {
	n := s.count()
	old := s.pool.Status
	status := v1alpha1.WorkerPoolStatus{
		ObservedGeneration: s.pool.Generation,
		Ready:              fmt.Sprintf("%d/%d", n.ready, n.wanted),
		Replicas:           number(n.live),
		ReadyReplicas:      number(n.ready),
		UpdatedReplicas:    number(n.current),
		DesiredReplicas:    number(n.wanted),
		Selector:           labels.SelectorFromSet(podspec.Labels(s.key.Name)).String(),
		Workers:            number(s.snapshot.Workers),
		QueueSize:          new(int64(s.snapshot.Queued)),
		ActiveJobs:         new(int64(s.snapshot.Active)),
		ProcessedJobs:      neverLess(old.ProcessedJobs, s.snapshot.Processed),
		FailedJobs:         neverLess(old.FailedJobs, s.snapshot.Failed),
		Resources:          resourcesShown(&s.snapshot),
		Conditions:         s.pool.DeepCopy().Status.Conditions,
	}
	s.setConditions(&status.Conditions, n)
	return status
}

// resourcesShown are those of the connected workers. What a worker does not bound is left out.
func resourcesShown(snapshot *engine.PoolSnapshot) *v1alpha1.PoolResources {
	used, capacity := snapshot.Used, snapshot.Capacity
	shown := &v1alpha1.PoolResources{Used: &v1alpha1.ResourceAmounts{}, Capacity: &v1alpha1.ResourceAmounts{}}
	if capacity.CPU > 0 {
		shown.Used.CPU, shown.Capacity.CPU = amountOfCPU(used.CPU), amountOfCPU(capacity.CPU)
	}
	if capacity.Memory > 0 {
		shown.Used.Memory, shown.Capacity.Memory = amountOfMemory(used.Memory), amountOfMemory(capacity.Memory)
	}
	if capacity.Files > 0 {
		shown.Used.Files, shown.Capacity.Files = new(int64(used.Files)), new(int64(capacity.Files))
	}
	return shown
}

// counts of a pool's workers.
type counts struct {
	// wanted workers; live ones, of which some are ready and some are made from the present
	// template; and those that are being removed.
	wanted, live, ready, current, leaving int
}

func (s *scope) count() counts {
	n := counts{wanted: s.replicas()}
	for _, w := range s.workers() {
		if !w.live() {
			n.leaving++
			continue
		}
		n.live++
		if w.Ready {
			n.ready++
		}
		if w.Current {
			n.current++
		}
	}
	return n
}

func number(n int) *int32 { return new(int32(min(n, math.MaxInt32))) }

// neverLess is a counter that does not run backwards, whatever an engine that has just started says.
func neverLess(written *int64, n uint64) *int64 {
	return new(max(ptr.Deref(written, 0), int64(min(n, math.MaxInt64))))
}
