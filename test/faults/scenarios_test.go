package faults

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

// scenario is something that users do, with all that the operator writes because of it.
type scenario struct {
	name string
	play func(w *world)
	// kinds are the writes that only a slow scenario has: one that waits for one of the operator's longer time-outs,
	// which a kill begins anew. Other scenarios are run to see what they have.
	kinds []string
}

func (s *scenario) slow() bool { return s.kinds != nil }

var scenarios = []scenario{
	{name: "short", play: short}, {name: "long", play: long}, {name: "once", play: once}, {name: "indexed", play: indexed},
	{name: "handled", play: handled}, {name: "suspended", play: suspended}, {name: "expired", play: expired},
	{name: "retained", play: retained}, {name: "scaled", play: scaled}, {name: "rolled", play: rolled},
	{name: "deleted", play: deleted}, {name: "namespace", play: namespace}, {name: "named", play: named},
	{name: "scraped", play: scraped}, {name: "lost", play: lost, kinds: []string{"delete pods given up"}},
}

func succeeds(starts int) []outcome {
	return []outcome{{state: v1alpha1.JobSucceeded, starts: [2]int{starts, starts}}}
}

func fails(starts int) []outcome {
	return []outcome{{state: v1alpha1.JobFailed, reason: v1alpha1.ReasonExitCode, starts: [2]int{starts, starts}}}
}

func waits(reason string) []outcome {
	return []outcome{{state: v1alpha1.JobPending, reason: reason}}
}

// retries sets how often, without a pause between.
func retries(n int32) func(*testutil.JobBuilder) {
	return func(b *testutil.JobBuilder) {
		b.MaxRetries(n).Spec(func(s *v1alpha1.JobSpec) {
			s.Backoff = &v1alpha1.Backoff{InitialSeconds: new(int32(0)), MaxSeconds: new(int32(0))}
		})
	}
}

func slots(n int32) func(*testutil.PoolBuilder) {
	return func(b *testutil.PoolBuilder) { b.Slots(n) }
}

func short(w *world) {
	w.makePool(1)
	w.submit("plain", succeed, succeeds(1))
	w.submit("failed", fail, fails(1))
	w.submit("retried", failOnce, succeeds(2), retries(1))
}

func long(w *world) {
	w.makePool(1, slots(1))
	w.submit("long", hold, succeeds(1))
	w.awaitState("long", v1alpha1.JobRunning, "")
	w.submit("queued", succeed, succeeds(1))
	w.awaitState("queued", v1alpha1.JobQueued, "")
	w.release("long")
}

func once(w *world) {
	w.makePool(1)
	w.submit("once", succeed, []outcome{
		{state: v1alpha1.JobSucceeded, starts: [2]int{1, 1}},
		{state: v1alpha1.JobFailed, reason: v1alpha1.ReasonInterrupted, starts: [2]int{0, 1}, afterKill: true},
	}, func(b *testutil.JobBuilder) { b.AtMostOnce() })
}

func indexed(w *world) {
	w.makePool(1)
	w.submit("indexed", failOnce, succeeds(2), retries(1), func(b *testutil.JobBuilder) {
		b.Spec(func(s *v1alpha1.JobSpec) { s.Completions = new(int32(3)) })
	})
	w.submit("broken", fail, []outcome{{state: v1alpha1.JobFailed, reason: v1alpha1.ReasonIndexesFailed, starts: [2]int{1, 1}}},
		func(b *testutil.JobBuilder) { b.Spec(func(s *v1alpha1.JobSpec) { s.Completions = new(int32(2)) }) })
}

func handled(w *world) {
	w.makePool(1)
	w.submit("handled", fail, []outcome{
		{state: v1alpha1.JobFailed, reason: v1alpha1.ReasonExitCode, starts: [2]int{1, 1}, handled: 1},
	}, func(b *testutil.JobBuilder) { b.OnFailure(succeed) })
}

func suspended(w *world) {
	w.makePool(1)
	w.submit("suspended", hold, []outcome{
		{state: v1alpha1.JobSucceeded, starts: [2]int{2, 2}},
		{state: v1alpha1.JobSucceeded, starts: [2]int{1, 2}, afterKill: true},
	})
	w.awaitState("suspended", v1alpha1.JobRunning, "")
	w.patch(&v1alpha1.Job{}, "suspended", `{"spec":{"suspend":true}}`)
	w.awaitState("suspended", v1alpha1.JobPending, v1alpha1.ReasonSuspended)
	w.patch(&v1alpha1.Job{}, "suspended", `{"spec":{"suspend":false}}`)
	w.awaitState("suspended", v1alpha1.JobRunning, "")
	w.release("suspended")
}

func expired(w *world) {
	w.makePool(1)
	w.submit("expired", succeed, succeeds(1), func(b *testutil.JobBuilder) { b.TTL(0) })
	w.await("the Job is deleted", func() bool { return w.isGone("expired") })
	w.await("it is counted", func() bool {
		s := w.getPool().Status
		return s.ProcessedJobs != nil && *s.ProcessedJobs == 1 || w.killed()
	})
	w.patch(&v1alpha1.WorkerPool{}, poolName, `{"metadata":{"annotations":{"uncounted":"a deleted Job"}}}`)
}

