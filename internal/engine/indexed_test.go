package engine

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

func parallelism(n int32) func(*v1alpha1.JobSpec) {
	return func(s *v1alpha1.JobSpec) { s.Parallelism = new(n) }
}

func items(items ...string) func(*v1alpha1.JobSpec) {
	return func(s *v1alpha1.JobSpec) { s.Items = items }
}

func TestTasksRunInTheOrderOfTheirIndexes(t *testing.T) {
	w, p := lone(t)
	uid := w.runJob(completions(7))
	for range 7 {
		w.exit(uid, w.runs(uid)[0], 0)
		w.turn()
	}
	w.wantState(uid, v1alpha1.JobSucceeded, "")
	for i, a := range p.assigned {
		if a.Token.Index != int32(i) || a.Token.Try != 1 {
			t.Errorf("assignment %d is of task %d, try %d", i, a.Token.Index, a.Token.Try)
		}
		if !slices.Contains(a.Env, Variable{"JOB_COMPLETION_INDEX", fmt.Sprint(i)}) {
			t.Errorf("task %d has the environment %v", i, a.Env)
		}
	}
	if s := w.status(uid); s.SucceededIndexes != "0-6" || s.FailedIndexes != "" || s.Completions != "7/7" || deref(s.Succeeded) != 7 ||
		deref(s.Active) != 0 || deref(s.Attempts) != 7 || s.Result != nil || s.RunningIndexes != nil || len(p.assigned) != 7 {
		t.Errorf("stored: %s", describeStatus(s))
	}
}

func TestNoMoreTasksRunThanTheParallelismAllows(t *testing.T) {
	w, _ := room(t, 8)
	uid := w.runJob(completions(6), parallelism(2))
	w.wantRuns(uid, 0, 1)
	if s := w.pool().Snapshot(); s.Queued != 0 || s.Active != 1 {
		t.Errorf("snapshot %+v, want a Job that runs and none that is queued", s)
	}
	other := w.runJob()
	w.wantRuns(other, 0)
	w.exit(uid, 1, 0)
	w.turn()
	w.wantRuns(uid, 0, 2)
	w.exit(uid, 0, 1)
	w.exit(uid, 2, 0)
	w.turn()
	w.wantRuns(uid, 3, 4)
}

func TestAJobIsQueuedAndActiveWhileSomeOfItsTasksWait(t *testing.T) {
	w, _ := lone(t)
	uid := w.runJob(completions(5))
	if s := w.pool().Snapshot(); s.Queued != 1 || s.Active != 1 {
		t.Errorf("snapshot %+v, want it queued and active", s)
	}
	w.live(time.Second)
	w.wantState(uid, v1alpha1.JobRunning, "")
}

func TestAnIndexedJobFailsInTheEndIfATaskHas(t *testing.T) {
	w, p := lone(t)
	uid := w.runJob(completions(5), retries(1), backoff(0, 1, 0))
	for range 10 {
		for _, index := range w.runs(uid) {
			code := int32(0)
			if index == 1 || index == 3 {
				code = 10*(index+1) + int32(w.jobs[uid].starts[index])
			}
			w.finish(uid, index, Result{Outcome: Exited, ExitCode: code, Output: fmt.Sprint("output of ", index), CPUTime: time.Second, MaxMemoryBytes: int64(100 - index)})
		}
		w.live(time.Second)
	}
	w.wantState(uid, v1alpha1.JobFailed, v1alpha1.ReasonIndexesFailed)
	s := w.status(uid)
	if s.Message != "2 of 5 tasks have failed: 1,3." || s.SucceededIndexes != "0,2,4" || s.FailedIndexes != "1,3" || s.RetriedIndexes != "" ||
		deref(s.Failed) != 2 || s.Completions != "3/5" || deref(s.Attempts) != 7 || deref(s.Retries) != 2 {
		t.Errorf("stored: %s", describeStatus(s))
	}
	if r := s.Result; r == nil || *r.ExitCode != 22 || r.Message != "Task 1: The command ended with exit code 22." || r.Output != "output of 1" {
		t.Errorf("result %+v, want that of the first task that failed for good", r)
	}
	if u := s.Usage; *u.CPUMilliseconds != 7000 || *u.MaxMemoryBytes != 100 {
		t.Errorf("usage %d ms, %d bytes; want that of all tasks, 7000 ms, and the most memory, 100 bytes", *u.CPUMilliseconds, *u.MaxMemoryBytes)
	}
	if len(p.results) != 0 {
		t.Errorf("%d results are left", len(p.results))
	}
}

