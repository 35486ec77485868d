package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/types"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

// The tests of this file do to a node what happens to nodes: it loses power, is rebooted, is cut off from the network, or is
// drained to another. They need a cluster from source with NODES=2, which `make test-nodes` starts, and run one after the
// other. What a Job's processes did they write down on the machine's disk, which both nodes share whatever is cut.

const (
	node1, node2 = "node1", "node2"
	// lostAfter is the pools' workerLostTimeoutSeconds, which is the default.
	lostAfter = 60 * time.Second
)

// nodes is the fixture of a test that does something to the second node.
type nodes struct {
	*fixture

	// records is a folder that the workers of both nodes have as /records.
	records string
}

// record is what one process has written down. The times are those since the machine was started.
type record struct {
	id, job, pod string
	began, seen  float64
	Ended        bool
}

func onNodes(t *testing.T) *nodes {
	t.Helper()
	f := newFixture(t, "privileged") // for the folder of the machine
	n := &nodes{f, t.TempDir()}
	f.Expect(os.Chmod(n.records, 0o777)).To(Succeed()) // the workers are another user
	t.Cleanup(n.mend)
	n.mend()
	return n
}

// cluster runs a verb of the cluster's program, and returns when it was begun.
func (n *nodes) cluster(args ...string) time.Time {
	n.t.Helper()
	at := time.Now()
	out, err := exec.Command("../../hack/cluster/cluster.sh", args...).CombinedOutput()
	if err != nil {
		n.t.Errorf("cluster.sh %v: %v\n%s", args, err, out)
	}
	return at
}

// mend has both nodes be as they should.
func (n *nodes) mend() {
	n.t.Helper()
	n.cluster("mend")
	for _, name := range []string{node1, node2} {
		n.kubectl("uncordon", name)
	}
	if out, err := n.output("taint", "node", node2, outOfService+"-"); err != nil {
		n.Expect(out).To(ContainSubstring("not found"))
	}
	n.kubectl("wait", "--for=condition=Ready", "node/"+node1, "node/"+node2, "--timeout="+patience.String())
}

// outOfService is the taint by which an administrator says that a node has no power.
const outOfService = "node.kubernetes.io/out-of-service"

// poolOn is a pool whose workers are on this node for as long as it takes pods.
func (n *nodes) poolOn(node string) *testutil.PoolBuilder {
	return n.pool().Template(func(t *corev1.PodTemplateSpec) {
		t.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{
				Weight: 100, Preference: corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{
					{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{node}},
				}},
			}},
		}}
	})
}

// pool is one whose workers can write records, on any node.
func (n *nodes) pool() *testutil.PoolBuilder {
	return n.fixture.pool().Template(func(t *corev1.PodTemplateSpec) {
		t.Spec.Volumes = []corev1.Volume{{Name: "records", VolumeSource: corev1.VolumeSource{
			HostPath: &corev1.HostPathVolumeSource{Path: n.records},
		}}}
		t.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "records", MountPath: "/records"}}
	})
}

// spread has the template's workers be on as many nodes or zones, where those that take no pods do not count.
func spread(over string) func(*corev1.PodTemplateSpec) {
	return func(t *corev1.PodTemplateSpec) {
		t.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
			MaxSkew: 1, TopologyKey: over, WhenUnsatisfiable: corev1.DoNotSchedule,
			NodeTaintsPolicy: new(corev1.NodeInclusionPolicyHonor),
			LabelSelector:    &metav1.LabelSelector{MatchLabels: map[string]string{v1alpha1.LabelPool: "demo"}},
		}}
	}
}

// recorded is a Job that writes down what it does until it is told to end.
func (n *nodes) recorded(name string) *testutil.JobBuilder {
	return n.job(name, fmt.Sprintf(`
		read id </proc/sys/kernel/random/uuid
		say() { read up _ </proc/uptime; echo "$id %[1]s $HOSTNAME $1 $up" >>/records/all; }
		say begins; until test -e /records/%[1]s.told; do say lives; sleep 0.1; done; say ends`, name))
}

