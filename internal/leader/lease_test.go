package leader

import (
	"context"
	"errors"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
)

// lock is a Lease in the API server that may refuse to be written, and takes its time.
type lock struct {
	resourcelock.Interface

	clock  *clocktesting.FakeClock
	takes  time.Duration
	err    error
	writes int
	// gets counts the reads, of which so many fail because there is no API server.
	gets, failing int
	// record is what is read.
	record resourcelock.LeaderElectionRecord
}

func (*lock) Identity() string { return "me" }

func (l *lock) Get(context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	if l.gets++; l.gets <= l.failing {
		return nil, nil, &net.OpError{Op: "dial", Err: errors.New("connection refused")}
	}
	record := l.record
	return &record, nil, l.err
}

func (l *lock) Create(context.Context, resourcelock.LeaderElectionRecord) error { return l.answer() }
func (l *lock) Update(context.Context, resourcelock.LeaderElectionRecord) error { return l.answer() }

func (l *lock) answer() error {
	l.writes++
	if l.takes > 0 {
		l.clock.Step(l.takes)
	}
	return l.err
}

func newLease() (*Lease, *lock) {
	now := clocktesting.NewFakeClock(made)
	api := &lock{clock: now}
	return &Lease{Interface: api, clock: now}, api
}

var mine = resourcelock.LeaderElectionRecord{HolderIdentity: "me"}

func TestALeaseIsHeldAsLongAsNobodyElseCanHaveIt(t *testing.T) {
	create := func(l *Lease) { _ = l.Create(t.Context(), mine) }
	renew := func(l *Lease) { _ = l.Update(t.Context(), mine) }
	release := func(l *Lease) { _ = l.Update(t.Context(), resourcelock.LeaderElectionRecord{}) }
	cases := map[string]struct {
		do   func(l *Lease, api *lock)
		held bool
	}{
		"never won":   {func(*Lease, *lock) {}, false},
		"created":     {func(l *Lease, _ *lock) { create(l) }, true},
		"taken":       {func(l *Lease, _ *lock) { renew(l) }, true},
		"refused":     {func(l *Lease, api *lock) { api.err = errors.New("another has it"); renew(l) }, false},
		"long ago":    {func(l *Lease, api *lock) { renew(l); api.clock.Step(tenure) }, false},
		"renewed":     {func(l *Lease, api *lock) { renew(l); api.clock.Step(tenure - 1); renew(l); api.clock.Step(tenure - 1) }, true},
		"slow answer": {func(l *Lease, api *lock) { api.takes = tenure; renew(l) }, false},
		"not renewed since": {func(l *Lease, api *lock) {
			renew(l)
			api.err, api.takes = errors.New("the API server is away"), tenure/2
			api.clock.Step(RenewInterval)
			renew(l)
			renew(l)
		}, false},
		// What is left out as too early must not count as a renewal.
		"not written since": {func(l *Lease, api *lock) {
			renew(l)
			api.clock.Step(RenewInterval - 1)
			renew(l)
			api.clock.Step(tenure - RenewInterval + 1)
		}, false},
		"given back": {func(l *Lease, _ *lock) { renew(l); release(l) }, false},
		"given back, without an answer": {func(l *Lease, api *lock) {
			renew(l)
			api.err = errors.New("timed out")
			release(l)
		}, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			l, api := newLease()
			c.do(l, api)
			if l.Held() != c.held {
				t.Errorf("Held is %v, want %v", l.Held(), c.held)
			}
		})
	}
}

func TestALeaderHasEndedBeforeItsLeaseHas(t *testing.T) {
	if tenure > LeaseDuration-4*time.Second {
		t.Error("a leader that can't renew goes on for too long")
	}
}

