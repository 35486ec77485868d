package e2e

import (
	"fmt"
	"strings"

	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// onNode is a shell on a node, which sees the processes of all its pods: no agent can be stopped from within its
// own container.
type onNode struct {
	*fixture

	// pods is the namespace of those whose agents are meant.
	pods string
}

// node starts a shell on the node of a worker.
func (f *fixture) node(worker string) onNode {
	f.t.Helper()
	shell := newFixture(f.t, "privileged")
	shell.create(&corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: shell.namespace, Name: "shell"},
		Spec: corev1.PodSpec{
			NodeName: f.pod(worker).Spec.NodeName, HostPID: true, TerminationGracePeriodSeconds: new(int64(0)),
			Containers: []corev1.Container{{
				Name: "shell", Image: workerImage, ImagePullPolicy: corev1.PullIfNotPresent, Command: []string{"sleep", "86400"},
				// That of the workers: it may signal their processes, and nobody else's.
				SecurityContext: &corev1.SecurityContext{RunAsUser: new(int64(65532))},
			}},
		},
	})
	shell.kubectl("wait", "--for=condition=Ready", "pod/shell", "--timeout="+patience.String())
	return onNode{shell, f.namespace}
}

// signal sends a signal to the agents of the test's workers, and returns how many there were.
func (n onNode) signal(name string) int {
	n.t.Helper()
	const script = `for p in $(pidof agent); do
		if tr '\0' '\n' </proc/$p/cmdline | grep -qx -- --namespace=%s
		then kill -%s $p && echo hit; fi
	done 2>/dev/null; true`
	out, err := n.output("exec", "shell", "--", "sh", "-c", fmt.Sprintf(script, n.pods, name))
	n.Expect(err).NotTo(HaveOccurred(), out)
	return strings.Count(out, "hit\n")
}
