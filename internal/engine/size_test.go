package engine

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// What is stored.

func TestALargeSetIsABitmap(t *testing.T) {
	var alternating, short indexSet
	for i := int32(0); i < 100_000; i += 2 {
		alternating.add(i)
	}
	if text := alternating.text(); !strings.HasPrefix(text, "bitmap:VVVV") || len(text) > maxIndexText {
		t.Errorf("a set of %d bytes: %.40s", len(text), text)
	}
	for i := int32(0); i < 4000; i += 2 {
		short.add(i)
	}
	if text := short.text(); text != short.String() {
		t.Errorf("a set of %d bytes as ranges is written as %.40s", len(short.String()), text)
	}
}

func TestASetIsReadAsItWasWrittenInEitherForm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.Int32Range(1, 100_000).Draw(t, "size")
		step := rapid.Int32Range(1, 9).Draw(t, "step")
		var written, read indexSet
		for i := rapid.Int32Range(0, size-1).Draw(t, "first"); i < size; i += step {
			written.add(i)
		}
		text := written.text()
		if len(text) > maxIndexText {
			t.Fatalf("%d bytes", len(text))
		}
		if read.parse(text, size); read.String() != written.String() || read.len() != written.len() {
			t.Fatalf("%.60q is read as %.60q", text, read.String())
		}
	})
}

func TestABitmapThatIsNoneIsLeftOut(t *testing.T) {
	for text, want := range map[string]string{
		"bitmap:": "", "bitmap:/w==": "0-4", "bitmap:/w": "", "bitmap:?": "", "bitmap:AQ==,3": "", "bitmap:" + strings.Repeat("////", 1<<18): "0-4",
	} {
		var s indexSet
		s.parse(text, 5)
		if got := s.String(); got != want {
			t.Errorf("%.20q is read as %q, want %q", text, got, want)
		}
	}
}

// worst makes a Job whose status is as large as it can be: 1,000 workers with the longest names run one task each, or
// one worker runs all.
func worst(t *testing.T, spec *v1alpha1.JobSpec, text string) *job {
	t.Helper()
	w, _ := lone(t)
	uid := w.create(spec)
	j := w.engine.jobs[uid]
	clear(j.tasks)
	at := time.Date(2026, 1, 1, 0, 0, 0, 123456000, time.UTC)
	long := strings.Repeat(text, 1024)
	j.object.Status = v1alpha1.JobStatus{
		Attempts: new(int32(1<<31 - 1)), Retries: new(int32(1<<31 - 1)), LostWorkers: new(int32(1<<31 - 1)), Worker: strings.Repeat("w", 63),
		QueuedTime: microTime(at), StartTime: microTime(at), CompletionTime: microTime(at),
		Result: &v1alpha1.JobResult{
			ExitCode: new(int32(-1 << 31)), Reason: v1alpha1.ReasonDeadlineExceeded, Message: clip(long), Output: strings.Repeat(text, 4096),
		},
		Usage: &v1alpha1.JobUsage{CPUMilliseconds: new(int64(1<<63 - 1)), MaxMemoryBytes: new(int64(1<<63 - 1))},
	}
	for range 3 {
		j.object.Status.Attempt = &v1alpha1.Attempt{
			Token: Token{Try: 1<<31 - 1, Epoch: Epoch{1<<63 - 1, 1<<63 - 1}}.String(), Worker: strings.Repeat("w", 63), PodUID: types.UID(strings.Repeat("u", 64)),
			StartTime: microTime(at), EndTime: microTime(at), Reason: v1alpha1.ReasonDeadlineExceeded, ExitCode: new(int32(-1 << 31)),
		}
		j.endAttempt(*j.object.Status.Attempt)
	}
	j.object.Status.Attempt = &j.object.Status.EndedAttempts[0]
	for _, kind := range []string{v1alpha1.JobFailedCondition, v1alpha1.JobFailureTarget} {
		j.setCondition(kind, metav1.ConditionTrue, v1alpha1.ReasonDeadlineExceeded, long)
	}
	j.setCondition(v1alpha1.JobSuspended, metav1.ConditionFalse, "Resumed", "The Job is not suspended any more.")
	j.object.Status.State, j.object.Status.Reason, j.object.Status.Message = v1alpha1.JobFailed, v1alpha1.ReasonDeadlineExceeded, clip(long)
	return j
}

