package leader

import (
	"context"
	"fmt"
	"maps"
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
	// pageSize is how many objects one live request lists. For each request the API server walks through all that are
	// left: 100,000 Jobs take twice as long in pages of a thousand.
	pageSize = 10_000
	// pollInterval is how often the caches are looked at while they are behind.
	pollInterval = 20 * time.Millisecond
	// relistInterval is how often what is stored is looked at again meanwhile.
	relistInterval = 500 * time.Millisecond
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

// catchUpKind looks again at what is stored when the cache does not come to show it: what was deleted since the first
// look never will be there.
func (l *Leader) catchUpKind(ctx context.Context, gvk schema.GroupVersionKind, cached client.ObjectList, opts []client.ListOption) error {
	past, err := l.listLive(ctx, gvk, opts)
	for err == nil {
		for range relistInterval / pollInterval {
			// The first list waits until the cache is filled, however long.
			versions, err := l.listCached(ctx, cached, opts)
			if err != nil || past.reachedBy(versions) {
				return err
			}
			if err := l.pause(ctx, pollInterval); err != nil {
				return err
			}
		}
		var now *snapshot
		if now, err = l.listLive(ctx, gvk, opts); err == nil {
			past.forgetDeleted(now)
		}
	}
	return err
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
	// Nothing is changed here, and a hundred thousand Jobs take a second to copy.
	if err := l.Client.List(ctx, list, append([]client.ListOption{client.UnsafeDisableDeepCopy}, opts...)...); err != nil {
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

func (l *Leader) listLive(ctx context.Context, gvk schema.GroupVersionKind, opts []client.ListOption) (*snapshot, error) {
	live := &snapshot{versions: map[types.UID]uint64{}}
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(gvk.GroupVersion().WithKind(gvk.Kind + "List"))
	for {
		page := append([]client.ListOption{client.Limit(pageSize), client.Continue(list.Continue)}, opts...)
		if err := l.Live.List(ctx, list, page...); err != nil {
			return nil, fmt.Errorf("listing %s live: %w", gvk.Kind, err)
		}
		for i := range list.Items {
			live.versions[list.Items[i].UID] = number(list.Items[i].ResourceVersion)
		}
		if list.Continue == "" {
			live.revision = number(list.ResourceVersion)
			return live, nil
		}
	}
}

// snapshot is what was stored of a kind at a revision.
type snapshot struct {
	// versions are those that a cache has not shown yet, and 0 for objects that it has shown. Shown once is enough:
	// while objects are deleted all the time, no later look would find all of them.
	versions map[types.UID]uint64
	revision uint64
}

// reachedBy tells whether a cache is no older than the snapshot: it has shown each object at least in that version, and
// has none that was deleted before.
func (s *snapshot) reachedBy(cached map[types.UID]uint64) bool {
	reached := true
	for uid, version := range s.versions {
		switch shown, ok := cached[uid]; {
		case ok && shown >= version:
			s.versions[uid] = 0
		case version > 0:
			reached = false
		}
	}
	for uid, version := range cached {
		if _, ok := s.versions[uid]; !ok && version <= s.revision {
			return false
		}
	}
	return reached
}

// forgetDeleted leaves out what is not in a later snapshot.
func (s *snapshot) forgetDeleted(later *snapshot) {
	maps.DeleteFunc(s.versions, func(uid types.UID, _ uint64) bool {
		_, ok := later.versions[uid]
		return !ok
	})
}

// number reads a resource version, which is a decimal number. What is not one counts as the oldest.
func number(resourceVersion string) uint64 {
	n, err := strconv.ParseUint(resourceVersion, 10, 64)
	if err != nil {
		return 0
	}
	return n
}