func TestTheResultsOfTasksAreAcknowledgedOnceStored(t *testing.T) {
	w, p := lone(t)
	uid := w.runJob(completions(4))
	w.live(time.Second)
	w.exit(uid, 0, 0)
	w.exit(uid, 1, 0)
	w.agents()
	if len(p.results) != 2 || !w.pool().Snapshot().Pods[p.uid].Busy {
		t.Fatalf("%d results are left, busy %t", len(p.results), w.pool().Snapshot().Pods[p.uid].Busy)
	}
	w.live(statusInterval)
	if len(p.results) != 0 || w.status(uid).SucceededIndexes != "0-1" {
		t.Errorf("%d results are left, stored: %s", len(p.results), describeStatus(w.status(uid)))
	}
}

// An agent that keeps too many results takes no more tasks.
func TestManyResultsOfTasksAreStoredAtOnce(t *testing.T) {
	w, p := room(t, maxUnwritten)
	uid := w.runJob(completions(3 * maxUnwritten))
	w.live(statusInterval)
	for i := range int32(maxUnwritten - 1) {
		w.exit(uid, i, 0)
	}
	w.turn()
	if len(p.results) != maxUnwritten-1 {
		t.Fatalf("%d results are left, want %d, as less than a second has passed", len(p.results), maxUnwritten-1)
	}
	w.exit(uid, maxUnwritten-1, 0)
	w.turn()
	if len(p.results) != 0 || w.status(uid).SucceededIndexes != fmt.Sprintf("0-%d", maxUnwritten-1) {
		t.Errorf("%d results are left, stored: %s", len(p.results), describeStatus(w.status(uid)))
	}
}

func TestTheNextLeaderStartsNothingAgain(t *testing.T) {
	w, p := room(t, 3)
	uid := w.runJob(completions(10), retries(3), backoff(0, 1, 0))
	w.exit(uid, 0, 0)
	w.exit(uid, 2, 1)
	w.live(2 * time.Second)
	w.wantRuns(uid, 1, 3, 4)
	w.exit(uid, 3, 0) // which is not stored
	w.agents()
	w.wantRuns(uid, 1, 2, 4) // and neither is that 2 runs again
	if s := w.status(uid); s.RunningIndexes[0].Indexes != "1,3-4" || s.SucceededIndexes != "0" || s.RetriedIndexes != "2:1:1" {
		t.Fatalf("stored: %s", describeStatus(s))
	}
	before := maps.Clone(w.jobs[uid].starts)
	w.drop(p)
	w.lead()
	if s := w.pool().Snapshot(); s.Active != 1 || !s.Pods[p.uid].Busy {
		t.Errorf("before its worker is back: snapshot %+v, want the Job active and the worker busy", s)
	}
	w.connect(p)
	w.live(2 * time.Second)
	w.wantRuns(uid, 1, 2, 4)
	if got := w.jobs[uid].starts; !maps.Equal(got, before) {
		t.Errorf("started %v, want %v as before", got, before)
	}
	if s := w.status(uid); s.SucceededIndexes != "0,3" || s.RunningIndexes[0].Indexes != "1-2,4" || s.RetriedIndexes != "2:1:1" {
		t.Errorf("stored: %s", describeStatus(s))
	}
	w.exit(uid, 1, 0)
	w.turn()
	w.wantRuns(uid, 2, 4, 5)
}

// A worker that does not come back has to be lost first.
func TestRunningTasksOfALostWorkerRunAgain(t *testing.T) {
	w, p := lone(t)
	uid := w.runJob(completions(3))
	w.live(time.Second)
	w.drop(p)
	w.lead()
	other := w.join()
	w.live(silentWorkers + time.Second)
	if len(other.running) != 1 {
		t.Errorf("%d tasks run on the other worker, want the one that had not begun", len(other.running))
	}
	p.gone, p.running = true, nil
	w.listPods()
	w.live(2 * time.Second)
	w.wantRuns(uid, 0, 2)
	if s := w.status(uid); s.RunningIndexes[0].Worker != string(other.uid) || deref(s.LostWorkers) != 2 {
		t.Errorf("stored: %s", describeStatus(s))
	}
}

func TestItemsAreFilledIn(t *testing.T) {
	w, p := room(t, 4)
	uid := w.runJob(items("a", "", "{}", "x y"), func(s *v1alpha1.JobSpec) {
		s.Command, s.Args = []string{"say", "{}"}, []string{"{}", "-{}={}-", "plain", "{ }"}
	})
	for i, want := range [][]string{
		{"say", "{}", "a", "-a=a-", "plain", "{ }"},
		{"say", "{}", "", "-=-", "plain", "{ }"},
		{"say", "{}", "{}", "-{}={}-", "plain", "{ }"},
		{"say", "{}", "x y", "-x y=x y-", "plain", "{ }"},
	} {
		a := p.assigned[i]
		env := []Variable{{"JOB_COMPLETION_INDEX", fmt.Sprint(i)}, {"JOB_ITEM", w.jobs[uid].job.Spec.Items[i]}}
		if !slices.Equal(a.Command(), want) || !slices.Equal(a.Env, env) {
			t.Errorf("task %d: %q with %v, want %q with %v", i, a.Command(), a.Env, want, env)
		}
	}
	if got := w.jobs[uid].job.Spec; got.Args[0] != "{}" || got.Command[1] != "{}" {
		t.Errorf("the spec was changed: %+v", got)
	}
}