// begin gives an indexed Job as many tasks as can have begun, and ends each other one of the rest. On says on which
// worker each runs.
func begin(j *job, on func(i int32) *podWorker) {
	for i := range j.size {
		switch {
		case i >= j.size-min(j.size, 4000):
			tk := j.task(i)
			tk.retries, tk.settled.Try = 1<<31-1, 1<<31-1
			if i%2 == 0 || j.size < 4000 {
				tk.attempt = &attempt{worker: on(i), started: j.engine().now}
			}
		case i%2 == 0:
			j.indexed.succeeded.add(i)
		default:
			j.indexed.failed.add(i)
		}
	}
}

func workersOf(j *job) map[string]func(int32) *podWorker {
	one := newPodWorker(j.pool, types.UID(strings.Repeat("u", 64)), strings.Repeat("w", 63))
	return map[string]func(int32) *podWorker{
		"on one worker": func(int32) *podWorker { return one },
		"on one of each": func(i int32) *podWorker {
			return newPodWorker(j.pool, types.UID(fmt.Sprintf("%064d", i)), fmt.Sprintf("%063d", i))
		},
	}
}

func TestNoStatusIsLargerThanItIsTakenFor(t *testing.T) {
	for _, text := range []string{"<", "\x01", "世", "\u2028", "\U0001F600"} {
		for _, size := range []int32{0, 1, 100, 5000, 100_000} {
			spec := command()
			if size > 0 {
				spec.Completions = &size
			}
			for name, on := range workersOf(worst(t, command(), "x")) {
				j := worst(t, spec, text)
				if size > 0 {
					begin(j, on)
					j.version++
					j.compose()
				}
				stored := len(describeStatus(&j.object.Status))
				if most := largestStatus(j.size, j.parallel, j.plain()); stored > most || most > 400<<10 {
					t.Errorf("%d tasks %s with %q: %d bytes, and at most %d are expected", size, name, text, stored, most)
				}
			}
		}
	}
}

// A status that the API's schema refuses is refused for ever.
func TestWhatIsStoredOfTasksIsWithinTheBoundsOfTheAPI(t *testing.T) {
	for name, on := range workersOf(worst(t, command(), "x")) {
		j := worst(t, command(completions(100_000)), "x")
		begin(j, on)
		j.write(0)
		s := &j.object.Status
		if len(s.RetriedIndexes) > 65536 || len(s.RunningIndexes) > 1000 || strings.HasSuffix(s.RetriedIndexes, ",") {
			t.Errorf("%s: retried %d bytes, running %d parts", name, len(s.RetriedIndexes), len(s.RunningIndexes))
		}
		var running indexSet
		for _, part := range s.RunningIndexes {
			if len(part.Indexes) > 4096 {
				t.Errorf("%s: a part of %d bytes", name, len(part.Indexes))
			}
			running.parse(part.Indexes, j.size)
		}
		for _, tk := range j.tasks {
			if a := tk.attempt; a != nil && a.omitted == running.has(tk.index) {
				t.Fatalf("%s: task %d is stored as running: %t, and counts as left out: %t", name, tk.index, running.has(tk.index), a.omitted)
			}
		}
		if running.len() < 256 { // which is the most that one worker runs at once
			t.Errorf("%s: only %d tasks are stored as running", name, running.len())
		}
	}
}

