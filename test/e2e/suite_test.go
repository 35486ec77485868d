// Package e2e tests the installed operator on a real cluster, as its users meet it. KUBECONFIG says
// which cluster; `make test-e2e` sets it.
package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	. "github.com/onsi/gomega"
	"github.com/onsi/gomega/types"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	apitypes "k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

const (
	operatorNamespace = "workerpool-system"
	workerImage       = "localhost/workerpool/busybox:1"
	// patience is how long anything may take on a busy machine. Nothing waits for it to pass.
	patience = 90 * time.Second
)

var cluster client.WithWatch

func TestMain(m *testing.M) {
	if os.Getenv("KUBECONFIG") == "" {
		fmt.Fprintln(os.Stderr, `KUBECONFIG is not set: run "make test-e2e", or eval "$(make -s cluster-env)" first`)
		os.Exit(1)
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			panic(err)
		}
	}
	config := ctrl.GetConfigOrDie()
	config.QPS, config.Burst = 500, 1000
	c, err := client.NewWithWatch(config, client.Options{Scheme: scheme})
	if err != nil {
		panic(err)
	}
	cluster = c
	os.Exit(m.Run())
}

// fixture is a namespace of one test.
type fixture struct {
	*WithT
	t         *testing.T
	ctx       context.Context //nolint:containedctx // that of the test, for all that it asks the cluster
	namespace string
}

// setup makes the fixture of a test that runs beside others.
func setup(t *testing.T) *fixture {
	t.Helper()
	t.Parallel()
	return setupAlone(t)
}

// setupAlone makes the fixture of a test that the others could not stand.
func setupAlone(t *testing.T) *fixture {
	t.Helper()
	return newFixture(t, "restricted")
}

// newFixture makes a namespace of the test, under this Pod Security Standard. A test may have several.
func newFixture(t *testing.T, standard string) *fixture {
	t.Helper()
	f := &fixture{WithT: NewWithT(t), t: t, ctx: t.Context()}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		GenerateName: "e2e-",
		Labels:       map[string]string{"pod-security.kubernetes.io/enforce": standard},
	}}
	f.Expect(cluster.Create(f.ctx, namespace)).To(Succeed())
	f.namespace = namespace.Name
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(f.kubectl("get", "wp,wj,pods", "-o", "wide"))
			t.Log(f.kubectl("get", "wp,wj", "-o", "yaml"))
		}
		if err := cluster.Delete(context.Background(), namespace); client.IgnoreNotFound(err) != nil {
			t.Errorf("deleting the namespace: %v", err)
		}
	})
	return f
}

// pool makes a builder of a pool called demo, with small workers that the restricted standard admits.
func (f *fixture) pool() *testutil.PoolBuilder {
	return testutil.MakePool(f.namespace, "demo").Image(workerImage).Template(func(t *corev1.PodTemplateSpec) {
		t.Spec.SecurityContext = &corev1.PodSecurityContext{
			RunAsNonRoot: new(true), RunAsUser: new(int64(65532)),
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		}
		t.Spec.Containers[0].ImagePullPolicy = corev1.PullIfNotPresent
		t.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{
			AllowPrivilegeEscalation: new(false),
			Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		}
	})
}

// job makes a builder of a Job of the pool demo that runs a shell script.
func (f *fixture) job(name, script string) *testutil.JobBuilder {
	return testutil.MakeJob(f.namespace, name, "demo").Command("sh", "-c", script)
}

func (f *fixture) create(objects ...client.Object) {
	f.t.Helper()
	for _, o := range objects {
		f.Expect(cluster.Create(f.ctx, o)).To(Succeed())
	}
}

func (f *fixture) get(name string) *v1alpha1.Job {
	f.t.Helper()
	job := &v1alpha1.Job{}
	f.Expect(cluster.Get(f.ctx, client.ObjectKey{Namespace: f.namespace, Name: name}, job)).To(Succeed())
	return job
}

func (f *fixture) getPool() *v1alpha1.WorkerPool {
	f.t.Helper()
	pool := &v1alpha1.WorkerPool{}
	f.Expect(cluster.Get(f.ctx, client.ObjectKey{Namespace: f.namespace, Name: "demo"}, pool)).To(Succeed())
	return pool
}

func (f *fixture) pods() []corev1.Pod {
	f.t.Helper()
	list := &corev1.PodList{}
	f.Expect(cluster.List(f.ctx, list, client.InNamespace(f.namespace), client.MatchingLabels{v1alpha1.LabelPool: "demo"})).To(Succeed())
	return list.Items
}

// awaitJob waits until a Job is as the matcher says, and returns it.
func (f *fixture) awaitJob(name string, matcher types.GomegaMatcher) *v1alpha1.Job {
	f.t.Helper()
	var job *v1alpha1.Job
	f.Eventually(func() *v1alpha1.Job { job = f.get(name); return job }, patience, 50*time.Millisecond).Should(matcher)
	return job
}