// end has the processes of a Job end that write records, on whatever node they are.
func (n *nodes) end(job string) {
	n.t.Helper()
	n.Expect(os.WriteFile(filepath.Join(n.records, job+".told"), nil, 0o600)).To(Succeed())
	n.Expect(os.Chmod(filepath.Join(n.records, job+".told"), 0o644)).To(Succeed())
}

// processes of a Job, in the order in which they began.
func (n *nodes) processes(job string) []record {
	n.t.Helper()
	all, err := os.ReadFile(filepath.Join(n.records, "all"))
	n.Expect(err).NotTo(HaveOccurred())
	var records []record
	for line := range strings.Lines(string(all)) {
		words := strings.Fields(line)
		n.Expect(words).To(HaveLen(5), line)
		if words[1] != job {
			continue
		}
		at, err := strconv.ParseFloat(words[4], 64)
		n.Expect(err).NotTo(HaveOccurred())
		i := slices.IndexFunc(records, func(r record) bool { return r.id == words[0] })
		if i < 0 {
			i = len(records)
			records = append(records, record{id: words[0], job: job, pod: words[2], began: at})
		}
		records[i].seen, records[i].Ended = at, words[3] == "ends"
	}
	return records
}

// ranOnce fails unless there was one process of the Job, which ended by itself.
func (n *nodes) ranOnce(jobs ...string) {
	n.t.Helper()
	for _, job := range jobs {
		n.Expect(n.processes(job)).To(ConsistOf(HaveField("Ended", true)), job)
	}
}

// running waits until these Jobs run, and expects that they do so on this node.
func (n *nodes) running(node string, jobs ...string) {
	n.t.Helper()
	for _, job := range jobs {
		n.awaitJob(job, inState(v1alpha1.JobRunning, ""))
		n.Expect(n.nodeOf(job)).To(Equal(node), job)
	}
}

func (n *nodes) nodeOf(job string) string {
	n.t.Helper()
	return n.pod(n.get(job).Status.Worker).Spec.NodeName
}

// by matches workers that are not being removed: as many on each node.
func by(perNode map[string]int) types.GomegaMatcher {
	return WithTransform(func(pods []corev1.Pod) map[string]int {
		counts := map[string]int{}
		for _, pod := range pods {
			if pod.DeletionTimestamp == nil {
				counts[pod.Spec.NodeName]++
			}
		}
		return counts
	}, Equal(perNode))
}

// took logs how long something took, for the documentation.
func (n *nodes) took(what string, since time.Time) {
	n.t.Helper()
	n.t.Logf("MEASURED %s: %.1f s", what, time.Since(since).Seconds())
}

func TestNodesPowerLoss(t *testing.T) {
	n := onNodes(t)
	n.create(n.poolOn(node2).Replicas(2).Slots(2).Obj())
	n.awaitPool(ready("2/2"))
	// They take all slots, so that none is left for what comes in before the loss is known.
	n.create(n.recorded("one").Obj(), n.recorded("two").Obj(), n.recorded("three").Obj(), n.recorded("once").AtMostOnce().Obj())
	n.running(node2, "one", "two", "three", "once")
	dark := n.cluster("node2", "off")
	n.create(n.recorded("fresh").Obj())
	n.end("fresh")

	n.Eventually(n.pods, lostAfter+patience).Should(by(map[string]int{node1: 2}))
	n.took("power loss until the workers are given up", dark)
	n.awaitJob("fresh", inState(v1alpha1.JobSucceeded, ""))
	n.took("power loss until other Jobs run", dark)
	for _, job := range []string{"one", "two", "three", "once"} {
		n.Expect(n.get(job)).To(And(inState(v1alpha1.JobRunning, ""), startedTimes(1, 0)), "it is not known that it has ended")
	}

	tainted := time.Now()
	n.kubectl("taint", "node", node2, outOfService+"=nodeshutdown:NoExecute")
	again := And(inState(v1alpha1.JobRunning, ""), startedTimes(2, 0))
	for _, job := range []string{"one", "two", "three"} {
		n.awaitJob(job, again)
	}
	n.took("the taint until the Jobs run again", tainted)
	n.running(node1, "one", "two", "three")
	n.Expect(n.awaitJob("once", finished())).To(inState(v1alpha1.JobFailed, v1alpha1.ReasonInterrupted))
	for _, job := range []string{"one", "two", "three"} {
		n.end(job)
		n.Expect(n.awaitJob(job, finished())).To(And(inState(v1alpha1.JobSucceeded, ""), startedTimes(2, 0)))
		n.Expect(n.processes(job)).To(HaveExactElements(HaveField("Ended", false), HaveField("Ended", true)))
		n.Expect(n.overlap(job)).To(BeZero())
	}
	n.Expect(n.processes("once")).To(HaveLen(1))
}

