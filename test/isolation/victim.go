package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/testutil"
)

const (
	workerImage = "localhost/workerpool/busybox:1"
	// longEvery is how many of B's Jobs are short for each long one. Long ones are there to be attacked.
	longEvery = 10
	longTakes = 5
	// settling is how long B's last Jobs may take.
	settling = 2 * time.Minute
)

// latency is how long B's short Jobs took from the create request to the event that shows their end, or probes to that of
// their creation, in milliseconds.
type latency struct {
	Count int     `json:"count"`
	P50   float64 `json:"p50"`
	P99   float64 `json:"p99"`
}

// victim is tenant B.
type victim struct {
	admin     client.WithWatch
	perMinute int

	mu sync.Mutex
	// jobs by name.
	jobs map[string]*victimJob
	// changed is closed and made anew with each end.
	changed chan struct{}
	// probes are ConfigMaps by name: how long each took from the create request to its event. No operator touches them, so
	// they tell what the API server and the machine alone take.
	probes map[string]*probe
}

type probe struct {
	phase   string
	created time.Time
	took    time.Duration
}

type victimJob struct {
	phase   string
	long    bool
	created time.Time
	// uid is known once the API server has answered, took once the Job has ended, and wrong says what is wrong then.
	uid   types.UID
	took  time.Duration
	wrong string
}

func newVictim(ctx context.Context, admin client.WithWatch, perMinute int) (*victim, error) {
	v := &victim{admin: admin, perMinute: perMinute, jobs: map[string]*victimJob{}, changed: make(chan struct{}), probes: map[string]*probe{}}
	if err := makeTenant(ctx, admin, tenantB, "restricted"); err != nil {
		return nil, err
	}
	pool := testutil.MakePool(tenantB, "steady").Image(workerImage).Replicas(2).Slots(4).Retain(0).Template(restricted).Obj()
	if err := admin.Create(ctx, pool); err != nil {
		return nil, err
	}
	if !await(ctx, settling, func() bool {
		return admin.Get(ctx, client.ObjectKeyFromObject(pool), pool) == nil && pool.Status.Ready == "2/2"
	}) {
		return nil, fmt.Errorf("the pool of B is not ready: %s", pool.Status.Ready)
	}
	go v.watch(ctx)
	go v.watchProbes(ctx)
	return v, nil
}

func makeTenant(ctx context.Context, admin client.Client, name, standard string) error {
	return admin.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: name, Labels: map[string]string{"pod-security.kubernetes.io/enforce": standard},
	}})
}

// restricted is a template that the restricted Pod Security Standard admits.
func restricted(t *corev1.PodTemplateSpec) {
	t.Spec.SecurityContext = &corev1.PodSecurityContext{
		RunAsNonRoot: new(true), RunAsUser: new(int64(65532)),
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	c := &t.Spec.Containers[0]
	c.ImagePullPolicy = corev1.PullIfNotPresent
	c.SecurityContext = &corev1.SecurityContext{
		AllowPrivilegeEscalation: new(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
	c.Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("20m"), corev1.ResourceMemory: resource.MustParse("64Mi")}
}

// run creates Jobs at an even rate for a while, and waits until all have ended.
func (v *victim) run(ctx context.Context, phase string, lasts time.Duration) error {
	start := time.Now()
	var creating sync.WaitGroup
	for n := 0; ; n++ {
		due := time.Duration(n) * time.Minute / time.Duration(v.perMinute)
		if due >= lasts {
			break
		}
		if !pause(ctx, time.Until(start.Add(due))) {
			return ctx.Err()
		}
		creating.Go(func() { v.create(ctx, phase, n) })
		creating.Go(func() { v.probe(ctx, phase, n) })
	}
	creating.Wait()
	v.await(ctx)
	return ctx.Err()
}

func (v *victim) create(ctx context.Context, phase string, n int) {
	name := fmt.Sprintf("%s-%05d", phase, n)
	j := &victimJob{phase: phase, long: n%longEvery == 0}
	script := "echo " + name
	if j.long {
		script = fmt.Sprintf("sleep %d; %s", longTakes, script)
	}
	job := testutil.MakeJob(tenantB, name, "steady").Command("sh", "-c", script).Obj()
	v.mu.Lock()
	j.created = time.Now()
	v.jobs[name] = j
	v.mu.Unlock()
	err := v.admin.Create(ctx, job)
	v.mu.Lock()
	defer v.mu.Unlock()
	if err != nil {
		j.wrong, j.took = fmt.Sprintf("it was not created: %v", err), time.Since(j.created)
		return
	}
	j.uid = job.UID
}

func (v *victim) probe(ctx context.Context, phase string, n int) {
	o := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: tenantB, Name: fmt.Sprintf("%s-%05d", phase, n)}}
	v.mu.Lock()
	v.probes[o.Name] = &probe{phase: phase, created: time.Now()}
	v.mu.Unlock()
	if err := v.admin.Create(ctx, o); err != nil && ctx.Err() == nil {
		say("a probe was not created: %v", err)
	}
}

