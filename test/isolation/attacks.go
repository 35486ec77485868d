package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

// attackKinds is what must have taken place for the test to mean anything: the first from within A's workers, the
// others by A's objects.
var attackKinds = []string{
	"forged results", "forged claims", "unknown results", "large greetings", "second sessions", "made-up tokens",
	"idle connections", "idle connections to workers",
	"undecodable", "too large", "too long when filled in", "waiting and large", "no room", "labels removed", "shells",
}

// attack is tenant A, who has the role `edit` in a namespace of its own, and `view` in B's.
type attack struct {
	client.Client

	image, service string
	accomplice     string
	b              *victim

	mu    sync.Mutex
	count map[string]int64
}

func newAttack(ctx context.Context, admin client.WithWatch, config *rest.Config, image string, b *victim) (*attack, error) {
	a := &attack{image: image, b: b, count: map[string]int64{}}
	if err := makeTenant(ctx, admin, tenantA, "baseline"); err != nil {
		return nil, err
	}
	for namespace, role := range map[string]string{tenantA: "edit", tenantB: "view"} {
		binding := &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "attacker"},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
			Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: "attacker"}},
		}
		if err := admin.Create(ctx, binding); err != nil {
			return nil, err
		}
	}
	service := &corev1.Service{}
	if err := admin.Get(ctx, client.ObjectKey{Namespace: operatorNamespace, Name: "workerpool-dispatch"}, service); err != nil {
		return nil, err
	}
	a.service = net.JoinHostPort(service.Spec.ClusterIP, strconv.Itoa(int(service.Spec.Ports[0].Port)))
	config = rest.CopyConfig(config)
	config.Impersonate = rest.ImpersonationConfig{UserName: "attacker", Groups: []string{"system:authenticated"}}
	var err error
	a.Client, err = newClient(config)
	return a, err
}

func (a *attack) counts() map[string]int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.count)
}

func (a *attack) did(kind string, n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.count[kind] += n
}

// run attacks until the context ends.
func (a *attack) run(ctx context.Context) {
	stop, err := a.serve(ctx)
	if err != nil {
		say("A can't serve its attackers: %v", err)
		return
	}
	defer stop()
	if err := a.prepare(ctx); err != nil {
		say("A can't make its pools: %v", err)
		return
	}
	var attacks sync.WaitGroup
	for _, each := range []struct {
		every time.Duration
		do    func(ctx context.Context, n int) error
	}{
		{2 * time.Second, a.createUndecodable},
		{10 * time.Second, a.createTooLarge},
		{5 * time.Second, a.createTooLong},
		{time.Second, a.createWaiting},
		{200 * time.Millisecond, a.createWithoutRoom},
		{20 * time.Second, a.removeLabels},
		{3 * time.Second, a.runShells},
	} {
		attacks.Go(func() {
			for n := 0; pause(ctx, each.every); n++ {
				call, cancel := context.WithTimeout(ctx, callTimeout)
				if err := each.do(call, n); err != nil && ctx.Err() == nil && !expected(err) {
					say("A: %v", err)
				}
				cancel()
			}
		})
	}
	attacks.Wait()
}

// expected tells whether the API server has refused what was sent, which ends an attack as well as anything.
func expected(err error) bool {
	return apierrors.IsInvalid(err) || apierrors.IsBadRequest(err) || apierrors.IsRequestEntityTooLargeError(err) ||
		apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err) || apierrors.IsConflict(err) || apierrors.IsForbidden(err) ||
		strings.Contains(err.Error(), "request is too large")
}

// serve tells the attackers in the workers what they may know: B's Jobs and workers. They tell what they did.
func (a *attack) serve(ctx context.Context) (stop func(), err error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", nodeAddress+":0")
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /jobs", func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(a.b.targets()) })
	mux.HandleFunc("GET /workers", func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(a.workersOfB(r.Context()))
	})
	mux.HandleFunc("POST /did", func(_ http.ResponseWriter, r *http.Request) {
		if n, err := strconv.ParseInt(r.URL.Query().Get("n"), 10, 64); err == nil {
			a.did(r.URL.Query().Get("kind"), n)
		}
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Second}
	go func() { _ = server.Serve(listener) }()
	a.accomplice = "http://" + listener.Addr().String()
	return func() { _ = server.Close() }, nil
}