// A Job whose end could not be stored is not begun.
func TestAJobThatLeavesNoRoomForItsStatusIsNotBegun(t *testing.T) {
	for name, c := range map[string]struct {
		spec  *v1alpha1.JobSpec
		bytes int
		fits  bool
	}{
		"plain, 1 MiB":          {command(), 1 << 20, true},
		"plain, all but full":   {command(), maxStored - largestStatus(1, 1000, true), true},
		"plain, full":           {command(), maxStored - largestStatus(1, 1000, true) + 1, false},
		"plain, as etcd takes":  {command(), 1_571_800, false},
		"100 tasks, 1.3 MB":     {command(completions(100)), 1_300_000, true},
		"100,000 tasks, 1 MiB":  {command(completions(100_000)), 1 << 20, true},
		"100,000 tasks, 1.3 MB": {command(completions(100_000)), 1_300_000, false},
		"one at once, 1.3 MB":   {command(completions(100), func(s *v1alpha1.JobSpec) { s.Parallelism = new(int32(1)) }), 1_300_000, true},
	} {
		t.Run(name, func(t *testing.T) {
			w, p := lone(t)
			w.bytes = c.bytes
			uid := w.create(c.spec)
			w.live(waitingDue + time.Second)
			if started := len(p.assigned) > 0; started != c.fits {
				t.Fatalf("started: %t, want %t", started, c.fits)
			}
			if c.fits {
				return
			}
			w.wantState(uid, v1alpha1.JobPending, v1alpha1.ReasonDoesNotFit)
			if m := w.status(uid).Message; !strings.Contains(m, fmt.Sprint(c.bytes)) || !strings.Contains(m, fmt.Sprint(maxStored)) {
				t.Errorf("message %q, want the numbers in it", m)
			}
			w.live(time.Hour / 10)
			if n := w.jobs[uid].writes; n != 1 {
				t.Errorf("its status was written %d times, want once", n)
			}
			w.jobs[uid].job.Bytes = 1000 // an annotation is taken away
			w.jobs[uid].version++
			w.submit(uid)
			w.live(time.Second)
			if len(p.assigned) == 0 {
				t.Error("it is not started once it fits")
			}
		})
	}
}

// What is refused.

// refuse answers what is to be stored of a Job as the writer does for which nothing of it can be.
func (w *world) refuse(uid types.UID) {
	w.t.Helper()
	write, ok := w.writes[uid]
	if !ok {
		w.t.Fatalf("nothing is to be stored of %s", uid)
	}
	delete(w.writes, uid)
	w.refused = map[types.UID]bool{uid: true}
	w.engine.Refused(write, "too large")
}

func TestAnEndThatIsRefusedReleasesTheWorkerAndTheJobIsNotStartedAgain(t *testing.T) {
	w, p := lone(t)
	uid := w.runJob()
	w.exit(uid, 0, 0)
	w.agents()
	if !w.pool().Snapshot().Pods[p.uid].Busy {
		t.Fatal("the worker does not wait for its result to be stored")
	}
	w.refuse(uid)
	w.agents()
	if s := w.pool().Snapshot(); s.Pods[p.uid].Busy || s.Active != 0 || len(p.results) != 0 {
		t.Errorf("busy %t, active %d, %d results are kept", s.Pods[p.uid].Busy, s.Active, len(p.results))
	}
	w.submit(uid)
	w.live(time.Minute)
	if n := w.jobs[uid].starts[0]; n != 1 {
		t.Errorf("it was started %d times", n)
	}
	w.jobs[uid].gone = true
	w.submit(uid)
	if w.engine.settled[uid] {
		t.Error("it is remembered after it was deleted")
	}
	other := w.runJob()
	w.exit(other, 0, 0)
	w.turn()
	w.wantState(other, v1alpha1.JobSucceeded, "")
}

func TestAJobOfWhichNothingCanBeStoredIsEnded(t *testing.T) {
	w, p := room(t, 3)
	uid := w.runJob(completions(10))
	w.exit(uid, 0, 0)
	w.agents()
	w.idle(statusInterval)
	w.refuse(uid)
	w.agents()
	w.agents()
	w.wantRuns(uid)
	write := w.writes[uid]
	if s := write.Status; s.State != v1alpha1.JobFailed || s.Reason != v1alpha1.ReasonStatusRefused || !strings.Contains(s.Message, "too large") {
		t.Fatalf("to be stored: %s", describeStatus(&s))
	}
	w.refuse(uid)
	w.agents()
	if s := w.pool().Snapshot(); s.Pods[p.uid].Busy || s.Active != 0 || len(p.results) != 0 {
		t.Errorf("busy %t, active %d, %d results are kept", s.Pods[p.uid].Busy, s.Active, len(p.results))
	}
	w.submit(uid)
	w.live(time.Minute)
	w.wantRuns(uid)
}

