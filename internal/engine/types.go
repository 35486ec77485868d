package engine

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/pkg/worker"
)

// Epoch orders the leaders of one installation.
type Epoch struct {
	// LeaseCreated is when the leader's Lease was created, in microseconds since 1970.
	LeaseCreated int64
	// Transitions is how often the Lease has changed hands.
	Transitions int64
}

// Compare returns -1, 0 or 1, for an epoch before, equal to or after the other.
func (e Epoch) Compare(o Epoch) int {
	return cmp.Or(cmp.Compare(e.LeaseCreated, o.LeaseCreated), cmp.Compare(e.Transitions, o.Transitions))
}

// String is the epoch as a Job's status has it: `<lease created>.<transitions>`.
func (e Epoch) String() string { return fmt.Sprintf("%d.%d", e.LeaseCreated, e.Transitions) }

// Token identifies one attempt of one task of a Job.
type Token struct {
	Job   types.UID
	Index int32
	Try   int32
	Epoch Epoch
}

// Compare orders tokens of the same task; the highest is the one that counts. The epoch goes first:
// what the present leader has started outranks all that earlier ones have, whose tries it need not
// have known of.
func (t Token) Compare(o Token) int {
	return cmp.Or(t.Epoch.Compare(o.Epoch), cmp.Compare(t.Try, o.Try))
}

// String is the token as a Job's status has it, without the Job: `<try>.<lease created>.<transitions>`.
func (t Token) String() string {
	return fmt.Sprintf("%d.%s", t.Try, t.Epoch)
}

// ParseToken reads what String wrote.
func ParseToken(job types.UID, s string) (Token, error) {
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return Token{}, fmt.Errorf("token %q is not of the form try.created.transitions", s)
	}
	var n [3]int64
	for i, part := range parts {
		v, err := strconv.ParseInt(part, 10, 64)
		if err != nil || v < 0 || (i == 0 && v > maxTry) {
			return Token{}, fmt.Errorf("token %q has no valid number at %d", s, i)
		}
		n[i] = v
	}
	return Token{Job: job, Try: int32(n[0]), Epoch: Epoch{LeaseCreated: n[1], Transitions: n[2]}}, nil
}

// PoolConfig is what the engine needs to know of a WorkerPool.
type PoolConfig struct {
	Key types.NamespacedName
	UID types.UID
	// Capacity is the number of Jobs that the queue holds, at least 1.
	Capacity int
	// Aging is what one step of priority is worth in waiting; 0 is strict priority.
	Aging time.Duration
	// Handler is how new workers run Jobs.
	Handler v1alpha1.HandlerType
	// Slots and Resources are those of a new worker. See WorkerPod.
	Slots     int
	Resources worker.ResourceLimits
	// Limits are the pool's; 0 is without one. Files is how many open files the running tasks may have reserved
	// together. The others are for its pods, which are not made here, and Requested is what these request
	// together: they are only shown.
	Limits    worker.ResourceLimits
	Requested worker.ResourceUsage
	// MaxAttempts is how many attempts a worker runs before it is spent; 0 is without a limit.
	MaxAttempts int
	// SpentOnFailure: a worker in which an attempt has failed is spent.
	SpentOnFailure bool
	// Reset is run in a worker after each attempt; nil for nothing. A worker in which it fails is spent.
	Reset *ResetCommand
	// Suspend keeps Jobs from being started.
	Suspend bool
	// LostAfter is how long a worker may be without a session before it is given up.
	LostAfter time.Duration
	// Defaults are for Jobs that do not say otherwise.
	Defaults v1alpha1.JobDefaults
	// Processed and Failed are the counters as last written to the WorkerPool's status. The engine
	// goes on from them when it sees the pool first; later they tell which Jobs are counted there.
	Processed, Failed uint64
}

