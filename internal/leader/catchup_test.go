package leader

import (
	"testing"

	"k8s.io/apimachinery/pkg/types"
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
			if got := caughtUp(c.live, revision, c.cached); got != c.want {
				t.Errorf("caughtUp is %v, want %v", got, c.want)
			}
		})
	}
}

func TestAResourceVersionThatIsNoNumberIsTheOldest(t *testing.T) {
	for version, want := range map[string]uint64{"0": 0, "42": 42, "18446744073709551615": 1<<64 - 1, "": 0, "x": 0, "-1": 0} {
		if got := number(version); got != want {
			t.Errorf("%q counts as %d, want %d", version, got, want)
		}
	}
}