// overlap is for how many seconds a Job's first process lived beside the next.
func (n *nodes) overlap(job string) float64 {
	n.t.Helper()
	p := n.processes(job)
	n.Expect(len(p)).To(Equal(2), job)
	return max(0, p[0].seen-p[1].began)
}

func TestNodesReboot(t *testing.T) {
	n := onNodes(t)
	n.create(n.poolOn(node2).Slots(2).Obj())
	n.awaitPool(ready("1/1"))
	n.create(n.recorded("again").Obj(), n.recorded("once").AtMostOnce().Obj())
	n.running(node2, "again", "once")
	worker := n.pod("demo-0")
	dark := n.cluster("node2", "off")
	n.cluster("node2", "on")

	n.awaitJob("again", And(inState(v1alpha1.JobRunning, ""), startedTimes(2, 0)))
	n.took("a reboot until the Jobs run again", dark)
	n.Expect(n.pod("demo-0").UID).To(Equal(worker.UID), "the worker is started again")
	n.end("again")
	n.Expect(n.awaitJob("again", finished())).To(inState(v1alpha1.JobSucceeded, ""))
	n.Expect(n.overlap("again")).To(BeZero())
	n.Expect(n.awaitJob("once", finished())).To(inState(v1alpha1.JobFailed, v1alpha1.ReasonInterrupted))
	n.Expect(n.processes("once")).To(HaveLen(1))
}

func TestNodesCutOffForAWhile(t *testing.T) {
	n := onNodes(t)
	n.create(n.poolOn(node2).Slots(4).Obj())
	n.awaitPool(ready("1/1"))
	jobs := []string{"during", "after", "once"}
	n.create(n.recorded("during").Obj(), n.recorded("after").Obj(), n.recorded("once").AtMostOnce().Obj())
	n.running(node2, jobs...)
	n.cluster("node2", "cut")
	n.end("during")
	n.end("once")
	n.Consistently(func() []*v1alpha1.Job { return []*v1alpha1.Job{n.get("during"), n.get("once")} }, 20*time.Second, time.Second).Should(
		HaveEach(inState(v1alpha1.JobRunning, "")))
	n.ranOnce("during", "once")

	joined := n.cluster("node2", "join")
	n.awaitJob("during", inState(v1alpha1.JobSucceeded, ""))
	n.awaitJob("once", inState(v1alpha1.JobSucceeded, ""))
	n.took("the end of a cut until the results are stored", joined)
	n.end("after")
	n.awaitJob("after", inState(v1alpha1.JobSucceeded, ""))
	n.ranOnce(jobs...)
	for _, job := range jobs {
		n.Expect(n.get(job)).To(startedTimes(1, 0))
	}
}