func TestALeaseIsRenewedNoMoreOftenThanNeedBe(t *testing.T) {
	l, api := newLease()
	acquired := metav1.NewTime(api.clock.Now())
	renewal := func(holder string) resourcelock.LeaderElectionRecord {
		return resourcelock.LeaderElectionRecord{
			HolderIdentity: holder, LeaseDurationSeconds: 15, AcquireTime: acquired, RenewTime: metav1.NewTime(api.clock.Now()),
		}
	}
	update := func(record resourcelock.LeaderElectionRecord, want int, what string) {
		t.Helper()
		if err := l.Update(t.Context(), record); !errors.Is(err, api.err) || api.writes != want {
			t.Fatalf("%s: error %v, %d writes, want %d", what, err, api.writes, want)
		}
	}
	if err := l.Create(t.Context(), renewal("me")); err != nil {
		t.Fatal(err)
	}
	api.clock.Step(RenewInterval - 1)
	update(renewal("me"), 1, "a renewal that is not due")
	api.clock.Step(1)
	update(renewal("me"), 2, "one that is")

	api.err = errors.New("down")
	api.clock.Step(RenewInterval)
	update(renewal("me"), 3, "one that fails")
	api.err = nil
	update(renewal("me"), 4, "the next after one that has failed")
	acquired = metav1.NewTime(api.clock.Now().Add(time.Second))
	update(renewal("me"), 5, "another acquisition")
	update(renewal(""), 6, "a release")
	update(renewal("me"), 7, "an acquisition after a release")
}

func TestWhoWaitsForTheLeaseWaitsForTheAPIServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := &lock{failing: 10}
		l := &Lease{Interface: api, clock: clock.RealClock{}}
		began := time.Now()
		if _, _, err := l.Get(t.Context()); err != nil || time.Since(began) != 10*RetryPeriod {
			t.Errorf("error %v after %v", err, time.Since(began))
		}
		api.failing = 1000
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := l.Get(ctx); err == nil || ctx.Err() == nil {
			t.Errorf("error %v before its context has ended", err)
		}
	})
}

func TestALeaderIsToldAtOnceThatThereIsNoAPIServer(t *testing.T) {
	l, api := newLease()
	api.failing = 1000
	if err := l.Create(t.Context(), mine); err != nil {
		t.Fatal(err)
	}
	api.err = errors.New("down")
	if err := l.Update(t.Context(), resourcelock.LeaderElectionRecord{HolderIdentity: "me", LeaderTransitions: 1}); err == nil {
		t.Fatal("the write has not failed")
	}
	if _, _, err := l.Get(t.Context()); err == nil || api.gets != 1 {
		t.Errorf("error %v after %d tries", err, api.gets)
	}
}

// A leader was stopped by SIGSTOP, and went on after another had taken over: for some seconds it wrote what that did not
// know, and that wrote over it. Tries were forgotten.
func TestAProcessThatWasStoppedWritesNothing(t *testing.T) {
	l, api := newLease()
	if err := l.Create(t.Context(), mine); err != nil {
		t.Fatal(err)
	}
	reached := map[string]int{}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { reached[r.Method]++ }))
	defer server.Close()
	fenced := &http.Client{Transport: l.Fence(server.Client().Transport)}
	send := func(method string) error {
		request, err := http.NewRequestWithContext(t.Context(), method, server.URL, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		response, err := fenced.Do(request)
		if err == nil {
			_ = response.Body.Close()
		}
		return err
	}
	methods := []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}
	for _, method := range methods {
		if err := send(method); err != nil {
			t.Errorf("%s while it leads: %v", method, err)
		}
	}
	api.clock.Step(LeaseDuration)
	for _, method := range methods {
		want := 1
		if err := send(method); method == http.MethodGet {
			want = 2
		} else if !errors.Is(err, errUnheld) {
			t.Errorf("%s when another may lead: %v, want %v", method, err, errUnheld)
		}
		if reached[method] != want {
			t.Errorf("%s was sent %d times, want %d", method, reached[method], want)
		}
	}
}

