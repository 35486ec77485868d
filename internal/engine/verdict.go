package engine

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// failure is why a try failed, in the words of the API.
type failure struct {
	reason, message string
	// exitCode of a command that ended by itself, else 0.
	exitCode int32
	// permanent failures are not retried, unless a rule of the Job says so.
	permanent bool
}

func (f failure) Error() string { return fmt.Sprintf("%s: %s", f.reason, f.message) }

func asFailure(err error) failure {
	if f, ok := err.(failure); ok { //nolint:errorlint // made here and never wrapped
		return f
	}
	return failure{reason: v1alpha1.ReasonCannotStart, message: err.Error()}
}

// verdict is nil for a success.
func (t *task) verdict(r Result) *failure {
	switch r.Outcome {
	case CannotStart:
		return &failure{reason: v1alpha1.ReasonCannotStart, message: r.Message}
	case TimedOut:
		return &failure{reason: v1alpha1.ReasonTimeout, message: fmt.Sprintf("The try took longer than %s.", t.job.timeout())}
	case DeadlineExceeded:
		return deadlineExceeded(t.job.activeDeadline)
	case MemoryExceeded:
		return &failure{reason: v1alpha1.ReasonMemoryExceeded, message: r.Message}
	case OOMKilled:
		return &failure{reason: v1alpha1.ReasonOOMKilled, message: r.Message}
	case Responded:
		return answerVerdict(r)
	case Exited, Killed, Interrupted:
	}
	switch {
	case r.Signal != 0:
		return &failure{
			reason: v1alpha1.ReasonExitCode, exitCode: r.ExitCode,
			message: fmt.Sprintf("The command was ended by signal %d (exit code %d).", r.Signal, r.ExitCode),
		}
	case r.ExitCode > 128 && r.ExitCode <= 128+lastSignal:
		// A shell ends so when a signal has ended what it ran, and so may any program.
		return &failure{
			reason: v1alpha1.ReasonExitCode, exitCode: r.ExitCode,
			message: fmt.Sprintf("The command ended with exit code %d, which often stands for signal %d.", r.ExitCode, r.ExitCode-128),
		}
	case r.ExitCode != 0:
		return &failure{reason: v1alpha1.ReasonExitCode, exitCode: r.ExitCode, message: fmt.Sprintf("The command ended with exit code %d.", r.ExitCode)}
	}
	return nil
}

// lastSignal is the highest number of a signal.
const lastSignal = 64

func deadlineExceeded(seconds int32) *failure {
	return &failure{
		reason:  v1alpha1.ReasonDeadlineExceeded,
		message: fmt.Sprintf("The Job has not ended within %d seconds of its creation.", seconds),
	}
}

// answerVerdict is nil for a status of 2xx.
func answerVerdict(r Result) *failure {
	status := int(r.HTTPStatus)
	f := &failure{
		reason: v1alpha1.ReasonHTTPStatus, message: fmt.Sprintf("The server answered %d %s.", status, http.StatusText(status)),
		permanent: status/100 == 4 && status != http.StatusRequestTimeout && status != http.StatusTooManyRequests,
	}
	switch {
	case status/100 == 2:
		return nil
	case status == 0:
		f.message = "The request has failed: " + r.Message
	}
	return f
}

func resultOf(r Result, f *failure) *v1alpha1.JobResult {
	result := &v1alpha1.JobResult{Output: r.Output}
	if r.Outcome == Exited {
		result.ExitCode = new(r.ExitCode)
	}
	if f != nil {
		result.Reason, result.Message = f.reason, clip(f.message)
	}
	return result
}

// clip shortens a message to what the API takes.
func clip(message string) string {
	const most = 1000
	for i := range message {
		if i > most {
			return message[:i] + " ..."
		}
	}
	return message
}

// rule finds what the first of the Job's rules that is about the failure wants; empty if none is.
func (j *job) rule(f failure) v1alpha1.FailureAction {
	if j.isShed() || j.object.Spec.FailurePolicy == nil {
		return ""
	}
	rules := j.object.Spec.FailurePolicy.Rules
	for i := range rules {
		rule := &rules[i]
		if slices.Contains(rule.Reasons, v1alpha1.FailureReason(f.reason)) || f.exitCode != 0 && slices.Contains(rule.ExitCodes, f.exitCode) {
			return rule.Action
		}
	}
	return ""
}
