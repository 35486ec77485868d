package v1alpha1

// Backoff is a wait that grows from one retry to the next, by chance up to a half shorter.
type Backoff struct {
	// initialSeconds is the wait before the first retry.
	// +optional
	// +default=1
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=86400
	InitialSeconds *int32 `json:"initialSeconds,omitempty"`

	// factor by which it grows with each retry.
	// +optional
	// +default=2
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=10
	Factor *int32 `json:"factor,omitempty"`

	// maxSeconds is the longest wait.
	// +optional
	// +default=300
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=86400
	MaxSeconds *int32 `json:"maxSeconds,omitempty"`
}

// FailurePolicy decides what a failure means.
type FailurePolicy struct {
	// rules are looked at in order; the first that matches decides.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=20
	Rules []FailureRule `json:"rules,omitempty"`
}

// FailureRule decides about the failures that it names.
//
// +kubebuilder:validation:XValidation:rule="has(self.exitCodes) != has(self.reasons)",message="a rule must have exitCodes or reasons, and not both"
type FailureRule struct {
	// action is what happens: Fail the whole Job at once, Retry the task if it has
	// retries left, or Ignore: try it again without counting it.
	// +required
	Action FailureAction `json:"action,omitempty"`

	// exitCodes of the command that the rule is about.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=255
	// +kubebuilder:validation:items:Minimum=1
	// +kubebuilder:validation:items:Maximum=255
	ExitCodes []int32 `json:"exitCodes,omitempty"`

	// reasons of failures that the rule is about.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	Reasons []FailureReason `json:"reasons,omitempty"`
}

// FailureAction is what a rule does.
//
// +kubebuilder:validation:Enum=Fail;Retry;Ignore
type FailureAction string

// Values of FailureAction.
const (
	// ActionFail fails the whole Job at once, other tasks of it too.
	ActionFail FailureAction = "Fail"
	// ActionRetry tries the task again, if it has retries left.
	ActionRetry FailureAction = "Retry"
	// ActionIgnore tries the task again, and does not count it.
	ActionIgnore FailureAction = "Ignore"
)

// FailureReason is a reason that a rule can be about.
//
// +kubebuilder:validation:Enum=ExitCode;Timeout;MemoryExceeded;OOMKilled;CannotStart;WorkerLost;Interrupted;HTTPStatus
type FailureReason string

// FailureHandler is a command that is told of a Job's failure: the environment variables
// JOB_FAILURE_REASON and JOB_FAILURE_MESSAGE say why it failed.
//
// +kubebuilder:validation:XValidation:rule="self.command.map(c, size(c)).sum() + (has(self.args) ? self.args.map(a, size(a)).sum() : 0) + (has(self.env) ? self.env.map(e, size(e.name) + (has(e.value) ? size(e.value) : 0)).sum() : 0) <= 131072",message="onFailure may have 128 KiB of command, args and env together"
type FailureHandler struct {
	// command is the program to run and its first arguments.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MaxLength=32768
	// +kubebuilder:validation:XValidation:rule="size(self[0]) > 0",message="command must begin with the name of a program"
	// +kubebuilder:validation:XValidation:rule="oldSelf.hasValue() || self.all(s, !s.contains('\\x00'))",optionalOldSelf=true,message="command may not have NUL characters: no program could be given them"
	Command []string `json:"command,omitempty"`

	// args are further arguments, after those of command.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=1024
	// +kubebuilder:validation:items:MaxLength=32768
	// +kubebuilder:validation:items:Pattern=`^[^\x00]*$`
	Args []string `json:"args,omitempty"`

	// env are environment variables for the program, over those of the Job and of
	// the container.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=256
	Env []EnvVar `json:"env,omitempty"`
}
