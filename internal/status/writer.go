// Package status stores the statuses of Jobs that the engine asks for: no sooner than they are due,
// only the latest of each Job, final ones first, and never over what somebody else has written.
package status

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/engine"
	"github.com/workerpool-dev/workerpool/internal/leader"
)

const (
	// places is the number of requests that may be under way at once. A namespace may take another one while it has fewer
	// than are free: alone it has half of them, and however many have some, a place is left for the next.
	places = 32
	// passingRate is the number of writes a second that tell of states which are not final, and passingBurst
	// how many of them may go at once: more would hold up what is final, in the API server.
	passingRate  = 100
	passingBurst = 10

	// A write that fails is tried again after retryFirst, then twice as long, up to retryMost.
	retryFirst = 100 * time.Millisecond
	retryMost  = 30 * time.Second
)

// Engine is told what has become of the writes it asked for.
type Engine interface {
	Written(w engine.Write, resourceVersion string)
	Finished(job types.UID)
	Gone(job types.UID)
	// Changed says how the Job of a write is stored that somebody else has written. The engine asks for another in place of that
	// write, unless there is nothing to store any more.
	Changed(w engine.Write, stored v1alpha1.JobStatus, resourceVersion string)
	// Refused says that the API server stores no status of the Job, however short. The write of an end is tried again
	// all the same, seldom; another is not.
	Refused(w engine.Write, why string)
}

// Config of a Writer.
type Config struct {
	// Client writes statuses.
	Client client.Client
	// Live reads past the cache.
	Live client.Reader
	// Leading returns nil if this process is the leader still, by a live look at the Lease.
	Leading func(context.Context) error
	Clock   clock.WithTicker
	// Recorder tells users of Jobs whose end is not stored, or not as a whole; nil for nobody.
	Recorder events.EventRecorder
}

// Writer stores statuses. Write and DropWrite may be called before Run.
type Writer struct {
	Config

	// mu guards what follows. No request is made under it.
	mu      sync.Mutex
	entries map[types.UID]*entry
	// queues have the entries with a pending write, by its rank. Those under way are in none.
	queues [ranks]turns
	// held is the number of requests under way of each namespace that has any, and free how many more there may be.
	held map[string]int
	free int
	// taken is the number of writes that were taken so far.
	taken uint64

	limit *rate.Limiter
	// storedAt is when a status was stored last.
	storedAt time.Time
	refusals *prometheus.CounterVec
	// wake tells Run that something has changed.
	wake chan struct{}
}

// A write's rank says which go first.
const (
	// pressing writes end a Job, or are waited for.
	pressing = iota
	// running ones let a worker go on with what it runs though the operator is away.
	running
	// waiting ones are for people to see.
	waiting

	ranks
)

func rankOf(w *engine.Write) int {
	switch {
	case !w.Passing():
		return pressing
	case w.Status.State == v1alpha1.JobRunning:
		return running
	}
	return waiting
}

// entry is one Job with a write that is pending, under way, or both.
type entry struct {
	uid       types.UID
	namespace string
	pending   *engine.Write
	due       time.Time
	// tries of the pending write that failed.
	tries    int
	inFlight bool
	// dropped: what is under way was taken back. If it fails, it does not go again.
	dropped bool
	// cut is how much smaller the Job's status is made, because it was refused. See the function.
	cut int
	// deniedSince is when the Job's status was denied first, zero if it was not since one was stored.
	deniedSince time.Time
	// told: the engine knows that the end of the Job is refused.
	told bool
	// queue that the entry is in, nil if none, of which rank, and its place there.
	queue *dueHeap
	rank  int
	index int
}

// New returns a Writer; Run makes it work.
func New(config Config) *Writer {
	return &Writer{
		Config:  config,
		entries: map[types.UID]*entry{},
		queues:  [ranks]turns{{}, {}, {}},
		held:    map[string]int{},
		free:    places,
		limit:   rate.NewLimiter(passingRate, passingBurst),
		wake:    make(chan struct{}, 1),

		refusals: newRefusals(),
	}
}

// Write asks for a status to be stored, in place of what is pending of the same Job. It does not block.
func (w *Writer) Write(write engine.Write) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.entries[write.Job.UID]
	if e == nil {
		e = &entry{uid: write.Job.UID, namespace: write.Job.Namespace}
		w.entries[write.Job.UID] = e
	}
	w.unqueueLocked(e)
	if write.Passing() && !e.deniedSince.IsZero() && write.Due.Before(e.due) {
		write.Due = e.due // it would be denied as often as it is asked for
	} else {
		e.tries = 0
	}
	e.pending, e.due = &write, write.Due
	w.queueLocked(e)
}

// DropWrite takes back what is pending of a Job. What is under way goes on, but not again if it fails.
func (w *Writer) DropWrite(job types.UID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e := w.entries[job]; e != nil {
		w.unqueueLocked(e)
		e.pending, e.dropped = nil, e.inFlight
		if !e.inFlight {
			e.forgive()
		}
		w.forgetLocked(e)
	}
}

// Run stores what is asked for until the context ends, and returns when no request is under way: those that are then end in their
// own time.
// What is pending then stays so: the workers keep the results.
func (w *Writer) Run(ctx context.Context, eng Engine) {
	var requests sync.WaitGroup
	defer requests.Wait()
	for w.await(ctx) {
		if carryOut := w.Take(eng); carryOut != nil { // else it was taken back meanwhile
			requests.Go(func() { carryOut(ctx) })
		}
	}
}

// Take takes the write whose turn it is, and returns what carries it out: the requests that it needs, and
// what is told of them. That may be called on any goroutine, once. It is nil if no write's turn has come.
func (w *Writer) Take(eng Engine) func(context.Context) {
	e, write := w.begin()
	if e == nil {
		return nil
	}
	return func(ctx context.Context) {
		defer w.release(e.namespace)
		w.handle(ctx, eng, e, write)
	}
}

