package admin

import (
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/workerpool-dev/workerpool/internal/fair"
	"github.com/workerpool-dev/workerpool/internal/podspec"
)

// awaitRights waits until the API server knows what a token may: it has rights from a watch of its own.
func (f *fixture) awaitRights(token string) {
	f.t.Helper()
	for began := time.Now(); f.read(elsewhere, "Bearer "+token).status != http.StatusOK; f.later.Add(int64(time.Second)) {
		if time.Since(began) > patience {
			f.t.Fatal("the reader has no rights")
		}
	}
	f.later.Add(int64(2 * allowedFor)) // what is remembered of it is forgotten
}

func TestWhoMayReadTheMetrics(t *testing.T) {
	f := setup(t)
	reader := f.account(true)
	f.awaitRights(reader)
	for name, c := range map[string]struct {
		authorization string
		want          int
	}{
		"a reader":                    {"Bearer " + reader, http.StatusOK},
		"a reader in small letters":   {"bearer " + reader, http.StatusOK},
		"nobody":                      {"", http.StatusUnauthorized},
		"a password":                  {"Basic YTpi", http.StatusUnauthorized},
		"a token that is none":        {"Bearer made-up", http.StatusUnauthorized},
		"a token that is too long":    {"Bearer " + strings.Repeat("a", maxTokenBytes+1), http.StatusUnauthorized},
		"a forged token":              {"Bearer " + f.forge(reader), http.StatusUnauthorized},
		"the token of a worker":       {"Bearer " + f.account(true, podspec.Audience), http.StatusUnauthorized},
		"an account without a right":  {"Bearer " + f.account(false), http.StatusForbidden},
		"a reader's token, cut short": {"Bearer " + reader[:len(reader)-5], http.StatusUnauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			got := f.read(here, c.authorization)
			if got.status != c.want {
				t.Errorf("the status is %d, want %d", got.status, c.want)
			}
			if ok, shown := c.want == http.StatusOK, strings.Contains(got.body, "test_metric 0"); ok != shown {
				t.Errorf("the metrics are shown: %v, in %q", shown, got.body)
			}
			if challenge := got.header.Get("WWW-Authenticate"); c.want == http.StatusUnauthorized && challenge != "Bearer" {
				t.Errorf("the answer asks for %q", challenge)
			}
		})
	}
}

// As those of an identity provider, or of a file.
func TestATokenThatOnlyTheAPIServerCanJudgeIsGoodToo(t *testing.T) {
	f := setup(t)
	reader := f.account(true)
	f.awaitRights(reader)
	f.readers.keys = nil
	if got := f.read(here, "Bearer "+reader); got.status != http.StatusOK {
		t.Errorf("the status is %d", got.status)
	}
}

func TestAReaderCostsTwoReviewsAMinute(t *testing.T) {
	f := setup(t)
	reader := f.account(true)
	f.awaitRights(reader)
	for minute := range int32(3) {
		before := f.reviews.Load()
		for range 100 {
			if got := f.read(here, "Bearer "+reader); got.status != http.StatusOK {
				t.Fatalf("the status is %d in minute %d", got.status, minute)
			}
		}
		if n := f.reviews.Load() - before; n != 2 {
			t.Errorf("it took %d reviews, want 2", n)
		}
		f.later.Add(int64(allowedFor))
	}
}

// flood asks with made-up tokens from an address until it is stopped, and at least so many times.
func (f *fixture) flood(from string, least int64, token func(n int64) string) (stop func() (asked int64)) {
	var asking sync.WaitGroup
	var asked atomic.Int64
	var stopping atomic.Bool
	for range 4 {
		asking.Go(func() {
			for n := asked.Add(1); n <= least || !stopping.Load(); n = asked.Add(1) {
				got := f.read(from, "Bearer "+token(n))
				if got.status != http.StatusUnauthorized && got.status != http.StatusTooManyRequests {
					f.t.Errorf("a made-up token got %d", got.status)
				}
				if retry := got.header.Get("Retry-After"); got.status == http.StatusTooManyRequests && retry == "" {
					f.t.Error("the answer does not say when to come again")
				}
			}
		})
	}
	return func() int64 {
		stopping.Store(true)
		asking.Wait()
		return asked.Load()
	}
}