// workersOfB are the addresses of B's workers.
func (a *attack) workersOfB(ctx context.Context) []string {
	pods := &corev1.PodList{}
	if err := a.List(ctx, pods, client.InNamespace(tenantB)); err != nil {
		say("A can't list B's pods: %v", err)
	}
	all := []string{}
	for i := range pods.Items {
		if ip := pods.Items[i].Status.PodIP; ip != "" {
			all = append(all, ip)
		}
	}
	return all
}

// prepare makes A's pools: in one the attacker takes the agent's place, in the other Jobs misbehave.
func (a *attack) prepare(ctx context.Context) error {
	template := func(t *corev1.PodTemplateSpec) {
		restricted(t)
		c := &t.Spec.Containers[0]
		c.Env = []corev1.EnvVar{{Name: "ATTACK_SERVICE", Value: a.service}, {Name: "ATTACK_ACCOMPLICE", Value: a.accomplice}}
		// What the attackers themselves take of the machine is not what is measured.
		c.Resources.Limits = corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse("512Mi"),
		}
	}
	impostors := testutil.MakePool(tenantA, "impostors").Image(a.image).Replicas(2).Template(template).Obj()
	shells := testutil.MakePool(tenantA, "shells").Image(a.image).Replicas(2).Slots(2).Template(template).
		Spec(func(s *v1alpha1.WorkerPoolSpec) { s.Limits = &v1alpha1.PoolLimits{Files: new(int32(100))} }).Obj()
	// The environment of each pod that starts from now on tells of this Service.
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: tenantA, Name: "workerpool-http"},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}},
	}
	for _, o := range []client.Object{service, impostors, shells} {
		if err := a.Create(ctx, o); err != nil {
			return err
		}
	}
	for i := range 2 {
		become := testutil.MakeJob(tenantA, fmt.Sprint("become-", i), "impostors").Command("attacker", "become").Obj()
		if err := a.Create(ctx, become); err != nil {
			return err
		}
	}
	return nil
}

// createUndecodable makes objects that the schema may take and Go may not decode.
func (a *attack) createUndecodable(ctx context.Context, n int) error {
	a.did("undecodable", 1)
	startAfter := []string{"2020-01-01t00:00:00z", "2020-01-01T00:00:60Z", "2020-01-01 00:00:00Z", "2020-01-01T00:00:00.1234567890123Z"}
	job := object("Job", fmt.Sprint("undecodable-", n), map[string]any{
		"pool": "shells", "command": []any{"true"}, "startAfter": startAfter[n%len(startAfter)],
	})
	ports := []int64{3_000_000_000, -3_000_000_000, 1 << 53}
	probe := map[string]any{"httpGet": map[string]any{"port": ports[n%len(ports)]}}
	pool := object("WorkerPool", fmt.Sprint("undecodable-", n), map[string]any{
		"replicas": int64(0),
		"template": map[string]any{"spec": map[string]any{"containers": []any{
			map[string]any{"name": "worker", "image": workerImage},
			map[string]any{"name": "other", "image": workerImage, "livenessProbe": probe},
		}}},
	})
	jobErr, poolErr := a.Create(ctx, job), a.Create(ctx, pool)
	if jobErr != nil && expected(jobErr) {
		jobErr = nil
	}
	if poolErr != nil && expected(poolErr) {
		poolErr = nil
	}
	return errors.Join(jobErr, poolErr)
}

func object(kind, name string, spec map[string]any) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	o.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(kind))
	o.SetNamespace(tenantA)
	o.SetName(name)
	return o
}

