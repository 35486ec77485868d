package queue_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/queue"
	"github.com/workerpool-dev/workerpool/pkg/worker/queue/queuetest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

func TestPriorityKeepsTheContractOfQueue(t *testing.T) {
	for _, aging := range []time.Duration{0, time.Minute} {
		t.Run("aging "+aging.String(), func(t *testing.T) {
			queuetest.Run(t, func(t *testing.T, capacity int) worker.Queue {
				return newPriority(t, capacity, aging)
			})
		})
	}
}

// job is a job with a name.
type job struct {
	name     string
	priority int
}

func (*job) Process() error   { return nil }
func (*job) OnFailure(error)  {}
func (*job) MaxRetries() int  { return 0 }
func (j *job) Priority() int  { return j.priority }
func (j *job) String() string { return j.name }

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func at(seconds int) time.Time {
	return epoch.Add(time.Duration(seconds) * time.Second)
}

func newPriority(t testing.TB, capacity int, aging time.Duration) *queue.Priority {
	t.Helper()
	q, err := queue.NewPriority(queue.Options{Capacity: capacity, Aging: aging})
	if err != nil {
		t.Fatalf("NewPriority: %v", err)
	}
	return q
}

// add pushes a job that was created at a second, with a priority.
func add(t testing.TB, q *queue.Priority, name string, created, priority int) *job {
	t.Helper()
	j := &job{name: name}
	push(t, q, created, queue.Item{Job: j, Priority: priority, Created: at(created)})
	return j
}

// addDelayed pushes a job that was created at second 0.
func addDelayed(t testing.TB, q *queue.Priority, name string, notBefore, priority int) *job {
	t.Helper()
	j := &job{name: name}
	push(t, q, 0, queue.Item{Job: j, Priority: priority, Created: at(0), NotBefore: at(notBefore)})
	return j
}

func push(t testing.TB, q *queue.Priority, now int, item queue.Item) {
	t.Helper()
	if err := q.TryPush(at(now), item); err != nil {
		t.Fatalf("TryPush of %v: %v", item.Job, err)
	}
}

// popAll pops what is ready at a second.
func popAll(q *queue.Priority, now int) []string {
	var names []string
	for {
		j, ok := q.TryPop(at(now), nil)
		if !ok {
			return names
		}
		names = append(names, name(j))
	}
}

func name(j worker.Job) string {
	return j.(*job).name
}

func all(q *queue.Priority, now int) []string {
	var names []string
	for j := range q.All(at(now)) {
		names = append(names, name(j))
	}
	return names
}

func wantNames(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func wantErr(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Fatalf("error is %v, want %v", got, want)
	}
}

func TestNewPriorityRefusesOptionsWithoutSense(t *testing.T) {
	for _, o := range []queue.Options{{}, {Capacity: -1}, {Capacity: 1, Aging: -1}} {
		if q, err := queue.NewPriority(o); q != nil || !errors.Is(err, worker.ErrInvalid) {
			t.Errorf("%+v: got %v, %v", o, q, err)
		}
	}
}

func TestWithoutAgingPriorityIsStrict(t *testing.T) {
	q := newPriority(t, 10, 0)
	add(t, q, "old", 0, 0)
	add(t, q, "low", 1, math.MinInt)
	add(t, q, "urgent later", 1000, 1)
	add(t, q, "urgent", 999, 1)
	add(t, q, "top", 2000, math.MaxInt)
	add(t, q, "old, came later", 0, 0)
	wantNames(t, popAll(q, 2000), "top", "urgent", "urgent later", "old", "old, came later", "low")
}

func TestWithAgingAStepOfPriorityIsWorthSomeWaiting(t *testing.T) {
	q := newPriority(t, 10, time.Minute)
	add(t, q, "2 steps, 121 s younger", 121, 2)
	add(t, q, "1 step, 59 s younger", 59, 1)
	add(t, q, "plain", 0, 0)
	add(t, q, "1 step, 60 s younger", 60, 1)
	add(t, q, "1 step lower, a minute older", -62, -1)
	wantNames(t, popAll(q, 200), "1 step lower, a minute older", "1 step, 59 s younger", "plain",
		"1 step, 60 s younger", "2 steps, 121 s younger")
}