// TestNodesCutOffForLong has the one overlap that is documented: the pod is removed by force, and nobody can know
// whether its process still lives.
func TestNodesCutOffForLong(t *testing.T) {
	n := onNodes(t)
	n.create(n.poolOn(node2).Slots(2).Obj())
	n.awaitPool(ready("1/1"))
	n.create(n.recorded("patient").Obj(), n.recorded("forced").Obj())
	n.running(node2, "patient", "forced")
	old := n.pod("demo-0")
	cut := n.cluster("node2", "cut")

	n.Eventually(n.pods, lostAfter+patience).Should(by(map[string]int{node1: 1}))
	n.took("a cut until the worker is given up", cut)
	n.awaitPool(ready("1/1"))
	for _, job := range []string{"patient", "forced"} {
		n.Expect(n.get(job)).To(And(inState(v1alpha1.JobRunning, ""), startedTimes(1, 0)), "it may still run")
		n.Expect(n.processes(job)).To(HaveLen(1))
	}
	n.kubectl("delete", "pod", old.Name, "--force", "--grace-period=0")
	forced := time.Now()
	again := And(inState(v1alpha1.JobRunning, ""), startedTimes(2, 0))
	n.awaitJob("forced", again)
	n.awaitJob("patient", again)
	n.took("the removal by force until the Jobs run again", forced)
	joined := n.cluster("node2", "join")
	n.Eventually(func() bool { return n.stillLives("forced", 0) || n.stillLives("patient", 0) }, patience, time.Second).Should(BeFalse())
	n.took("the end of a cut until the kubelet ends what was removed by force", joined)
	n.end("forced")
	n.end("patient")
	for _, job := range []string{"forced", "patient"} {
		n.Expect(n.awaitJob(job, finished())).To(And(inState(v1alpha1.JobSucceeded, ""), startedTimes(2, 0)))
		n.Expect(n.processes(job)).To(HaveExactElements(HaveField("Ended", false), HaveField("Ended", true)))
		n.t.Logf("MEASURED overlap of two processes of %s: %.1f s", job, n.overlap(job))
	}
}

// stillLives tells whether the process with this number writes.
func (n *nodes) stillLives(job string, number int) bool {
	n.t.Helper()
	uptime, err := os.ReadFile("/proc/uptime")
	n.Expect(err).NotTo(HaveOccurred())
	now, err := strconv.ParseFloat(strings.Fields(string(uptime))[0], 64)
	n.Expect(err).NotTo(HaveOccurred())
	return now-n.processes(job)[number].seen < 1
}

func TestNodesDrain(t *testing.T) {
	n := onNodes(t)
	n.create(n.pool().Replicas(4).Template(spread(corev1.LabelHostname)).Obj())
	n.awaitPool(ready("4/4"))
	n.Expect(n.pods()).To(by(map[string]int{node1: 2, node2: 2}))
	jobs := []string{"a", "b", "c", "d"}
	for _, job := range jobs {
		n.create(n.recorded(job).Obj())
	}
	for _, job := range jobs {
		n.awaitJob(job, inState(v1alpha1.JobRunning, ""))
	}
	drained := make(chan error, 1)
	began := time.Now()
	var out string
	go func() {
		var err error
		out, err = n.output("drain", node2, "--ignore-daemonsets", "--delete-emptydir-data", "--pod-selector="+v1alpha1.LabelPool+"=demo",
			"--timeout="+patience.String())
		drained <- err
	}()
	n.Eventually(n.pods, patience).Should(by(map[string]int{node1: 4}))
	n.awaitPool(ready("4/4"))
	n.took("the begin of a drain until all workers are on the other node", began)
	n.Expect(drained).NotTo(Receive(), "Jobs still run")
	for _, job := range jobs {
		n.end(job)
		n.Expect(n.awaitJob(job, finished())).To(And(inState(v1alpha1.JobSucceeded, ""), startedTimes(1, 0)))
	}
	var err error
	n.Eventually(drained, patience).Should(Receive(&err))
	n.Expect(err).NotTo(HaveOccurred(), out)
	n.ranOnce(jobs...)
}