// await returns true when there is a write whose turn it is, and false when the context has ended.
func (w *Writer) await(ctx context.Context) bool {
	for ctx.Err() == nil {
		ready, wait := w.next()
		if ready {
			return true
		}
		timer := w.Clock.NewTimer(wait)
		select {
		case <-w.wake:
		case <-timer.C():
		case <-ctx.Done():
		}
		timer.Stop()
	}
	return false
}

// next tells whether there is a write whose turn it is, or how long to wait for one.
func (w *Writer) next() (bool, time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e, wait := w.nextLocked(w.Clock.Now())
	return e != nil, wait
}

// nextLocked returns the entry whose turn it is, or how long to wait for one. It stays in its queue.
// What is passing goes at a bounded rate.
func (w *Writer) nextLocked(now time.Time) (*entry, time.Duration) {
	wait := time.Hour
	for rank := range w.queues {
		e, due := w.queues[rank].next(now, w.held, w.free)
		wait = min(wait, due)
		switch {
		case e == nil:
		case rank == pressing, w.limit.TokensAt(now) >= 1:
			return e, time.Hour
		default:
			wait = min(wait, time.Second/passingRate)
		}
	}
	return nil, wait
}

// begin takes the write whose turn it is, if there is one.
func (w *Writer) begin() (*entry, engine.Write) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.Clock.Now()
	e, _ := w.nextLocked(now)
	if e == nil {
		return nil, engine.Write{}
	}
	write := *e.pending
	if write.Passing() {
		w.limit.AllowN(now, 1)
	}
	w.taken++
	e.queue.served = w.taken
	w.unqueueLocked(e)
	e.pending, e.inFlight = nil, true
	w.held[e.namespace]++
	w.free--
	return e, write
}

// release gives back the place of a request that has ended.
func (w *Writer) release(namespace string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.free++
	if w.held[namespace]--; w.held[namespace] == 0 {
		delete(w.held, namespace)
	}
	w.wakeRun()
}

func (w *Writer) handle(ctx context.Context, eng Engine, e *entry, write engine.Write) {
	// It ends before the lead does: what is cut off may take effect all the same, when another leads.
	requestCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leader.RequestTimeout)
	defer cancel()
	var refused *refusedError
	sent := cut(write, e.cut)
	done, err := w.store(requestCtx, eng, sent)
	switch {
	case err == nil:
		if e.cut > 0 && write.Final() && done.resourceVersion != "" {
			w.note(write, "StatusShortened", "The API server does not store the whole status of the Job. It was shortened.")
		}
		done.tell(eng, sent) // before the Job's next write begins, so that the engine hears of them in order
		w.finish(e, write, done.resourceVersion)
	case errors.As(err, &refused):
		w.refuse(requestCtx, eng, e, write, refused)
	default:
		w.again(e, write, done.resourceVersion)
		if !errors.Is(err, errConflict) && ctx.Err() == nil {
			logf.FromContext(ctx).Error(err, "Storing a Job's status, will try again", "job", write.Job.NamespacedName)
		}
	}
}

// finish ends a write. One that was asked for meanwhile has its turn now, on top of what is stored.
func (w *Writer) finish(e *entry, write engine.Write, resourceVersion string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e.inFlight, e.dropped, e.told, e.deniedSince = false, false, false, time.Time{}
	if resourceVersion != "" {
		w.storedAt = w.Clock.Now()
	}
	if e.pending != nil && resourceVersion != "" {
		e.pending.ResourceVersion = resourceVersion
	}
	if resourceVersion == "" || write.Final() {
		e.cut = 0
	}
	w.queueLocked(e)
	w.forgetLocked(e)
}

// again puts back a write that failed, unless a later one was asked for meanwhile, or it was taken back. A resource
// version says that it failed because the Job has changed, and can go at once.
func (w *Writer) again(e *entry, write engine.Write, resourceVersion string) {
	w.retry(e, write, func() {
		if resourceVersion != "" {
			e.pending.ResourceVersion = resourceVersion
			return
		}
		pause := min(retryMost, retryFirst<<min(e.tries, 16))
		if e.told {
			pause = retryRefused
		}
		if retry := w.Clock.Now().Add(pause); e.due.Before(retry) {
			e.due = retry
		}
		e.tries++
	})
}

// retry puts back a write that failed, or what was asked for in its place, and changes it. There may be neither.
func (w *Writer) retry(e *entry, write engine.Write, change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e.inFlight = false
	if e.pending == nil && !e.dropped {
		e.pending = &write
	}
	if e.dropped = false; e.pending != nil {
		change()
	} else {
		e.forgive()
	}
	w.queueLocked(e)
	w.forgetLocked(e)
}

// queueLocked puts an entry with a pending write that is not under way where it waits its turn.
func (w *Writer) queueLocked(e *entry) {
	if e.pending == nil || e.inFlight {
		return
	}
	e.rank = rankOf(e.pending)
	w.queues[e.rank].push(e)
	w.wakeRun()
}

func (w *Writer) unqueueLocked(e *entry) {
	if e.queue != nil {
		w.queues[e.rank].remove(e)
	}
}

func (w *Writer) wakeRun() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// forgive forgets what was refused. While a write is under way, only what handles it may.
func (e *entry) forgive() { e.cut, e.deniedSince, e.told = 0, time.Time{}, false }

func (w *Writer) forgetLocked(e *entry) {
	if e.pending == nil && !e.inFlight && e.cut == 0 && e.deniedSince.IsZero() {
		delete(w.entries, e.uid)
	}
}
