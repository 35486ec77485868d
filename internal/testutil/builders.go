package testutil

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// PoolBuilder makes a WorkerPool.
type PoolBuilder struct{ pool v1alpha1.WorkerPool }

// MakePool begins a valid WorkerPool with one container, called worker. What the API server would
// fill in is left open.
func MakePool(namespace, name string) *PoolBuilder {
	return &PoolBuilder{v1alpha1.WorkerPool{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: v1alpha1.WorkerPoolSpec{
			Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
				Containers: []corev1.Container{{Name: "worker", Image: "busybox:1"}},
			}},
		},
	}}
}

// Replicas sets spec.replicas.
func (b *PoolBuilder) Replicas(n int32) *PoolBuilder {
	b.pool.Spec.Replicas = new(n)
	return b
}

// Autoscaling sets the bounds of spec.autoscaling.
func (b *PoolBuilder) Autoscaling(least, most int32) *PoolBuilder {
	b.pool.Spec.Autoscaling = &v1alpha1.AutoscalingSpec{MinReplicas: &least, MaxReplicas: most}
	return b
}

// Slots sets spec.slots.
func (b *PoolBuilder) Slots(n int32) *PoolBuilder {
	b.pool.Spec.Slots = n
	return b
}

// Capacity sets spec.queue.capacity.
func (b *PoolBuilder) Capacity(n int32) *PoolBuilder {
	b.pool.Spec.Queue.Capacity = n
	return b
}

// Image sets the image of the first container.
func (b *PoolBuilder) Image(image string) *PoolBuilder {
	b.pool.Spec.Template.Spec.Containers[0].Image = image
	return b
}

// Aging sets spec.queue.agingSeconds.
func (b *PoolBuilder) Aging(seconds int32) *PoolBuilder {
	b.pool.Spec.Queue.AgingSeconds = new(seconds)
	return b
}

// HTTP makes the handler HTTP, with this port.
func (b *PoolBuilder) HTTP(port int32) *PoolBuilder {
	return b.Handler(v1alpha1.HandlerSpec{Type: v1alpha1.HandlerHTTP, Port: new(port)})
}

// Handler sets spec.handler.
func (b *PoolBuilder) Handler(handler v1alpha1.HandlerSpec) *PoolBuilder {
	b.pool.Spec.Handler = handler
	return b
}

// Defaults sets spec.jobDefaults.
func (b *PoolBuilder) Defaults(defaults v1alpha1.JobDefaults) *PoolBuilder {
	b.pool.Spec.JobDefaults = &defaults
	return b
}

// Retain sets spec.retention.maxFinished.
func (b *PoolBuilder) Retain(n int32) *PoolBuilder {
	b.pool.Spec.Retention.MaxFinished = new(n)
	return b
}

// Container sets spec.container.
func (b *PoolBuilder) Container(name string) *PoolBuilder {
	b.pool.Spec.Container = name
	return b
}

// DrainTimeout sets spec.drainTimeoutSeconds.
func (b *PoolBuilder) DrainTimeout(seconds int32) *PoolBuilder {
	b.pool.Spec.DrainTimeoutSeconds = new(seconds)
	return b
}

// Template changes the pod template.
func (b *PoolBuilder) Template(change func(*corev1.PodTemplateSpec)) *PoolBuilder {
	change(&b.pool.Spec.Template)
	return b
}

// Spec changes the spec.
func (b *PoolBuilder) Spec(change func(*v1alpha1.WorkerPoolSpec)) *PoolBuilder {
	change(&b.pool.Spec)
	return b
}

// UID sets metadata.uid, for pools that no API server sees.
func (b *PoolBuilder) UID(uid string) *PoolBuilder {
	b.pool.UID = types.UID(uid)
	return b
}

// Obj is the WorkerPool; each call makes another.
func (b *PoolBuilder) Obj() *v1alpha1.WorkerPool { return b.pool.DeepCopy() }

// JobBuilder makes a Job.
type JobBuilder struct{ job v1alpha1.Job }

// MakeJob begins a valid Job that runs `true` in the pool. What the API server would fill in is left
// open.
func MakeJob(namespace, name, pool string) *JobBuilder {
	return &JobBuilder{v1alpha1.Job{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       v1alpha1.JobSpec{Pool: pool, Command: []string{"true"}},
	}}
}

// Command sets spec.command; none at all removes it.
func (b *JobBuilder) Command(command ...string) *JobBuilder {
	b.job.Spec.Command = command
	return b
}

// Args sets spec.args.
func (b *JobBuilder) Args(args ...string) *JobBuilder {
	b.job.Spec.Args = args
	return b
}

// Env adds a variable to spec.env.
func (b *JobBuilder) Env(name, value string) *JobBuilder {
	b.job.Spec.Env = append(b.job.Spec.Env, v1alpha1.EnvVar{Name: name, Value: new(value)})
	return b
}

// WorkingDir sets spec.workingDir.
func (b *JobBuilder) WorkingDir(dir string) *JobBuilder {
	b.job.Spec.WorkingDir = dir
	return b
}

// Stdin sets spec.stdin.
func (b *JobBuilder) Stdin(text string) *JobBuilder {
	b.job.Spec.Stdin = text
	return b
}