// The API server carries out what it was not told to give up, when another leads.
func TestAWriteThatMustEndInTimeTellsTheAPIServerSo(t *testing.T) {
	var asked string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.Query().Get("timeout")
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"kind":"ConfigMap","apiVersion":"v1"}`))
	}))
	defer server.Close()
	clients, err := kubernetes.NewForConfig(InTime(&rest.Config{Host: server.URL}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := clients.CoreV1().ConfigMaps("a").Patch(t.Context(), "b", types.JSONPatchType, []byte("[]"), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if d, err := time.ParseDuration(asked); err != nil || d <= 0 || tenure+d >= LeaseDuration {
		t.Errorf("the API server is told to give up after %q, which is %s after the last renewal at the latest; another leads after %s", asked, tenure+d, LeaseDuration)
	}
}

func TestALeaderThatWasStoppedEndsBeforeItsEngineKnowsTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// There is no engine: a tick of it would panic.
		l := New(Config{Clock: clock.RealClock{}, Held: func() bool { return false }})
		if err := l.tick(t.Context()); !errors.Is(err, errUnheld) {
			t.Errorf("the lead ended with %v, want %v", err, errUnheld)
		}
	})
}

// What client-go makes of that is another lead, with the epoch of the one before.
func TestTheLeadEndsAtOnceWhereSomebodyHasDeletedOrChangedTheLease(t *testing.T) {
	won := resourcelock.LeaderElectionRecord{HolderIdentity: "me", LeaderTransitions: 4}
	changed := func(change func(*resourcelock.LeaderElectionRecord)) func(*lock) {
		return func(l *lock) { change(&l.record) }
	}
	for name, c := range map[string]struct {
		meddle func(*lock)
		ends   bool
	}{
		"deleted":          {func(l *lock) { l.err = apierrors.NewNotFound(schema.GroupResource{Resource: "leases"}, "lease") }, true},
		"given to another": {changed(func(r *resourcelock.LeaderElectionRecord) { r.HolderIdentity = "you" }), true},
		"given to nobody":  {changed(func(r *resourcelock.LeaderElectionRecord) { r.HolderIdentity = "" }), true},
		"set back":         {changed(func(r *resourcelock.LeaderElectionRecord) { r.LeaderTransitions = 1 }), true},
		"set ahead":        {changed(func(r *resourcelock.LeaderElectionRecord) { r.LeaderTransitions = 9 }), true},
		"annotated":        {func(*lock) {}, false},
		"out of reach":     {func(l *lock) { l.err = errors.New("timed out") }, false},
	} {
		t.Run(name, func(t *testing.T) {
			l, api := newLease()
			api.record = won
			if err := l.Update(t.Context(), won); err != nil {
				t.Fatal(err)
			}
			c.meddle(api)
			_, _, _ = l.Get(t.Context())
			if l.Held() == c.ends {
				t.Errorf("held: %v, want %v", l.Held(), !c.ends)
			}
			api.err = nil
			api.clock.Step(RenewInterval)
			for what, write := range map[string]func(context.Context, resourcelock.LeaderElectionRecord) error{"make": l.Create, "renew": l.Update} {
				if err := write(t.Context(), won); errors.Is(err, errMeddled) != c.ends || l.Held() == c.ends {
					t.Errorf("%s: %v, held: %v", what, err, l.Held())
				}
			}
			if err := l.Update(t.Context(), resourcelock.LeaderElectionRecord{LeaderTransitions: 4}); err != nil {
				t.Errorf("it can't be given back: %v", err)
			}
		})
	}
}

// Who wins the Lease counts one transition more.
func TestALeaseWithAsManyTransitionsAsItCanHaveIsWonAllTheSame(t *testing.T) {
	l, api := newLease()
	for stored, want := range map[int]int{7: 7, math.MaxInt32 - 1: math.MaxInt32 - 1, math.MaxInt32: 0} {
		api.record = resourcelock.LeaderElectionRecord{LeaderTransitions: stored}
		record, _, err := l.Get(t.Context())
		if err != nil || record.LeaderTransitions != want {
			t.Errorf("%d transitions are read as %d, want %d; %v", stored, record.LeaderTransitions, want, err)
		}
	}
}