// TestNodesZones loses a zone.
func TestNodesZones(t *testing.T) {
	n := onNodes(t)
	n.create(n.pool().Replicas(4).Template(spread(corev1.LabelTopologyZone)).Obj())
	n.awaitPool(ready("4/4"))
	n.Expect(n.pods()).To(by(map[string]int{node1: 2, node2: 2}))
	n.create(n.recorded("indexed").Completions(4).Obj())
	n.Eventually(func() int64 { return ptr.Deref(n.getPool().Status.ActiveJobs, 0) }, patience).Should(BeEquivalentTo(1))
	dark := n.cluster("node2", "off")
	n.Eventually(n.pods, lostAfter+patience).Should(by(map[string]int{node1: 4}))
	n.awaitPool(ready("4/4"))
	n.took("the loss of a zone until all workers are in the other", dark)
	n.cluster("node2", "on")
	n.end("indexed")
	n.Expect(n.awaitJob("indexed", finished())).To(And(inState(v1alpha1.JobSucceeded, ""), HaveField("Status.SucceededIndexes", "0-3")))
	n.took("the loss of a zone until its Jobs have ended, as its node is back", dark)
}

// TestNodesLeaderLosesPower has the leading operator be on the node.
func TestNodesLeaderLosesPower(t *testing.T) {
	n := onNodes(t)
	n.leaderOn(node2)
	n.create(n.poolOn(node1).Slots(2).Obj())
	n.awaitPool(ready("1/1"))
	n.create(n.recorded("running").Obj())
	n.running(node1, "running")
	dark := n.cluster("node2", "off")
	n.end("running")
	n.create(n.recorded("fresh").Obj())
	n.end("fresh")
	n.awaitJob("running", inState(v1alpha1.JobSucceeded, ""))
	n.awaitJob("fresh", inState(v1alpha1.JobSucceeded, ""))
	n.took("power loss of the leader's node until Jobs run", dark)
	n.ranOnce("running", "fresh")
	n.Expect(n.get("running")).To(startedTimes(1, 0))
}

// leaderOn has the operator's replicas be on both nodes, and the one lead that is on this node.
func (n *nodes) leaderOn(node string) {
	n.t.Helper()
	n.Eventually(func() string {
		pods := &corev1.PodList{}
		n.Expect(cluster.List(n.ctx, pods, client.InNamespace(operatorNamespace))).To(Succeed())
		lease := &coordinationv1.Lease{}
		n.Expect(cluster.Get(n.ctx, client.ObjectKey{Namespace: operatorNamespace, Name: "workerpool-controller-manager"}, lease)).To(Succeed())
		leader, _, _ := strings.Cut(ptr.Deref(lease.Spec.HolderIdentity, ""), "_")
		on := map[string]*corev1.Pod{}
		for i, pod := range pods.Items {
			isReady := slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
				return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
			})
			if !isReady || pod.DeletionTimestamp != nil {
				return "not all replicas are ready"
			}
			// The leader is the one of two on a node that stays.
			if other := on[pod.Spec.NodeName]; other == nil || other.Name != leader {
				on[pod.Spec.NodeName] = &pods.Items[i]
			}
		}
		switch {
		case len(pods.Items) != 2:
			return "not all replicas are there"
		case len(on) == 1:
			i := slices.IndexFunc(pods.Items, func(pod corev1.Pod) bool { return pod.Name != leader })
			n.Expect(cluster.Delete(n.ctx, &pods.Items[i])).To(Succeed())
			return "both replicas are on one node"
		case on[node].Name != leader:
			for other, pod := range on {
				if other != node {
					n.Expect(cluster.Delete(n.ctx, pod)).To(Succeed())
				}
			}
			return "the other replica leads"
		}
		return ""
	}, 2*patience, time.Second).Should(BeEmpty())
}
