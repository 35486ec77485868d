package pool

import (
	"testing"
	"testing/synctest"

	"github.com/workerpool-dev/workerpool/pkg/worker/internal/feed"
	"github.com/workerpool-dev/workerpool/pkg/worker/worker"
)

// Who resizes a pool again and again must not make it remember all workers that it ever had.
func TestRetiredWorkersThatHaveEndedAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(Config[worker.Job]{Crew: worker.Crew[worker.Job]{Feed: feed.NewFIFO[worker.Job](1)}, Workers: 1})
		if err := m.Start(); err != nil {
			t.Fatalf("Start: %v", err)
		}
		for range 100 {
			for _, n := range []int{5, 1} {
				if err := m.Resize(n); err != nil {
					t.Fatalf("Resize: %v", err)
				}
				synctest.Wait()
			}
		}
		if n := len(m.retired); n > 4 {
			t.Errorf("%d retired workers are remembered", n)
		}
		if err := m.Stop(); err != nil {
			t.Fatalf("Stop: %v", err)
		}
	})
}