// WorkerPod is what the engine needs to know of a worker pod, as the cache shows it.
type WorkerPod struct {
	UID     types.UID
	Name    string
	Ordinal int
	// Started: the pod is bound to a node and its containers have started once.
	Started bool
	// Terminating: the pod is being deleted, by us, by a user, or by an eviction.
	Terminating bool
	// Terminated: the pod has ended (phase Succeeded or Failed); nothing of it runs any more.
	Terminated bool
	// Death is the last end of its agent's container.
	Death Death
	// Handler is how the pod was made to run Jobs.
	Handler v1alpha1.HandlerType
	// Slots is how many Jobs the pod was made to run at once, at least 1.
	Slots int
	// Resources is what the pod's Jobs may take together: the requests of the job container, less
	// what the agent needs. What is 0 is not limited.
	Resources worker.ResourceLimits
}

// Victim is a worker that is to be deleted, and why it was thought that it can be.
type Victim struct {
	Pod types.UID
	// Idle: because it was idle.
	Idle bool
	// Lost: because it had no session for too long.
	Lost bool
}

// PoolSnapshot is what a pool does at one moment.
type PoolSnapshot struct {
	// Workers is the number of workers that are connected and take Jobs.
	Workers int
	// Queued is the number of Jobs that have a place in the queue. Indexed Jobs of which some tasks run
	// and others wait are among them, and among the active ones.
	Queued int
	// QueueCapacity is the number of Jobs that the queue holds.
	QueueCapacity int
	// Waiting is the number of Jobs beyond the queue's capacity.
	Waiting int
	// Active is the number of Jobs that run, and of those whose end is not stored yet.
	Active int
	// Processed and Failed count the Jobs that have finished, and those of them that failed.
	Processed, Failed uint64
	// Demand is what its Jobs want of workers.
	Demand Demand
	// Used is what the tasks that run take, and Capacity what the connected workers have; 0 is not limited.
	Used     worker.ResourceUsage
	Capacity worker.ResourceLimits
	// Limits and Requested are those of the pool's configuration.
	Limits    worker.ResourceLimits
	Requested worker.ResourceUsage
	// Pods has the pool's worker pods that the engine knows.
	Pods map[types.UID]PodSnapshot
}

// Demand is what a pool's Jobs want of workers, counted in whole workers as new ones are made.
type Demand struct {
	// Known: dispatch is open. Otherwise the rest says little, because the operator has just taken the lead, or
	// the pool is suspended or being deleted.
	Known bool
	// Waiting is what the tasks would take that could be started if there were room, and Running what those
	// take that run.
	Waiting, Running float64
	// TaskTime is how long a task takes, about, by those of the last minutes. It is a year where none has
	// ended.
	TaskTime time.Duration
}

// PodSnapshot is what a worker pod does at one moment.
type PodSnapshot struct {
	// Name is the pod's.
	Name string
	// Connected: its agent has a session.
	Connected bool
	// Busy: it runs a Job or a reset, or has a result that is not stored yet. A busy worker must not be ended.
	Busy bool
	// Draining: it is assigned nothing new.
	Draining bool
	// Cordoned: it is so because it is about to be deleted.
	Cordoned bool
	// Unavailable is why it takes nothing for now though it should, for people; empty if it does.
	Unavailable string
	// Spent: it has run all that it should, or is not fit for more, and takes nothing new.
	Spent bool
	// ResetFailure is why a reset has failed there, for people; empty if none has. It is spent then.
	ResetFailure string
	// Trouble is why its agent can take nothing until somebody helps it, for people; empty if it can.
	Trouble string
	// Lost: it had no session for longer than a worker is waited for, and should be given up.
	Lost bool
}

// JobRef names a Job. A Job is its UID; the name only finds it.
type JobRef struct {
	types.NamespacedName
	UID types.UID
}

// Job is what the engine needs to know of a Job. The engine shares what it points to and never changes
// it.
type Job struct {
	JobRef
	// ResourceVersion of the object that this was read from.
	ResourceVersion string
	// Generation of its spec.
	Generation int64
	// Created is when the object was created, to the second.
	Created time.Time
	Spec    *v1alpha1.JobSpec
	// Reduced: the spec is what Reduce has left of it.
	Reduced bool
	// Status as it is stored.
	Status v1alpha1.JobStatus
	// Deleted: the Job is being deleted, and somebody's finalizer holds it.
	Deleted bool
	// Bytes is how many the API server stores of the object, without its status: more or less if that is small.
	Bytes int
}

// Variable is an environment variable of a command, or a header of a request.
type Variable struct{ Name, Value string }

