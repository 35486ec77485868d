package feed_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/internal/feed"
)

// crowd is producers and workers that do all that they may, at random moments, until the feed is over.
type crowd struct {
	t    *testing.T
	q    worker.Queue
	f    feed.Feed[worker.Job]
	seed uint64

	// takers are those of the workers now, to be stopped.
	takers [6]atomic.Pointer[feed.Taker[worker.Job]]

	mu       sync.Mutex
	accepted []worker.Job
	left     []worker.Job // ended, handed back or drained
	ended    uint64
	failed   uint64
}

// What was accepted ends, is handed back or is drained, once; and the workers that are still there
// when all that has happened learn it.
func TestRandomStopsClosesAndRetriesLoseAndDoubleNoJob(t *testing.T) {
	for _, drains := range []bool{false, true} {
		t.Run(fmt.Sprintf("drains %v", drains), func(t *testing.T) {
			forAll(t, func(t *testing.T, k kind) {
				for seed := range uint64(5) {
					q, f := k.make(t, 1+int(seed)*2)
					c := &crowd{t: t, q: q, f: f, seed: seed}
					c.run(drains)
				}
			})
		})
	}
}

func (c *crowd) random(id int) *rand.Rand {
	return rand.New(rand.NewPCG(c.seed, uint64(id)))
}

func (c *crowd) run(drains bool) {
	var working, stopping sync.WaitGroup
	for i := range c.takers {
		working.Go(func() { c.work(i) })
	}
	if _, ok := c.q.(worker.Requeuer); ok {
		working.Go(c.popPlainly)
	}
	over := make(chan struct{})
	stopping.Go(func() { c.stopTakers(over) })
	c.produce(drains)
	working.Wait()
	close(over)
	stopping.Wait()
	if drains {
		c.leave(c.f.Drain()...)
	}
	wantSame(c.t, c.accepted, c.left)
	if b, want := c.f.Books(), (feed.Books{Ended: c.ended, Failed: c.failed}); b != want {
		c.t.Fatalf("the books are %+v in the end, want %+v", b, want)
	}
}

// produce pushes jobs, and closes the feed under those who push.
func (c *crowd) produce(drains bool) {
	const producers, each = 4, 150
	var producing sync.WaitGroup
	for i := range producers {
		producing.Go(func() {
			random := c.random(100 + i)
			for n := range each {
				if i == 0 && n == each*3/4 {
					producing.Go(func() { c.close(drains) })
				}
				c.push(&job{id: i*each + n}, random)
			}
		})
	}
	producing.Wait()
}

func (c *crowd) close(drains bool) {
	if err := c.f.Close(); err != nil {
		c.t.Errorf("Close: %v", err)
	}
	if drains {
		c.leave(c.f.Drain()...)
	}
}

func (c *crowd) push(j worker.Job, random *rand.Rand) {
	var err error
	if q, ok := c.q.(worker.QueueContext); ok && random.IntN(4) > 0 {
		ctx, cancel := context.WithTimeout(c.t.Context(), time.Duration(random.IntN(200))*time.Microsecond)
		defer cancel()
		err = q.PushContext(ctx, j)
	} else {
		err = c.q.Push(j)
		for tries := 0; tries < 100 && errors.Is(err, worker.ErrFull); tries++ {
			runtime.Gosched()
			err = c.q.Push(j)
		}
	}
	switch {
	case err == nil:
		c.mu.Lock()
		defer c.mu.Unlock()
		c.accepted = append(c.accepted, j)
	case !errors.Is(err, worker.ErrFull) && !errors.Is(err, worker.ErrClosed) && !errors.Is(err, context.DeadlineExceeded):
		c.t.Errorf("push: %v", err)
	}
}

func (c *crowd) leave(list ...worker.Job) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left = append(c.left, list...)
}

// end counts a job that is settled.
func (c *crowd) end(j worker.Job, last feed.Outcome) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left = append(c.left, j)
	if last != feed.None {
		c.ended++
	}
	if last == feed.Failed {
		c.failed++
	}
}

// work takes jobs. When its taker is stopped another one comes in its place, but in the end not even
// that.
func (c *crowd) work(i int) {
	random := c.random(i)
	taker := c.newTaker(i)
	last := feed.None
	for {
		j, err := taker.Next(last)
		last = feed.None
		switch {
		case errors.Is(err, worker.ErrClosed):
			return
		case errors.Is(err, worker.ErrStopped):
			if i > 0 && random.IntN(10) == 0 {
				return
			}
			taker = c.newTaker(i)
		case err != nil:
			c.t.Errorf("Next: %v", err)
			return
		default:
			last = c.handle(taker, j, random)
		}
	}
}

func (c *crowd) newTaker(i int) feed.Taker[worker.Job] {
	taker := c.f.NewTaker()
	c.takers[i].Store(&taker)
	return taker
}