func TestOddTimesAndPrioritiesKeepTheOrder(t *testing.T) {
	far := time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, aging := range []time.Duration{1, time.Minute, math.MaxInt64} {
		t.Run(aging.String(), func(t *testing.T) {
			q := newPriority(t, 10, aging)
			for _, item := range []queue.Item{
				{Job: &job{name: "lowest"}, Priority: math.MinInt, Created: far},
				{Job: &job{name: "low"}, Priority: -1000, Created: far},
				{Job: &job{name: "zero time, low"}, Priority: -1},
				{Job: &job{name: "zero time"}},
				{Job: &job{name: "zero time, high"}, Priority: 1},
				{Job: &job{name: "highest"}, Priority: math.MaxInt},
			} {
				push(t, q, 0, item)
			}
			wantNames(t, popAll(q, 0), "highest", "zero time, high", "zero time", "zero time, low", "low", "lowest")
		})
	}
}

func TestPushAsksThePriorityOfTheJob(t *testing.T) {
	q := newPriority(t, 2, 0)
	for _, j := range []*job{{name: "plain"}, {name: "urgent", priority: 1}} {
		if err := q.Push(j); err != nil {
			t.Fatalf("Push: %v", err)
		}
	}
	wantNames(t, popAll(q, 0), "urgent", "plain")
}

// uncomparable can't be the key of a map.
type uncomparable struct {
	worker.Job
	args any
}

func TestJobsThatCannotBeKeysAreInvalid(t *testing.T) {
	q := newPriority(t, 1, 0)
	bad := uncomparable{args: []string{"a"}}
	for _, j := range []worker.Job{nil, bad} {
		wantErr(t, q.TryPush(at(0), queue.Item{Job: j}), worker.ErrInvalid)
		wantErr(t, q.Return(at(0), queue.Item{Job: j}), worker.ErrInvalid)
		wantErr(t, q.Push(j), worker.ErrInvalid)
		wantErr(t, q.PushContext(t.Context(), j), worker.ErrInvalid)
		if q.Remove(j) || q.Reprioritize(j, 1) {
			t.Errorf("%T was found", j)
		}
	}
}

// nan is not equal to itself.
type nan struct {
	worker.Job
	weight float64
}

func TestAJobThatIsNotEqualToItselfPanics(t *testing.T) {
	q := newPriority(t, 1, 0)
	push(t, q, 0, queue.Item{Job: nan{weight: math.NaN()}})
	defer func() {
		if recover() == nil {
			t.Error("it was popped, and would be held for ever")
		}
	}()
	q.TryPop(at(0), nil)
}

func TestAJobIsQueuedOnce(t *testing.T) {
	q := newPriority(t, 5, 0)
	const decades = 1e9 // PushContext reads the clock
	ready := add(t, q, "ready", 0, 0)
	delayed := addDelayed(t, q, "delayed", decades, 0)
	for _, j := range []*job{ready, delayed} {
		wantErr(t, q.TryPush(at(0), queue.Item{Job: j}), worker.ErrDuplicate)
		wantErr(t, q.Return(at(0), queue.Item{Job: j}), worker.ErrDuplicate)
		wantErr(t, q.PushContext(t.Context(), j), worker.ErrDuplicate)
	}
	wantNames(t, popAll(q, 0), "ready")
	push(t, q, 0, queue.Item{Job: ready})
	wantNames(t, popAll(q, 0), "ready")
}

