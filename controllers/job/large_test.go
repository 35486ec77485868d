package job

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

// trimming is a cache of the Jobs of a namespace as the operator has it.
func (f *fixture) trimming() cache.Cache {
	f.t.Helper()
	c, err := cache.New(env.Config, cache.Options{
		Scheme:            testutil.Scheme(),
		DefaultNamespaces: map[string]cache.Config{f.namespace: {}},
		ByObject:          map[client.Object]cache.ByObject{&v1alpha1.Job{}: {Transform: Trim}},
	})
	f.Expect(err).NotTo(HaveOccurred())
	return c
}

// fill starts a cache and waits until it has all Jobs.
func (f *fixture) fill(c cache.Cache) {
	f.t.Helper()
	var done sync.WaitGroup
	done.Go(func() { _ = c.Start(f.t.Context()) })
	f.t.Cleanup(done.Wait)
	_, err := c.GetInformer(f.t.Context(), &v1alpha1.Job{})
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(c.WaitForCacheSync(f.t.Context())).To(BeTrue())
}

func TestALargeJobIsSubmittedReducedAndWholeWhenItIsWanted(t *testing.T) {
	f := newFixture(t)
	c := f.trimming()
	text := strings.Repeat("x", 1<<19)
	job := f.create(f.job("large").Command("cat").Stdin(text).Obj())
	f.fill(c)
	env.Manager(t, f.namespace, func(mgr manager.Manager) error {
		reads, err := client.New(env.Config, client.Options{Scheme: testutil.Scheme(), Cache: &client.CacheOptions{Reader: c}})
		f.Expect(err).NotTo(HaveOccurred())
		r := &Reconciler{Client: reads, Live: mgr.GetAPIReader(), Engine: f.engine}
		return r.SetupWithManager(mgr, &f.wishes, ready)
	})
	f.expectCalls(submit(job))
	if got := f.engine.latest(); !got.Reduced || got.Spec.Stdin != "" || got.Spec.Pool != "demo" {
		t.Errorf("it is reduced: %t, with %d bytes of stdin", got.Reduced, len(got.Spec.Stdin))
	}
	f.engine.know(job.UID)
	wanted := Request{NamespacedName: client.ObjectKeyFromObject(job), UID: job.UID, Cause: Wanted}
	f.wishes.Add(wanted)
	f.expectCalls(submit(job), submit(job))
	if got := f.engine.latest(); got.Reduced || got.Spec.Stdin != text {
		t.Errorf("it is reduced: %t, with %d bytes of stdin", got.Reduced, len(got.Spec.Stdin))
	}

	f.delete(job)
	f.Eventually(f.engine.took(cancel(job.UID))).Should(BeTrue())
	wanted.UID = "another"
	f.engine.know(wanted.UID)
	f.wishes.Add(wanted)
	f.Eventually(f.engine.took(absent(f.namespace, wanted.Name, "another"))).Should(BeTrue())
}

// What waits is not in the cache, whether it came in a list or in an event. JOBS changes how many there are, to measure
// what it takes to fill the cache.
func TestLargeJobsThatWaitTakeLittleMemory(t *testing.T) {
	const most = 8 << 10
	n := 16
	if jobs, err := strconv.Atoi(os.Getenv("JOBS")); err == nil {
		n = jobs
	}
	f := newFixture(t)
	put := func(name string) {
		text := strings.Repeat(name[:1], 1<<19)
		job := f.job(name).Command("cat").Stdin(text).Obj()
		for i := range 16 {
			job.Spec.Args = append(job.Spec.Args, fmt.Sprint(i, text[:30000]))
		}
		f.create(job)
	}
	for i := range n {
		put(fmt.Sprint("listed-", i))
	}
	before := heapInUse()
	stop := watchPeak()
	c := f.trimming()
	f.fill(c)
	peak := stop()
	listed := (heapInUse() - before) / int64(n)
	for i := range n {
		put(fmt.Sprint("watched-", i))
	}
	f.Eventually(func() int {
		list := &v1alpha1.JobList{}
		f.Expect(c.List(t.Context(), list, client.UnsafeDisableDeepCopy)).To(Succeed())
		return len(list.Items)
	}).Should(Equal(2 * n))
	both := (heapInUse() - before) / int64(2*n)
	t.Logf("%d Jobs of 1 MiB: %d bytes each in a list, %d with those of events; the heap has grown by %d MiB while they were listed",
		n, listed, both, (peak-before)>>20)
	if slack := int64(4<<20) / int64(n); listed > most+slack || both > most+slack { // the cache itself takes some
		t.Errorf("%d and %d bytes each", listed, both)
	}
	runtime.KeepAlive(c)
}

func heapInUse() int64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// watchPeak returns a function that tells how large the heap has become meanwhile.
func watchPeak() func() int64 {
	var peak int64
	var done sync.WaitGroup
	end := make(chan struct{})
	done.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
				var stats runtime.MemStats
				runtime.ReadMemStats(&stats)
				peak = max(peak, int64(stats.HeapAlloc))
			}
		}
	})
	return func() int64 {
		close(end)
		done.Wait()
		return peak
	}
}
