package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// JobState is where a Job is in its life.
//
// +kubebuilder:validation:Enum=Pending;Queued;Running;Succeeded;Failed
type JobState string

// States of a Job. Succeeded and Failed are final.
const (
	// JobPending means that the Job is not in the queue; its reason tells what it
	// waits for.
	JobPending JobState = "Pending"
	// JobQueued means that the Job waits in its pool's queue for a worker.
	JobQueued JobState = "Queued"
	// JobRunning means that a worker runs the Job.
	JobRunning JobState = "Running"
	// JobSucceeded means that the Job has ended well.
	JobSucceeded JobState = "Succeeded"
	// JobFailed means that the Job has ended for good without success; its reason
	// tells why.
	JobFailed JobState = "Failed"
)

// Finished tells whether the state is final.
func (s JobState) Finished() bool {
	return s == JobSucceeded || s == JobFailed
}

// Reasons of a Job's state.
const (
	// ReasonWaiting: the operator has not looked at the Job yet.
	ReasonWaiting = "Waiting"
	// ReasonPoolNotFound: there is no WorkerPool of this name, or it is being
	// deleted.
	ReasonPoolNotFound = "PoolNotFound"
	// ReasonQueueFull: the pool's queue is full; the Job comes in, in order, as
	// room appears.
	ReasonQueueFull = "QueueFull"
	// ReasonDoesNotFit: no worker of the pool is large enough, or the Job is so
	// large that its end could not be stored.
	ReasonDoesNotFit = "DoesNotFit"
	// ReasonWrongHandler: the Job is a command and the pool's workers serve HTTP,
	// or the other way round.
	ReasonWrongHandler = "WrongHandler"
	// ReasonSuspended: the Job is suspended.
	ReasonSuspended = "Suspended"
	// ReasonNotYet: startAfter has not come.
	ReasonNotYet = "NotYet"
	// ReasonRetrying: an attempt was cut off or failed; the Job will be tried
	// again.
	ReasonRetrying = "Retrying"
	// ReasonPoolSuspended: the pool is suspended, so no Job is started.
	ReasonPoolSuspended = "PoolSuspended"
	// ReasonPoolInvalid: the operator can't read the pool's spec, and starts no
	// Job until it is corrected.
	ReasonPoolInvalid = "PoolInvalid"
	// ReasonNoWorkers: the pool has no workers, because its replicas are 0. Where
	// workers are wanted and none takes Jobs, the reason is that of the pool's
	// condition.
	ReasonNoWorkers = "NoWorkers"
	// ReasonOnFailure: the Job has failed, and its onFailure is to run, or runs.
	ReasonOnFailure = "OnFailure"
	// ReasonExitCode: the command ended with an exit code other than 0.
	ReasonExitCode = "ExitCode"
	// ReasonTimeout: a try took longer than timeoutSeconds.
	ReasonTimeout = "Timeout"
	// ReasonDeadlineExceeded: the Job took longer than activeDeadlineSeconds.
	ReasonDeadlineExceeded = "DeadlineExceeded"
	// ReasonMemoryExceeded: the command took more than resources.memory.
	ReasonMemoryExceeded = "MemoryExceeded"
	// ReasonOOMKilled: the worker ran out of memory, and the command was furthest
	// over its share.
	ReasonOOMKilled = "OOMKilled"
	// ReasonCannotStart: the command could not be started; the message is the
	// system's.
	ReasonCannotStart = "CannotStart"
	// ReasonWorkerLost: worker after worker was lost while it ran the Job.
	ReasonWorkerLost = "WorkerLost"
	// ReasonInterrupted: the attempt was cut off by the removal of its worker, or
	// by suspension.
	ReasonInterrupted = "Interrupted"
	// ReasonHTTPStatus: the worker's answer has a status other than 2xx, or there
	// was none.
	ReasonHTTPStatus = "HTTPStatus"
	// ReasonStatusRefused: the API server does not store the status of the Job.
	ReasonStatusRefused = "StatusRefused"
	// ReasonIndexesFailed: tasks of an indexed Job have failed for good.
	ReasonIndexesFailed = "IndexesFailed"
	// ReasonInvalid: the operator can't read what is stored. It is also a reason of
	// a WorkerPool's condition Ready.
	ReasonInvalid = "Invalid"
	// ReasonDeleted says that the Job is being deleted. It is there only as long
	// as a finalizer holds it.
	ReasonDeleted = "Deleted"
)

// Conditions of a Job.
const (
	// JobComplete is true once the Job has succeeded.
	JobComplete = "Complete"
	// JobFailedCondition is true once the Job has failed for good.
	JobFailedCondition = "Failed"
	// JobFailureTarget is true once it is clear that the Job will fail: what runs
	// of it is being ended, or its onFailure is to run.
	JobFailureTarget = "FailureTarget"
	// JobSuspended is true while the Job is suspended.
	JobSuspended = "Suspended"
)

