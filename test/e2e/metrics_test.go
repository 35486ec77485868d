package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"testing"

	. "github.com/onsi/gomega"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

func TestMetricsAreForThoseWhoMayReadThem(t *testing.T) {
	f := setup(t)
	out, _ := f.output("get", "--raw", "/api/v1/namespaces/workerpool-system/services/https:workerpool-metrics:8443/proxy/metrics")
	f.Expect(out).To(ContainSubstring("must be logged in"))
}

func TestTheMetricsOfAPoolTellWhatItsJobsDidAndGoWithIt(t *testing.T) {
	f := setup(t)
	f.create(f.pool().Obj())
	f.awaitPool(ready("1/1"))
	f.create(f.job("good", "true").Obj(), f.job("bad", "false").Obj())
	f.awaitJob("good", inState(v1alpha1.JobSucceeded, ""))
	f.awaitJob("bad", inState(v1alpha1.JobFailed, v1alpha1.ReasonExitCode))

	scrape := f.scraper(f.metricsToken())
	pool := fmt.Sprintf(`namespace="%s",pool="demo"`, f.namespace)
	f.Eventually(scrape, patience).Should(And(
		ContainSubstring(`workerpool_jobs_total{%s,result="succeeded"} 1`+"\n", pool),
		ContainSubstring(`workerpool_jobs_total{%s,result="failed"} 1`+"\n", pool),
		ContainSubstring(`workerpool_tasks_total{%s,result="succeeded"} 1`+"\n", pool),
		ContainSubstring(`workerpool_task_run_seconds_count{%s} 2`+"\n", pool),
		ContainSubstring(`workerpool_workers{%s,state="idle"} 1`+"\n", pool),
	))
	f.Expect(cluster.Delete(f.ctx, f.getPool())).To(Succeed())
	f.Eventually(scrape, patience).ShouldNot(ContainSubstring(pool))
}

// metricsToken is that of a service account that may read the metrics, until the test ends.
func (f *fixture) metricsToken() string {
	f.t.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: "metrics-reader"}}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: f.namespace + "-metrics"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "workerpool-metrics-reader"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: f.namespace, Name: account.Name}},
	}
	f.create(account, binding)
	f.t.Cleanup(func() {
		if err := cluster.Delete(context.Background(), binding); err != nil {
			f.t.Errorf("deleting the binding: %v", err)
		}
	})
	request := &authenticationv1.TokenRequest{}
	f.Expect(cluster.SubResource("token").Create(f.ctx, account, request)).To(Succeed())
	return request.Status.Token
}

var forwarding = regexp.MustCompile(`127\.0\.0\.1:\d+`)

// scraper returns a function that reads the leader's metrics, through a port that is forwarded until the
// test ends.
func (f *fixture) scraper(token string) func(Gomega) string {
	f.t.Helper()
	forward := exec.CommandContext(f.ctx, "kubectl", "-n", operatorNamespace, "port-forward", "pod/"+leader(f), ":8443")
	out, err := forward.StdoutPipe()
	f.Expect(err).NotTo(HaveOccurred())
	f.Expect(forward.Start()).To(Succeed())
	f.t.Cleanup(func() { _ = forward.Wait() }) // it has been ended with the test's context
	line, err := bufio.NewReader(out).ReadString('\n')
	f.Expect(err).NotTo(HaveOccurred())
	address := forwarding.FindString(line)
	f.Expect(address).NotTo(BeEmpty(), line)

	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} // it is self-signed
	f.t.Cleanup(transport.CloseIdleConnections)
	return func(g Gomega) string {
		req, err := http.NewRequestWithContext(f.ctx, http.MethodGet, "https://"+address+"/metrics", http.NoBody)
		g.Expect(err).NotTo(HaveOccurred())
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := transport.RoundTrip(req)
		g.Expect(err).NotTo(HaveOccurred())
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(resp.StatusCode).To(Equal(http.StatusOK), string(body))
		return string(body)
	}
}
