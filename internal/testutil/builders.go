package testutil

import (
	corev1 "k8s.io/api/core/v1"
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

// Obj is the Job; each call makes another.
func (b *JobBuilder) Obj() *v1alpha1.Job { return b.job.DeepCopy() }
