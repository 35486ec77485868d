package simulated

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/podspec"
)

// patience is how long anything may take on a busy machine. Nothing waits for it to pass.
const patience = 2 * time.Minute

// Audit follows a pool's pods on a watch of its own. The API server shows it each change, in order and at
// once, so it sees every state that the pool was ever in.
//
// What there may be follows from the plan: without a change of the template it makes a worker only while fewer
// than spec.replicas are live, maxSurge counts in a rollout only, and one that is being deleted does not count
// as live.
type Audit struct {
	pool string

	mu   sync.Mutex
	pods map[types.UID]subject
	// live has the UID of the live pod of each ordinal.
	live  map[int]types.UID
	now   Census
	bound Bound
	// broken is the first rule that was, with the numbers.
	broken string
	// changed is closed, and another one made, when now has changed.
	changed chan struct{}
}

type subject struct {
	ordinal            int
	terminating, ready bool
}

// Census counts pods.
type Census struct {
	// Live ones are not being deleted; Ready are those of them that are.
	Live, Ready, Terminating int
	// Made are all that there ever were.
	Made int
}

// Bound is what there may be at any moment: of live pods, and of those that exist.
type Bound struct{ Live, All int }

// NewAudit makes one that is shown the pool's pods by See.
func NewAudit(pool string) *Audit {
	return &Audit{
		pool: pool, pods: map[types.UID]subject{}, live: map[int]types.UID{}, changed: make(chan struct{}),
	}
}

// Follow audits until the watch ends.
func Follow(pool string, events watch.Interface) *Audit {
	a := NewAudit(pool)
	go func() {
		for event := range events.ResultChan() {
			a.See(event)
		}
		a.Fail("the watch has ended")
	}()
	return a
}

// See takes in the next change of a pod.
func (a *Audit) See(event watch.Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	pod, ok := event.Object.(*corev1.Pod)
	if !ok {
		a.violatedLocked("the watch has failed: %v", event.Object)
		return
	}
	if event.Type == watch.Deleted {
		a.dropLocked(pod.UID)
	} else {
		a.putLocked(pod)
	}
	if a.now.Live > a.bound.Live || a.now.Live+a.now.Terminating > a.bound.All {
		a.violatedLocked("%+v with %s, and there may be %+v", a.now, pod.Name, a.bound)
	}
	a.wakeLocked()
}

func (a *Audit) putLocked(pod *corev1.Pod) {
	if _, known := a.pods[pod.UID]; !known {
		a.now.Made++
	}
	a.dropLocked(pod.UID)
	ordinal, ok := podspec.Ordinal(a.pool, pod.Name)
	if !ok || pod.Labels[v1alpha1.LabelOrdinal] != strconv.Itoa(ordinal) {
		a.violatedLocked("pod %s has ordinal %q", pod.Name, pod.Labels[v1alpha1.LabelOrdinal])
	}
	s := subject{ordinal: ordinal, terminating: pod.DeletionTimestamp != nil, ready: isReady(pod)}
	a.pods[pod.UID] = s
	if s.terminating {
		a.now.Terminating++
		return
	}
	if other, taken := a.live[ordinal]; taken {
		a.violatedLocked("ordinal %d is live twice, as %s and %s", ordinal, other, pod.UID)
	}
	a.live[ordinal] = pod.UID
	a.now.Live++
	if s.ready {
		a.now.Ready++
	}
}

func (a *Audit) dropLocked(uid types.UID) {
	s, known := a.pods[uid]
	switch {
	case !known:
		return
	case s.terminating:
		a.now.Terminating--
	default:
		delete(a.live, s.ordinal)
		a.now.Live--
		if s.ready {
			a.now.Ready--
		}
	}
	delete(a.pods, uid)
}

func isReady(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

func (a *Audit) violatedLocked(format string, args ...any) {
	if a.broken == "" {
		a.broken = fmt.Sprintf(format, args...)
	}
	a.wakeLocked()
}

// Fail has whoever waits give up.
func (a *Audit) Fail(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.violatedLocked(format, args...)
}

func (a *Audit) wakeLocked() {
	close(a.changed)
	a.changed = make(chan struct{})
}

// Allow sets what there may be from now on.
func (a *Audit) Allow(b Bound) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.bound = b
}

// Look is what there is now, what rule was broken, and what tells that it is over.
func (a *Audit) Look() (now Census, broken string, changed <-chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.now, a.broken, a.changed
}

// Await waits until the pods are as they should be, and returns after how long. It ends the test if a rule was
// broken.
func (a *Audit) Await(t testing.TB, what string, is func(Census) bool) time.Duration {
	t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		now, broken, changed := a.Look()
		if broken != "" {
			t.Fatalf("before %s: %s", what, broken)
		}
		if is(now) {
			t.Logf("%s after %.1f s", what, time.Since(began).Seconds())
			return time.Since(began)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			t.Fatalf("no %s after %v: %+v", what, patience, now)
		}
	}
}