// JobStatus is how far a Job is.
type JobStatus struct {
	// conditions of the Job: Complete or Failed, once it is so; FailureTarget
	// before it fails in steps; Suspended.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=8
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// leader is the operator that has written this status, by its epoch: when the
	// Lease was made by which the leader is elected, in microseconds since 1970,
	// and how often it has changed hands by then.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Leader string `json:"leader,omitempty"`

	// state is where the Job is in its life. Succeeded and Failed are final.
	// +optional
	State JobState `json:"state,omitempty"`

	// reason of the state, one word. While no worker of the pool takes Jobs, that
	// of a queued Job is what is wrong with the pool.
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

	// startTime is when the latest attempt started; of an indexed Job, when its
	// first task did.
	// +optional
	StartTime *metav1.MicroTime `json:"startTime,omitempty"`

	// completionTime is when the last attempt ended.
	// +optional
	CompletionTime *metav1.MicroTime `json:"completionTime,omitempty"`

	// attempts is the number of times that a task of the Job was started.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Attempts *int32 `json:"attempts,omitempty"`

	// retries is the number of those that count against maxRetries; of an indexed
	// Job, of all its tasks.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Retries *int32 `json:"retries,omitempty"`

	// lostWorkers is the number of attempts that ended because their worker was
	// lost. Five of them fail a task.
	// +optional
	// +kubebuilder:validation:Minimum=0
	LostWorkers *int32 `json:"lostWorkers,omitempty"`

	// worker is the pod of the latest attempt.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Worker string `json:"worker,omitempty"`

	// result of the last attempt that ended; of an indexed Job, of the first task
	// that failed for good.
	// +optional
	Result *JobResult `json:"result,omitempty"`

	// usage of the last attempt that ended; of an indexed Job, of all of them: the
	// processor time together, and the most memory of one.
	// +optional
	Usage *JobUsage `json:"usage,omitempty"`

	// attempt is the one that runs, once that is recorded; of an indexed Job, see
	// runningIndexes.
	// +optional
	Attempt *Attempt `json:"attempt,omitempty"`

	// endedAttempts are the last three that ended, the latest last. Indexed Jobs
	// have none.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=3
	EndedAttempts []Attempt `json:"endedAttempts,omitempty"`

	// completions is the number of tasks that have succeeded and of all, for
	// people: `49/50`. This and what follows is for indexed Jobs only, and written
	// at most once a second, or once for each 250 tasks that have ended.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=32
	Completions string `json:"completions,omitempty"`

	// active is the number of tasks that run.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Active *int32 `json:"active,omitempty"`

	// succeeded is the number of tasks that have succeeded.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Succeeded *int32 `json:"succeeded,omitempty"`

	// failed is the number of tasks that have failed for good.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Failed *int32 `json:"failed,omitempty"`

	// succeededIndexes are the tasks that have succeeded: `0-4,7`. If that has more
	// than 16 KiB, it is `bitmap:` and a bitmap in base64, where bit 0 of the first
	// byte is task 0.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1048576
	SucceededIndexes string `json:"succeededIndexes,omitempty"`

	// failedIndexes are the tasks that have failed for good, in the same form.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1048576
	FailedIndexes string `json:"failedIndexes,omitempty"`

	// retriedIndexes are the tasks that have failed, but not for good, each with
	// the number of retries that it has used, and of its try that has ended last:
	// `3:1:1,7:2:4`.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=65536
	RetriedIndexes string `json:"retriedIndexes,omitempty"`

	// runningIndexes are the tasks that run, by worker.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1000
	RunningIndexes []WorkerIndexes `json:"runningIndexes,omitempty"`
}

// WorkerIndexes are the tasks of a Job that one worker runs.
type WorkerIndexes struct {
	// worker is the name of the pod.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Worker string `json:"worker,omitempty"`

	// podUID is its UID.
	// +required
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	PodUID types.UID `json:"podUID,omitempty"`

	// indexes are the tasks: `0-4,7`.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	Indexes string `json:"indexes,omitempty"`
}

// JobResult is what came of an attempt.
//
// +kubebuilder:validation:MinProperties=0
type JobResult struct {
	// exitCode of the command. One that a signal ended has 128 and the signal's
	// number.
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

	// output is the end of what the command wrote, its last 4 KiB at most; bytes
	// that are not UTF-8 are replaced. The worker's log has all of it.
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
	// cpuMilliseconds is the processor time used, in user and in system mode
	// together.
	// +optional
	// +kubebuilder:validation:Minimum=0
	CPUMilliseconds *int64 `json:"cpuMilliseconds,omitempty"`

	// maxMemoryBytes is the most memory that was seen: the resident sets of all
	// its processes together if the Job has a limit of memory, else the largest of
	// one process. Unset if no process took more than the worker's agent: then it is not
	// known.
	// +optional
	// +kubebuilder:validation:Minimum=0
	MaxMemoryBytes *int64 `json:"maxMemoryBytes,omitempty"`
}

// Attempt is one execution of a Job.
type Attempt struct {
	// token identifies the attempt: `<try>.<epoch>`, where the epoch is that of
	// the leader that made it.
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
