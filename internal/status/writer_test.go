package status_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/utils/clock"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/engine"
	"github.com/workerpool-dev/workerpool/internal/status"
)

func TestALaterWriteReplacesAPendingOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, stored("a", v1alpha1.JobStatus{}))
		w := a.run(nil)
		first := write("a", 1, running(1, epoch))
		first.Due = time.Now().Add(200 * time.Millisecond)
		w.Write(first)
		synctest.Wait()
		w.Write(write("a", 2, inState(v1alpha1.JobSucceeded)))
		time.Sleep(time.Second)

		if n := len(a.sent()); n != 1 {
			t.Errorf("%d requests, want 1", n)
		}
		a.wantTold("written uid-a version 2 at 1000")
	})
}

func TestAWriteIsStoredWhenItIsDueAndNoSooner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, stored("a", v1alpha1.JobStatus{}), stored("b", v1alpha1.JobStatus{}), stored("c", v1alpha1.JobStatus{}))
		w := a.run(nil)
		start := time.Now()
		for name, after := range map[string]time.Duration{"c": 3 * time.Hour, "a": 200 * time.Millisecond, "b": time.Second} {
			write := write(name, 1, running(1, epoch))
			write.Due = start.Add(after)
			w.Write(write)
		}
		time.Sleep(4 * time.Hour)

		var got []string
		for _, r := range a.sent() {
			got = append(got, fmt.Sprint(r.job, r.at.Sub(start)))
		}
		if want := "[a200ms b1s c3h0m0s]"; fmt.Sprint(got) != want {
			t.Errorf("requests at %v, want %s", got, want)
		}
	})
}

// pressing are writes that wait for no others.
var pressing = map[string]func(name string) engine.Write{
	"final": func(name string) engine.Write { return write(name, 1, inState(v1alpha1.JobFailed)) },
	"awaited": func(name string) engine.Write {
		w := write(name, 1, inState(v1alpha1.JobPending))
		w.Awaited = true
		return w
	},
}

func TestAPressingWriteGoesBeforePassingOnes(t *testing.T) {
	for kind, pressing := range pressing {
		t.Run(kind, func(t *testing.T) { testGoesFirst(t, pressing) })
	}
}

func testGoesFirst(t *testing.T, pressing func(string) engine.Write) {
	synctest.Test(t, func(t *testing.T) {
		const atOnce = 16
		jobs := []*v1alpha1.Job{stored("passing", v1alpha1.JobStatus{}), stored("final", v1alpha1.JobStatus{})}
		for i := range atOnce {
			jobs = append(jobs, stored(fmt.Sprint("busy", i), v1alpha1.JobStatus{}))
		}
		a := newAPI(t, jobs...)
		turn := make(chan struct{})
		a.before = func(context.Context, int) error { <-turn; return nil }
		w := a.run(nil)
		for i := range atOnce {
			w.Write(write(fmt.Sprint("busy", i), 1, inState(v1alpha1.JobSucceeded)))
		}
		synctest.Wait()
		passing := write("passing", 1, running(1, epoch))
		passing.Due = passing.Due.Add(-time.Minute)
		w.Write(passing)
		synctest.Wait()
		w.Write(pressing("final"))
		synctest.Wait()
		if n := len(a.sent()); n != atOnce {
			t.Errorf("%d requests under way at once, want %d", n, atOnce)
		}
		turn <- struct{}{}
		synctest.Wait()

		if sent := a.sent(); len(sent) != atOnce+1 || sent[atOnce].job != "final" {
			t.Errorf("the request after the first %d of %d was not that of the pressing write", atOnce, len(sent))
		}
		close(turn)
	})
}

func TestPassingWritesAreBoundedInRateAndPressingOnesAreNot(t *testing.T) {
	for kind, pressing := range pressing {
		t.Run(kind, func(t *testing.T) { testRates(t, pressing) })
	}
}

func testRates(t *testing.T, pressing func(string) engine.Write) {
	synctest.Test(t, func(t *testing.T) {
		const count = 600
		var jobs []*v1alpha1.Job
		for i := range count {
			jobs = append(jobs, stored(fmt.Sprint("p", i), v1alpha1.JobStatus{}), stored(fmt.Sprint("f", i), v1alpha1.JobStatus{}))
		}
		a := newAPI(t, jobs...)
		w := a.run(nil)
		for i := range count {
			w.Write(write(fmt.Sprint("p", i), 1, running(1, epoch)))
			w.Write(pressing(fmt.Sprint("f", i)))
		}
		synctest.Wait()
		if final, passing := a.count(); final != count || passing > 10 {
			t.Errorf("at once %d pressing writes and %d passing ones, want %d and at most 10", final, passing, count)
		}
		time.Sleep(time.Second)
		if _, passing := a.count(); passing < 100 || passing > 111 {
			t.Errorf("%d passing writes after a second, want 110", passing)
		}
		time.Sleep(10 * time.Second)
		if _, passing := a.count(); passing != count {
			t.Errorf("%d passing writes in the end, want %d", passing, count)
		}
	})
}

