package fair

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Bound is how many tries a party has: a second, in a row after a rest, and at once.
type Bound struct {
	PerSecond     float64
	Burst, AtOnce int
}

// rest is after how long without a try the whole burst is there again.
func (b Bound) rest() time.Duration {
	return time.Duration(float64(b.Burst) / b.PerSecond * float64(time.Second))
}

// Tries bounds how often each party may try something. It remembers those that have tried lately.
type Tries struct {
	clock func() time.Time

	// mu guards what follows.
	mu      sync.Mutex
	parties map[string]*party
	swept   time.Time
}

type party struct {
	limit *rate.Limiter
	// now is the number of tries under way.
	now int
	// forgotten is when the bound has all its room again.
	forgotten time.Time
}

// sweepEvery is from one look for parties to forget to the next.
const sweepEvery = 10 * time.Second

// NewTries returns a Tries that no party has tried yet.
func NewTries(clock func() time.Time) *Tries {
	return &Tries{clock: clock, parties: map[string]*party{}}
}

// Begin notes a try of a party, whose bound is always the same. It returns false if there were too many lately, or too
// many are under way. Else end is to be called once the try is over.
func (t *Tries) Begin(name string, bound Bound) (end func(), ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.clock()
	t.sweepLocked(now)
	p := t.parties[name]
	if p == nil {
		p = &party{limit: rate.NewLimiter(rate.Limit(bound.PerSecond), bound.Burst)}
		t.parties[name] = p
	}
	if p.now >= bound.AtOnce || !p.limit.AllowN(now, 1) {
		return nil, false
	}
	p.now++
	p.forgotten = now.Add(bound.rest())
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		p.now--
	}, true
}

func (t *Tries) sweepLocked(now time.Time) {
	if now.Sub(t.swept) <= sweepEvery {
		return
	}
	t.swept = now
	for name, p := range t.parties {
		if p.now == 0 && now.After(p.forgotten) {
			delete(t.parties, name)
		}
	}
}

// Turns bounds requests, at once and a second, and has parties take turns.
type Turns struct {
	places *Semaphore[string]
	spread *rate.Limiter
}

// NewTurns returns the turns of so many requests at once, and so many a second with a burst.
func NewTurns(atOnce int, perSecond float64, burst int) *Turns {
	return &Turns{places: NewSemaphore[string](atOnce), spread: rate.NewLimiter(rate.Limit(perSecond), burst)}
}

// Do makes a request when it is this party's turn. It returns the context's error if that has ended first.
func (t *Turns) Do(ctx context.Context, party string, request func() error) error {
	if err := t.places.Acquire(ctx, party); err != nil {
		return err
	}
	defer t.places.Release(party)
	if err := t.spread.Wait(ctx); err != nil {
		return err
	}
	return request()
}