func TestMadeUpTokensCostTheAPIServerLittleAndKeepNoReaderOut(t *testing.T) {
	for name, c := range map[string]struct {
		forged, keyless bool
		// bound is on what the flood may cost.
		bound fair.Bound
	}{
		"that name its key":     {forged: true},
		"that are opaque":       {bound: readerBound},
		"that can't be checked": {forged: true, keyless: true, bound: readerBound},
	} {
		t.Run(name, func(t *testing.T) {
			f := setup(t)
			reader := f.account(true)
			f.awaitRights(reader)
			if c.keyless {
				f.readers.keys = nil
			}
			forged := f.forge(reader)
			before, began := f.reviews.Load(), time.Now()
			stop := f.flood(here, 500, func(n int64) string {
				if c.forged {
					return forged
				}
				return fmt.Sprint("made-up-", n)
			})
			const reads = 8
			for range reads {
				if got := f.read(elsewhere, "Bearer "+reader); got.status != http.StatusOK {
					t.Errorf("the reader got %d", got.status)
				}
				f.readers.mu.Lock()
				clear(f.readers.allowed)
				f.readers.mu.Unlock()
			}
			asked := stop()
			cost, most := f.reviews.Load()-before-2*reads, float64(c.bound.Burst)+c.bound.PerSecond*time.Since(began).Seconds()
			t.Logf("%d made-up tokens cost %d reviews", asked, cost)
			if float64(cost) > most {
				t.Errorf("%d made-up tokens cost %d reviews, want at most %.0f", asked, cost, most)
			}
		})
	}
}

func TestAnAccountThatAsksAllTheTimeKeepsNoOtherOut(t *testing.T) {
	f := setup(t)
	reader, other := f.account(true), f.account(false)
	f.awaitRights(reader)
	before := f.reviews.Load()
	statuses := map[int]int{}
	for range 100 {
		statuses[f.read(here, "Bearer "+other).status]++
	}
	if len(statuses) != 2 || statuses[http.StatusForbidden] < readerBound.Burst || statuses[http.StatusTooManyRequests] == 0 {
		t.Errorf("it got %v", statuses)
	}
	if n, refused := f.reviews.Load()-before, statuses[http.StatusForbidden]; int(n) != 2*refused {
		t.Errorf("%d reviews for %d refusals", n, refused)
	}
	if got := f.read(here, "Bearer "+reader); got.status != http.StatusOK {
		t.Errorf("from the same address the reader got %d", got.status)
	}
}

func TestMadeUpTokensThatTakeLongToReviewHoldUpNoAccount(t *testing.T) {
	f := setup(t)
	f.slow = make(chan struct{})
	reader := f.account(true)
	f.awaitRights(reader)
	before := f.reviews.Load()
	var asking sync.WaitGroup
	for i := range reviewsAtOnce {
		for range readerBound.AtOnce {
			asking.Go(func() { f.read(fmt.Sprint("127.0.1.", i), "Bearer slow") })
		}
	}
	for f.reviews.Load() < before+reviewsAtOnce {
		runtime.Gosched()
	}
	if got := f.read(here, "Bearer "+reader); got.status != http.StatusOK {
		t.Errorf("the reader got %d", got.status)
	}
	if n := f.reviews.Load() - before; n != reviewsAtOnce+2 {
		t.Errorf("%d reviews were begun, want %d at once and the reader's 2", n, reviewsAtOnce)
	}
	close(f.slow)
	asking.Wait()
}

func TestAReaderIsToldToComeAgainWhileTheAPIServerIsAway(t *testing.T) {
	f := setup(t)
	reader := f.account(true)
	f.awaitRights(reader)
	f.err.Store(new(errors.New("connection refused")))
	if got := f.read(here, "Bearer "+reader); got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") == "" {
		t.Errorf("%d, header %v", got.status, got.header)
	}
	f.err.Store(nil)
	if got := f.read(here, "Bearer "+reader); got.status != http.StatusOK {
		t.Errorf("the status is %d", got.status)
	}
	f.err.Store(new(errors.New("connection refused")))
	if got := f.read(here, "Bearer "+reader); got.status != http.StatusOK {
		t.Errorf("a moment later the status is %d", got.status)
	}
}
