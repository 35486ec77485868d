package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// WorkerPoolStatus is what a WorkerPool is.
type WorkerPoolStatus struct {
	// conditions of the pool: Ready, Progressing, QueueFull, LimitReached.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=16
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// observedGeneration is the generation of the spec that this status is about.
	// +optional
	// +kubebuilder:validation:Minimum=1
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// ready is the number of ready workers and of wanted ones, for people: `3/5`.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=32
	Ready string `json:"ready,omitempty"`

	// replicas is the number of worker pods, those that are being removed left
	// out.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Replicas *int32 `json:"replicas,omitempty"`

	// readyReplicas is the number of workers that are ready for Jobs.
	// +optional
	// +kubebuilder:validation:Minimum=0
	ReadyReplicas *int32 `json:"readyReplicas,omitempty"`

	// updatedReplicas is the number of worker pods made from the present template.
	// +optional
	// +kubebuilder:validation:Minimum=0
	UpdatedReplicas *int32 `json:"updatedReplicas,omitempty"`

	// desiredReplicas is the number of workers wanted.
	// +optional
	// +kubebuilder:validation:Minimum=0
	DesiredReplicas *int32 `json:"desiredReplicas,omitempty"`

	// selector selects the pool's pods, for the scale subresource.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Selector string `json:"selector,omitempty"`

	// workers is the number of workers that are connected and take Jobs.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Workers *int32 `json:"workers,omitempty"`

	// queueSize is the number of Jobs in the queue.
	// +optional
	// +kubebuilder:validation:Minimum=0
	QueueSize *int64 `json:"queueSize,omitempty"`

	// activeJobs is the number of Jobs that run, or have ended and that is not
	// stored yet: it can be more than there are slots, for a moment.
	// +optional
	// +kubebuilder:validation:Minimum=0
	ActiveJobs *int64 `json:"activeJobs,omitempty"`

	// processedJobs is the number of Jobs that have finished, in either way, since
	// the pool was made. A crash of the operator may lose the counts of its last
	// second.
	// +optional
	// +kubebuilder:validation:Minimum=0
	ProcessedJobs *int64 `json:"processedJobs,omitempty"`

	// failedJobs is the number of those that finished as failed.
	// +optional
	// +kubebuilder:validation:Minimum=0
	FailedJobs *int64 `json:"failedJobs,omitempty"`

	// resources of the connected workers.
	// +optional
	Resources *PoolResources `json:"resources,omitempty"`
}

// PoolResources are those of a pool's workers.
type PoolResources struct {
	// used is what the tasks that run take of the workers.
	// +optional
	Used *ResourceAmounts `json:"used,omitempty"`

	// capacity is what they may take together.
	// +optional
	Capacity *ResourceAmounts `json:"capacity,omitempty"`
}

// ResourceAmounts are amounts of what a worker has. What is not bounded is left out.
//
// +kubebuilder:validation:MinProperties=0
type ResourceAmounts struct {
	// cpu in processors.
	// +optional
	CPU *resource.Quantity `json:"cpu,omitempty"`

	// memory in bytes.
	// +optional
	Memory *resource.Quantity `json:"memory,omitempty"`

	// files that may be open.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Files *int64 `json:"files,omitempty"`
}

// Conditions of a WorkerPool.
const (
	// PoolReady is true when all wanted workers are ready, at 0 of 0 too.
	PoolReady = "Ready"
	// PoolProgressing is true while workers are made, replaced or removed, and
	// false when that is done or stuck: the reason tells which.
	PoolProgressing = "Progressing"
	// PoolQueueFull is true while Jobs wait because the queue is full.
	PoolQueueFull = "QueueFull"
	// PoolLimitReached is true while workers are not made because of spec.limits.
	PoolLimitReached = "LimitReached"
)

// Reasons of a WorkerPool's conditions.
const (
	ReasonAllReady          = "AllWorkersReady"
	ReasonNotReady          = "WorkersNotReady"
	ReasonStarting          = "WorkersStarting"
	ReasonLimit             = "LimitReached"
	ReasonWithinLimits      = "WithinLimits"
	ReasonUnschedulable     = "Unschedulable"
	ReasonWorkerInTrouble   = "WorkerInTrouble"
	ReasonWorkerCannotStart = "WorkerCannotStart"
	ReasonNotCreated        = "WorkerNotCreated"
	ReasonNameTaken         = "NameTaken"
	ReasonRemoving          = "WorkersDraining"
	ReasonUpdating          = "WorkersUpdating"
	ReasonStable            = "Stable"
	ReasonRoom              = "Room"
	ReasonCapacity          = "CapacityReached"
)

// ReasonResetFailed is that of an event: a worker is replaced because its recycle.resetCommand has failed.
const ReasonResetFailed = "ResetFailed"

// ReasonOtherInstallation is that of an event: an operator leaves the pool alone, because it belongs to another one.
const ReasonOtherInstallation = "OtherInstallation"

// ReasonWorkerChanged is that of an event: a worker is replaced because its label or its owner was changed by hand.
const ReasonWorkerChanged = "WorkerChanged"