// awaitPool waits until the pool is as the matcher says, and returns it.
func (f *fixture) awaitPool(matcher types.GomegaMatcher) *v1alpha1.WorkerPool {
	f.t.Helper()
	var pool *v1alpha1.WorkerPool
	f.Eventually(func() *v1alpha1.WorkerPool { pool = f.getPool(); return pool }, patience, 50*time.Millisecond).Should(matcher)
	return pool
}

// run runs a shell script as a Job of the pool demo, which must succeed, and returns its output.
func (f *fixture) run(name, script string) string {
	f.t.Helper()
	f.create(f.job(name, script).Obj())
	job := f.awaitJob(name, finished())
	f.Expect(job).To(inState(v1alpha1.JobSucceeded, ""), "%+v", job.Status)
	return output(job)
}

// block takes the pool's only slot, until the function that it returns is called.
func (f *fixture) block() (release func()) {
	f.t.Helper()
	f.create(f.job("blocker", "sleep 3600").Grace(0).Obj())
	f.awaitJob("blocker", inState(v1alpha1.JobRunning, ""))
	return func() { f.t.Helper(); f.delete("blocker") }
}

// untilTold is the beginning of a script that waits until its worker is told to go on.
const untilTold = "until test -e /tmp/told; do sleep 0.1; done; "

// tell has the scripts of a worker go on that wait for it.
func (f *fixture) tell(worker string) {
	f.t.Helper()
	f.kubectl("exec", worker, "-c", "worker", "--", "touch", "/tmp/told")
}

// patch merges the JSON into an object.
func (f *fixture) patch(o client.Object, json string) {
	f.t.Helper()
	f.Expect(cluster.Patch(f.ctx, o, client.RawPatch(apitypes.MergePatchType, []byte(json)))).To(Succeed())
}

// delete deletes a Job.
func (f *fixture) delete(name string) {
	f.t.Helper()
	f.Expect(cluster.Delete(f.ctx, f.get(name))).To(Succeed())
}

// gone tells whether there is no such Job.
func (f *fixture) gone(name string) func() bool {
	return func() bool {
		err := cluster.Get(f.ctx, client.ObjectKey{Namespace: f.namespace, Name: name}, &v1alpha1.Job{})
		return apierrors.IsNotFound(err)
	}
}

// expectNoProcess fails if the pool's worker has a process with this text in its command line. The pool
// must have one worker.
func (f *fixture) expectNoProcess(text string) {
	f.t.Helper()
	f.run("look-for-"+text, "ps | grep -v grep | grep "+text+"; test $? = 1")
}

// small asks for so much memory for the job container, of which the agent has 32 MiB.
func small(memory string) func(*corev1.PodTemplateSpec) {
	return func(t *corev1.PodTemplateSpec) {
		t.Spec.Containers[0].Resources.Requests = corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("20m"), corev1.ResourceMemory: resource.MustParse(memory),
		}
	}
}

// output is the end of what a Job has written.
func output(job *v1alpha1.Job) string {
	if job.Status.Result == nil {
		return ""
	}
	return job.Status.Result.Output
}

// finished matches a Job in a final state.
func finished() types.GomegaMatcher {
	return WithTransform(func(job *v1alpha1.Job) bool { return job.Status.State.Finished() }, BeTrue())
}

// startedTimes matches a Job that was started so often, with so many retries that count.
func startedTimes(attempts, retries int32) types.GomegaMatcher {
	return And(
		WithTransform(func(job *v1alpha1.Job) int32 { return ptr.Deref(job.Status.Attempts, 0) }, Equal(attempts)),
		WithTransform(func(job *v1alpha1.Job) int32 { return ptr.Deref(job.Status.Retries, 0) }, Equal(retries)),
	)
}

// holding matches a pool with so many Jobs in its queue and so many that run.
func holding(queued, active int64) types.GomegaMatcher {
	return And(
		HaveField("Status.QueueSize", HaveValue(Equal(queued))), HaveField("Status.ActiveJobs", HaveValue(Equal(active))),
	)
}

// inState matches a Job in the state, for the reason.
func inState(state v1alpha1.JobState, reason string) types.GomegaMatcher {
	return And(
		HaveField("Status.State", state),
		HaveField("Status.Reason", reason),
	)
}

// withCondition matches a pool with a condition of this status and reason.
func withCondition(conditionType string, status metav1.ConditionStatus, reason string) types.GomegaMatcher {
	return HaveField("Status.Conditions", ContainElement(And(
		HaveField("Type", conditionType), HaveField("Status", status), HaveField("Reason", reason),
	)))
}

func ready(of string) types.GomegaMatcher { return HaveField("Status.Ready", of) }

// kubectl runs the command in the test's namespace and returns all that it prints.
func (f *fixture) kubectl(args ...string) string {
	f.t.Helper()
	out, err := f.output(args...)
	if err != nil {
		f.t.Errorf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (f *fixture) output(args ...string) (string, error) {
	out, err := exec.CommandContext(context.Background(), "kubectl", append([]string{"-n", f.namespace}, args...)...).CombinedOutput()
	return string(out), err
}