func (v *victim) watchProbes(ctx context.Context) {
	for ctx.Err() == nil {
		events, err := v.admin.Watch(ctx, &corev1.ConfigMapList{}, client.InNamespace(tenantB))
		if err != nil {
			pause(ctx, 100*time.Millisecond)
			continue
		}
		for event := range events.ResultChan() {
			if o, ok := event.Object.(*corev1.ConfigMap); ok && event.Type == watch.Added {
				now := time.Now()
				v.mu.Lock()
				if p := v.probes[o.Name]; p != nil && p.took == 0 {
					p.took = now.Sub(p.created)
				}
				v.mu.Unlock()
			}
		}
	}
}

// watch notes the ends of B's Jobs.
func (v *victim) watch(ctx context.Context) {
	for ctx.Err() == nil {
		events, err := v.admin.Watch(ctx, &v1alpha1.JobList{}, client.InNamespace(tenantB))
		if err != nil {
			pause(ctx, 100*time.Millisecond)
			continue
		}
		for event := range events.ResultChan() {
			if job, ok := event.Object.(*v1alpha1.Job); ok && event.Type != watch.Deleted && job.Status.State.Finished() {
				v.ended(job)
			}
		}
	}
}

func (v *victim) ended(job *v1alpha1.Job) {
	now := time.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	j := v.jobs[job.Name]
	if j == nil || j.took > 0 {
		return
	}
	j.took = now.Sub(j.created)
	output := ""
	if job.Status.Result != nil {
		output = job.Status.Result.Output
	}
	if job.Status.State != v1alpha1.JobSucceeded || output != job.Name+"\n" || ptr.Deref(job.Status.Attempts, 0) != 1 {
		j.wrong = fmt.Sprintf("%s %s after %d attempts on %s, output %q: %s",
			job.Status.State, job.Status.Reason, ptr.Deref(job.Status.Attempts, 0), job.Status.Worker, output, job.Status.Message)
	}
	close(v.changed)
	v.changed = make(chan struct{})
}

// await waits until all Jobs have ended. One that does not in time is wrong, and has taken so long.
func (v *victim) await(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, settling)
	defer cancel()
	for {
		v.mu.Lock()
		var left []*victimJob
		for _, j := range v.jobs {
			if j.took == 0 {
				left = append(left, j)
			}
		}
		if ctx.Err() != nil {
			for _, j := range left {
				j.took, j.wrong = time.Since(j.created), "it has not ended in time"
			}
			left = nil
		}
		changed := v.changed
		v.mu.Unlock()
		if len(left) == 0 {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// target is an unfinished Job of B, as anybody with the role `view` knows it.
type target struct {
	Name string    `json:"name"`
	UID  types.UID `json:"uid"`
}

func (v *victim) targets() []target {
	v.mu.Lock()
	defer v.mu.Unlock()
	all := []target{}
	for name, j := range v.jobs {
		if j.took == 0 && j.uid != "" {
			all = append(all, target{name, j.uid})
		}
	}
	return all
}

// latencies of B's short Jobs, and of the probes, in each phase.
func (v *victim) latencies() (jobs, probes map[string]latency) {
	v.mu.Lock()
	defer v.mu.Unlock()
	ofJobs, ofProbes := map[string][]float64{}, map[string][]float64{}
	for _, j := range v.jobs {
		if !j.long {
			ofJobs[j.phase] = append(ofJobs[j.phase], float64(j.took.Microseconds())/1000)
		}
	}
	for _, p := range v.probes {
		if p.took > 0 {
			ofProbes[p.phase] = append(ofProbes[p.phase], float64(p.took.Microseconds())/1000)
		}
	}
	return summarise(ofJobs), summarise(ofProbes)
}

func summarise(took map[string][]float64) map[string]latency {
	all := map[string]latency{}
	for phase, values := range took {
		slices.Sort(values)
		all[phase] = latency{Count: len(values), P50: quantile(values, 50), P99: quantile(values, 99)}
	}
	return all
}

// quantile of sorted values, in hundredths.
func quantile(sorted []float64, q int) float64 { return sorted[(len(sorted)*q+99)/100-1] }

func (v *victim) wrong() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	all := []string{}
	for name, j := range v.jobs {
		if j.wrong != "" {
			all = append(all, name+": "+j.wrong)
		}
	}
	slices.Sort(all)
	return all
}
