// Package status stores the statuses of Jobs that the engine asks for: no sooner than they are due,
// only the latest of each Job, final ones first, and never over what somebody else has written.
package status

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/engine"
)

const (
	// concurrency is the number of requests under way at once.
	concurrency = 16
	// passingRate is the number of writes a second that tell of states which are not final, and passingBurst
	// how many of them may go at once: more would hold up what is final, in the API server.
	passingRate  = 100
	passingBurst = 10

	// A write that fails is tried again after retryFirst, then twice as long, up to retryMost.
	retryFirst = 100 * time.Millisecond
	retryMost  = 30 * time.Second
	// requestTimeout bounds one request.
	requestTimeout = 10 * time.Second
)

// Engine is told what has become of the writes it asked for.
type Engine interface {
	Written(w engine.Write, resourceVersion string)
	Finished(job types.UID)
	Gone(job types.UID)
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
}

// Writer stores statuses. Write and DropWrite may be called before Run.
type Writer struct {
	Config

	// mu guards what follows. No request is made under it.
	mu      sync.Mutex
	entries map[types.UID]*entry
	// queues have the entries with a pending write, by its rank. Those under way are in none.
	queues [ranks]dueHeap

	limit *rate.Limiter
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
	uid     types.UID
	pending *engine.Write
	due     time.Time
	// tries of the pending write that failed.
	tries    int
	inFlight bool
	// queue that the entry is in, nil if none, and its place there.
	queue *dueHeap
	index int
}

// New returns a Writer; Run makes it work.
func New(config Config) *Writer {
	return &Writer{
		Config:  config,
		entries: map[types.UID]*entry{},
		limit:   rate.NewLimiter(passingRate, passingBurst),
		wake:    make(chan struct{}, 1),
	}
}

// Write asks for a status to be stored, in place of what is pending of the same Job. It does not block.
func (w *Writer) Write(write engine.Write) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.entries[write.Job.UID]
	if e == nil {
		e = &entry{uid: write.Job.UID}
		w.entries[write.Job.UID] = e
	}
	w.unqueueLocked(e)
	e.pending, e.due, e.tries = &write, write.Due, 0
	w.queueLocked(e)
}

// DropWrite takes back what is pending of a Job. What is under way goes on.
func (w *Writer) DropWrite(job types.UID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e := w.entries[job]; e != nil {
		w.unqueueLocked(e)
		e.pending = nil
		w.forgetLocked(e)
	}
}

// Run stores what is asked for until the context ends, and returns when no request is under way.
// What is pending then stays so: the workers keep the results.
func (w *Writer) Run(ctx context.Context, eng Engine, epoch engine.Epoch) {
	var requests sync.WaitGroup
	defer requests.Wait()
	slots := make(chan struct{}, concurrency)
	for w.await(ctx, slots) {
		carryOut := w.Take(eng, epoch)
		if carryOut == nil { // taken back meanwhile
			<-slots
			continue
		}
		requests.Go(func() {
			defer func() { <-slots }()
			carryOut(ctx)
		})
	}
}

// Take takes the write whose turn it is, and returns what carries it out: the requests that it needs, and
// what is told of them. That may be called on any goroutine, once. It is nil if no write's turn has come.
func (w *Writer) Take(eng Engine, epoch engine.Epoch) func(context.Context) {
	e, write := w.begin()
	if e == nil {
		return nil
	}
	return func(ctx context.Context) { w.handle(ctx, eng, epoch, e, write) }
}

// await returns true with a slot taken when there is a write whose time has come, and false when the
// context has ended.
func (w *Writer) await(ctx context.Context, slots chan<- struct{}) bool {
	for {
		ready, wait := w.next()
		free := slots
		if !ready {
			free = nil
		}
		timer := w.Clock.NewTimer(wait)
		select {
		case free <- struct{}{}:
			timer.Stop()
			return true
		case <-w.wake:
		case <-timer.C():
		case <-ctx.Done():
			timer.Stop()
			return false
		}
		timer.Stop()
	}
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
		e := w.queues[rank].first()
		if e == nil {
			continue
		}
		switch due := e.due.Sub(now); {
		case due > 0:
			wait = min(wait, due)
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
	w.unqueueLocked(e)
	e.pending, e.inFlight = nil, true
	return e, write
}

func (w *Writer) handle(ctx context.Context, eng Engine, epoch engine.Epoch, e *entry, write engine.Write) {
	requestCtx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	done, err := w.store(requestCtx, epoch, write)
	switch {
	case err == nil:
		done.tell(eng, write) // before the Job's next write begins, so that the engine hears of them in order
		w.finish(e, done.resourceVersion)
	default:
		w.again(e, write, done.resourceVersion)
		if !errors.Is(err, errConflict) && ctx.Err() == nil {
			logf.FromContext(ctx).Error(err, "Storing a Job's status, will try again", "job", write.Job.NamespacedName)
		}
	}
}

// finish ends a write. One that was asked for meanwhile has its turn now, on top of what is stored.
func (w *Writer) finish(e *entry, resourceVersion string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e.inFlight = false
	if e.pending != nil && resourceVersion != "" {
		e.pending.ResourceVersion = resourceVersion
	}
	w.queueLocked(e)
	w.forgetLocked(e)
}

// again puts back a write that failed, unless a later one was asked for meanwhile. A resource
// version says that it failed because the Job has changed, and can go at once.
func (w *Writer) again(e *entry, write engine.Write, resourceVersion string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e.inFlight = false
	if e.pending == nil {
		e.pending = &write
	}
	if resourceVersion != "" {
		e.pending.ResourceVersion = resourceVersion
	} else {
		pause := min(retryMost, retryFirst<<min(e.tries, 16))
		if retry := w.Clock.Now().Add(pause); e.due.Before(retry) {
			e.due = retry
		}
		e.tries++
	}
	w.queueLocked(e)
}

// queueLocked puts an entry with a pending write that is not under way where it waits its turn.
func (w *Writer) queueLocked(e *entry) {
	if e.pending == nil || e.inFlight {
		return
	}
	w.queues[rankOf(e.pending)].push(e)
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *Writer) unqueueLocked(e *entry) {
	if e.queue != nil {
		e.queue.remove(e)
	}
}

func (w *Writer) forgetLocked(e *entry) {
	if e.pending == nil && !e.inFlight {
		delete(w.entries, e.uid)
	}
}