// HTTP makes the Job a request in place of a command.
func (b *JobBuilder) HTTP(request v1alpha1.HTTPRequest) *JobBuilder {
	b.job.Spec.Command, b.job.Spec.HTTP = nil, &request
	return b
}

// Priority sets spec.priority.
func (b *JobBuilder) Priority(priority int32) *JobBuilder {
	b.job.Spec.Priority = new(priority)
	return b
}

// TTL sets spec.ttlSecondsAfterFinished.
func (b *JobBuilder) TTL(seconds int32) *JobBuilder {
	b.job.Spec.TTLSecondsAfterFinished = new(seconds)
	return b
}

// CPU sets spec.resources.cpu. It panics if that is no quantity.
func (b *JobBuilder) CPU(quantity string) *JobBuilder {
	b.resources().CPU = new(resource.MustParse(quantity))
	return b
}

// Memory sets spec.resources.memory. It panics if that is no quantity.
func (b *JobBuilder) Memory(quantity string) *JobBuilder {
	b.resources().Memory = new(resource.MustParse(quantity))
	return b
}

// Files sets spec.resources.files.
func (b *JobBuilder) Files(n int32) *JobBuilder {
	b.resources().Files = new(n)
	return b
}

func (b *JobBuilder) resources() *v1alpha1.JobResources {
	if b.job.Spec.Resources == nil {
		b.job.Spec.Resources = &v1alpha1.JobResources{}
	}
	return b.job.Spec.Resources
}

// MaxRetries sets spec.maxRetries.
func (b *JobBuilder) MaxRetries(n int32) *JobBuilder {
	b.job.Spec.MaxRetries = new(n)
	return b
}

// Backoff sets spec.backoff.
func (b *JobBuilder) Backoff(initialSeconds, factor, maxSeconds int32) *JobBuilder {
	b.job.Spec.Backoff = &v1alpha1.Backoff{
		InitialSeconds: new(initialSeconds), Factor: new(factor), MaxSeconds: new(maxSeconds),
	}
	return b
}

// OnExitCodes adds a rule about exit codes to spec.failurePolicy.
func (b *JobBuilder) OnExitCodes(action v1alpha1.FailureAction, codes ...int32) *JobBuilder {
	return b.rule(v1alpha1.FailureRule{Action: action, ExitCodes: codes})
}

// OnReasons adds a rule about reasons to spec.failurePolicy.
func (b *JobBuilder) OnReasons(action v1alpha1.FailureAction, reasons ...v1alpha1.FailureReason) *JobBuilder {
	return b.rule(v1alpha1.FailureRule{Action: action, Reasons: reasons})
}

func (b *JobBuilder) rule(rule v1alpha1.FailureRule) *JobBuilder {
	if b.job.Spec.FailurePolicy == nil {
		b.job.Spec.FailurePolicy = &v1alpha1.FailurePolicy{}
	}
	b.job.Spec.FailurePolicy.Rules = append(b.job.Spec.FailurePolicy.Rules, rule)
	return b
}

// Timeout sets spec.timeoutSeconds.
func (b *JobBuilder) Timeout(seconds int32) *JobBuilder {
	b.job.Spec.TimeoutSeconds = new(seconds)
	return b
}

// Deadline sets spec.activeDeadlineSeconds.
func (b *JobBuilder) Deadline(seconds int32) *JobBuilder {
	b.job.Spec.ActiveDeadlineSeconds = new(seconds)
	return b
}

// Grace sets spec.terminationGracePeriodSeconds.
func (b *JobBuilder) Grace(seconds int32) *JobBuilder {
	b.job.Spec.TerminationGracePeriodSeconds = new(seconds)
	return b
}

// Completions sets spec.completions.
func (b *JobBuilder) Completions(n int32) *JobBuilder {
	b.job.Spec.Completions = new(n)
	return b
}

// Parallelism sets spec.parallelism.
func (b *JobBuilder) Parallelism(n int32) *JobBuilder {
	b.job.Spec.Parallelism = new(n)
	return b
}

// Items sets spec.items.
func (b *JobBuilder) Items(items ...string) *JobBuilder {
	b.job.Spec.Items = items
	return b
}

// StartAfter sets spec.startAfter.
func (b *JobBuilder) StartAfter(at time.Time) *JobBuilder {
	b.job.Spec.StartAfter = new(metav1.NewTime(at))
	return b
}

// Suspend sets spec.suspend to true.
func (b *JobBuilder) Suspend() *JobBuilder {
	b.job.Spec.Suspend = new(true)
	return b
}

// AtMostOnce sets spec.execution.
func (b *JobBuilder) AtMostOnce() *JobBuilder {
	b.job.Spec.Execution = v1alpha1.AtMostOnce
	return b
}

// OnFailure sets spec.onFailure.
func (b *JobBuilder) OnFailure(command ...string) *JobBuilder {
	b.job.Spec.OnFailure = &v1alpha1.FailureHandler{Command: command}
	return b
}

// Spec changes the spec in a way that no other method does.
func (b *JobBuilder) Spec(change func(*v1alpha1.JobSpec)) *JobBuilder {
	change(&b.job.Spec)
	return b
}

// Obj is the Job; each call makes another.
func (b *JobBuilder) Obj() *v1alpha1.Job { return b.job.DeepCopy() }
