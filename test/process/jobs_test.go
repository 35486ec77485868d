package process

import (
	"fmt"
	"os"
	"strings"
	"sync"

	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

// submitters is how many clients create Jobs at once.
const submitters = 32

// Scripts of Jobs: each says in the ledger that it starts and that it ends. One that is held runs until the release.
const (
	short = `echo "start $0" >>"$LEDGER"; echo "end $0" >>"$LEDGER"`
	held  = `echo "start $0" >>"$LEDGER"; : <"$GATE"; echo "end $0" >>"$LEDGER"`
)

// submit creates so many Jobs that run a script; they are called as the prefix says, with a number.
func (w *world) submit(prefix, script string, n int) {
	w.t.Helper()
	var group sync.WaitGroup
	errs := make(chan error, submitters)
	for s := range submitters {
		group.Go(func() {
			for i := s; i < n; i += submitters {
				name := fmt.Sprintf("%s-%d", prefix, i)
				job := testutil.MakeJob(w.namespace, name, poolName).Command("sh", "-c", script, name).Obj()
				if err := w.client.Create(w.t.Context(), job); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	group.Wait()
	close(errs)
	for err := range errs {
		w.t.Fatalf("submit a Job: %v", err)
	}
}

// release ends the Jobs that are held, and those that are still to come.
func (w *world) release() {
	gate, err := os.OpenFile(w.gate, os.O_RDWR, 0)
	if err != nil {
		w.t.Error(err)
		return
	}
	w.t.Cleanup(func() { gate.Close() })
}

// suspend has the pool start nothing, or go on.
func (w *world) suspend(suspended bool) {
	w.t.Helper()
	w.patch(&v1alpha1.WorkerPool{ObjectMeta: objectMeta(w.namespace, poolName)}, fmt.Sprintf(`{"spec":{"suspend":%t}}`, suspended))
}

// awaitStarted waits until so many Jobs of this prefix have started.
func (w *world) awaitStarted(prefix string, n int) {
	w.t.Helper()
	w.await(fmt.Sprintf("%d Jobs %s started", n, prefix), func() bool { return w.started(prefix) >= n })
}

func (w *world) started(prefix string) int {
	n := 0
	for _, line := range w.entries() {
		if strings.HasPrefix(line, "start "+prefix+"-") {
			n++
		}
	}
	return n
}

// awaitRecorded waits until the statuses of so many Jobs of this prefix say that they run.
func (w *world) awaitRecorded(prefix string, n int) {
	w.t.Helper()
	w.await(fmt.Sprintf("%d Jobs %s recorded", n, prefix), func() bool { return len(w.jobs(prefix, v1alpha1.JobRunning)) >= n })
}

// awaitSucceeded waits until so many Jobs of this prefix have succeeded.
func (w *world) awaitSucceeded(prefix string, n int) {
	w.t.Helper()
	w.await(fmt.Sprintf("%d Jobs %s done", n, prefix), func() bool { return len(w.jobs(prefix, v1alpha1.JobSucceeded)) >= n })
}

// jobs are those of the prefix, in any of these states; all, if none is given.
func (w *world) jobs(prefix string, states ...v1alpha1.JobState) []v1alpha1.Job {
	w.t.Helper()
	list := &v1alpha1.JobList{}
	if err := w.client.List(w.t.Context(), list, client.InNamespace(w.namespace)); err != nil {
		w.t.Fatalf("list the Jobs: %v", err)
	}
	var jobs []v1alpha1.Job
	for _, job := range list.Items {
		if !strings.HasPrefix(job.Name, prefix+"-") {
			continue
		}
		if len(states) == 0 {
			jobs = append(jobs, job)
		}
		for _, state := range states {
			if job.Status.State == state {
				jobs = append(jobs, job)
			}
		}
	}
	return jobs
}

// expectOnce checks that these many Jobs of the prefix have succeeded at the first try, and that the ledger has each
// of them once.
func (w *world) expectOnce(prefix string, n int) {
	w.t.Helper()
	lines := map[string]int{}
	for _, line := range w.entries() {
		lines[line]++
	}
	jobs := w.jobs(prefix)
	if len(jobs) != n {
		w.t.Errorf("there are %d Jobs %s, want %d", len(jobs), prefix, n)
	}
	wrong := 0
	for _, job := range jobs {
		s := job.Status
		starts, ends := lines["start "+job.Name], lines["end "+job.Name]
		if s.State == v1alpha1.JobSucceeded && ptr.Deref(s.Attempts, 0) == 1 && starts == 1 && ends == 1 {
			continue
		}
		if wrong++; wrong <= 10 {
			w.t.Errorf("Job %s is %s (%s) after %d attempts; in the ledger it has %d starts and %d ends",
				job.Name, s.State, s.Reason, ptr.Deref(s.Attempts, 0), starts, ends)
		}
	}
	if wrong > 10 {
		w.t.Errorf("%d Jobs are wrong", wrong)
	}
}
