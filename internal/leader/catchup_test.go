package leader

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

func TestCaughtUp(t *testing.T) {
	type versions = map[types.UID]uint64
	const revision = 100
	cases := map[string]struct {
		live, cached versions
		want         bool
	}{
		"nothing anywhere":                    {nil, nil, true},
		"the same":                            {versions{"a": 5, "b": 100}, versions{"a": 5, "b": 100}, true},
		"an object is missing":                {versions{"a": 5, "b": 6}, versions{"a": 5}, false},
		"an object is older":                  {versions{"a": 5}, versions{"a": 4}, false},
		"an object is newer":                  {versions{"a": 5}, versions{"a": 101}, true},
		"an object was deleted before":        {nil, versions{"a": 99}, false},
		"an object of the very revision":      {nil, versions{"a": 100}, false},
		"an object was made since":            {versions{"a": 5}, versions{"a": 5, "b": 101}, true},
		"one of the same name is another one": {versions{"new": 50}, versions{"old": 5}, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			live := &snapshot{versions: c.live, revision: revision}
			if got := live.reachedBy(c.cached); got != c.want {
				t.Errorf("the cache has caught up: %v, want %v", got, c.want)
			}
		})
	}
}

// shrinking has Jobs of which one is deleted each time that somebody looks, in the cache or past it.
type shrinking struct {
	client.Client
	left int
}

// List is client.Reader's.
func (s *shrinking) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	s.left--
	meta := func(i int) metav1.ObjectMeta {
		return metav1.ObjectMeta{UID: types.UID(strconv.Itoa(i)), ResourceVersion: "5"}
	}
	switch list := list.(type) {
	case *v1alpha1.JobList:
		list.Items = nil
		for i := range s.left {
			list.Items = append(list.Items, v1alpha1.Job{ObjectMeta: meta(i)})
		}
	case *metav1.PartialObjectMetadataList:
		list.ResourceVersion, list.Items = "10", nil
		for i := range s.left {
			list.Items = append(list.Items, metav1.PartialObjectMetadata{ObjectMeta: meta(i)})
		}
	}
	return nil
}

func TestJobsThatAreDeletedAllTheTimeDoNotHoldUpATakeover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		jobs := &shrinking{left: 1000}
		l := New(Config{Client: jobs, Live: jobs, Clock: clock.RealClock{}})
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 10*relistInterval)
		defer cancel()
		if err := l.catchUpKind(ctx, v1alpha1.GroupVersion.WithKind("Job"), &v1alpha1.JobList{}, nil); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > relistInterval {
			t.Errorf("it took %v, want %v at most", took, relistInterval)
		}
	})
}

// paged has some Jobs, one on each page, and is to be asked for each page once, in order.
type paged struct {
	client.Reader
	jobs, asked int
}

// List is client.Reader's.
func (p *paged) List(_ context.Context, list client.ObjectList, opts ...client.ListOption) error {
	options := (&client.ListOptions{}).ApplyOptions(opts)
	page, _ := strconv.Atoi(options.Continue) // the first has none
	if page != p.asked || page == p.jobs {
		return fmt.Errorf("page %d is asked for after %d of %d", page, p.asked, p.jobs)
	}
	p.asked++
	page++
	into := list.(*metav1.PartialObjectMetadataList)
	into.ResourceVersion, into.Continue = "10", ""
	into.Items = []metav1.PartialObjectMetadata{{ObjectMeta: metav1.ObjectMeta{
		UID: types.UID(strconv.Itoa(page)), ResourceVersion: strconv.Itoa(page),
	}}}
	if page < p.jobs {
		into.Continue = strconv.Itoa(page)
	}
	return nil
}

func TestAllPagesAreLookedAt(t *testing.T) {
	l := New(Config{Live: &paged{jobs: 3}})
	got, err := l.listLive(t.Context(), v1alpha1.GroupVersion.WithKind("Job"), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := map[types.UID]uint64{"1": 1, "2": 2, "3": 3}
	if !maps.Equal(got.versions, want) || got.revision != 10 {
		t.Errorf("there are %v at revision %d, want %v at 10", got.versions, got.revision, want)
	}
}

func TestAResourceVersionThatIsNoNumberIsTheOldest(t *testing.T) {
	for version, want := range map[string]uint64{"0": 0, "42": 42, "18446744073709551615": 1<<64 - 1, "": 0, "x": 0, "-1": 0} {
		if got := number(version); got != want {
			t.Errorf("%q counts as %d, want %d", version, got, want)
		}
	}
}
