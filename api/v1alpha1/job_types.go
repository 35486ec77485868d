package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Job is work that a worker of a WorkerPool runs. `kubectl get jobs` means the
// Jobs of batch/v1: say `kubectl get wj`.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=wj,categories=workerpool
// +kubebuilder:selectablefield:JSONPath=.spec.pool
// +kubebuilder:printcolumn:name="Pool",type=string,JSONPath=`.spec.pool`
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.state`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.reason`
// +kubebuilder:printcolumn:name="Attempts",type=integer,JSONPath=`.status.attempts`
// +kubebuilder:printcolumn:name="Worker",type=string,JSONPath=`.status.worker`
// +kubebuilder:printcolumn:name="Completions",type=string,JSONPath=`.status.completions`
// +kubebuilder:printcolumn:name="Started",type=date,JSONPath=`.status.startTime`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Exit",type=integer,JSONPath=`.status.result.exitCode`,priority=1
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.message`,priority=1
type Job struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what to run. All of it but suspend, priority and
	// ttlSecondsAfterFinished is immutable.
	// +required
	Spec JobSpec `json:"spec,omitzero"`

	// status is how far the Job is. The operator writes it; a Job that ends within
	// 200 milliseconds is written once, when it has ended.
	// +optional
	// +default={"state": "Pending", "reason": "Waiting"}
	Status JobStatus `json:"status,omitzero"`
}

// What is immutable is checked when a Job is made, and not with each status that is written: that would cost the API
// server a tenth of a millisecond each time.

// JobSpec is what to run.
//
// +kubebuilder:validation:XValidation:rule="oldSelf.hasValue() || has(self.command) || has(self.http) || has(self.args)",optionalOldSelf=true,message="command or http must be set: the program to run, or the request to make of a pool whose workers serve HTTP"
// +kubebuilder:validation:XValidation:rule="oldSelf.hasValue() || !has(self.command) || !has(self.http)",optionalOldSelf=true,message="command and http may not both be set: a Job is one or the other"
// +kubebuilder:validation:XValidation:rule="oldSelf.hasValue() || has(self.command) || has(self.http) || !has(self.args)",optionalOldSelf=true,message="command must be set where args is: the image's entrypoint is not used"
// +kubebuilder:validation:XValidation:rule="oldSelf.hasValue() || !has(self.http) || !(has(self.args) || has(self.env) || has(self.workingDir) || has(self.stdin))",optionalOldSelf=true,message="args, env, workingDir and stdin are for commands: an HTTP Job has a path, headers and a body"
// +kubebuilder:validation:XValidation:rule="oldSelf.hasValue() || !has(self.http) || !has(self.onFailure)",optionalOldSelf=true,message="onFailure is a command, which the workers of an HTTP Job can't run"
// +kubebuilder:validation:XValidation:rule="oldSelf.hasValue() || !has(self.items) || !has(self.completions)",optionalOldSelf=true,message="items and completions may not both be set: items has one task for each item"
// +kubebuilder:validation:XValidation:rule="oldSelf.hasValue() || !has(self.parallelism) || has(self.items) || has(self.completions)",optionalOldSelf=true,message="parallelism is for Jobs with completions or items"
// +kubebuilder:validation:XValidation:rule="oldSelf.hasValue() || self.execution != 'AtMostOnce' || !(has(self.items) || has(self.completions))",optionalOldSelf=true,message="a Job that runs AtMostOnce may not have completions or items"
// +kubebuilder:validation:XValidation:rule="oldSelf.hasValue() || self.execution != 'AtMostOnce' || !(has(self.maxRetries) && self.maxRetries > 0 || has(self.failurePolicy))",optionalOldSelf=true,message="a Job that runs AtMostOnce may not be retried: leave out maxRetries and failurePolicy"
// +kubebuilder:validation:XValidation:rule="oldSelf.hasValue() || (has(self.command) ? self.command.map(c, size(c)).sum() : 0) + (has(self.args) ? self.args.map(a, size(a)).sum() : 0) + (has(self.env) ? self.env.map(e, size(e.name) + (has(e.value) ? size(e.value) : 0)).sum() : 0) + (has(self.stdin) ? size(bytes(self.stdin)) : 0) + (has(self.items) ? size(bytes(self.items.join())) : 0) + (has(self.http) ? size(self.http.path) + (has(self.http.body) ? size(bytes(self.http.body)) : 0) + (has(self.http.headers) ? self.http.headers.map(h, size(h.name) + (has(h.value) ? size(h.value) : 0)).sum() : 0) : 0) <= 1048576",optionalOldSelf=true,message="command, args, env, stdin, items and http may have 1 MiB together"
// +kubebuilder:validation:XValidation:rule="has(self.command) == has(oldSelf.command) && has(self.args) == has(oldSelf.args) && has(self.env) == has(oldSelf.env) && has(self.workingDir) == has(oldSelf.workingDir) && has(self.stdin) == has(oldSelf.stdin) && has(self.http) == has(oldSelf.http) && has(self.resources) == has(oldSelf.resources) && has(self.maxRetries) == has(oldSelf.maxRetries) && has(self.backoff) == has(oldSelf.backoff) && has(self.failurePolicy) == has(oldSelf.failurePolicy) && has(self.timeoutSeconds) == has(oldSelf.timeoutSeconds) && has(self.activeDeadlineSeconds) == has(oldSelf.activeDeadlineSeconds) && has(self.completions) == has(oldSelf.completions) && has(self.parallelism) == has(oldSelf.parallelism) && has(self.items) == has(oldSelf.items) && has(self.startAfter) == has(oldSelf.startAfter) && has(self.onFailure) == has(oldSelf.onFailure)",message="only suspend, priority and ttlSecondsAfterFinished may be changed: make a new Job"
type JobSpec struct {
	// pool is the name of the WorkerPool, in the same namespace, that runs the
	// Job. If there is none of this name, the Job waits until there is.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=52
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="pool is immutable: make a new Job"
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",message="pool must be the name of a WorkerPool: a DNS label"
	Pool string `json:"pool,omitempty"`

	// command is the program to run and its first arguments. The program is looked
	// up in the container's PATH. No shell is used: say `["sh", "-c", "..."]` for
	// one.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MaxLength=32768
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="command is immutable: make a new Job"
	// +kubebuilder:validation:XValidation:rule="size(self[0]) > 0",message="command must begin with the name of a program"
	// +kubebuilder:validation:XValidation:rule="oldSelf.hasValue() || self.all(s, !s.contains('\\x00'))",optionalOldSelf=true,message="command may not have NUL characters: no program could be given them"
	Command []string `json:"command,omitempty"`

	// args are further arguments, after those of command. With items, each `{}` in
	// them is replaced by the task's item.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=1024
	// +kubebuilder:validation:items:MaxLength=32768
	// +kubebuilder:validation:items:Pattern=`^[^\x00]*$`
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="args is immutable: make a new Job"
	Args []string `json:"args,omitempty"`

	// env are environment variables for the program, over those of the container.
	// Secrets come by the pool's template.
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
	// +kubebuilder:validation:XValidation:rule="oldSelf.hasValue() || !self.contains('\\x00')",optionalOldSelf=true,message="workingDir may not have NUL characters: no program could be given them"
	WorkingDir string `json:"workingDir,omitempty"`

	// stdin is what the program reads from its standard input: nothing if unset.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=524288
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="stdin is immutable: make a new Job"
	Stdin string `json:"stdin,omitempty"`

	// http is the request to make, for pools whose handler is HTTP.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="http is immutable: make a new Job"
	HTTP *HTTPRequest `json:"http,omitzero"`

	// priority of the Job in its pool's queue: higher goes first. One step is
	// worth the pool's queue.agingSeconds of waiting.
	// +optional
	// +default=0
	// +kubebuilder:validation:Minimum=-1000
	// +kubebuilder:validation:Maximum=1000
	Priority *int32 `json:"priority,omitempty"`

	// resources are what each task takes from its worker while it runs.
	// +optional
	// +kubebuilder:validation:XValidation:rule="has(self.cpu) == has(oldSelf.cpu) && has(self.memory) == has(oldSelf.memory) && (has(self.files) ? self.files : 0) == (has(oldSelf.files) ? oldSelf.files : 0)",message="resources is immutable: make a new Job"
	// +kubebuilder:validation:XValidation:rule="!has(self.cpu) || !has(oldSelf.cpu) || size(string(self.cpu)) <= 64 && string(self.cpu).matches('^[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?$') && quantity(string(self.cpu)).compareTo(quantity(string(oldSelf.cpu))) == 0",message="resources is immutable: make a new Job"
	// +kubebuilder:validation:XValidation:rule="!has(self.memory) || !has(oldSelf.memory) || size(string(self.memory)) <= 64 && string(self.memory).matches('^[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?$') && quantity(string(self.memory)).compareTo(quantity(string(oldSelf.memory))) == 0",message="resources is immutable: make a new Job"
	Resources *JobResources `json:"resources,omitzero"`

	// maxRetries is how often a task that failed is tried again after the first
	// try: that of the pool's jobDefaults if unset, else 0. Tries that were cut
	// off by the removal or the loss of their worker do not count.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=10000
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="maxRetries is immutable: make a new Job"
	MaxRetries *int32 `json:"maxRetries,omitempty"`

	// backoff is how long a failed task waits before it is tried again: that of
	// the pool's jobDefaults if unset, as a whole. It takes no slot meanwhile.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="backoff is immutable: make a new Job"
	Backoff *Backoff `json:"backoff,omitempty"`

	// failurePolicy decides what a failure means. Without it, or where no rule
	// matches, a failed task is retried as often as maxRetries says.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="failurePolicy is immutable: make a new Job"
	FailurePolicy *FailurePolicy `json:"failurePolicy,omitzero"`

	// timeoutSeconds is how long one try may run: that of the pool's jobDefaults
	// if unset, else there is no limit. Then all processes of the try get SIGTERM,
	// and SIGKILL after terminationGracePeriodSeconds; it has failed for the
	// reason Timeout.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=31536000
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="timeoutSeconds is immutable: make a new Job"
	TimeoutSeconds *int32 `json:"timeoutSeconds,omitempty"`

	// activeDeadlineSeconds is how long the Job may take from its creation,
	// waiting included. Then it fails for good for the reason DeadlineExceeded,
	// and what runs of it is ended as by a timeout.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=315360000
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="activeDeadlineSeconds is immutable: make a new Job"
	ActiveDeadlineSeconds *int32 `json:"activeDeadlineSeconds,omitempty"`

	// terminationGracePeriodSeconds is the time from SIGTERM to SIGKILL when a try
	// is ended: by a timeout, the deadline, suspension, or because the Job was
	// deleted.
	// +optional
	// +default=10
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=86400
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="terminationGracePeriodSeconds is immutable: make a new Job"
	TerminationGracePeriodSeconds *int32 `json:"terminationGracePeriodSeconds,omitempty"`

	// completions makes this an indexed Job, of so many tasks. Each runs with its
	// index, from 0, in the environment variable JOB_COMPLETION_INDEX. All of them
	// run, and the Job fails in the end if one of them has failed for good.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100000
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="completions is immutable: make a new Job"
	Completions *int32 `json:"completions,omitempty"`

	// parallelism is how many tasks of the Job may run at once: 1000, the most
	// that may, if unset.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="parallelism is immutable: make a new Job"
	Parallelism *int32 `json:"parallelism,omitempty"`

	// items makes this an indexed Job with one task for each item. A task has its
	// item in the environment variable JOB_ITEM, and in place of each `{}` in
	// args. Together they may have 512 KiB.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=10000
	// +kubebuilder:validation:items:MaxLength=1024
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="items is immutable: make a new Job"
	// +kubebuilder:validation:XValidation:rule="oldSelf.hasValue() || size(bytes(self.join())) <= 524288",optionalOldSelf=true,message="items may have 512 KiB together"
	// +kubebuilder:validation:XValidation:rule="oldSelf.hasValue() || self.all(i, size(bytes(i)) <= 1024)",optionalOldSelf=true,message="an item may have 1024 bytes"
	// +kubebuilder:validation:XValidation:rule="oldSelf.hasValue() || self.all(s, !s.contains('\\x00'))",optionalOldSelf=true,message="items may not have NUL characters: no program could be given them"
	Items []string `json:"items,omitempty"`

	// startAfter is a time before which the Job is not started.
	// +optional
	// +kubebuilder:validation:XValidation:rule="int(self) == int(oldSelf)",message="startAfter is immutable: make a new Job"
	StartAfter *metav1.Time `json:"startAfter,omitempty"`

	// suspend takes the Job out of the queue while it is true. What runs of it is
	// stopped, as by a timeout, and runs again later; that does not count as a
	// try.
	// +optional
	// +default=false
	Suspend *bool `json:"suspend,omitempty"`

	// execution is AtLeastOnce, or AtMostOnce for work that must never run twice:
	// such a Job fails for the reason Interrupted if it was cut off, and is not
	// tried again.
	// +optional
	// +default="AtLeastOnce"
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="execution is immutable: make a new Job"
	Execution Execution `json:"execution,omitempty"`

	// onFailure is run in a worker when the Job has failed for good, before that
	// is recorded. It runs at least once.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="onFailure is immutable: make a new Job"
	OnFailure *FailureHandler `json:"onFailure,omitzero"`

	// ttlSecondsAfterFinished is how long the Job is kept after it has finished;
	// then it is deleted. It is that of the pool's jobDefaults if unset, else
	// 86400.
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=315360000
	TTLSecondsAfterFinished *int32 `json:"ttlSecondsAfterFinished,omitempty"`
}

// Execution is how often a Job may be run.
//
// +kubebuilder:validation:Enum=AtLeastOnce;AtMostOnce
type Execution string

// Values of Execution.
const (
	// AtLeastOnce runs a task again if it was cut off.
	AtLeastOnce Execution = "AtLeastOnce"
	// AtMostOnce never does.
	AtMostOnce Execution = "AtMostOnce"
)

// HTTPRequest is a request to a worker. A status of 2xx is a success, one of 4xx a failure that is not
// retried, but for 408 and 429; all others are failures.
type HTTPRequest struct {
	// method of the request.
	// +optional
	// +default="POST"
	// +kubebuilder:validation:Enum=GET;HEAD;POST;PUT;PATCH;DELETE
	Method string `json:"method,omitempty"`

	// path and query of the request. With items, each `{}` in it is replaced by
	// the task's item, escaped.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=4096
	// +kubebuilder:validation:XValidation:rule="self.matches('^/[!-~]*$')",message="path must begin with a slash and have no spaces or characters that are not ASCII: escape them"
	// +kubebuilder:validation:XValidation:rule="oldSelf.hasValue() || !self.contains('#') && self.matches('^([^%]|%[0-9A-Fa-f]{2})*$')",optionalOldSelf=true,message="path may have no number sign, and a percent sign only before two hexadecimal digits: say %23 and %25"
	Path string `json:"path,omitempty"`

	// headers of the request. The Job's name, UID, index and try are in headers
	// whose names begin with `Workerpool-`.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	Headers []HTTPHeader `json:"headers,omitempty"`

	// body of the request.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=524288
	Body string `json:"body,omitempty"`
}

// HTTPHeader is a header of a request.
type HTTPHeader struct {
	// name of the header.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="self.matches('^[-!#$%&*+.^_|~0-9A-Za-z]+$')",message="name must be the name of an HTTP header"
	// +kubebuilder:validation:XValidation:rule="!self.lowerAscii().startsWith('workerpool-') && !(self.lowerAscii() in ['connection', 'content-length', 'host', 'keep-alive', 'te', 'trailer', 'transfer-encoding', 'upgrade'])",message="this header is set by the agent"
	Name string `json:"name,omitempty"`

	// value of the header.
	// +optional
	// +kubebuilder:validation:MinLength=0
	// +kubebuilder:validation:MaxLength=8192
	// +kubebuilder:validation:XValidation:rule="!self.matches('[\\x00-\\x08\\x0a-\\x1f\\x7f]')",message="value may not have control characters"
	Value *string `json:"value,omitempty"`
}

// JobResources are what a task takes from its worker. What is unset of cpu and memory is an equal part of
// the worker for each of its slots.
//
// +kubebuilder:validation:MinProperties=1
type JobResources struct {
	// cpu is the part of the worker's processors that is kept for the task. It
	// decides how many tasks a worker runs at once, and is not a cap. It is
	// rounded up to thousandths. A fraction without a unit must be in quotes,
	// "0.5": no schema of Kubernetes can take both texts and such numbers.
	// +optional
	// +kubebuilder:validation:XValidation:rule="size(string(self)) <= 64 && string(self).matches('^[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?$') && quantity(string(self)).isGreaterThan(quantity('0')) && quantity(string(self)).isLessThan(quantity('1M'))",message="cpu must be a number of processors above 0 and below 1000000, such as 2 or 500m"
	CPU *resource.Quantity `json:"cpu,omitempty"`

	// memory that is kept for the task, rounded up to bytes. A command whose
	// processes together take more is ended, for the reason MemoryExceeded.
	// +optional
	// +kubebuilder:validation:XValidation:rule="size(string(self)) <= 64 && string(self).matches('^[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?$') && quantity(string(self)).isGreaterThan(quantity('0')) && quantity(string(self)).isLessThan(quantity('1E'))",message="memory must be an amount above 0 and below 1E, such as 512Mi or 1.5Gi"
	Memory *resource.Quantity `json:"memory,omitempty"`

	// files is how many files each process of the task may have open at once.
	// +optional
	// +kubebuilder:validation:Minimum=4
	// +kubebuilder:validation:Maximum=1048576
	Files *int32 `json:"files,omitempty"`
}

// EnvVar is one environment variable.
type EnvVar struct {
	// name of the variable.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	// +kubebuilder:validation:XValidation:rule="!self.contains('=')",message="name may not have an equal sign"
	// +kubebuilder:validation:XValidation:rule="oldSelf.hasValue() || !self.contains('\\x00')",optionalOldSelf=true,message="name may not have NUL characters: no program could be given them"
	Name string `json:"name,omitempty"`

	// value of the variable.
	// +optional
	// +kubebuilder:validation:MinLength=0
	// +kubebuilder:validation:MaxLength=32768
	// +kubebuilder:validation:XValidation:rule="oldSelf.hasValue() || !self.contains('\\x00')",optionalOldSelf=true,message="value may not have NUL characters: no program could be given them"
	Value *string `json:"value,omitempty"`
}

// JobList is a list of Jobs.
//
// +kubebuilder:object:root=true
type JobList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Job `json:"items"`
}
