package process

import (
	"testing"
	"time"

	"github.com/workerpool-dev/workerpool/internal/testutil"
)

const (
	// outage is longer than the Lease; outageSoak is what the operator has to stand too.
	outage, outageSoak = leaseDuration + 40*time.Second, 2 * time.Minute
	// resumeBudget is from the return of the API server to the first dispatch.
	resumeBudget = 5 * time.Second
	// passing Jobs end by themselves while there is no API server.
	passing = `echo "start $0" >>"$LEDGER"; sleep 20; echo "end $0" >>"$LEDGER"`
)

func TestJobsOutliveTheAPIServerAndDispatchResumesWhenItIsBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var kubelets []*kubelet
	for _, o := range w.operators {
		kubelets = append(kubelets, w.keep(o, built))
	}
	w.leader(w.operators...)
	w.create(testutil.MakePool(w.namespace, poolName).Replicas(2).Slots(8).Capacity(1000).Retain(0).Obj())
	w.startWorkers(2, built)
	w.ready(2)
	w.submit("held", held, 5)
	w.submit("passing", passing, 5)
	w.awaitRecorded("held", 5)
	w.awaitRecorded("passing", 5)

	w.awaitRenewal()
	w.link.cut()
	long := outage
	if soak() {
		long = outageSoak
	}
	over := time.NewTimer(long)
	defer over.Stop()
	w.submit("later", short, 200)
	<-over.C
	if n := w.started("later"); n > 0 {
		t.Errorf("%d Jobs were started that no operator can know of", n)
	}
	back := time.Now()
	w.link.mend()
	w.awaitStarted("later", 1)
	resumed := time.Since(back)
	acquired := w.lease().Spec.AcquireTime.Sub(back)

	w.awaitSucceeded("later", 200)
	w.awaitSucceeded("passing", 5)
	w.release()
	w.awaitSucceeded("held", 5)
	for prefix, n := range map[string]int{"held": 5, "passing": 5, "later": 200} {
		w.expectOnce(prefix, n)
	}
	restarts := 0
	for _, k := range kubelets {
		restarts += k.restarts()
	}
	t.Logf("after %v without API server the Lease was acquired after %.2f s, and dispatch resumed after %.2f s; operators were restarted %d times",
		long, acquired.Seconds(), resumed.Seconds(), restarts)
	if resumed > resumeBudget {
		t.Errorf("the budget is %v", resumeBudget)
	}
	// The leader ends when it can't renew. Whoever waits just waits: else the kubelet's pauses would hold up the next.
	if restarts > 1 {
		t.Errorf("operators have ended %d times", restarts)
	}
}

// awaitRenewal returns a moment after the leader has renewed its Lease. A replica that has not seen a renewal before the
// API server is away sees it afterwards, and then has to wait for as long as the Lease holds.
func (w *world) awaitRenewal() {
	w.t.Helper()
	before := w.lease().Spec.RenewTime.Time
	w.await("renewal of the Lease", func() bool { return w.lease().Spec.RenewTime.After(before) })
	<-time.After(500 * time.Millisecond) // others look four times a second, and it is renewed every two seconds
}
