package e2e

import (
	"encoding/json"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

// answer is a program of the server that answers with the status that the query names, 503 only to the
// first try of a Job.
const answer = `#!/bin/sh
code=$QUERY_STRING
if [ "$code" = 503 ] && [ "$HTTP_WORKERPOOL_ATTEMPT" != 1 ]; then code=200; fi
sleep "${HTTP_X_SLEEP:-0}"
printf 'Status: %s Said\r\nContent-Type: text/plain\r\n\r\n' "$code"
echo "answer $code to $HTTP_WORKERPOOL_JOB, try $HTTP_WORKERPOOL_ATTEMPT, index $HTTP_WORKERPOOL_INDEX"
cat
`

// server makes a pool called demo whose workers serve HTTP, and what they need.
func (f *fixture) server() (*corev1.ConfigMap, *v1alpha1.WorkerPool) {
	scripts := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: "scripts"},
		Data:       map[string]string{"answer": answer},
	}
	pool := f.pool().Slots(4).Template(func(t *corev1.PodTemplateSpec) {
		c := &t.Spec.Containers[0]
		// The first process of a container ignores SIGTERM, unless it says otherwise as most servers do.
		c.Command = []string{"sh", "-c", `trap 'kill $!; exit' TERM; httpd -f -p 8080 -h /www & wait`}
		c.VolumeMounts = []corev1.VolumeMount{{Name: "scripts", MountPath: "/www/cgi-bin"}}
		t.Spec.Volumes = []corev1.Volume{{Name: "scripts", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: "scripts"}, DefaultMode: new(int32(0o555)),
		}}}}
	}).Obj()
	pool.Spec.Handler = v1alpha1.HandlerSpec{Type: v1alpha1.HandlerHTTP, Port: new(int32(8080))}
	return scripts, pool
}

// request makes a builder of a Job of the pool demo that is answered with a status.
func (f *fixture) request(name, status string) *testutil.JobBuilder {
	return testutil.MakeJob(f.namespace, name, "demo").
		HTTP(v1alpha1.HTTPRequest{Method: "POST", Path: "/cgi-bin/answer?" + status, Body: "the body\n"})
}

func TestAJobIsARequestToAWarmServer(t *testing.T) {
	f := setup(t)
	scripts, pool := f.server()
	f.create(scripts, pool)
	f.awaitPool(ready("1/1"))
	f.create(
		f.request("fine", "200").Obj(),
		f.request("missing", "404").MaxRetries(3).Obj(),
		f.request("down", "503").MaxRetries(3).Backoff(0, 1, 1).Obj(),
		f.job("command", "true").Obj(),
	)

	job := f.awaitJob("fine", inState(v1alpha1.JobSucceeded, ""))
	f.Expect(job.Status.Result.Output).To(Equal("answer 200 to fine, try 1, index 0\nthe body\n"))
	f.Expect(job.Status.Result.ExitCode).To(BeNil())

	job = f.awaitJob("missing", inState(v1alpha1.JobFailed, v1alpha1.ReasonHTTPStatus))
	f.Expect(*job.Status.Attempts).To(BeEquivalentTo(1), "a status of 4xx is not retried")
	f.Expect(job.Status.Message).To(ContainSubstring("404"))
	f.Expect(job.Status.Result.Output).To(ContainSubstring("answer 404 to missing"))

	job = f.awaitJob("down", inState(v1alpha1.JobSucceeded, ""))
	f.Expect(*job.Status.Attempts).To(BeEquivalentTo(2))
	f.Expect(*job.Status.Retries).To(BeEquivalentTo(1))
	f.Expect(job.Status.Result.Output).To(ContainSubstring("answer 200 to down, try 2"))

	f.awaitJob("command", inState(v1alpha1.JobPending, v1alpha1.ReasonWrongHandler))
	f.Expect(f.loggedOf("fine")).To(Equal([]string{"answer 200 to fine, try 1, index 0", "the body"}))
}

// loggedOf returns the lines of a Job's answer in the log of the agent beside the server.
func (f *fixture) loggedOf(job string) []string {
	f.t.Helper()
	var lines []string
	for text := range strings.Lines(f.kubectl("logs", f.get(job).Status.Worker, "-c", "workerpool-agent")) {
		var line struct{ Job, Stream, Line string }
		if json.Unmarshal([]byte(text), &line) == nil && line.Job == job && line.Stream == "response" {
			lines = append(lines, line.Line)
		}
	}
	return lines
}

func TestAServerIsNotEndedBeforeItsRequestsAreAnswered(t *testing.T) {
	f := setup(t)
	scripts, pool := f.server()
	f.create(scripts, pool)
	f.awaitPool(ready("1/1"))
	slow := f.request("slow", "200").Spec(func(s *v1alpha1.JobSpec) {
		s.HTTP.Headers = []v1alpha1.HTTPHeader{{Name: "X-Sleep", Value: new("5")}}
	}).Obj()
	f.create(slow)
	job := f.awaitJob("slow", inState(v1alpha1.JobRunning, ""))
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: job.Status.Worker}}
	f.Expect(cluster.Get(f.ctx, client.ObjectKeyFromObject(pod), pod)).To(Succeed())
	first := pod.UID
	f.Expect(cluster.Delete(f.ctx, pod)).To(Succeed())

	job = f.awaitJob("slow", inState(v1alpha1.JobSucceeded, ""))
	f.Expect(*job.Status.Attempts).To(BeEquivalentTo(1))
	f.Expect(job.Status.Result.Output).To(ContainSubstring("try 1"))
	f.Eventually(func() []corev1.Pod { return f.pods() }, patience).Should(ConsistOf(And(
		HaveField("UID", Not(Equal(first))), HaveField("Status.Phase", corev1.PodRunning),
	)), "its pod ends, and another takes its place")
}

func TestAWorkerIsNotReadyWhileItsServerDoesNotAnswer(t *testing.T) {
	f := setup(t)
	scripts, pool := f.server()
	pool.Spec.Handler.Port = new(int32(8081)) // nobody listens there
	f.create(scripts, pool)
	f.Eventually(f.pods, patience).Should(ConsistOf(HaveField("Status.ContainerStatuses", ContainElement(HaveField("State.Running", Not(BeNil()))))))
	f.create(f.request("waits", "200").Obj())
	job := f.awaitJob("waits", inState(v1alpha1.JobQueued, v1alpha1.ReasonNotReady))
	f.Expect(job.Status.Message).To(ContainSubstring("connection refused"))
	f.Expect(f.getPool()).To(ready("0/1"))
}