// Assignment tells an agent to start an attempt.
type Assignment struct {
	Token   Token
	JobName string
	// Argv is the program and its arguments, as the Job has them: Command fills in the item. HTTP is set in its place
	// where the worker serves HTTP.
	Argv []string
	// Item is put in place of each `{}` in the arguments from Fill on, and in the path of the request; nil if the Job
	// has no items. That is done when the assignment is sent: many that wait to be sent share what the Job says.
	Item       *string
	Fill       int
	Env        []Variable
	WorkingDir string
	Stdin      string
	HTTP       *Request
	// Timeout is how long the attempt may run, Deadline how long its Job may still; 0 is without a limit.
	Timeout, Deadline time.Duration
	// Grace is the time from SIGTERM to SIGKILL then; 0 means SIGKILL at once.
	Grace time.Duration
	// MemoryLimit is what the processes may take together, without a limit if 0, and MemoryShare what is
	// kept for them, if that is known.
	MemoryLimit, MemoryShare int64
	// MaxOpenFiles is how many files each process may have open; 0 sets no limit.
	MaxOpenFiles int32
	// Reset is run after the attempt, before its slot is free again; nil for nothing.
	Reset *ResetCommand
}

// ResetCommand brings a worker back to a clean state between attempts.
type ResetCommand struct {
	// Argv is the program and its arguments.
	Argv []string
	// Timeout is how long it may run, more than 0.
	Timeout time.Duration
}

// Command is the program and its arguments, with the item filled in.
func (a *Assignment) Command() []string {
	if a.Item == nil {
		return a.Argv
	}
	argv := slices.Clone(a.Argv)
	for i := a.Fill; i < len(argv); i++ {
		argv[i] = strings.ReplaceAll(argv[i], placeholder, *a.Item)
	}
	return argv
}

// Path is that of the request, with the item filled in.
func (a *Assignment) Path() string {
	if a.Item == nil {
		return a.HTTP.Path
	}
	return strings.ReplaceAll(a.HTTP.Path, placeholder, escape(*a.Item))
}

// Size is about how many bytes the assignment has when the item is filled in. It takes no memory.
func (a *Assignment) Size() int {
	n := len(a.Stdin) + len(a.WorkingDir)
	for i, arg := range a.Argv {
		if n += len(arg); a.Item != nil && i >= a.Fill {
			n += growth(arg, len(*a.Item))
		}
	}
	for _, v := range a.Env {
		n += len(v.Name) + len(v.Value)
	}
	if a.Reset != nil {
		for _, arg := range a.Reset.Argv {
			n += len(arg)
		}
	}
	if a.HTTP != nil {
		if n += len(a.HTTP.Path) + len(a.HTTP.Body); a.Item != nil {
			n += growth(a.HTTP.Path, len(escape(*a.Item)))
		}
		for _, h := range a.HTTP.Headers {
			n += len(h.Name) + len(h.Value)
		}
	}
	return n
}

// Request is an HTTP request.
type Request struct {
	Method, Path string
	Headers      []Variable
	Body         string
}

// Kill tells an agent to end an attempt.
type Kill struct {
	Token Token
	// Grace is the time from SIGTERM to SIGKILL; 0 means SIGKILL at once.
	Grace time.Duration
}

// Command is what the engine wants of an agent. Commands of one session are carried out in order;
// the session may merge those that have not been sent yet.
type Command struct {
	// Sequence grows from command to command; agents echo the last one they have acted on.
	Sequence    uint64
	Assignments []Assignment
	Kills       []Kill
	// Recorded are attempts that the API knows to run.
	Recorded []Token
	// Settled are attempts whose result the agent may forget.
	Settled []Token
}

// Running is an attempt that an agent says it runs.
type Running struct {
	Token      Token
	JobName    string
	StartedAgo time.Duration
	// Pending: it was accepted and has not started yet.
	Pending bool
	// Proven: the agent has shown that a leader has given the attempt to its very pod.
	Proven bool
	// Memory of its processes as last seen, in bytes; 0 if nobody has looked.
	Memory int64
}

// Outcome is how an attempt ended on its worker.
type Outcome int