func TestADelayedJobTakesNoCapacityUntilItIsDue(t *testing.T) {
	q := newPriority(t, 1, 0)
	addDelayed(t, q, "second", 20, 0)
	addDelayed(t, q, "first", 10, 0)
	add(t, q, "ready", 0, 0)
	if q.Len() != 1 || q.Delayed() != 2 {
		t.Fatalf("Len %d, Delayed %d; want 1, 2", q.Len(), q.Delayed())
	}
	if next, ok := q.NextReady(); !ok || !next.Equal(at(10)) {
		t.Fatalf("NextReady is %v, %v", next, ok)
	}
	if _, ok := q.TryPop(at(10).Add(-1), func(j worker.Job) queue.Choice {
		if name(j) == "first" {
			return queue.Take
		}
		return queue.Skip
	}); ok {
		t.Fatal("a delayed job was popped before its time")
	}

	wantErr(t, q.TryPush(at(10), queue.Item{Job: &job{}}), worker.ErrFull)
	if q.Len() != 2 || q.Delayed() != 1 {
		t.Fatalf("Len %d, Delayed %d at 10 s; want 2, 1", q.Len(), q.Delayed())
	}
	wantNames(t, popAll(q, 10), "first", "ready")
	wantNames(t, popAll(q, 20), "second")
	if next, ok := q.NextReady(); ok {
		t.Fatalf("NextReady of an empty queue is %v", next)
	}
}

func TestAJobThatWasDelayedTakesThePlaceOfItsCreation(t *testing.T) {
	q := newPriority(t, 5, 0)
	addDelayed(t, q, "delayed", 100, 0)
	add(t, q, "younger", 50, 0)
	add(t, q, "urgent", 50, 1)
	wantNames(t, all(q, 99), "urgent", "younger", "delayed")
	wantNames(t, all(q, 100), "urgent", "delayed", "younger")
}

func TestReturnIsNotBoundByCapacity(t *testing.T) {
	q := newPriority(t, 1, 0)
	first := add(t, q, "first", 0, 0)
	popAll(q, 0)
	add(t, q, "second", 1, 0)
	for _, j := range []*job{first, {name: "third"}} {
		if err := q.Return(at(2), queue.Item{Job: j, Created: at(0)}); err != nil {
			t.Fatalf("Return: %v", err)
		}
	}
	wantErr(t, q.TryPush(at(2), queue.Item{Job: &job{}}), worker.ErrFull)
	wantNames(t, popAll(q, 2), "first", "third", "second")
}

func TestReturnCanDelayAJob(t *testing.T) {
	q := newPriority(t, 1, 0)
	j := add(t, q, "retried", 0, 0)
	popAll(q, 0)
	if err := q.Return(at(1), queue.Item{Job: j, Created: at(0), NotBefore: at(5)}); err != nil {
		t.Fatalf("Return: %v", err)
	}
	wantNames(t, popAll(q, 4))
	wantNames(t, popAll(q, 5), "retried")
}

func TestAfterCloseNothingComesInAndDelayedJobsDrain(t *testing.T) {
	q := newPriority(t, 5, 0)
	popped := add(t, q, "popped", 0, 0)
	popAll(q, 0)
	addDelayed(t, q, "delayed", 10, 0)
	add(t, q, "ready", 0, 0)
	if err := q.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	wantErr(t, q.TryPush(at(0), queue.Item{Job: &job{}}), worker.ErrClosed)
	wantErr(t, q.TryPush(at(0), queue.Item{Job: &job{}, NotBefore: at(10)}), worker.ErrClosed)
	if err := q.Return(at(0), queue.Item{Job: popped, NotBefore: at(20)}); err != nil {
		t.Fatalf("Return of what was accepted: %v", err)
	}
	wantNames(t, popAll(q, 0), "ready")
	wantNames(t, popAll(q, 10), "delayed")
	wantNames(t, popAll(q, 20), "popped")
}