func TestWithoutItemsNothingIsFilledIn(t *testing.T) {
	w, p := lone(t)
	w.runJob(completions(1), func(s *v1alpha1.JobSpec) { s.Args = []string{"{}"} })
	w.runJob(func(s *v1alpha1.JobSpec) { s.Args = []string{"{}"} })
	for _, a := range p.assigned {
		if !slices.Equal(a.Command(), []string{"true", "{}"}) {
			t.Errorf("argv %q", a.Command())
		}
	}
	if env := p.assigned[1].Env; len(env) != 0 {
		t.Errorf("a plain Job has the environment %v", env)
	}
}

func TestAnItemIsEscapedInAPath(t *testing.T) {
	w, p := room(t, 3)
	p.handler = v1alpha1.HandlerHTTP
	w.configure(func(c *PoolConfig) { c.Handler = v1alpha1.HandlerHTTP })
	w.listPods()
	w.runJob(items("a b+c/d?e=f&g#h%", "ä", "{}"), asksHTTP, func(s *v1alpha1.JobSpec) {
		s.HTTP = &v1alpha1.HTTPRequest{
			Method: http.MethodPut, Path: "/v1/{}?q={}", Body: "{}", Headers: []v1alpha1.HTTPHeader{{Name: "X-Item", Value: new("{}")}, {Name: "Empty"}},
		}
	})
	for i, want := range []string{"a%20b%2Bc%2Fd%3Fe%3Df%26g%23h%25", "%C3%A4", "%7B%7D"} {
		r := p.assigned[i].HTTP
		if p.assigned[i].Path() != "/v1/"+want+"?q="+want || r.Method != http.MethodPut || r.Body != "{}" || !slices.Equal(r.Headers, []Variable{{"X-Item", "{}"}, {"Empty", ""}}) {
			t.Errorf("request %+v, want the item as %s in the path, and nowhere else", r, want)
		}
		if p.assigned[i].Argv != nil {
			t.Errorf("argv %q", p.assigned[i].Argv)
		}
	}
}

func TestTheMessageAboutFailedTasksIsBounded(t *testing.T) {
	x := &indexes{}
	for i := int32(0); i < 100000; i += 2 {
		x.failed.add(i)
	}
	f := x.failure(100000)
	if len(f.message) > 300 || !strings.HasPrefix(f.message, "50000 of 100000 tasks have failed: 0,2,4,") || !strings.HasSuffix(f.message, ",...") && !strings.HasSuffix(f.message, ",....") {
		t.Errorf("message of %d bytes: %q", len(f.message), f.message)
	}
}

func TestNoFurtherTasksBeginWhileTooManyWaitForTheirNextTry(t *testing.T) {
	w, _ := room(t, 256)
	w.t = t
	uid := w.runJob(completions(3000), retries(1), backoff(86400, 1, 86400))
	for range 20 {
		for _, index := range w.runs(uid) {
			w.exit(uid, index, 1)
		}
		w.live(statusInterval)
	}
	started := len(w.jobs[uid].starts)
	if started < maxRetrying || started > maxRetrying+256 {
		t.Errorf("%d tasks were begun, want about %d", started, maxRetrying)
	}
	if n := len(w.status(uid).RetriedIndexes); n > 65536 { // the CRD's bound
		t.Errorf("retriedIndexes has %d bytes", n)
	}
	if s := w.pool().Snapshot(); s.Queued != 0 || s.Active != 0 {
		t.Errorf("snapshot %+v, want no room taken", s)
	}
}

func TestATaskThatIsStoredAsBothHasFailed(t *testing.T) {
	j := &job{tasks: map[int32]*task{}, size: 9}
	x := restoreIndexes(j, &v1alpha1.JobStatus{SucceededIndexes: "0-4", FailedIndexes: "3-5"})
	if x.succeeded.String() != "0-2" || x.failed.String() != "3-5" || x.done() != 6 {
		t.Errorf("succeeded %s, failed %s, done %d", x.succeeded.String(), x.failed.String(), x.done())
	}
}

// Sets of indexes.

func setOf(indexes []int32) *indexSet {
	s := &indexSet{}
	for _, i := range indexes {
		s.add(i)
	}
	return s
}

func TestASetIsReadAsItWasWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.SampledFrom([]int32{1, 5, 64, 65, 200, 100000}).Draw(t, "size")
		want := rapid.SliceOfDistinct(rapid.Int32Range(0, size-1), rapid.ID).Draw(t, "indexes")
		if rapid.Bool().Draw(t, "with a run") {
			for i := size / 3; i < size/2; i++ {
				if !slices.Contains(want, i) {
					want = append(want, i)
				}
			}
		}
		written := setOf(want)
		slices.Sort(want)
		var read indexSet
		read.parse(written.String(), size)
		if got := slices.Collect(read.all()); !slices.Equal(got, want) {
			t.Fatalf("%v is written as %q and read as %v", want, written, got)
		}
		if read.len() != int32(len(want)) || read.String() != written.String() {
			t.Fatalf("%q has %d of %d", read.String(), read.len(), len(want))
		}
		for i := range min(size, 300) {
			if read.has(i) != slices.Contains(want, i) {
				t.Fatalf("has %d: %t", i, read.has(i))
			}
		}
	})
}

func TestWhatIsAddedTwiceOrRemovedTwiceCountsOnce(t *testing.T) {
	s := setOf([]int32{3, 3, 64, 128})
	s.remove(64)
	s.remove(64)
	s.remove(1000)
	if got := s.String(); got != "3,128" || s.len() != 2 || s.has(64) || s.has(1000) {
		t.Errorf("%q, %d", got, s.len())
	}
}

// Whatever the text, it takes no longer than there are indexes.
func TestWhatIsNoSetIsLeftOut(t *testing.T) {
	for text, want := range map[string]string{
		"7,0-4": "7", "1,1,1": "1", "0-3,2-5,6": "0-3,6", "5-1,6": "6", "5-1,5": "", "-1,2": "2", "1-,2": "2", "x,2": "2", "98-1000000,99": "98-99",
		strings.Repeat("0-99,", 100000): "0-99",
	} {
		var s indexSet
		s.parse(text, 100)
		if got := s.String(); got != want {
			t.Errorf("%.20q is read as %q, want %q", text, got, want)
		}
	}
	var s indexSet
	s.parse(strings.Repeat("0-99999,", 1<<17), 100000)
	if s.len() != 100000 {
		t.Errorf("%d are read", s.len())
	}
}

func TestSetsAreWrittenAsRanges(t *testing.T) {
	for want, indexes := range map[string][]int32{
		"": nil, "0": {0}, "0-1": {0, 1}, "0-4,7": {0, 1, 2, 3, 4, 7}, "1,3,5": {1, 3, 5}, "62-65": {62, 63, 64, 65}, "99999": {99999},
	} {
		if got := setOf(indexes).String(); got != want {
			t.Errorf("%v is written as %q, want %q", indexes, got, want)
		}
	}
}

// FuzzIndexes: whoever may write the status of a Job may write anything there.
func FuzzIndexes(f *testing.F) {
	for _, text := range []string{"", "0", "0-4,7", "7,0-4", "5-1", "-1", "1-", "0-99999999999999999999", "0-2147483647", ",,", "1,1,1", "a-b", " 1", "+1", "0x1"} {
		f.Add(text, int32(100))
	}
	f.Fuzz(func(t *testing.T, text string, size int32) {
		size = 1 + max(0, size)%100000
		var s indexSet
		s.parse(text, size)
		n := int32(0)
		for index := range s.all() {
			if index < 0 || index >= size {
				t.Fatalf("%q of %d has %d", text, size, index)
			}
			n++
		}
		if n != s.len() {
			t.Fatalf("%q has %d and counts %d", text, n, s.len())
		}
		var again indexSet
		again.parse(s.String(), size)
		if again.String() != s.String() || again.len() != s.len() {
			t.Fatalf("%q is read as %q and then as %q", text, s.String(), again.String())
		}
	})
}

// FuzzRetried: and there.
func FuzzRetried(f *testing.F) {
	for _, text := range []string{"", "0:1:1", "0:1:1,3:2:4", "3:2:4,3:9:9", "2:1:1", "99:1:1", "-1:1:1", "1:-1:1", "1:1", "1:1:1:1", "1:1:9999999999", "0:2147483647:2147483647"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		j := &job{tasks: map[int32]*task{}, size: 5}
		j.indexed = restoreIndexes(j, &v1alpha1.JobStatus{RetriedIndexes: text, SucceededIndexes: "2"})
		for index, task := range j.tasks {
			if index < 0 || index >= 5 || index == 2 || task.index != index || task.retries < 0 || task.lastTry < 0 {
				t.Fatalf("%q has %d: %+v", text, index, task)
			}
		}
		if len(j.again) != len(j.tasks) {
			t.Fatalf("%q: %d tasks, %d to be started again", text, len(j.tasks), len(j.again))
		}
	})
}