// createTooLarge makes Jobs whose status will not fit beside their spec.
func (a *attack) createTooLarge(ctx context.Context, n int) error {
	a.did("too large", 1)
	b := testutil.MakeJob(tenantA, fmt.Sprint("large-", n), "shells")
	switch n % 3 {
	case 0: // characters of three bytes
		b.Command("true")
		for i := range 16 {
			b.Env(fmt.Sprint("V", i), strings.Repeat("\u20ac", 32_000))
		}
	case 1: // each character takes six bytes in JSON
		b.Command("true").Stdin(strings.Repeat("<", 250_000))
	default: // the indexes take as much as they can
		b.Command("sh", "-c", "exit $((JOB_COMPLETION_INDEX % 2))")
		job := b.Obj()
		job.Spec.Completions = new(int32(100_000))
		for i := range 16 {
			job.Spec.Env = append(job.Spec.Env, v1alpha1.EnvVar{Name: fmt.Sprint("V", i), Value: new(strings.Repeat("x", 60_000))})
		}
		return a.Create(ctx, job)
	}
	return a.Create(ctx, b.Obj())
}

// createTooLong makes Jobs that are too long once their item is filled in.
func (a *attack) createTooLong(ctx context.Context, n int) error {
	a.did("too long when filled in", 1)
	job := testutil.MakeJob(tenantA, fmt.Sprint("long-", n), "shells").Command("echo").Args(strings.Repeat("{}", 16_384)).Obj()
	job.Spec.Items = []string{strings.Repeat("x", 1024), "y"}
	return a.Create(ctx, job)
}

// createWaiting makes large Jobs that wait for ever.
func (a *attack) createWaiting(ctx context.Context, n int) error {
	if n >= 200 {
		return nil
	}
	a.did("waiting and large", 1)
	b := testutil.MakeJob(tenantA, fmt.Sprint("waiting-", n), "no-such-pool").Command("true")
	for i := range 8 {
		b.Env(fmt.Sprint("V", i), strings.Repeat("x", 120_000))
	}
	return a.Create(ctx, b.Obj())
}

// createWithoutRoom makes Jobs that each want all open files of the pool.
func (a *attack) createWithoutRoom(ctx context.Context, n int) error {
	if n >= 600 {
		return nil
	}
	a.did("no room", 1)
	return a.Create(ctx, testutil.MakeJob(tenantA, fmt.Sprint("no-room-", n), "shells").Command("sleep", "600").Files(100).Obj())
}

// removeLabels takes a worker out of the operator's sight.
func (a *attack) removeLabels(ctx context.Context, _ int) error {
	pods := &corev1.PodList{}
	if err := a.List(ctx, pods, client.InNamespace(tenantA), client.MatchingLabels{v1alpha1.LabelPool: "shells"}); err != nil {
		return err
	}
	if len(pods.Items) == 0 {
		return nil
	}
	a.did("labels removed", 1)
	return a.Patch(ctx, &pods.Items[0], client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"`+v1alpha1.LabelPool+`":null}}}`)))
}

// shells are what A's Jobs do in their workers.
var shells = []string{
	"for s in QUIT ABRT SEGV ILL BUS FPE TRAP SYS HUP INT USR1 USR2 PIPE ALRM; do kill -$s 1; done; sleep 1",
	`rm -rf "$(dirname "$TMPDIR")"`,
	"rm -rf /workerpool/spool; mkdir -p /workerpool; touch /workerpool/spool",
	"env -i setsid sleep 600 & sleep 1",
	"dd if=/dev/zero of=/workerpool/full bs=1M count=200; sleep 2; rm -f /workerpool/full",
	"kill -TERM 1",
	"attacker forge; true",
}

// runShells runs them one after the other, ahead of what waits.
func (a *attack) runShells(ctx context.Context, n int) error {
	a.did("shells", 1)
	script := shells[n%len(shells)]
	return a.Create(ctx, testutil.MakeJob(tenantA, fmt.Sprint("shell-", n), "shells").Command("sh", "-c", script).Priority(1000).Obj())
}