func TestDrainReturnsReadyJobsInOrderAndThenDelayedOnesByTheirTime(t *testing.T) {
	q := newPriority(t, 5, 0)
	addDelayed(t, q, "second", 20, 9)
	addDelayed(t, q, "first", 10, 0)
	add(t, q, "young", 1, 0)
	add(t, q, "old", 0, 0)
	add(t, q, "urgent", 2, 1)
	wantJobs(t, q.Drain(), "urgent", "old", "young", "first", "second")
	wantJobs(t, q.Drain())
	if next, ok := q.NextReady(); ok || q.Len()+q.Delayed() != 0 {
		t.Fatalf("drained, but Len is %d, Delayed %d, NextReady %v", q.Len(), q.Delayed(), next)
	}
	for range 5 {
		add(t, q, "there is room again", 3, 0)
	}
}

func TestTryPopShowsJobsInOrderUntilTakeOrStop(t *testing.T) {
	q := newPriority(t, 50, 0)
	var want []string
	for i := range 50 {
		add(t, q, fmt.Sprint(i), i*7%50, 0) // 7 and 50 have no common factor: each second once
	}
	for second := range 50 {
		want = append(want, fmt.Sprint(second*43%50)) // 43 × 7 is 1 modulo 50
	}
	var seen []string
	look := func(last queue.Choice, count int) func(worker.Job) queue.Choice {
		seen = nil
		return func(j worker.Job) queue.Choice {
			if seen = append(seen, name(j)); len(seen) == count {
				return last
			}
			return queue.Skip
		}
	}

	if j, ok := q.TryPop(at(50), look(queue.Stop, 20)); ok {
		t.Fatalf("Stop popped %v", j)
	}
	wantNames(t, seen, want[:20]...)
	if j, ok := q.TryPop(at(50), look(queue.Stop, 51)); ok {
		t.Fatalf("skipping all popped %v", j)
	}
	wantNames(t, seen, want...)
	if j, ok := q.TryPop(at(50), look(queue.Take, 30)); !ok || name(j) != want[29] {
		t.Fatalf("popped %v, want %v", j, want[29])
	}
	wantNames(t, popAll(q, 50), slices.Delete(want, 29, 30)...)
}

func TestAPanicOfChooseLeavesTheQueueUsable(t *testing.T) {
	q := newPriority(t, 2, 0)
	add(t, q, "a", 0, 0)
	add(t, q, "b", 1, 0)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		q.TryPop(at(1), func(worker.Job) queue.Choice { panic("choose") })
	}()
	wantNames(t, popAll(q, 1), "a", "b")
}

func TestRemoveFindsReadyAndDelayedJobs(t *testing.T) {
	q := newPriority(t, 3, 0)
	ready := add(t, q, "ready", 0, 0)
	delayed := addDelayed(t, q, "delayed", 10, 0)
	add(t, q, "stays", 0, 0)
	addDelayed(t, q, "stays delayed", 10, 0)
	for _, j := range []*job{ready, delayed} {
		if !q.Remove(j) || q.Remove(j) {
			t.Errorf("Remove(%v) should be true and then false", j)
		}
	}
	wantNames(t, all(q, 9), "stays", "stays delayed")
}

func TestReprioritizeMovesReadyAndDelayedJobs(t *testing.T) {
	q := newPriority(t, 4, 0)
	first := add(t, q, "first", 0, 0)
	last := add(t, q, "last", 1, 0)
	delayed := addDelayed(t, q, "delayed", 10, 0)
	if !q.Reprioritize(last, 5) || !q.Reprioritize(delayed, 9) || q.Reprioritize(&job{}, 1) {
		t.Fatal("Reprioritize should find what is queued, and only that")
	}
	wantNames(t, all(q, 9), "last", "first", "delayed")
	wantNames(t, all(q, 10), "delayed", "last", "first")
	add(t, q, "came after first", 0, 0)
	q.Reprioritize(delayed, -1)
	q.Reprioritize(last, 0)
	q.Reprioritize(first, 1)
	q.Reprioritize(first, 0)
	wantNames(t, popAll(q, 10), "first", "came after first", "last", "delayed")
}