func TestAnAttemptThatCantBeStoredIsNotSent(t *testing.T) {
	w, p := lone(t)
	uid := w.create(command(atMostOnce))
	w.refuse(uid)
	w.turn()
	if len(p.assigned) != 0 {
		t.Error("it was sent")
	}
	w.wantState(uid, v1alpha1.JobFailed, v1alpha1.ReasonStatusRefused)
}

func TestAPoolGoesThoughTheStatusesOfItsJobsAreRefused(t *testing.T) {
	w, p := lone(t)
	uid := w.runJob()
	w.live(time.Second)
	w.deleting = true
	w.pool().Close()
	p.terminating = true
	w.end(p, sortedTokens(p.running)[0], Interrupted, 137)
	w.agents()
	w.refuse(uid)
	if s := w.pool().Snapshot(); s.Active != 0 || s.Pods[p.uid].Busy {
		t.Errorf("active %d, busy %t", s.Active, s.Pods[p.uid].Busy)
	}
}

func TestARefusalOfAnEarlierWriteIsNoneOfTheEnd(t *testing.T) {
	w, _ := lone(t)
	uid := w.runJob()
	w.live(time.Second)
	w.exit(uid, 0, 0)
	w.agents()
	earlier := w.writes[uid]
	earlier.Version--
	w.engine.Refused(earlier, "too large")
	w.turn()
	w.wantState(uid, v1alpha1.JobSucceeded, "")
}

// What is sent.

func TestATaskThatIsTooLongWithItsItemFailsAlone(t *testing.T) {
	long := strings.Repeat("x", 1024)
	for name, c := range map[string]struct {
		change func(*v1alpha1.JobSpec)
		want   string
	}{
		"an argument": {func(s *v1alpha1.JobSpec) { s.Args = []string{"a", strings.Repeat("{}", 16384)} }, "The argument 2 has 16777216 bytes"},
		"all of them": {func(s *v1alpha1.JobSpec) { s.Args = slices.Repeat([]string{strings.Repeat("{}", 127)}, 20) }, "The task has 2601988 bytes"},
		"a path": {func(s *v1alpha1.JobSpec) {
			s.Command, s.HTTP = nil, &v1alpha1.HTTPRequest{Path: "/" + strings.Repeat("{}", 200)}
		}, "The path has 204801 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			w, p := room(t, 4)
			handler := v1alpha1.HandlerExec
			if strings.Contains(name, "path") {
				handler = v1alpha1.HandlerHTTP
			}
			p.handler = handler
			w.configure(func(c *PoolConfig) { c.Handler = handler })
			w.listPods()
			uid := w.runJob(items("short", long, ""), c.change, retries(5))
			w.wantRuns(uid, 0, 2)
			for _, index := range w.runs(uid) {
				w.finish(uid, index, Result{Outcome: map[v1alpha1.HandlerType]Outcome{v1alpha1.HandlerExec: Exited, v1alpha1.HandlerHTTP: Responded}[handler], HTTPStatus: 200})
			}
			w.turn()
			w.wantState(uid, v1alpha1.JobFailed, v1alpha1.ReasonIndexesFailed)
			s := w.status(uid)
			if s.FailedIndexes != "1" || s.SucceededIndexes != "0,2" || s.Result.Reason != v1alpha1.ReasonCannotStart || !strings.Contains(s.Result.Message, c.want) {
				t.Errorf("stored: %s, want %s", describeStatus(s), c.want)
			}
			if deref(s.Attempts) != 2 || deref(s.Retries) != 0 {
				t.Errorf("%d attempts, %d retries", deref(s.Attempts), deref(s.Retries))
			}
		})
	}
}

