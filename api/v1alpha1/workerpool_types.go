package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// WorkerPool keeps warm worker pods and runs Jobs in them.
//
// Creating a WorkerPool is as powerful as creating a pod in its namespace. All
// Jobs of a pool run in the same workers: a pool is one trust domain.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:subresource:scale:specpath=.spec.replicas,statuspath=.status.replicas,selectorpath=.status.selector
// +kubebuilder:resource:shortName=wp,categories=workerpool
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.ready`,description="Ready workers of those wanted"
// +kubebuilder:printcolumn:name="Busy",type=integer,JSONPath=`.status.activeJobs`,description="Jobs that run, or whose end is not stored yet"
// +kubebuilder:printcolumn:name="Queued",type=integer,JSONPath=`.status.queueSize`,description="Jobs in the queue"
// +kubebuilder:printcolumn:name="Done",type=integer,JSONPath=`.status.processedJobs`,description="Jobs that finished"
// +kubebuilder:printcolumn:name="Failed",type=integer,JSONPath=`.status.failedJobs`,description="Jobs that finished as failed"
// +kubebuilder:printcolumn:name="Suspended",type=boolean,JSONPath=`.spec.suspend`,description="Whether no Job is started"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Capacity",type=integer,JSONPath=`.spec.queue.capacity`,priority=1,description="Room of the queue, in Jobs"
// +kubebuilder:printcolumn:name="Image",type=string,JSONPath=`.spec.template.spec.containers[*].image`,priority=1
// +kubebuilder:validation:XValidation:rule="size(self.metadata.name) <= 52 && self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="metadata.name must be a DNS label of at most 52 characters, because worker pods are named after it"
type WorkerPool struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what the pool should be.
	// +required
	Spec WorkerPoolSpec `json:"spec,omitzero"`

	// status is what the pool is. The operator writes it, at most once a second.
	// +optional
	Status WorkerPoolStatus `json:"status,omitzero"`
}

// WorkerPoolSpec is what a WorkerPool should be.
//
// +kubebuilder:validation:XValidation:rule="size(self.template.spec.containers) > 0",message="template.spec.containers must have at least one container"
// +kubebuilder:validation:XValidation:rule="!has(self.container) || self.template.spec.containers.exists(c, c.name == self.container)",message="container must be the name of one of template.spec.containers"
// +kubebuilder:validation:XValidation:rule="self.handler.type == 'HTTP' || has(self.container) || size(self.template.spec.containers) == 0 || !has(self.template.spec.containers[0].command)",message="the job container may not set command: the worker's agent is started in its place, and each Job brings its own command"
// +kubebuilder:validation:XValidation:rule="self.handler.type == 'HTTP' || !has(self.container) || self.template.spec.containers.all(c, c.name != self.container || !has(c.command))",message="the job container may not set command: the worker's agent is started in its place, and each Job brings its own command"
// +kubebuilder:validation:XValidation:rule="self.handler.type == 'HTTP' || has(self.container) || size(self.template.spec.containers) == 0 || !(has(self.template.spec.containers[0].livenessProbe) || has(self.template.spec.containers[0].readinessProbe) || has(self.template.spec.containers[0].startupProbe))",message="the job container may not set probes: the worker's agent answers its own"
// +kubebuilder:validation:XValidation:rule="self.handler.type == 'HTTP' || !has(self.container) || self.template.spec.containers.all(c, c.name != self.container || !(has(c.livenessProbe) || has(c.readinessProbe) || has(c.startupProbe)))",message="the job container may not set probes: the worker's agent answers its own"
// +kubebuilder:validation:XValidation:rule="self.handler.type == 'HTTP' || has(self.container) || size(self.template.spec.containers) == 0 || !has(self.template.spec.containers[0].lifecycle)",message="the job container may not set lifecycle: the worker's agent ends its jobs by itself"
// +kubebuilder:validation:XValidation:rule="self.handler.type == 'HTTP' || !has(self.container) || self.template.spec.containers.all(c, c.name != self.container || !has(c.lifecycle))",message="the job container may not set lifecycle: the worker's agent ends its jobs by itself"
// +kubebuilder:validation:XValidation:rule="self.handler.type != 'HTTP' || has(self.container) || size(self.template.spec.containers) == 0 || !has(self.template.spec.containers[0].lifecycle) || !has(self.template.spec.containers[0].lifecycle.preStop)",message="the job container may not set lifecycle.preStop: the worker's agent holds it there until the requests of Jobs are answered"
// +kubebuilder:validation:XValidation:rule="self.handler.type != 'HTTP' || !has(self.container) || self.template.spec.containers.all(c, c.name != self.container || !has(c.lifecycle) || !has(c.lifecycle.preStop))",message="the job container may not set lifecycle.preStop: the worker's agent holds it there until the requests of Jobs are answered"
// +kubebuilder:validation:XValidation:rule="!has(self.template.spec.restartPolicy) || self.template.spec.restartPolicy == 'Always'",message="template.spec.restartPolicy must be Always: a worker outlives its jobs"
// +kubebuilder:validation:XValidation:rule="self.handler.type == 'HTTP' || !has(self.template.spec.hostPID) || !self.template.spec.hostPID",message="template.spec.hostPID may not be true: the agent must be the first process of its container, so that it can end all that a job started"
// +kubebuilder:validation:XValidation:rule="self.handler.type == 'HTTP' || !has(self.template.spec.shareProcessNamespace) || !self.template.spec.shareProcessNamespace",message="template.spec.shareProcessNamespace may not be true: the agent must be the first process of its container, so that it can end all that a job started"
// +kubebuilder:validation:XValidation:rule="!has(self.autoscaling) || !has(self.replicas)",message="replicas may not be set beside autoscaling, which chooses the number of workers: remove one of the two"
// +kubebuilder:validation:XValidation:rule="self.handler.type != 'HTTP' || !has(self.recycle) || !has(self.recycle.resetCommand)",message="recycle.resetCommand is for the handler Exec: for HTTP, have the server clean up after each request, or set recycle.maxJobs"
type WorkerPoolSpec struct {
	// replicas is the number of workers wanted. It is 1 if unset. `kubectl scale`
	// and autoscalers set it. Not with autoscaling.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10000
	Replicas *int32 `json:"replicas,omitempty"`

	// autoscaling has the operator choose the number of workers, by the Jobs that wait and run.
	// status.desiredReplicas has what it has chosen. Not with replicas.
	// +optional
	Autoscaling *AutoscalingSpec `json:"autoscaling,omitzero"`

	// slots is the number of Jobs that one worker runs at once. Jobs that run at
	// once in one worker are not isolated from each other. A change replaces the
	// workers, as one of the template does.
	// +optional
	// +default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=256
	Slots int32 `json:"slots,omitempty"`

	// template is the pod template of the workers. Any image can be a worker: the
	// agent that runs Jobs is put into it. A change replaces the workers one by
	// one as they become idle.
	// +required
	Template corev1.PodTemplateSpec `json:"template,omitzero"`

	// container is the name of the container that runs Jobs: the first one of the
	// template if unset.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Container string `json:"container,omitempty"`

	// handler is how the workers run Jobs: as commands, or as HTTP requests.
	// +optional
	// +default={"type": "Exec"}
	Handler HandlerSpec `json:"handler,omitzero"`

	// queue bounds the Jobs that wait for a worker, and orders them.
	// +optional
	// +default={"capacity": 1000, "agingSeconds": 300}
	Queue QueueSpec `json:"queue,omitzero"`

	// jobDefaults are for Jobs that do not say otherwise.
	// +optional
	JobDefaults *JobDefaults `json:"jobDefaults,omitzero"`

	// retention bounds the finished Jobs that are kept.
	// +optional
	// +default={"maxFinished": 1000}
	Retention RetentionSpec `json:"retention,omitzero"`

	// limits bound what the pool takes of the cluster.
	// +optional
	Limits *PoolLimits `json:"limits,omitzero"`

	// update is how workers are replaced when the template changes.
	// +optional
	// +default={"maxSurge": 1, "maxUnavailable": 0}
	Update UpdateSpec `json:"update,omitzero"`

	// recycle brings workers back to a clean state between Jobs, and replaces those that have served for
	// some time, by the rules of update.
	// +optional
	Recycle *RecycleSpec `json:"recycle,omitzero"`

	// drainTimeoutSeconds is how long a worker that is being removed may go on
	// with the Jobs it runs. It becomes the pods' terminationGracePeriodSeconds,
	// unless the template sets one, and so bounds eviction and node drain too.
	// +optional
	// +default=300
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=604800
	DrainTimeoutSeconds *int32 `json:"drainTimeoutSeconds,omitempty"`

	// workerLostTimeoutSeconds is how long a worker may be out of touch with the
	// operator before it is given up: its pod is deleted, and what it ran is run
	// elsewhere once the pod is gone.
	// +optional
	// +default=60
	// +kubebuilder:validation:Minimum=30
	// +kubebuilder:validation:Maximum=86400
	WorkerLostTimeoutSeconds *int32 `json:"workerLostTimeoutSeconds,omitempty"`

	// suspend keeps Jobs from being started while it is true. What runs goes on,
	// and the workers stay. The pool's condition Suspended says so, and so does the
	// reason of each queued Job.
	// +optional
	// +default=false
	Suspend *bool `json:"suspend,omitempty"`
}

// AutoscalingSpec says how many workers there should be. There are enough that a new Job is expected to
// start within targetWaitSeconds, and no more for long.
//
// +kubebuilder:validation:XValidation:rule="!has(self.minReplicas) || self.minReplicas <= self.maxReplicas",message="minReplicas may not be larger than maxReplicas"
type AutoscalingSpec struct {
	// minReplicas is how many workers there are at least. With 0 there are none while
	// there is no Job, and the first Job waits for a worker to start.
	// +optional
	// +default=0
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10000
	MinReplicas *int32 `json:"minReplicas,omitempty"`

	// maxReplicas is how many workers there are at most.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10000
	MaxReplicas int32 `json:"maxReplicas,omitempty"`

	// targetWaitSeconds is how long a Job may wait in the queue. A larger number needs fewer workers
	// for Jobs that are shorter than that.
	// +optional
	// +default=10
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=86400
	TargetWaitSeconds *int32 `json:"targetWaitSeconds,omitempty"`

	// scaleDownDelaySeconds is how long fewer workers must have been enough before some are removed.
	// +optional
	// +default=60
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=86400
	ScaleDownDelaySeconds *int32 `json:"scaleDownDelaySeconds,omitempty"`
}

// RecycleSpec says how a worker is made fit for further Jobs, and when it is replaced. One that has run enough,
// or is not fit any more, takes no further Jobs, ends what it runs, and is removed; a new one takes its place.
//
// +kubebuilder:validation:MinProperties=1
// +kubebuilder:validation:XValidation:rule="!has(self.resetTimeoutSeconds) || has(self.resetCommand)",message="resetTimeoutSeconds is for pools with resetCommand: set that too, or leave both out"
type RecycleSpec struct {
	// maxJobs is how many tries a worker runs at the most. The count begins anew when another operator
	// takes the lead.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000000
	MaxJobs *int32 `json:"maxJobs,omitempty"`

	// maxAgeSeconds is how old a worker may become. It goes on taking Jobs until another can take its
	// place.
	// +optional
	// +kubebuilder:validation:Minimum=60
	// +kubebuilder:validation:Maximum=315360000
	MaxAgeSeconds *int32 `json:"maxAgeSeconds,omitempty"`

	// onFailure replaces a worker in which a try has failed.
	// +optional
	OnFailure *bool `json:"onFailure,omitempty"`

	// resetCommand is run in the job container after each try whose program was started, however that has
	// ended, and before its slot takes another Job. If it fails, or takes longer than resetTimeoutSeconds, the
	// worker is replaced. It has the container's environment, a TMPDIR of its own, and no standard input.
	// With more than one slot it runs beside the Jobs of the other slots. A change counts for tries that are
	// started after it, and replaces no worker. Not for the handler HTTP.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=32768
	// +kubebuilder:validation:XValidation:rule="size(self[0]) > 0",message="resetCommand must begin with the name of a program"
	// +kubebuilder:validation:XValidation:rule="oldSelf.hasValue() || self.all(s, !s.contains('\\x00'))",optionalOldSelf=true,message="resetCommand may not have NUL characters: no program could be given them"
	ResetCommand []string `json:"resetCommand,omitempty"`

	// resetTimeoutSeconds is how long resetCommand may run before it is killed: 60 if unset.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=3600
	ResetTimeoutSeconds *int32 `json:"resetTimeoutSeconds,omitempty"`
}

// PoolLimits bound what a pool takes of the cluster. What is unset is not bounded.
//
// +kubebuilder:validation:MinProperties=1
type PoolLimits struct {
	// cpu is how much of it the pool's pods may request together, those that are being removed and the
	// containers that the operator puts into them included. A worker that would go beyond is not made. A fraction
	// without a unit must be in quotes, "0.5".
	// +optional
	// +kubebuilder:validation:XValidation:rule="size(string(self)) <= 64 && string(self).matches('^[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?$') && quantity(string(self)).isGreaterThan(quantity('0')) && quantity(string(self)).isLessThan(quantity('1M'))",message="cpu must be a number of processors above 0 and below 1000000, such as 2 or 500m"
	CPU *resource.Quantity `json:"cpu,omitempty"`

	// memory is how much of it the pool's pods may request together, as with cpu.
	// +optional
	// +kubebuilder:validation:XValidation:rule="size(string(self)) <= 64 && string(self).matches('^[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?$') && quantity(string(self)).isGreaterThan(quantity('0')) && quantity(string(self)).isLessThan(quantity('1E'))",message="memory must be an amount above 0 and below 1E, such as 512Mi or 1.5Gi"
	Memory *resource.Quantity `json:"memory,omitempty"`

	// files is how many open files the pool's running tasks may have reserved together, by the
	// resources.files of their Jobs.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000000
	Files *int32 `json:"files,omitempty"`
}

// UpdateSpec is how workers are replaced when the template changes.
//
// +kubebuilder:validation:MinProperties=1
// +kubebuilder:validation:XValidation:rule="!has(self.maxSurge) || !has(self.maxUnavailable) || self.maxSurge > 0 || self.maxUnavailable > 0",message="maxSurge and maxUnavailable may not both be 0: no worker could be replaced"
type UpdateSpec struct {
	// maxSurge is how many workers more than wanted there may be meanwhile.
	// +optional
	// +default=1
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10000
	MaxSurge *int32 `json:"maxSurge,omitempty"`

	// maxUnavailable is how many ready workers less than wanted there may be
	// meanwhile.
	// +optional
	// +default=0
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10000
	MaxUnavailable *int32 `json:"maxUnavailable,omitempty"`
}

// QueueSpec bounds the Jobs that wait for a worker.
//
// +kubebuilder:validation:MinProperties=1
type QueueSpec struct {
	// capacity is the number of Jobs that the queue holds. Jobs beyond it stay
	// Pending with reason QueueFull and come in, in order, as room appears: none
	// is refused.
	// +optional
	// +default=1000
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100000
	Capacity int32 `json:"capacity,omitempty"`

	// agingSeconds is how much waiting one step of priority is worth, so that none
	// waits forever. With 0 the order is strict: a Job waits as long as there are
	// others of a higher priority.
	// +optional
	// +default=300
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=31536000
	AgingSeconds *int32 `json:"agingSeconds,omitempty"`
}

// HandlerType is how the workers of a pool run Jobs.
//
// +kubebuilder:validation:Enum=Exec;HTTP
type HandlerType string

// Values of HandlerType.
const (
	// HandlerExec: a Job is a command that is run in the job container.
	HandlerExec HandlerType = "Exec"
	// HandlerHTTP: a Job is a request to a server in the job container.
	HandlerHTTP HandlerType = "HTTP"
)

// HandlerSpec is how the workers of a pool run Jobs.
//
// +kubebuilder:validation:MinProperties=1
// +kubebuilder:validation:XValidation:rule="(self.type == 'HTTP') == has(self.port)",message="port must be set for the handler HTTP, and for no other"
type HandlerSpec struct {
	// type is Exec, where a Job is a command that is run in the job container; or
	// HTTP, where it is a request to a server there, for workers that keep
	// something warm: a loaded model, a JVM.
	// +optional
	// +default="Exec"
	Type HandlerType `json:"type,omitempty"`

	// port of the server, which may listen on all addresses, on a loopback address (127.0.0.1 or ::1), or on one of
	// the pod's own.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port *int32 `json:"port,omitempty"`
}

// JobDefaults are for Jobs that do not say otherwise. See the fields of the same names of a Job.
//
// +kubebuilder:validation:MinProperties=1
type JobDefaults struct {
	// maxRetries of Jobs that have none; those that run AtMostOnce are never
	// retried.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10000
	MaxRetries *int32 `json:"maxRetries,omitempty"`

	// backoff of Jobs that have none.
	// +optional
	Backoff *Backoff `json:"backoff,omitempty"`

	// timeoutSeconds of Jobs that have none.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=31536000
	TimeoutSeconds *int32 `json:"timeoutSeconds,omitempty"`

	// resources of Jobs: each of them that a Job does not set itself.
	// +optional
	Resources *JobResources `json:"resources,omitzero"`

	// ttlSecondsAfterFinished of Jobs that have none.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=315360000
	TTLSecondsAfterFinished *int32 `json:"ttlSecondsAfterFinished,omitempty"`
}

// RetentionSpec bounds the finished Jobs that are kept.
//
// +kubebuilder:validation:MinProperties=1
type RetentionSpec struct {
	// maxFinished is how many finished Jobs of the pool are kept; 0 keeps all. Of
	// those beyond, the oldest are deleted, succeeded ones first, and none that
	// finished less than 60 seconds ago.
	// +optional
	// +default=1000
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000000
	MaxFinished *int32 `json:"maxFinished,omitempty"`
}

// WorkerPoolList is a list of WorkerPools.
//
// +kubebuilder:object:root=true
type WorkerPoolList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []WorkerPool `json:"items"`
}
