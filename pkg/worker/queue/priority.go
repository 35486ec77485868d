package queue

import (
	"container/list"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/internal/feed"
)

// Options of a priority queue.
type Options struct {
	// Capacity is how many jobs may be ready at once. It must be positive.
	Capacity int

	// Aging is how much waiting one step of priority is worth. With 0 no waiting makes up for a
	// lower priority: the order is strict, and a stream of urgent jobs starves the others.
	Aging time.Duration
}

// Item is a job and its place in the order.
type Item struct {
	// Job is the work, and the key by which the queue knows it: it must be comparable, as a pointer
	// is. The queue panics when it finds that a job is not equal to itself.
	Job worker.Job

	// Priority of the job; the higher goes first.
	Priority int

	// Created sets the order, with Priority: the lowest Created − Priority × Aging goes first, and
	// the first come among equals. Times before 1677 and after 2262 count as the first and the last
	// moment between.
	Created time.Time

	// NotBefore is when the job becomes ready; zero is at once.
	NotBefore time.Time

	// Kind is the same for jobs about which the choose function of TryPop decides alike, such as those
	// that need the same room: it can pass over all of them at the cost of one. It must be comparable.
	// The order does not depend on it. Most queues need none: nil is a kind too.
	Kind any
}

// Priority is a bounded queue of jobs in the order of Item.Created, with jobs among them that are not
// ready yet. Use NewPriority to make one.
//
// A delayed job takes no capacity. When its time has come it becomes ready even if the queue is
// full, and then counts as all others do: the queue is over its capacity until enough have been popped.
//
// Time passes for the queue when a call brings it: as the argument now, or by Push and Pop and their
// forms with a context, which read the clock. A Pop that waits does so at the moment a delayed job
// becomes ready. Len, Delayed and NextReady tell of the latest moment that the queue has seen.
//
// The queue remembers each job that it holds until it has been popped or removed. Its memory grows
// to what the most jobs that it ever held took, and stays; only what kinds add to that is given back.
type Priority struct {
	// mu guards all below. It is held for some steps in a heap and for the choose function of
	// TryPop, never while a call waits.
	mu sync.Mutex

	capacity int
	closed   bool
	jobs     store

	// frontier is the scratch space of TryPop.
	frontier heap

	// pushers are the calls of PushContext that wait, as *pusher: none while there is room, and none
	// after Close.
	pushers list.List

	// poppers are the calls of Pop that wait, as *popper: none while a job is ready, and none after
	// Close once no job is left, or held by a worker of a pool.
	poppers list.List

	// ledger counts what the workers of a pool hold and have done.
	ledger feed.Ledger
}

var (
	_ worker.QueueContext = (*Priority)(nil)
	_ worker.Requeuer     = (*Priority)(nil)
)

// NewPriority returns an empty queue, or worker.ErrInvalid if the options make no sense.
func NewPriority(o Options) (*Priority, error) {
	if o.Capacity <= 0 {
		return nil, fmt.Errorf("%w: capacity %d, must be positive", worker.ErrInvalid, o.Capacity)
	}
	if o.Aging < 0 {
		return nil, fmt.Errorf("%w: aging %v, must not be negative", worker.ErrInvalid, o.Aging)
	}
	q := &Priority{capacity: o.Capacity}
	q.jobs.init(o.Aging)
	return q, nil
}

// TryPush adds a job. It returns ErrClosed after Close, ErrDuplicate if the queue holds this job,
// ErrFull if the job is ready and there is no room, ErrInvalid if the job is nil or not comparable.
func (q *Priority) TryPush(now time.Time, item Item) error {
	return q.add(now, item, true)
}

// Return puts back a job that was popped, to be tried again: it is never refused for want of room,
// because it was counted when it was taken in. Among jobs with the same place in the order it is now
// the last. The errors are ErrDuplicate and ErrInvalid. After Close too it is put back; those that would
// pop it may have gone by then, so whoever returns a job must go on to pop.
func (q *Priority) Return(now time.Time, item Item) error {
	return q.add(now, item, false)
}

func (q *Priority) add(now time.Time, item Item, bounded bool) error {
	if err := validate(item.Job); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.addLocked(now, item, bounded)
}

