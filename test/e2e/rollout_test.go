package e2e

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

// It runs alone: the operator is everybody's.
func TestARolloutOfTheOperatorPausesDispatchShortly(t *testing.T) {
	f := setupAlone(t)
	const jobs, budget = 1200, 2 * time.Second
	f.create(f.pool().Replicas(2).Slots(2).Capacity(jobs).Retain(0).Obj())
	f.awaitPool(ready("2/2"))
	f.patch(f.getPool(), `{"spec":{"suspend":true}}`)
	f.createJobs("steady", jobs, "sleep", "0.15")
	f.patch(f.getPool(), `{"spec":{"suspend":false}}`)
	f.awaitPool(HaveField("Status.ProcessedJobs", HaveValue(BeNumerically(">", 50))))
	before := leader(f)

	rollout := func(args ...string) {
		out, err := f.output(append([]string{"-n", operatorNamespace, "rollout"}, args...)...)
		f.Expect(err).NotTo(HaveOccurred(), out)
	}
	began := time.Now()
	rollout("restart", "deployment/workerpool-controller-manager")
	rollout("status", "deployment/workerpool-controller-manager", "--timeout="+patience.String())
	took := time.Since(began)
	f.Eventually(func() string { return leader(f) }, patience).ShouldNot(Or(BeEmpty(), Equal(before)))
	f.awaitPool(HaveField("Status.ProcessedJobs", HaveValue(BeNumerically("<", jobs))))
	f.patch(f.getPool(), `{"spec":{"suspend":true}}`)
	f.awaitPool(HaveField("Status.ActiveJobs", HaveValue(BeEquivalentTo(0))))

	var starts []time.Time
	list := &v1alpha1.JobList{}
	f.Expect(cluster.List(f.ctx, list, client.InNamespace(f.namespace))).To(Succeed())
	for i := range list.Items {
		s := list.Items[i].Status
		if s.StartTime == nil {
			continue
		}
		f.Expect(&list.Items[i]).To(And(inState(v1alpha1.JobSucceeded, ""), startedTimes(1, 0)))
		starts = append(starts, s.StartTime.Time)
	}
	slices.SortFunc(starts, time.Time.Compare)
	longest := time.Duration(0)
	for i := 1; i < len(starts); i++ {
		longest = max(longest, starts[i].Sub(starts[i-1]))
	}
	t.Logf("the rollout took %.1f s, with %d Jobs meanwhile; the longest pause in dispatch was %.2f s", took.Seconds(), len(starts), longest.Seconds())
	f.Expect(longest).To(BeNumerically("<", budget))
}

// createJobs makes many Jobs of the pool demo with this command, several at once.
func (f *fixture) createJobs(prefix string, n int, command ...string) {
	f.t.Helper()
	const clients = 16
	var group sync.WaitGroup
	errs := make(chan error, clients)
	for c := range clients {
		group.Go(func() {
			for i := c; i < n; i += clients {
				job := testutil.MakeJob(f.namespace, fmt.Sprintf("%s-%d", prefix, i), "demo").Command(command...).Obj()
				if err := cluster.Create(f.ctx, job); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	group.Wait()
	close(errs)
	for err := range errs {
		f.Expect(err).NotTo(HaveOccurred())
	}
}
