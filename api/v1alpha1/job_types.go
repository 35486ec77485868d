package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Job is work that a worker of a WorkerPool runs. `kubectl get jobs` means the Jobs of batch/v1:
// say `kubectl get wj`.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=wj,categories=workerpool
// +kubebuilder:selectablefield:JSONPath=.spec.pool
// +kubebuilder:printcolumn:name="Pool",type=string,JSONPath=`.spec.pool`
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.state`
// +kubebuilder:printcolumn:name="Attempts",type=integer,JSONPath=`.status.attempts`
// +kubebuilder:printcolumn:name="Worker",type=string,JSONPath=`.status.worker`
// +kubebuilder:printcolumn:name="Started",type=date,JSONPath=`.status.startTime`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.reason`,priority=1
// +kubebuilder:printcolumn:name="Exit",type=integer,JSONPath=`.status.result.exitCode`,priority=1
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.message`,priority=1
type Job struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what to run. All of it but priority and ttlSecondsAfterFinished is immutable.
	// +required
	Spec JobSpec `json:"spec,omitzero"`

	// status is how far the Job is. The operator writes it; a Job that ends within 200 milliseconds
	// is written once, when it has ended.
	// +optional
	// +default={"state": "Pending", "reason": "Waiting"}
	Status JobStatus `json:"status,omitzero"`
}

// JobSpec is what to run.
//
// +kubebuilder:validation:XValidation:rule="has(self.command) || has(self.args)",message="command must be set: it is the program to run, followed by its arguments"
// +kubebuilder:validation:XValidation:rule="has(self.command) || !has(self.args)",message="command must be set where args is: the image's entrypoint is not used"
// +kubebuilder:validation:XValidation:rule="has(self.command) == has(oldSelf.command) && has(self.args) == has(oldSelf.args) && has(self.env) == has(oldSelf.env) && has(self.workingDir) == has(oldSelf.workingDir)",message="only priority and ttlSecondsAfterFinished may be changed: make a new Job"
type JobSpec struct {
	// pool is the name of the WorkerPool, in the same namespace, that runs the Job. If there is none
	// of this name, the Job waits until there is.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=52
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="pool is immutable: make a new Job"
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="pool must be the name of a WorkerPool: a DNS label"
	Pool string `json:"pool,omitempty"`

	// command is the program to run and its first arguments. The program is looked up in the
	// container's PATH. No shell is used: say `["sh", "-c", "..."]` for one.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MaxLength=32768
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="command is immutable: make a new Job"
	// +kubebuilder:validation:XValidation:rule="size(self[0]) > 0",message="command must begin with the name of a program"
	Command []string `json:"command,omitempty"`

	// args are further arguments, after those of command.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=1024
	// +kubebuilder:validation:items:MaxLength=32768
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="args is immutable: make a new Job"
	Args []string `json:"args,omitempty"`

	// env are environment variables for the program, over those of the container. Secrets come by
	// the pool's template.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="env is immutable: make a new Job"
	Env []EnvVar `json:"env,omitempty"`

	// workingDir is the directory to run in: the container's own if unset.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="workingDir is immutable: make a new Job"
	// +kubebuilder:validation:XValidation:rule="self.startsWith('/')",message="workingDir must be an absolute path"
	WorkingDir string `json:"workingDir,omitempty"`

	// priority of the Job in its pool's queue: higher goes first.
	// +optional
	// +default=0
	// +kubebuilder:validation:Minimum=-1000
	// +kubebuilder:validation:Maximum=1000
	Priority *int32 `json:"priority,omitempty"`

	// ttlSecondsAfterFinished is how long the Job is kept after it has finished; then it is deleted.
	// +optional
	// +default=86400
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=315360000
	TTLSecondsAfterFinished *int32 `json:"ttlSecondsAfterFinished,omitempty"`
}

// EnvVar is one environment variable.
type EnvVar struct {
	// name of the variable.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:Pattern=`^[^=]+$`
	Name string `json:"name,omitempty"`

	// value of the variable.
	// +optional
	// +kubebuilder:validation:MinLength=0
	// +kubebuilder:validation:MaxLength=32768
	Value *string `json:"value,omitempty"`
}

// JobState is where a Job is in its life.
//
// +kubebuilder:validation:Enum=Pending;Queued;Running;Succeeded;Failed
type JobState string

// States of a Job. Succeeded and Failed are final.
const (
	// JobPending means that the Job is not in the queue; its reason tells what it waits for.
	JobPending JobState = "Pending"
	// JobQueued means that the Job waits in its pool's queue for a worker.
	JobQueued JobState = "Queued"
	// JobRunning means that a worker runs the Job.
	JobRunning JobState = "Running"
	// JobSucceeded means that the Job has ended well.
	JobSucceeded JobState = "Succeeded"
	// JobFailed means that the Job has ended for good without success; its reason tells why.
	JobFailed JobState = "Failed"
)

// Finished tells whether the state is final.
func (s JobState) Finished() bool { return s == JobSucceeded || s == JobFailed }

// Reasons of a Job's state.
const (
	// ReasonWaiting: the operator has not looked at the Job yet.
	ReasonWaiting = "Waiting"
	// ReasonPoolNotFound: there is no WorkerPool of this name, or it is being deleted.
	ReasonPoolNotFound = "PoolNotFound"
	// ReasonQueueFull: the pool's queue is full; the Job comes in, in order, as room appears.
	ReasonQueueFull = "QueueFull"
	// ReasonRetrying: an attempt was cut off or failed; the Job will be tried again.
	ReasonRetrying = "Retrying"
	// ReasonExitCode: the command ended with an exit code other than 0.
	ReasonExitCode = "ExitCode"
	// ReasonCannotStart: the command could not be started; the message is the system's.
	ReasonCannotStart = "CannotStart"
	// ReasonWorkerLost: worker after worker was lost while it ran the Job.
	ReasonWorkerLost = "WorkerLost"
	// ReasonInterrupted: the attempt was cut off by the removal of its worker.
	ReasonInterrupted = "Interrupted"
)

// Conditions of a Job.
const (
	// JobComplete is true once the Job has succeeded.
	JobComplete = "Complete"
	// JobFailedCondition is true once the Job has failed for good.
	JobFailedCondition = "Failed"
)

// JobStatus is how far a Job is.
type JobStatus struct {
	// conditions of the Job: Complete or Failed, once it is so.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=8
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// state is where the Job is in its life. Succeeded and Failed are final.
	// +optional
	State JobState `json:"state,omitempty"`

	// reason of the state, one word.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Reason string `json:"reason,omitempty"`

	// message says more about the reason, for people.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`

	// queuedTime is when the Job entered its pool's queue.
	// +optional
	QueuedTime *metav1.MicroTime `json:"queuedTime,omitempty"`

	// startTime is when the latest attempt started.
	// +optional
	StartTime *metav1.MicroTime `json:"startTime,omitempty"`

	// completionTime is when the last attempt ended.
	// +optional
	CompletionTime *metav1.MicroTime `json:"completionTime,omitempty"`

	// attempts is the number of times that the Job was started.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Attempts *int32 `json:"attempts,omitempty"`

	// lostWorkers is the number of attempts that ended because their worker was lost. Five of them
	// fail the Job.
	// +optional
	// +kubebuilder:validation:Minimum=0
	LostWorkers *int32 `json:"lostWorkers,omitempty"`

	// worker is the pod of the latest attempt.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Worker string `json:"worker,omitempty"`

	// result of the last attempt that ended.
	// +optional
	Result *JobResult `json:"result,omitempty"`

	// usage of the last attempt that ended.
	// +optional
	Usage *JobUsage `json:"usage,omitempty"`

	// attempt is the one that runs.
	// +optional
	Attempt *Attempt `json:"attempt,omitempty"`

	// endedAttempts are the last three that ended, the latest last.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=3
	EndedAttempts []Attempt `json:"endedAttempts,omitempty"`
}