func (q *Priority) addLocked(now time.Time, item Item, bounded bool) error {
	at := nanos(now)
	q.advanceLocked(at)
	notBefore := nanos(item.NotBefore)
	switch {
	case bounded && q.closed:
		return worker.ErrClosed
	case q.jobs.has(item.Job):
		return worker.ErrDuplicate
	case bounded && notBefore <= at && q.fullLocked():
		return worker.ErrFull
	}
	q.jobs.put(item.Job, item.Kind, nanos(item.Created), item.Priority, notBefore, at)
	q.settleLocked()
	return nil
}

// validate says whether the job can be a key.
func validate(job worker.Job) error {
	if job == nil {
		return fmt.Errorf("%w: the job is nil", worker.ErrInvalid)
	}
	if !isKey(job) {
		return fmt.Errorf("%w: a job of type %T is not comparable: push a pointer", worker.ErrInvalid, job)
	}
	return nil
}

func isKey(job worker.Job) bool {
	if job == nil || reflect.TypeOf(job).Kind() == reflect.Pointer {
		return true
	}
	return reflect.ValueOf(job).Comparable() // allocates, so pointers, the usual keys, are not asked
}

// Remove takes a job out, ready or delayed, and reports whether it was there. It does not find a job
// whose PushContext still waits for room.
func (q *Priority) Remove(job worker.Job) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !isKey(job) || !q.jobs.remove(job) {
		return false
	}
	q.settleLocked()
	return true
}

// Reprioritize gives a job another priority, ready or delayed, and reports whether it was there. It
// keeps its time of creation and its arrival.
func (q *Priority) Reprioritize(job worker.Job, priority int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return isKey(job) && q.jobs.reprioritize(job, priority)
}

// SetCapacity changes how many jobs may be ready at once. What is queued stays, even if it is more.
// It returns ErrInvalid unless n is positive.
func (q *Priority) SetCapacity(n int) error {
	if n <= 0 {
		return fmt.Errorf("%w: capacity %d, must be positive", worker.ErrInvalid, n)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.capacity = n
	q.settleLocked()
	return nil
}

// SetAging changes how much waiting one step of priority is worth; the jobs in the queue are put in the
// new order, which takes a moment if they are many. It returns ErrInvalid if the aging is negative.
func (q *Priority) SetAging(aging time.Duration) error {
	if aging < 0 {
		return fmt.Errorf("%w: aging %v, must not be negative", worker.ErrInvalid, aging)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if aging != q.jobs.aging {
		q.jobs.setAging(aging)
	}
	return nil
}

// Len returns the number of ready jobs.
func (q *Priority) Len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.jobs.ready.ready
}

// Delayed returns the number of jobs that wait for their time.
func (q *Priority) Delayed() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.jobs.delayed.len()
}

// NextReady returns when the first of the delayed jobs becomes ready, and false if there is none.
func (q *Priority) NextReady() (time.Time, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.jobs.delayed.len() == 0 {
		return time.Time{}, false
	}
	return time.Unix(0, q.jobs.delayed.nodes[0].rank.notBefore()), true
}

// Close refuses further jobs, also those whose PushContext waits: they get ErrClosed. What is queued
// can still be popped; Pop waits for the delayed ones. It always returns nil.
func (q *Priority) Close() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.settleLocked()
	return nil
}

// Drain removes and returns all jobs: the ready ones in order, and then the delayed ones by their time.
func (q *Priority) Drain() []worker.Job {
	q.mu.Lock()
	defer q.mu.Unlock()
	jobs := make([]worker.Job, 0, q.jobs.ready.ready+q.jobs.delayed.len())
	for q.jobs.ready.ready > 0 {
		jobs = append(jobs, q.jobs.takeFirst())
	}
	for q.jobs.delayed.len() > 0 {
		jobs = append(jobs, q.jobs.take(q.jobs.delayed.nodes[0].slot))
	}
	q.settleLocked()
	return jobs
}

func (q *Priority) fullLocked() bool {
	return q.jobs.ready.ready >= q.capacity
}

// advanceLocked lets time pass.
func (q *Priority) advanceLocked(now int64) {
	if q.jobs.delayed.len() == 0 {
		return
	}
	q.jobs.promote(now)
	q.settleLocked()
}
