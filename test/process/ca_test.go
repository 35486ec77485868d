package process

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/podspec"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

const caSecret = "workerpool-ca"

// Each leader makes a serving certificate of its own, so that is another each time too.
func TestJobsOutliveSuccessionsOfTheCA(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, o := range w.operators {
		w.startOperator(o, built)
	}
	leader := w.leader(w.operators...)
	w.create(testutil.MakePool(w.namespace, poolName).Replicas(1).Slots(4).Capacity(1000).Retain(0).Obj())
	w.startWorkers(1, built)
	w.ready(1)
	w.submit("held", held, 1)
	w.awaitRecorded("held", 1)

	const successions = 3
	for i := range successions {
		before := w.ca()
		w.askForSuccessor()
		w.awaitFollowing(w.other(leader))
		leader.stop()
		next := w.leader(w.other(leader))
		w.startOperator(leader, built)
		leader = next
		if w.ca() == before {
			t.Fatal("the CA has no successor")
		}
		// One more worker, which trusts the successor only, works beside those that trust its predecessors.
		w.scale(i + 2)
		w.startWorkers(i+2, built)
		w.ready(i + 2)
		prefix := fmt.Sprint("after-", i)
		w.submit(prefix, short, 50)
		w.awaitSucceeded(prefix, 50)
		w.expectOnce(prefix, 50)
	}
	var trusted []string
	for _, k := range w.workers {
		for _, arg := range podspec.JobContainer(k.pod).Args {
			if ca, ok := strings.CutPrefix(arg, "--ca="); ok {
				trusted = append(trusted, ca)
			}
		}
	}
	slices.Sort(trusted)
	if n := len(slices.Compact(trusted)); n != successions+1 {
		t.Errorf("the workers trust %d CAs, want one more than there were successions: %d", n, successions)
	}
	w.release()
	w.awaitSucceeded("held", 1)
	w.expectOnce("held", 1)
}

// ca is the present CA's certificate.
func (w *world) ca() string {
	w.t.Helper()
	secret := &corev1.Secret{}
	if err := w.get(w.system, caSecret, secret); err != nil {
		w.t.Fatalf("read the CA: %v", err)
	}
	return string(secret.Data[corev1.TLSCertKey])
}

func (w *world) askForSuccessor() {
	w.t.Helper()
	w.patch(&corev1.Secret{ObjectMeta: objectMeta(w.system, caSecret)}, `{"metadata":{"annotations":{"workerpool.dev/rotate":"now"}}}`)
}

// scale asks for so many workers.
func (w *world) scale(replicas int) {
	w.t.Helper()
	w.patch(&v1alpha1.WorkerPool{ObjectMeta: objectMeta(w.namespace, poolName)}, fmt.Sprintf(`{"spec":{"replicas":%d}}`, replicas))
}

// patch merges the JSON into an object.
func (w *world) patch(o client.Object, json string) {
	w.t.Helper()
	if err := w.client.Patch(w.t.Context(), o, client.RawPatch(types.MergePatchType, []byte(json))); err != nil {
		w.t.Fatalf("patch %T: %v", o, err)
	}
}