// JobResult is what came of an attempt.
//
// +kubebuilder:validation:MinProperties=0
type JobResult struct {
	// exitCode of the command. One that a signal ended has 128 and the signal's number.
	// +optional
	ExitCode *int32 `json:"exitCode,omitempty"`

	// reason of the failure.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Reason string `json:"reason,omitempty"`

	// message says more about the reason.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`

	// output is the end of what the command wrote, its last 4 KiB at most; bytes that are not UTF-8
	// are replaced. The worker's log has all of it.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	Output string `json:"output,omitempty"`
}

// JobUsage is what an attempt used, as the system counted it for the command and for those of its
// children that it waited for.
//
// +kubebuilder:validation:MinProperties=0
type JobUsage struct {
	// cpuMilliseconds is the processor time used, in user and in system mode together.
	// +optional
	// +kubebuilder:validation:Minimum=0
	CPUMilliseconds *int64 `json:"cpuMilliseconds,omitempty"`

	// maxMemoryBytes is the largest resident set of one process.
	// +optional
	// +kubebuilder:validation:Minimum=0
	MaxMemoryBytes *int64 `json:"maxMemoryBytes,omitempty"`
}

// Attempt is one execution of a Job.
type Attempt struct {
	// token identifies the attempt: `<try>.<epoch>`, where the epoch is that of the leader that made it.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Token string `json:"token,omitempty"`

	// worker is the name of the pod that ran it.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Worker string `json:"worker,omitempty"`

	// podUID is the UID of that pod.
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	PodUID types.UID `json:"podUID,omitempty"`

	// startTime is when it started.
	// +optional
	StartTime *metav1.MicroTime `json:"startTime,omitempty"`

	// endTime is when it ended.
	// +optional
	EndTime *metav1.MicroTime `json:"endTime,omitempty"`

	// reason of its end; empty if it succeeded.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Reason string `json:"reason,omitempty"`

	// exitCode of its command.
	// +optional
	ExitCode *int32 `json:"exitCode,omitempty"`
}

// JobList is a list of Jobs.
//
// +kubebuilder:object:root=true
type JobList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Job `json:"items"`
}
