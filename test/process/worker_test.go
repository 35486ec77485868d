package process

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/podspec"
)

// worker is a pod whose agent is a process of the test.
type worker struct {
	*program

	w   *world
	pod *corev1.Pod
	// folder is the volume that the agent has, tokenFile what it reads its token from.
	folder, tokenFile string
}

func objectMeta(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name}
}

// startWorkers runs an agent of this version in each of the pool's pods that has none, once there are so many pods.
func (w *world) startWorkers(pods int, of programs) {
	w.t.Helper()
	list := &corev1.PodList{}
	w.await(fmt.Sprint(pods, " pods"), func() bool {
		err := w.client.List(w.t.Context(), list, client.InNamespace(w.namespace))
		return err == nil && len(list.Items) == pods
	})
	for i := range list.Items {
		if pod := &list.Items[i]; pod.Spec.NodeName == "" {
			w.workers = append(w.workers, w.startWorker(pod, of))
		}
	}
}

// startWorker does what the scheduler and the kubelet do.
func (w *world) startWorker(pod *corev1.Pod, of programs) *worker {
	w.t.Helper()
	binding := &corev1.Binding{Target: corev1.ObjectReference{Kind: "Node", Name: "node"}}
	if err := w.client.SubResource("binding").Create(w.t.Context(), pod, binding); err != nil {
		w.t.Fatalf("bind %s: %v", pod.Name, err)
	}
	k := &worker{w: w, pod: pod, folder: w.t.TempDir(), tokenFile: filepath.Join(w.t.TempDir(), "token")}
	k.putToken(k.freshToken())
	k.program = start(w.t, pod.Name, k.command(of))
	k.report(corev1.ContainerStatus{Name: "worker", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}}})
	return k
}

// command is what the kubelet starts, with what differs where there is no container.
func (k *worker) command(of programs) *exec.Cmd {
	var addresses []string
	for _, o := range k.w.operators {
		addresses = append(addresses, o.address)
	}
	container := podspec.JobContainer(k.pod)
	args := append([]string{"run"}, container.Args...)
	own := map[string]string{"PATH": os.Getenv("PATH"), "LEDGER": k.w.ledger, "GATE": k.w.gate}
	if len(container.Args) > 0 {
		args = append(args,
			"--addresses="+strings.Join(addresses, ","), "--token-file="+k.tokenFile,
			"--spool-dir="+filepath.Join(k.folder, "spool"), "--ready-file="+filepath.Join(k.folder, "ready"),
		)
	} else { // an operator before the flags has made it
		own["WORKERPOOL_ADDRESSES"], own["WORKERPOOL_HEALTH_ADDRESS"] = strings.Join(addresses, ","), "127.0.0.1:0"
		own["WORKERPOOL_TOKEN_FILE"], own["WORKERPOOL_SPOOL_DIR"] = k.tokenFile, filepath.Join(k.folder, "spool")
	}
	cmd := exec.Command(of.agent, args...)
	if k.w.diskKiB > 0 {
		// The agent's own, which nobody else sees and which goes with it.
		mount := fmt.Sprintf(`mount -t tmpfs -o size=%dk,mode=0700 workerpool "$0" && exec "$@"`, k.w.diskKiB)
		cmd = exec.Command("unshare", append([]string{"--mount", "sh", "-c", mount, k.folder, of.agent}, args...)...)
	}
	for _, v := range container.Env {
		if _, ours := own[v.Name]; !ours {
			cmd.Env = append(cmd.Env, v.Name+"="+v.Value)
		}
	}
	for name, value := range own {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd
}

// report is the kubelet's word that the pod runs and is ready.
func (k *worker) report(container corev1.ContainerStatus) {
	k.w.t.Helper()
	status, err := json.Marshal(map[string]any{"status": corev1.PodStatus{
		Phase:             corev1.PodRunning,
		Conditions:        []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
		ContainerStatuses: []corev1.ContainerStatus{container},
	}})
	if err != nil {
		k.w.t.Fatal(err)
	}
	if err := k.w.client.Status().Patch(k.w.t.Context(), k.pod.DeepCopy(), client.RawPatch(types.StrategicMergePatchType, status)); err != nil {
		k.w.t.Fatalf("report %s as running: %v", k.pod.Name, err)
	}
}

// freshToken is one that the API server has made for the pod.
func (k *worker) freshToken() string {
	k.w.t.Helper()
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		Audiences:      []string{podspec.Audience},
		BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: k.pod.Name, UID: k.pod.UID},
	}}
	account := &corev1.ServiceAccount{ObjectMeta: objectMeta(k.pod.Namespace, k.pod.Spec.ServiceAccountName)}
	if err := k.w.client.SubResource("token").Create(k.w.t.Context(), account, request); err != nil {
		k.w.t.Fatalf("make a token: %v", err)
	}
	return request.Status.Token
}

// putToken replaces the agent's token, as the kubelet does: the file is whole at any time.
func (k *worker) putToken(token string) {
	k.w.t.Helper()
	if err := os.WriteFile(k.tokenFile+".new", []byte(token), 0o600); err != nil {
		k.w.t.Fatal(err)
	}
	if err := os.Rename(k.tokenFile+".new", k.tokenFile); err != nil {
		k.w.t.Fatal(err)
	}
}

// ready waits until the pool says that so many workers can take Jobs.
func (w *world) ready(workers int) {
	w.t.Helper()
	want := fmt.Sprintf("%d/%d", workers, workers)
	w.await(want+" ready", func() bool {
		pool := &v1alpha1.WorkerPool{}
		return w.get(w.namespace, poolName, pool) == nil && pool.Status.Ready == want
	})
}
