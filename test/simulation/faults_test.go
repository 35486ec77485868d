package simulation

import (
	"fmt"
	"strings"

	"github.com/workerpool-dev/workerpool/internal/engine"
)

// fault is something that goes wrong, and object is what it meets.
type (
	fault  int
	object int
)

// Faults.
const (
	answered fault = iota
	conflict
	throttled
	broken
	timeoutBefore
	timeoutAfter
	timeoutLate
	crashed
	paused
	cutOff
	deposed
	released
	electedBeside
	lagging
	relisted
	coalesced
	streamBreaks
	slowStream
	silence
	oldStream
	staleEndpoint
	partitionShort
	partitionFence
	partitionLong
	nodeLost
	forced
	evicted
	podCrash
	agentRestart
	lying
	setBack
	faults
)

var faultNames = [faults]string{
	"answered", "409", "429", "500", "timed out before", "timed out after", "timed out, late", "operator killed", "operator stopped",
	"API server away", "deposed", "released", "second leader", "watch delayed", "watch relisted", "events coalesced",
	"stream breaks", "stream delayed", "silence", "old stream read", "stale endpoint", "cut off < 20 s", "cut off < 60 s", "cut off > 60 s",
	"node lost", "removed by force", "evicted", "pod crashed", "agent restarted",
	"hostile worker", "Lease set back",
}

// Objects.
const (
	finalWrite object = iota
	runningWrite
	waitingWrite
	liveJob
	liveLease
	liveList
	pause
	podWrite
	review
	disowning
	secondSession
	oldLeader
	forgottenPod
	unreadable
	unheld
	fenced
	jobWatch
	podWatch
	phaseStandby
	phaseTaking
	phaseLeading
	streamHello
	streamOrder
	streamReport
	streamIdle
	operatorSide
	agentSide
	podIdle
	podRunning
	podResult
	podStarting
	jobOwn
	jobElsewhere
	jobWaiting
	jobEnded
	jobOfOthers
	jobUnknown
	objects
)

var objectNames = [objects]string{
	"final write", "running write", "waiting write", "Job read", "Lease read", "list", "pause", "pod write", "review", "disowned", "second session",
	"old leader", "forgotten pod", "unreadable message", "unheld Lease", "fence", "Job watch", "pod watch", "standby", "taking over", "leading", "Hello", "command", "report",
	"idle stream", "operator's side", "agent's side", "idle worker", "running worker", "worker with result", "starting worker",
	"own attempt", "attempt elsewhere", "waiting Job", "ended Job", "another pool's Job", "unknown Job",
}

// expected are the objects that each fault must meet in the runs of a default run.
var expected = [faults][]object{
	answered:       {finalWrite, runningWrite, waitingWrite, liveJob, liveLease, liveList, pause, review, disowning, secondSession, forgottenPod, unreadable, unheld},
	conflict:       {finalWrite, runningWrite, waitingWrite},
	throttled:      {finalWrite, runningWrite, waitingWrite, liveJob, liveLease, liveList},
	broken:         {finalWrite, runningWrite, waitingWrite, liveJob, liveLease, liveList, podWrite, review},
	timeoutBefore:  {finalWrite, runningWrite, waitingWrite, liveJob, liveLease, liveList},
	timeoutAfter:   {finalWrite, runningWrite, waitingWrite},
	timeoutLate:    {finalWrite, runningWrite, waitingWrite},
	crashed:        {finalWrite, runningWrite, waitingWrite, liveJob, liveLease, liveList, pause, streamHello, streamOrder, streamReport, streamIdle},
	paused:         {phaseTaking, phaseLeading},
	cutOff:         {phaseTaking, phaseLeading},
	deposed:        {phaseTaking, phaseLeading},
	released:       {phaseLeading},
	electedBeside:  {phaseTaking, phaseLeading},
	lagging:        {jobWatch, podWatch},
	relisted:       {jobWatch, podWatch},
	coalesced:      {jobWatch, podWatch},
	streamBreaks:   {streamHello, streamOrder, streamReport, streamIdle},
	slowStream:     {streamHello, streamOrder, streamReport, streamIdle},
	silence:        {operatorSide, agentSide, fenced},
	oldStream:      {streamOrder},
	staleEndpoint:  {phaseLeading},
	partitionShort: {podIdle, podRunning, podResult},
	partitionFence: {podIdle, podRunning, podResult},
	partitionLong:  {podIdle, podRunning, podResult},
	nodeLost:       {podIdle, podRunning, podResult, podStarting},
	forced:         {podIdle, podRunning, podResult},
	evicted:        {podIdle, podRunning, podResult, podStarting},
	podCrash:       {podIdle, podRunning, podResult, podStarting},
	agentRestart:   {podIdle, podRunning, podResult},
	setBack:        {phaseTaking, phaseLeading},
	lying:          {jobOwn, jobElsewhere, jobWaiting, jobEnded, jobOfOthers, jobUnknown},
}

// tally counts how often each fault has met each object.
type tally [faults][objects]uint64

func (t *tally) add(o *tally) {
	for f := range o {
		for x := range o[f] {
			t[f][x] += o[f][x]
		}
	}
}

// missed are the faults that have not met what they should.
func (t *tally) missed() []string {
	var all []string
	for f := range expected {
		met := expected[f]
		for _, x := range met {
			if t[f][x] == 0 {
				all = append(all, faultNames[f]+" / "+objectNames[x])
			}
		}
	}
	return all
}

// String is a table.
func (t *tally) String() string {
	var b strings.Builder
	for f := range t {
		fmt.Fprintf(&b, "%-17s", faultNames[f])
		for x, n := range t[f] {
			if n > 0 {
				fmt.Fprintf(&b, "  %s %d", objectNames[x], n)
			}
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func (w *world) count(f fault, x object) { w.faults[f][x]++ }

func objectOfPhase(p phase) object { return phaseStandby + object(p) }

// objectOfStream is what is under way on a stream.
func objectOfStream(s *stream) object {
	switch {
	case !s.connected:
		return streamHello
	case len(s.down) > 0:
		return streamOrder
	case len(s.up) > 0:
		return streamReport
	}
	return streamIdle
}

// objectOfPod is what a worker has at hand.
func objectOfPod(p *pod) object {
	switch {
	case p.agent == nil:
		return podStarting
	case len(p.agent.live) > 0:
		return podRunning
	case len(p.agent.results) > 0:
		return podResult
	}
	return podIdle
}

// key names a task.
type key struct {
	job   string
	index int32
}

func keyOf(t engine.Token) key { return key{string(t.Job), t.Index} }

func describe(t engine.Token) string { return fmt.Sprintf("[%d] %s", t.Index, t) }