// retained has two Jobs that ended long ago, of which the pool keeps one.
func retained(w *world) {
	for i, name := range []string{"retained-a", "retained-b"} {
		job := testutil.MakeJob(w.namespace, name, poolName).Obj()
		w.must("create a Job", w.h.client.Create(w.t.Context(), job))
		ended := metav1.NewMicroTime(time.Now().Add(time.Duration(i-3) * time.Minute))
		job.Status = v1alpha1.JobStatus{
			State: v1alpha1.JobSucceeded, CompletionTime: &ended,
			Conditions: []metav1.Condition{{
				Type: v1alpha1.JobComplete, Status: metav1.ConditionTrue, Reason: "Succeeded", LastTransitionTime: metav1.Now(),
			}},
		}
		w.must("store its end", w.h.client.Status().Update(w.t.Context(), job))
	}
	w.expected["retained-b"] = succeeds(0)
	w.makePool(1, func(b *testutil.PoolBuilder) { b.Retain(1) })
	w.await("one Job is deleted", func() bool { return w.isGone("retained-a") })
}

func scaled(w *world) {
	w.makePool(1)
	w.awaitReady(1)
	w.bound(3, 3)
	w.scale(3)
	w.awaitReady(3)
	w.scale(1)
	w.await("one worker is left", func() bool { return w.podCount() == 1 })
	w.bound(1, 1)
}

func rolled(w *world) {
	w.makePool(1)
	w.submit("rolled", hold, succeeds(1))
	w.awaitState("rolled", v1alpha1.JobRunning, "")
	before := w.workers()[0].UID
	w.bound(2, 2)
	w.patch(&v1alpha1.WorkerPool{}, poolName, `{"spec":{"template":{"spec":{"containers":[{"name":"worker","image":"busybox:2"}]}}}}`)
	w.await("the worker is replaced, and ends when its Job does", func() bool {
		live := w.workers()
		return len(live) == 1 && live[0].UID != before && w.podCount() == 2
	})
	w.release("rolled")
	w.await("one worker is left", func() bool { return w.podCount() == 1 })
	w.bound(1, 1)
}

func deleted(w *world) {
	w.makePool(1, slots(1))
	w.submit("long", hold, succeeds(1))
	w.awaitState("long", v1alpha1.JobRunning, "")
	w.submit("orphan", succeed, waits(v1alpha1.ReasonPoolNotFound))
	w.awaitState("orphan", v1alpha1.JobQueued, "")
	w.delete(&v1alpha1.WorkerPool{}, poolName)
	w.awaitState("orphan", v1alpha1.JobPending, v1alpha1.ReasonPoolNotFound)
	w.release("long")
}

// namespace plays the controller of namespaces, which is not there.
func namespace(w *world) {
	w.makePool(1)
	w.submit("plain", succeed, succeeds(1))
	w.awaitEnds()
	w.delete(&corev1.Namespace{}, w.namespace)
	w.delete(&v1alpha1.WorkerPool{}, poolName)
	w.await("the pool is gone", func() bool { return w.getPool() == nil })
	for _, pod := range w.workers() {
		w.delete(&corev1.Pod{}, pod.Name)
	}
}

// named has a pod of somebody else's take the name of a worker.
func named(w *world) {
	other := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: poolName + "-0"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "other", Image: "busybox:1"}}},
	}
	w.must("create a pod", w.h.client.Create(w.t.Context(), other))
	w.makePool(1)
	w.submit("plain", succeed, succeeds(1))
}

// scraped reads the operator's metrics until they are had: what is refused is asked for again.
func scraped(w *world) {
	request := &authenticationv1.TokenRequest{}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "default"}}
	w.must("make a token", w.h.client.SubResource("token").Create(w.t.Context(), account, request))
	scraper := &http.Client{
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true},
		Timeout:   patience,
	}
	retry := time.NewTicker(100 * time.Millisecond)
	defer retry.Stop()
	for began := time.Now(); ; <-retry.C {
		err := scrape(w, scraper, request.Status.Token)
		if err == nil {
			return
		}
		if time.Since(began) > patience {
			w.failf("no metrics: %v", err)
		}
	}
}

func scrape(w *world, c *http.Client, token string) error {
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, "https://"+w.h.metrics+"/metrics", nil)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+token)
	response, err := c.Do(r)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", response.StatusCode)
	}
	return nil
}

// lost cuts a worker off that runs a Job.
func lost(w *world) {
	w.makePool(1, func(b *testutil.PoolBuilder) {
		b.Spec(func(s *v1alpha1.WorkerPoolSpec) { s.WorkerLostTimeoutSeconds = new(int32(30)) })
	})
	w.submit("lost", hold, succeeds(2))
	w.awaitState("lost", v1alpha1.JobRunning, "")
	w.bound(1, 2)
	pod := w.workers()[0]
	w.h.nodes.Isolate(pod.UID)
	w.await("the worker is replaced", func() bool {
		for _, live := range w.workers() {
			if live.UID != pod.UID {
				return true
			}
		}
		return false
	})
	w.await("its Job runs again", func() bool {
		n, running := w.h.ledger.of(w.job("lost").UID, 0)
		return n == 2 && running
	})
	w.release("lost")
}

func (w *world) scale(n int) {
	w.patch(&v1alpha1.WorkerPool{}, poolName, fmt.Sprintf(`{"spec":{"replicas":%d}}`, n))
}

func (w *world) awaitReady(n int32) {
	w.await(fmt.Sprintf("%d workers are ready", n), func() bool {
		pool := w.getPool()
		return pool != nil && pool.Status.ReadyReplicas != nil && *pool.Status.ReadyReplicas == n
	})
}
