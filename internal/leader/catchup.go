package leader

import (
	"context"
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

const (
	// pageSize is how many objects one live request lists.
	pageSize = 1000
	// pollInterval is how often the caches are looked at while they are behind.
	pollInterval = 20 * time.Millisecond
	// relistInterval is how often what is stored is looked at again meanwhile.
	relistInterval = time.Second
)

// catchUp waits until the caches show all that was stored when this process won its Lease: an
// earlier leader may have written until then. Live lists, made now, tell what that is.
func (l *Leader) catchUp(ctx context.Context) error {
	kinds := []struct {
		gvk    schema.GroupVersionKind
		cached client.ObjectList
		opts   []client.ListOption
	}{
		{v1alpha1.GroupVersion.WithKind("WorkerPool"), &v1alpha1.WorkerPoolList{}, nil},
		{v1alpha1.GroupVersion.WithKind("Job"), &v1alpha1.JobList{}, nil},
		{corev1.SchemeGroupVersion.WithKind("Pod"), &corev1.PodList{}, []client.ListOption{client.HasLabels{v1alpha1.LabelPool}}},
	}
	for _, kind := range kinds {
		if err := l.catchUpKind(ctx, kind.gvk, kind.cached, kind.opts); err != nil {
			return fmt.Errorf("waiting for the cache of %s: %w", kind.gvk.Kind, err)
		}
	}
	return nil
}

// catchUpKind looks again at what is stored when the cache does not come to show it: what was deleted
// since the first look never will be there.
func (l *Leader) catchUpKind(ctx context.Context, gvk schema.GroupVersionKind, cached client.ObjectList, opts []client.ListOption) error {
	for {
		live, revision, err := l.listLive(ctx, gvk, opts)
		if err != nil {
			return err
		}
		for range relistInterval / pollInterval {
			// The first list waits until the cache is filled, however long.
			versions, err := l.listCached(ctx, cached, opts)
			if err != nil || caughtUp(live, revision, versions) {
				return err
			}
			if err := l.pause(ctx, pollInterval); err != nil {
				return err
			}
		}
	}
}

func (l *Leader) pause(ctx context.Context, d time.Duration) error {
	timer := l.Clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (l *Leader) listCached(ctx context.Context, list client.ObjectList, opts []client.ListOption) (map[types.UID]uint64, error) {
	if err := l.Client.List(ctx, list, opts...); err != nil {
		return nil, fmt.Errorf("listing from the cache: %w", err)
	}
	versions := map[types.UID]uint64{}
	err := meta.EachListItem(list, func(o runtime.Object) error {
		m, err := meta.Accessor(o)
		if err == nil {
			versions[m.GetUID()] = number(m.GetResourceVersion())
		}
		return err
	})
	return versions, err
}

// listLive returns the resource version of each object, and that of the list as a whole.
func (l *Leader) listLive(ctx context.Context, gvk schema.GroupVersionKind, opts []client.ListOption) (map[types.UID]uint64, uint64, error) {
	live := map[types.UID]uint64{}
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(gvk.GroupVersion().WithKind(gvk.Kind + "List"))
	for {
		page := append([]client.ListOption{client.Limit(pageSize), client.Continue(list.Continue)}, opts...)
		if err := l.Live.List(ctx, list, page...); err != nil {
			return nil, 0, fmt.Errorf("listing %s live: %w", gvk.Kind, err)
		}
		for i := range list.Items {
			live[list.Items[i].UID] = number(list.Items[i].ResourceVersion)
		}
		if list.Continue == "" {
			return live, number(list.ResourceVersion), nil
		}
	}
}

// caughtUp tells whether a cache is no older than a live list of the given revision: it has each
// object of the list at least in that version, and none that was deleted before.
func caughtUp(live map[types.UID]uint64, revision uint64, cached map[types.UID]uint64) bool {
	for uid, version := range live {
		if seen, ok := cached[uid]; !ok || seen < version {
			return false
		}
	}
	for uid, version := range cached {
		if _, ok := live[uid]; !ok && version <= revision {
			return false
		}
	}
	return true
}

// number reads a resource version, which is a decimal number. What is not one counts as the oldest.
func number(resourceVersion string) uint64 {
	n, err := strconv.ParseUint(resourceVersion, 10, 64)
	if err != nil {
		return 0
	}
	return n
}
