package trigger_test

import (
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/client-go/util/workqueue"

	"github.com/workerpool-dev/workerpool/internal/trigger"
)

// inBubble runs a test with a source and a queue that it is not started on yet.
func inBubble(t *testing.T, test func(*testing.T, *trigger.Source[string], workqueue.TypedRateLimitingInterface[string])) {
	synctest.Test(t, func(t *testing.T) {
		queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[string]())
		defer queue.ShutDown()
		test(t, &trigger.Source[string]{}, queue)
	})
}

func start(t *testing.T, s *trigger.Source[string], queue workqueue.TypedRateLimitingInterface[string]) {
	t.Helper()
	if err := s.Start(t.Context(), queue); err != nil {
		t.Fatal(err)
	}
}

func wantNext(t *testing.T, queue workqueue.TypedRateLimitingInterface[string], want string) {
	t.Helper()
	got, _ := queue.Get()
	queue.Done(got)
	if got != want {
		t.Errorf("the controller got %q, want %q", got, want)
	}
}

func TestRequestsFromBeforeTheStartAreKept(t *testing.T) {
	inBubble(t, func(t *testing.T, s *trigger.Source[string], queue workqueue.TypedRateLimitingInterface[string]) {
		s.Add("a")
		s.AddAfter("b", time.Hour)
		start(t, s, queue)
		wantNext(t, queue, "a")
		wantNext(t, queue, "b")
		if n := queue.Len(); n != 0 {
			t.Errorf("%d more requests, want none", n)
		}
	})
}

func TestARequestForNowComesNow(t *testing.T) {
	inBubble(t, func(t *testing.T, s *trigger.Source[string], queue workqueue.TypedRateLimitingInterface[string]) {
		start(t, s, queue)
		s.Add("a")
		if n := queue.Len(); n != 1 {
			t.Fatalf("%d requests, want 1", n)
		}
		wantNext(t, queue, "a")
	})
}

func TestTheEarliestOfSeveralCounts(t *testing.T) {
	inBubble(t, func(t *testing.T, s *trigger.Source[string], queue workqueue.TypedRateLimitingInterface[string]) {
		start(t, s, queue)
		began := time.Now()
		s.AddAfter("a", time.Minute)
		s.AddAfter("a", time.Second)
		s.AddAfter("a", time.Hour)
		wantNext(t, queue, "a")
		if after := time.Since(began); after != time.Second {
			t.Errorf("the request came after %v, want 1s", after)
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if n := queue.Len(); n != 0 {
			t.Errorf("%d more requests, want none", n)
		}
	})
}