// Outcomes. See the wire's description of each.
const (
	Exited Outcome = iota + 1
	CannotStart
	Killed
	Interrupted
	TimedOut
	DeadlineExceeded
	MemoryExceeded
	OOMKilled
	Responded
)

// cutOff tells whether the attempt did not end by itself.
func (o Outcome) cutOff() bool { return o == Killed || o == Interrupted }

// Result is an attempt that an agent says has ended.
type Result struct {
	Token                Token
	JobName              string
	Outcome              Outcome
	ExitCode             int32
	Message              string
	Output               string
	StartedAgo, EndedAgo time.Duration
	CPUTime              time.Duration
	// MaxMemoryBytes is 0 if it is not known.
	MaxMemoryBytes int64
	// Signal that has ended the process, 0 if it ended by itself. The agents of the version before do not tell.
	Signal int32
	// HTTPStatus of the answer to a request; 0 if there was none.
	HTTPStatus int32
	// Proven is as in Running.
	Proven bool
}

// Hello is all that an agent knows, at the start of its session.
type Hello struct {
	// Pool that owns the pod, by name and by UID.
	Pool    types.NamespacedName
	PoolUID types.UID
	Pod     types.UID
	// PodName is the pod's name.
	PodName string
	// Instance changes when the agent's process restarts.
	Instance string
	// Proves: by what the pod's object says, its agent keeps proofs. Agents of the version before have none.
	Proves  bool
	Running []Running
	Results []Result
	// Draining: the agent takes no assignments for now. Unavailable is why, for people; empty if it does not say.
	Draining    bool
	Unavailable string
	Resets      Resets
}

// Resets are what an agent says of its resets.
type Resets struct {
	// Running is how many slots they take. A report that has an attempt's result counts its reset.
	Running int
	// Failure is why one has failed, for people; empty if none has. The agent takes no assignments then.
	Failure string
}

// Report is an agent's state later in its session, with new results.
type Report struct {
	// Seen is the sequence of the last command that the agent has acted on.
	Seen     uint64
	Running  []Running
	Results  []Result
	Draining bool
	// Unavailable is as in Hello.
	Unavailable string
	Resets      Resets
}

// Session is the way to one agent. Its methods do not block and may be called with locks held.
type Session interface {
	// Send hands over a command.
	Send(cmd Command)
	// Close ends the session; the reason is for the logs.
	Close(reason string)
}

// Write is a Job's status to be stored.
type Write struct {
	Job JobRef
	// ResourceVersion of the object that the status was made from, as far as the engine knows. The
	// writer knows better where it has written the Job itself.
	ResourceVersion string
	// Version identifies the write, and grows. A write replaces an earlier one of the same Job that is
	// not stored yet.
	Version uint64
	Status  v1alpha1.JobStatus
	// Due is when to store it, at the earliest.
	Due time.Time
	// Confirm asks for a live look at the Lease before: nobody but the engine says that it is so, and a
	// leader that is none any more would be wrong.
	Confirm bool
	// Awaited: an agent keeps a result until it is stored, or an attempt is started only then.
	Awaited bool
}

// Passing tells whether the write tells of a state that may be over before it is stored, and that nothing
// waits for.
func (w *Write) Passing() bool { return !w.Final() && !w.Awaited }

// Final tells whether the write ends the Job.
func (w *Write) Final() bool { return w.Status.State.Finished() }

// Outbox takes what the engine decides. Its methods do not block, are called with the engine's lock
// held, and must not call the engine.
type Outbox interface {
	// Write asks for a status to be stored. Engine.Written, Finished or Cancel answers.
	Write(w Write)
	// DropWrite takes back a write that is not stored yet, if there is one.
	DropWrite(job types.UID)
	// Look asks for a Job to be looked at: submitted if it is there, cancelled if it is not.
	Look(job JobRef)
	// Load asks for a Job to be read from the API server with all that it has, and submitted so, or cancelled if it is not
	// there.
	Load(job JobRef)
	// PoolOpened asks for all Jobs of a pool to be looked at, because the pool is new.
	PoolOpened(pool types.NamespacedName)
	// PoolChanged says that a pool's snapshot has changed.
	PoolChanged(pool types.NamespacedName)
}
