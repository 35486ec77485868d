package process

import (
	"os"
	"strings"
	"testing"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

const (
	// filler takes what room there is, and what it has taken is free again when it has ended.
	filler = `echo "start $0" >>"$LEDGER"; dd if=/dev/zero of="$TMPDIR/all" bs=4k 2>/dev/null; echo "full" >>"$LEDGER"; : <"$GATE"; echo "end $0" >>"$LEDGER"`
	// prompted Jobs end when a file is there.
	prompted = `echo "start $0" >>"$LEDGER"; until test -e "$LEDGER.prompt"; do sleep 0.05; done; echo "end $0" >>"$LEDGER"`
)

func TestAWorkerWhoseDiskIsFullTakesNoJobsAndLosesNone(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("a disk of its own for a worker takes root, who may mount one")
	}
	w := newWorld(t)
	w.startOperator(w.operators[0], built)
	w.leader(w.operators[0])
	w.create(testutil.MakePool(w.namespace, poolName).Replicas(1).Slots(6).Capacity(1000).Retain(0).Obj())
	w.diskKiB = 512
	w.startWorkers(1, built)
	w.ready(1)
	small := w.workers[0]
	w.submit("prompted", prompted, 3)
	w.awaitRecorded("prompted", 3)
	w.submit("filler", filler, 1)
	w.awaitRecorded("filler", 1)
	w.await("full disk", func() bool { return strings.Contains(strings.Join(w.entries(), "\n"), "\nfull") })

	if err := os.WriteFile(w.ledger+".prompt", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.awaitSucceeded("prompted", 3)
	w.expectOnce("prompted", 3)
	w.await("line of the log", func() bool { return strings.Contains(small.said(), "The disk is full") })

	// The full one has five free slots, and the pool no other worker.
	w.submit("waiting", short, 20)
	w.await("Jobs that wait", func() bool { return len(w.jobs("waiting", v1alpha1.JobQueued)) == 20 })
	w.diskKiB = 0
	w.scale(2)
	w.startWorkers(2, built)
	w.awaitSucceeded("waiting", 20)
	w.expectOnce("waiting", 20)
	for _, job := range w.jobs("waiting") {
		if job.Status.Worker == small.pod.Name {
			t.Errorf("Job %s has run in the worker whose disk is full", job.Name)
		}
	}

	w.release()
	w.awaitSucceeded("filler", 1)
	w.expectOnce("filler", 1)
	w.await("line of the log", func() bool { return strings.Contains(small.said(), "The disk has room again") })
	w.use("again", small.pod.Name)
}