// Until the API knows that a Job runs, its worker must end it when the operator is away. What waits has time.
func TestWhatRunsIsStoredBeforeWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const count, runs = 1000, 50
		jobs := []*v1alpha1.Job{}
		for i := range count {
			jobs = append(jobs, stored(fmt.Sprint("w", i), v1alpha1.JobStatus{}))
		}
		for i := range runs {
			jobs = append(jobs, stored(fmt.Sprint("f", i), v1alpha1.JobStatus{}))
		}
		a := newAPI(t, jobs...)
		w := a.run(nil)
		for i := range count {
			w.Write(write(fmt.Sprint("w", i), 1, inState(v1alpha1.JobQueued)))
		}
		time.Sleep(time.Second)
		for i := range runs {
			w.Write(write(fmt.Sprint("f", i), 1, running(1, epoch)))
		}
		_, before := a.count()
		time.Sleep(time.Second)
		if stored, waiting := a.count(); stored != runs || waiting-before > 60 {
			t.Errorf("a second later %d of %d that run are stored, and %d that wait", stored, runs, waiting-before)
		}
		time.Sleep(10 * time.Second)
		if _, waiting := a.count(); waiting != count {
			t.Errorf("%d of %d that wait are stored", waiting, count)
		}
	})
}

// count of the requests: those of Jobs f..., and the others.
func (a *api) count() (final, passing int) {
	for _, r := range a.sent() {
		if r.job[0] == 'f' {
			final++
		} else {
			passing++
		}
	}
	return final, passing
}

// The engine answers a write with the next one, at the very moment when the scheduler is done with
// the first.
func TestNoWriteIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const jobs, rounds = 8, 200
		var all []*v1alpha1.Job
		for i := range jobs {
			all = append(all, stored(fmt.Sprint(i), v1alpha1.JobStatus{}))
		}
		a := newAPI(t, all...)
		w := status.New(status.Config{Client: a.client, Live: a.client, Clock: clock.RealClock{}})
		a.onWritten = func(done engine.Write, resourceVersion string) {
			if done.Version < rounds {
				done.Version++
				done.ResourceVersion = resourceVersion
				w.Write(done)
			}
		}
		a.start(w)
		for i := range jobs {
			w.Write(write(fmt.Sprint(i), 1, inState(v1alpha1.JobFailed)))
		}
		synctest.Wait()

		if n := len(a.sent()); n != jobs*rounds {
			t.Errorf("%d requests, want %d: some write was forgotten", n, jobs*rounds)
		}
	})
}

func TestADroppedWriteIsNotStored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, stored("a", v1alpha1.JobStatus{}))
		w := a.run(nil)
		first := write("a", 1, running(1, epoch))
		first.Due = time.Now().Add(time.Second)
		w.Write(first)
		w.DropWrite(uidOf("a"))
		w.DropWrite(uidOf("never-seen"))
		time.Sleep(time.Minute)

		if n := len(a.sent()); n != 0 {
			t.Errorf("%d requests, want none", n)
		}
		a.wantTold()

		w.Write(write("a", 2, running(2, epoch)))
		time.Sleep(time.Minute)
		a.wantTold("written uid-a version 2 at 1000")
	})
}

func TestAWriteAskedForWhileAnotherIsUnderWayGoesOnTopOfIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, stored("a", v1alpha1.JobStatus{}))
		w := a.run(nil)
		a.before = func(_ context.Context, patch int) error {
			if patch == 1 {
				w.Write(write("a", 2, inState(v1alpha1.JobSucceeded)))
			}
			return nil
		}
		w.Write(write("a", 1, running(1, epoch)))
		synctest.Wait()

		a.wantTold("written uid-a version 1 at 1000", "written uid-a version 2 at 1001")
		if n := len(a.sent()); n != 2 {
			t.Errorf("%d requests, want 2: the second knows the version that the first has stored", n)
		}
	})
}

func TestAFailureDoesNotMakeALaterWriteGoBeforeItIsDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, stored("a", v1alpha1.JobStatus{}))
		w := a.run(nil)
		start := time.Now()
		a.before = func(_ context.Context, patch int) error {
			if patch == 1 {
				later := write("a", 2, running(2, epoch))
				later.Due = start.Add(10 * time.Second)
				w.Write(later)
				return errors.New("the API server is down")
			}
			return nil
		}
		w.Write(write("a", 1, running(1, epoch)))
		time.Sleep(time.Minute)

		sent := a.sent()
		if len(sent) != 2 || sent[1].at.Sub(start) != 10*time.Second {
			t.Errorf("requests %v, want a second one 10s after %v", sent, start)
		}
	})
}

