package scale

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	pb "github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
	"github.com/workerpool-dev/workerpool/internal/testutil"
	"github.com/workerpool-dev/workerpool/test/simulated"
)

const (
	// shortJobs are submitted while the pool grows, heldJobs run while it shrinks, and lateJobs come then.
	shortJobs, heldJobs, lateJobs = 1450, 450, 100
	// left is the number of workers in the end; more are busy before, so that busy ones must go.
	left = 50
	// shortest is how long a Job runs that is not held; others run up to ten times as long.
	shortest = 10 * time.Millisecond
	// submitters is how many clients create Jobs at once.
	submitters = 8
)

func TestJobsRunOnceEachWhileTheirPoolGrowsAndShrinks(t *testing.T) {
	l := newLedger()
	f := setup(t, 0, l)
	f.audit.Allow(simulated.Bound{Live: many, All: many})
	f.scale(many)
	f.submit("short", shortJobs)
	f.audit.Await(t, "all ready", settled(many))
	f.submit("held", heldJobs)
	l.awaitHeld(t, heldJobs)
	f.awaitProcessed(shortJobs)

	f.scale(left)
	f.audit.Await(t, "all too many deleted", live(left))
	f.submit("late", lateJobs)
	f.audit.Await(t, "only busy ones left", atMost(heldJobs))
	close(l.release)
	f.audit.Await(t, "50 left", settled(left))
	f.awaitProcessed(shortJobs + heldJobs + lateJobs)
	f.expectEachOnce(l)
	if _, busy := f.nodes.Trouble(); busy < heldJobs-left {
		t.Errorf("%d busy workers were drained, want %d", busy, heldJobs-left)
	}
	f.end(many)
}

// ledger has what the agents have started.
type ledger struct {
	// release ends the Jobs that are held.
	release chan struct{}

	mu     sync.Mutex
	starts map[string]int
	held   int
	// changed is closed, and another one made, with each start of a held Job.
	changed chan struct{}
}

func newLedger() *ledger {
	return &ledger{release: make(chan struct{}), starts: map[string]int{}, changed: make(chan struct{})}
}

// End is simulated.Work's.
func (l *ledger) End(types.NamespacedName, *pb.Assignment) {}

// Begin is simulated.Work's: an attempt of a held Job lasts until the release, and others end by themselves.
func (l *ledger) Begin(_ types.NamespacedName, a *pb.Assignment, ended func(exitCode int32)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.starts[a.GetToken().GetJobUid()]++
	if a.GetArgv()[0] != "held" {
		time.AfterFunc(shortest*time.Duration(1+len(l.starts)%10), func() { ended(0) })
		return
	}
	l.held++
	close(l.changed)
	l.changed = make(chan struct{})
	go func() {
		<-l.release
		ended(0)
	}()
}

func (l *ledger) look() (held int, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held, l.changed
}

func (l *ledger) awaitHeld(t *testing.T, n int) {
	t.Helper()
	for expired := time.After(patience); ; {
		held, changed := l.look()
		if held >= n {
			return
		}
		select {
		case <-changed:
		case <-expired:
			t.Fatalf("%d held Jobs run after %v, want %d", held, patience, n)
		}
	}
}

// submit creates Jobs of this kind, several at once.
func (f *fixture) submit(kind string, n int) {
	f.t.Helper()
	var group sync.WaitGroup
	errs := make(chan error, submitters)
	for s := range submitters {
		group.Go(func() {
			for i := s; i < n; i += submitters {
				job := testutil.MakeJob(f.namespace, fmt.Sprintf("%s-%d", kind, i), poolName).Command(kind).Obj()
				if err := f.client.Create(f.t.Context(), job); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	group.Wait()
	close(errs)
	for err := range errs {
		f.t.Fatalf("submit a Job: %v", err)
	}
}

// awaitProcessed waits until the pool's status says that so many Jobs have finished.
func (f *fixture) awaitProcessed(n int64) {
	f.t.Helper()
	pools, stop := f.watchPool()
	defer stop()
	for event := range pools {
		pool, ok := event.Object.(*v1alpha1.WorkerPool)
		if ok && pool.Status.ProcessedJobs != nil && *pool.Status.ProcessedJobs >= n {
			return
		}
	}
	f.t.Fatalf("not all Jobs have finished after %v", patience)
}

// expectEachOnce checks that each Job has succeeded at the first try, and that agents know of no other.
func (f *fixture) expectEachOnce(l *ledger) {
	f.t.Helper()
	list := &v1alpha1.JobList{}
	if err := f.client.List(f.t.Context(), list, client.InNamespace(f.namespace)); err != nil {
		f.t.Fatalf("list the Jobs: %v", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	wrong := 0
	for _, job := range list.Items {
		s := job.Status
		if n := l.starts[string(job.UID)]; s.State != v1alpha1.JobSucceeded || n != 1 {
			wrong++
			if wrong <= 10 {
				f.t.Errorf("Job %s is %s (%s), and was started %d times", job.Name, s.State, s.Reason, n)
			}
		}
	}
	if want := shortJobs + heldJobs + lateJobs; len(list.Items) != want || len(l.starts) != want || wrong > 0 {
		f.t.Errorf("%d Jobs, %d of them wrong, and %d were started, want %d", len(list.Items), wrong, len(l.starts), want)
	}
}