func TestSetCapacityKeepsWhatIsQueued(t *testing.T) {
	q := newPriority(t, 3, 0)
	add(t, q, "a", 0, 0)
	add(t, q, "b", 1, 0)
	for _, n := range []int{0, -1} {
		wantErr(t, q.SetCapacity(n), worker.ErrInvalid)
	}
	if err := q.SetCapacity(1); err != nil {
		t.Fatalf("SetCapacity: %v", err)
	}
	wantErr(t, q.TryPush(at(2), queue.Item{Job: &job{}}), worker.ErrFull)
	q.TryPop(at(2), nil)
	wantErr(t, q.TryPush(at(2), queue.Item{Job: &job{}}), worker.ErrFull)
	wantNames(t, popAll(q, 2), "b")
}

func TestAllIsASnapshot(t *testing.T) {
	q := newPriority(t, 4, 0)
	add(t, q, "a", 0, 0)
	add(t, q, "b", 1, 0)
	addDelayed(t, q, "later", 20, 9)
	addDelayed(t, q, "sooner", 10, 0)
	var seen []string
	for j := range q.All(at(1)) {
		seen = append(seen, name(j))
		q.Remove(j) // the loop does not hold the lock, and does not see what changes
	}
	wantNames(t, seen, "a", "b", "sooner", "later")
	wantNames(t, all(q, 1))
	add(t, q, "c", 0, 0)
	add(t, q, "d", 0, 0)
	for j := range q.All(at(1)) {
		wantNames(t, []string{name(j)}, "c")
		break
	}
}

func TestTheOrderIsThatOfTheAgingThatWasSetLast(t *testing.T) {
	q := newPriority(t, 10, time.Second)
	add(t, q, "old", 0, 0)
	add(t, q, "equal, came first", 30, 1)
	add(t, q, "equal, came last", 30, 1)
	add(t, q, "late", 60, 2)
	addDelayed(t, q, "delayed", 100, 3) // created at second 0
	wantNames(t, all(q, 60), "old", "equal, came first", "equal, came last", "late", "delayed")
	for _, step := range []struct {
		aging time.Duration
		want  []string
	}{
		{time.Hour, []string{"late", "equal, came first", "equal, came last", "old", "delayed"}},
		{0, []string{"late", "equal, came first", "equal, came last", "old", "delayed"}},
		{30 * time.Second, []string{"old", "equal, came first", "equal, came last", "late", "delayed"}}, // all are worth second 0
		{31 * time.Second, []string{"late", "equal, came first", "equal, came last", "old", "delayed"}},
	} {
		if err := q.SetAging(step.aging); err != nil {
			t.Fatalf("SetAging: %v", err)
		}
		wantNames(t, all(q, 60), step.want...)
	}
	add(t, q, "later", 100, 0)
	wantNames(t, popAll(q, 100), "delayed", "late", "equal, came first", "equal, came last", "old", "later")
}

func TestANegativeAgingIsRefused(t *testing.T) {
	q := newPriority(t, 10, time.Second)
	add(t, q, "old", 0, 0)
	add(t, q, "late", 60, 1)
	wantErr(t, q.SetAging(-1), worker.ErrInvalid)
	wantNames(t, popAll(q, 60), "old", "late")
}

// What is queued can still be removed and given another priority: the queue knows where it is.
func TestAQueueIsWholeAfterANewAging(t *testing.T) {
	q := newPriority(t, 100, time.Second)
	var jobs []*job
	for n := range 50 {
		jobs = append(jobs, add(t, q, fmt.Sprint(n), n, n%7))
	}
	if err := q.SetAging(time.Hour); err != nil {
		t.Fatalf("SetAging: %v", err)
	}
	for n, j := range jobs {
		if n%3 == 0 && !q.Remove(j) || n%3 == 1 && !q.Reprioritize(j, 100+n) {
			t.Fatalf("job %d is not found", n)
		}
	}
	got := popAll(q, 60)
	if len(got) != 33 || got[0] != "49" || got[1] != "46" || q.Len() != 0 {
		t.Errorf("got %v", got)
	}
}
