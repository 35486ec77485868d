// Package check holds what the operator and Kubernetes say of a load of Jobs against what the Jobs' processes wrote into
// the ledger while faults were made. It is pure: the same history is always judged alike.
package check

import (
	"time"

	"github.com/workerpool-dev/workerpool/test/chaos/ledger"
)

// Time is that of the ledger.
type Time = ledger.Time

// Kind of a fault.
type Kind string

// Kinds of faults.
const (
	KillAgent       Kind = "kill_agent"
	KillContainer   Kind = "kill_container"
	DeletePod       Kind = "delete_pod"
	ForceDeletePod  Kind = "force_delete_pod"
	KillLeader      Kind = "kill_leader"
	StopLeader      Kind = "stop_leader"
	PartitionLong   Kind = "partition_long"
	PartitionShort  Kind = "partition_short"
	RestartAPI      Kind = "restart_apiserver"
	KillEtcd        Kind = "kill_etcd"
	KillAPIAndEtcd  Kind = "kill_apiserver_and_etcd"
	RestartKubelet  Kind = "restart_kubelet"
	DrainNode       Kind = "drain_node"
	RollPool        Kind = "roll_pool"
	ScalePool       Kind = "scale_pool"
	NodeNotReady    Kind = "node_not_ready"
	OperatorAbsence Kind = "operator_absence"
)

// Fault is something that was done to the cluster, and has taken effect. Two kinds are not done but seen: that the node was
// not ready, and that no operator led.
type Fault struct {
	Kind Kind `json:"kind"`
	// From when it began to when it was over, healed or confirmed.
	From Time `json:"from"`
	To   Time `json:"to"`
	// Pods are the UIDs of the worker pods that were hit themselves.
	Pods []string `json:"pods,omitempty"`
	// Detail is for people.
	Detail string `json:"detail"`
}

// Job is what was wanted of one Job, and what became of it.
type Job struct {
	// Key is namespace/name.
	Key string
	// Indexed Jobs have Tasks of them; others one.
	Indexed bool
	Tasks   int
	// Fails is how many processes of each task fail, with Code, before one succeeds. The Job fails if that is more than
	// MaxRetries.
	Fails, MaxRetries int
	Code              int
	AtMostOnce, HTTP  bool

	// Missing says that the API server has it no more, though nobody deleted it.
	Missing bool
	// What its status says at the end.
	State, Reason     string
	ExitCode          *int32
	Attempts, Retries int
	Succeeded, Failed []int
	// Changes of its status, as a watch showed them.
	Changes []Change
}

// Change of a Job's status.
type Change struct {
	// At is when it was seen, so it was written before.
	At            Time
	State, Reason string
	// PodUID is the worker of the attempt that is recorded as running.
	PodUID string
	Text   string
}

func finished(state string) bool { return state == "Succeeded" || state == "Failed" }

// Pod is a worker.
type Pod struct {
	Key, UID string
	// Deadline is when its processes are killed, because it was deleted: the time of that and its grace. 0 if it was not
	// deleted.
	Deadline Time
	// Gone is when it was seen to be away.
	Gone Time
}

// History is all that is judged.
type History struct {
	Processes []ledger.Process
	Jobs      []Job
	Pods      []Pod
	Faults    []Fault
	// Orphans are workers and processes that nobody owns at the end, each in words.
	Orphans []string
}

// Verdict is a kind of violation.
type Verdict string

// Violations. DocumentedOverlap is none: promise 3 of the design allows it.
const (
	Lost              Verdict = "lost"
	ConcurrentTwice   Verdict = "concurrent_twice"
	UnjustifiedRepeat Verdict = "unjustified_repeat"
	AtMostOnceBroken  Verdict = "at_most_once_broken"
	Stuck             Verdict = "stuck"
	Disagree          Verdict = "disagree"
	Orphaned          Verdict = "orphaned"
	DocumentedOverlap Verdict = "documented_overlap"
)

// Finding is one violation, or one documented overlap.
type Finding struct {
	Verdict Verdict
	// Job is empty for orphans.
	Job string
	// Text says what is wrong, and of an overlap what explains it.
	Text string
	// Timeline is all that is known of the Job, in order.
	Timeline []string
}

// How long things may take on a busy machine until their effect is seen.
const (
	// deathLag is from a kill to the end of all processes of the container.
	deathLag = 5 * time.Second
	// reportLag is from the end of a process until its result is stored, while all is well.
	reportLag = 3 * time.Second
	// healLag is from the end of a fault until agents, operator and API server talk to each other again.
	healLag = 30 * time.Second
	// fenceLag is less than how long an agent stands the absence of a leader.
	fenceLag = 15 * time.Second
	// restartLag is how long a container that was killed may stay away: the kubelet waits longer and longer.
	restartLag = 90 * time.Second
	// secondLag is for timestamps in whole seconds.
	secondLag = 2 * time.Second
)