// handle settles a job somehow, or puts it back. It returns what Next is to be told.
func (c *crowd) handle(taker feed.Taker[worker.Job], j worker.Job, random *rand.Rand) feed.Outcome {
	if v := taker.View(); !v.Holds || v.Item != j {
		c.t.Errorf("has %v, but the view is %+v", j, v)
	}
	switch random.IntN(8) {
	case 0, 1, 2:
		delay := time.Duration(random.IntN(200)-50) * time.Microsecond
		if err := taker.Requeue(j, delay); err != nil {
			c.t.Errorf("Requeue: %v", err)
		}
		return feed.None
	case 3:
		c.end(j, feed.Failed)
		taker.Settle(feed.Failed)
		return feed.None
	case 4:
		c.end(j, feed.None)
		taker.Settle(feed.None)
		return feed.None
	case 5:
		c.end(j, feed.Failed)
		return feed.Failed
	}
	c.end(j, feed.Succeeded)
	return feed.Succeeded
}

// popPlainly is a worker that the feed does not know.
func (c *crowd) popPlainly() {
	random := c.random(50)
	q := c.q.(worker.Requeuer)
	for {
		ctx, cancel := context.WithTimeout(c.t.Context(), time.Duration(random.IntN(200))*time.Microsecond)
		j, err := c.q.(worker.QueueContext).PopContext(ctx)
		cancel()
		switch {
		case errors.Is(err, worker.ErrClosed):
			return
		case errors.Is(err, context.DeadlineExceeded):
		case err != nil:
			c.t.Errorf("PopContext: %v", err)
			return
		case random.IntN(3) == 0:
			if err := q.Requeue(j, time.Duration(random.IntN(100))*time.Microsecond); err != nil {
				c.t.Errorf("Requeue: %v", err)
			}
		default:
			c.leave(j)
		}
	}
}

func (c *crowd) stopTakers(over chan struct{}) {
	random := c.random(60)
	pause := time.NewTicker(50 * time.Microsecond)
	defer pause.Stop()
	for {
		select {
		case <-over:
			return
		case <-pause.C:
			if taker := c.takers[random.IntN(len(c.takers))].Load(); taker != nil {
				(*taker).Stop()
				c.f.Books()
			}
		}
	}
}

// The books are written under one lock, so that they add up at any moment.
func TestTheBooksAddUpAtEachLook(t *testing.T) {
	const n, workers = 3000, 4
	q := feed.NewFIFO[worker.Job](8)
	var begun, accepted atomic.Int64
	var working, looking sync.WaitGroup
	for i := range workers {
		working.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(i)))
			taker := q.NewTaker()
			for {
				j, err := taker.Next(feed.Outcome(1 + random.IntN(2)))
				if err != nil {
					return
				}
				if random.IntN(4) == 0 {
					_ = taker.Requeue(j, time.Duration(random.IntN(3))*time.Microsecond)
				}
			}
		})
	}
	over := make(chan struct{})
	looking.Go(func() {
		for before := (feed.Books{}); ; {
			least := accepted.Load()
			b := q.Books()
			sum := int64(b.Ready+b.Delayed+b.Taken) + int64(b.Ended)
			if most := begun.Load(); sum < least || sum > most || b.Ended < before.Ended || b.Failed > b.Ended || b.Taken > workers {
				t.Errorf("books are %+v, and were %+v, when %d to %d jobs were accepted", b, before, least, most)
				return
			}
			before = b
			runtime.Gosched()
			select {
			case <-over:
				return
			default:
			}
		}
	})
	for _, j := range jobs(n) {
		begun.Add(1)
		if err := q.PushContext(t.Context(), j); err != nil {
			t.Fatalf("PushContext: %v", err)
		}
		accepted.Add(1)
	}
	_ = q.Close()
	working.Wait()
	close(over)
	looking.Wait()
	if b := q.Books(); b.Ended != n {
		t.Fatalf("books are %+v in the end", b)
	}
}

// Who waits at the moment of the end goes home, whoever brings it about.
func TestManyWhoWaitAllGoHome(t *testing.T) {
	forAll(t, func(t *testing.T, k kind) {
		for round := range 50 {
			q, f := k.make(t, 4)
			list := jobs(4)
			mustPush(t, q, list...)
			var working sync.WaitGroup
			var mu sync.Mutex
			var done []worker.Job
			for i := range 16 {
				working.Go(func() {
					taker := f.NewTaker()
					for tries := 0; ; tries++ {
						j, err := taker.Next(feed.Succeeded)
						if err != nil {
							if !errors.Is(err, worker.ErrClosed) {
								t.Errorf("Next: %v", err)
							}
							return
						}
						if (i+tries+round)%3 > 0 {
							_ = taker.Requeue(j, time.Duration(i%3)*time.Microsecond)
							continue
						}
						mu.Lock()
						done = append(done, j)
						mu.Unlock()
					}
				})
			}
			_ = f.Close()
			working.Wait()
			wantSame(t, list, slices.Clone(done))
		}
	})
}