// To ask for more of what can't be sent would be a loop without a pause.
func TestATaskThatIsTooLongIsNotTriedAgainWhateverTheRulesSay(t *testing.T) {
	for action, reason := range map[v1alpha1.FailureAction]string{
		v1alpha1.ActionIgnore: v1alpha1.ReasonIndexesFailed, v1alpha1.ActionRetry: v1alpha1.ReasonIndexesFailed, v1alpha1.ActionFail: v1alpha1.ReasonCannotStart,
	} {
		w, p := lone(t)
		uid := w.runJob(items(strings.Repeat("x", 1024), strings.Repeat("y", 1024)), retries(100), backoff(0, 1, 0), func(s *v1alpha1.JobSpec) {
			s.Args = []string{strings.Repeat("{}", 16384)}
			s.FailurePolicy = &v1alpha1.FailurePolicy{Rules: []v1alpha1.FailureRule{{Action: action, Reasons: []v1alpha1.FailureReason{v1alpha1.ReasonCannotStart}}}}
		})
		w.live(time.Minute)
		w.wantState(uid, v1alpha1.JobFailed, reason)
		if len(p.assigned) != 0 || w.jobs[uid].writes > 2 {
			t.Errorf("%s: %d were sent, %d writes", action, len(p.assigned), w.jobs[uid].writes)
		}
	}
}

// 10,000 of them are found out at once, under the engine's lock.
func TestHowLongTasksAreIsFoundWithoutFillingThemIn(t *testing.T) {
	w, p := lone(t)
	uid := w.create(command(items(slices.Repeat([]string{strings.Repeat("x", 1024)}, 10_000)...), func(s *v1alpha1.JobSpec) {
		s.Args = slices.Repeat([]string{strings.Repeat("{}", 500)}, 1024)
	}))
	w.live(2 * time.Second)
	w.wantState(uid, v1alpha1.JobFailed, v1alpha1.ReasonIndexesFailed)
	if len(p.assigned) != 0 {
		t.Error("some were sent")
	}
}

func TestTheSizeIsThatOfWhatIsFilledIn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		item := rapid.StringMatching(`[a<>{} %é]{0,20}`).Draw(t, "item")
		texts := rapid.SliceOfN(rapid.StringMatching(`([{}a]|\{\}){0,20}`), 1, 5).Draw(t, "args")
		a := Assignment{Argv: append([]string{"{}"}, texts...), Fill: 1, Item: &item}
		size := 0
		for _, arg := range a.Command() {
			size += len(arg)
		}
		if a.Size() != size {
			t.Fatalf("size %d, want %d", a.Size(), size)
		}
		h := Assignment{Item: &item, HTTP: &Request{Path: texts[0]}}
		if h.Size() != len(h.Path()) {
			t.Fatalf("size %d, want %d", h.Size(), len(h.Path()))
		}
		spec := &v1alpha1.JobSpec{Command: []string{"{}"}, Args: texts, Items: []string{item}}
		f := newForm(spec)
		total := f.fixed
		for _, h := range f.holes {
			total += h.placeholders * (len(item) - 2)
		}
		if total != size {
			t.Fatalf("the form has %d bytes with the item, want %d", total, size)
		}
	})
}

// The API server has a Job of almost 1.5 MiB: not even that it does not fit can be stored.
func TestAJobThatLeavesNoRoomForAnyStatusIsLeftAlone(t *testing.T) {
	w, p := lone(t)
	w.bytes = 1_571_800
	uid := w.create(command())
	w.idle(waitingDue)
	w.refuse(uid)
	if s := w.writes[uid].Status; s.State != v1alpha1.JobFailed {
		t.Fatalf("to be stored: %s", describeStatus(&s))
	}
	w.refuse(uid)
	for range 10 {
		w.submit(uid)
		w.live(time.Minute)
	}
	if len(p.assigned) != 0 || w.jobs[uid].writes != 0 || len(w.writes) != 0 || w.pool().Snapshot().Active != 0 {
		t.Errorf("%d were sent, %d writes", len(p.assigned), w.jobs[uid].writes)
	}
}