func TestARequestIsGivenUpBeforeAnotherMayLead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, stored("a", v1alpha1.JobStatus{}))
		sent := time.Now()
		var gaveUp time.Duration
		a.before = func(ctx context.Context, patch int) error {
			if patch > 1 {
				return nil
			}
			<-ctx.Done()
			gaveUp = time.Since(sent)
			return ctx.Err()
		}
		w := a.run(nil)
		w.Write(write("a", 1, running(1, epoch)))
		time.Sleep(time.Minute)
		synctest.Wait()

		// It is sent 10 seconds after the Lease was renewed, at the latest, and another leads after 15.
		if gaveUp == 0 || gaveUp >= 5*time.Second {
			t.Errorf("given up after %s, want less than 5 s", gaveUp)
		}
		a.wantTold("written uid-a version 1 at 1000")
	})
}

// A request that is cut off may take effect all the same, when another leads.
func TestRunReturnsWhenTheRequestsUnderWayHaveEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI(t, stored("a", v1alpha1.JobStatus{}), stored("b", v1alpha1.JobStatus{}))
		answer := make(chan struct{})
		a.after = func(ctx context.Context, _ int) error {
			select {
			case <-answer:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		w := status.New(status.Config{Client: a.client, Live: a.client, Clock: clock.RealClock{}})
		later := write("b", 1, running(1, epoch))
		later.Due = time.Now().Add(time.Hour)
		w.Write(write("a", 1, running(1, epoch)))
		w.Write(later)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			w.Run(ctx, a)
			close(ended)
		}()
		synctest.Wait()
		cancel()
		synctest.Wait()
		select {
		case <-ended:
			t.Error("Run has returned while a request was under way")
		default:
		}
		close(answer)
		<-ended

		a.wantTold("written uid-a version 1 at 1000")
		w.Write(write("a", 2, running(2, epoch))) // after the end: kept, and does not block
		w.DropWrite(uidOf("b"))
	})
}

// A Job with thousands of finalizers makes a write take seconds. However many of them namespaces have, one more namespace
// finds a place at once.
func TestNamespacesWhoseWritesTakeLongHoldUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const slow, backlog = 5, 40
		var jobs []*v1alpha1.Job
		in := func(namespace, name string) *v1alpha1.Job {
			job := stored(name, v1alpha1.JobStatus{})
			job.Namespace = namespace
			jobs = append(jobs, job)
			return job
		}
		for n := range slow {
			for i := range backlog {
				in(fmt.Sprint("slow", n), fmt.Sprintf("slow%d-%d", n, i))
			}
		}
		for i := range 2 {
			in("quick", fmt.Sprint("quick-", i))
		}
		a := newAPI(t, jobs...)
		turn := make(chan struct{})
		a.before = func(_ context.Context, n int) error {
			if n > 0 && strings.HasPrefix(a.sent()[n-1].job, "slow") {
				<-turn
			}
			return nil
		}
		w := a.run(nil)
		ask := func(job *v1alpha1.Job) {
			wanted := write(job.Name, 1, inState(v1alpha1.JobSucceeded))
			wanted.Job.Namespace = job.Namespace
			w.Write(wanted)
		}
		for n := range slow {
			for i := range backlog {
				ask(jobs[n*backlog+i])
			}
			synctest.Wait()
			ask(jobs[slow*backlog])
			ask(jobs[slow*backlog+1])
			synctest.Wait()
			sent := a.sent()
			if last := sent[len(sent)-1].job; !strings.HasPrefix(last, "quick") {
				t.Errorf("with %d slow namespaces, after %d requests, the write of another waits", n+1, len(sent))
			}
		}
		close(turn)
	})
}

func TestNamespacesTakeTurnsWhereThereAreMoreThanPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const namespaces, backlog = 40, 20
		var jobs []*v1alpha1.Job
		for n := range namespaces {
			for i := range backlog {
				job := stored(fmt.Sprintf("%d-%d", n, i), v1alpha1.JobStatus{})
				job.Namespace = fmt.Sprint("ns", n)
				jobs = append(jobs, job)
			}
		}
		a := newAPI(t, jobs...)
		turn := make(chan struct{})
		a.before = func(context.Context, int) error { <-turn; return nil }
		w := a.run(nil)
		for i, job := range jobs { // each namespace has all that it has before the next one
			wanted := write(job.Name, 1, inState(v1alpha1.JobSucceeded))
			wanted.Job.Namespace = job.Namespace
			wanted.Due = wanted.Due.Add(time.Duration(i-len(jobs)) * time.Second)
			w.Write(wanted)
		}
		for range namespaces {
			synctest.Wait()
			turn <- struct{}{}
		}
		synctest.Wait()
		served := map[string]int{}
		for _, r := range a.sent() {
			served[strings.Split(r.job, "-")[0]]++
		}
		if len(served) != namespaces {
			t.Errorf("of %d namespaces %d were served: %v", namespaces, len(served), served)
		}
		close(turn)
	})
}
