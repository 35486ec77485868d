package queue_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/queue"
)

// Calls of all kinds, cut off at random moments, while the queue is closed under them: what was
// accepted comes out once, and nothing else does.
func TestRandomCancelsAndCloseLoseAndDoubleNoJob(t *testing.T) {
	const pushers, poppers, rounds = 4, 4, 1000
	q := newPriority(t, 3, time.Millisecond)
	accepted := make([][]worker.Job, pushers)
	popped := make([][]worker.Job, poppers)
	var calls sync.WaitGroup
	for i := range pushers {
		calls.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(i)))
			for round := range rounds {
				if j := pushSomehow(t, q, random); j != nil {
					accepted[i] = append(accepted[i], j)
				}
				if i == 0 && round == rounds*3/4 {
					_ = q.Close()
				}
			}
		})
	}
	for i := range poppers {
		calls.Go(func() {
			random := rand.New(rand.NewPCG(2, uint64(i)))
			for open := true; open; {
				var j worker.Job
				if j, open = popSomehow(t, q, random); j != nil {
					popped[i] = append(popped[i], j)
				}
			}
		})
	}
	calls.Wait()
	wantSame(t, accepted, popped)
	if q.Len()+q.Delayed() != 0 {
		t.Fatalf("closed and drained, the queue has %d jobs and %d delayed", q.Len(), q.Delayed())
	}
}

// pushSomehow returns the job if it was accepted.
func pushSomehow(t *testing.T, q *queue.Priority, random *rand.Rand) worker.Job {
	j := &job{priority: random.IntN(3)}
	now := time.Now()
	var err error
	switch random.IntN(4) {
	case 0:
		err = q.TryPush(now, queue.Item{Job: j, Created: now})
	case 1:
		err = q.TryPush(now, queue.Item{Job: j, Created: now, NotBefore: now.Add(time.Duration(random.IntN(50)) * time.Microsecond)})
	default:
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(random.IntN(50))*time.Microsecond)
		defer cancel()
		err = q.PushContext(ctx, j)
	}
	switch {
	case err == nil:
		return j
	case !errors.Is(err, worker.ErrFull) && !errors.Is(err, worker.ErrClosed) && !errors.Is(err, context.DeadlineExceeded):
		t.Errorf("push: %v", err)
	}
	return nil
}

// popSomehow returns a job or nil, and false when the queue is closed and empty.
func popSomehow(t *testing.T, q *queue.Priority, random *rand.Rand) (worker.Job, bool) {
	if random.IntN(3) == 0 {
		j, _ := q.TryPop(time.Now(), func(worker.Job) queue.Choice { return queue.Choice(random.IntN(3)) })
		return j, true
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(random.IntN(50))*time.Microsecond)
	defer cancel()
	j, err := q.PopContext(ctx)
	if err != nil && (j != nil || !errors.Is(err, worker.ErrClosed) && !errors.Is(err, context.DeadlineExceeded)) {
		t.Errorf("pop: %v, %v", j, err)
	}
	return j, !errors.Is(err, worker.ErrClosed)
}

func wantSame(t *testing.T, accepted, popped [][]worker.Job) {
	t.Helper()
	balance := map[worker.Job]int{}
	total := 0
	for _, list := range accepted {
		total += len(list)
		for _, j := range list {
			balance[j]++
		}
	}
	for _, list := range popped {
		for _, j := range list {
			balance[j]--
		}
	}
	for _, n := range balance {
		if n != 0 {
			t.Fatalf("of %d accepted jobs one came out %d times", total, 1-n)
		}
	}
}
