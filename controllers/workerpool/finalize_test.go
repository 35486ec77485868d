package workerpool

import "testing"

// The cache may not show yet what was made last when the pool vanishes.
func TestAPoolThatVanishesIsFollowedUntilItsLastWorkerHasGone(t *testing.T) {
	w := newWorld(t, 1)
	w.reconcile()
	leave := func(known, again bool) {
		t.Helper()
		result, err := w.reconciler.leave(t.Context(), poolKey)
		if err != nil {
			t.Fatal(err)
		}
		if (w.reconciler.memories.pool(poolKey) != "") != known || (result.RequeueAfter > 0) != again {
			t.Errorf("known: %t, looked at after %v; want %t, %t", !known, result.RequeueAfter, known, again)
		}
	}
	leave(true, true) // its worker is not in the cache
	w.catchUp()
	leave(true, false) // the end of that tells
	delete(w.pods, "demo-0")
	w.catchUp()
	leave(false, false)
	leave(false, false)
}
