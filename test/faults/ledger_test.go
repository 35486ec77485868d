package faults

import (
	"fmt"
	"strconv"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	pb "github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
)

// What processes do: the first word of their command. They end by themselves after a moment, but for hold.
const (
	// succeed ends with exit code 0, and fail with 3.
	succeed = "succeed"
	fail    = "fail"
	// failOnce fails when it is started for the first time.
	failOnce = "fail-once"
	// hold lasts until the test releases it, and succeeds.
	hold = "hold"
)

// moment is how long a process lasts.
const moment = 20 * time.Millisecond

// process is what a Job has started: one task of it, or its onFailure, by its index.
type process struct {
	job   types.UID
	index int32
}

// ledger has all starts and ends of processes, as the agents see them.
type ledger struct {
	// changed is called after each change in a namespace.
	changed func(namespace, what string)

	mu      sync.Mutex
	starts  map[process]int
	running map[process]int
	// ends have processes that are held end.
	ends map[process]func()
	// released Jobs hold no more.
	released map[types.UID]bool
	// broken are the namespaces in which a process ran twice at once, and how.
	broken map[string]string
}

func newLedger() *ledger {
	return &ledger{
		starts: map[process]int{}, running: map[process]int{}, ends: map[process]func(){}, released: map[types.UID]bool{},
		broken: map[string]string{},
	}
}

func processOf(a *pb.Assignment) process {
	return process{types.UID(a.GetToken().GetJobUid()), a.GetToken().GetIndex()}
}

// Begin is simulated.Work's.
func (l *ledger) Begin(pod types.NamespacedName, a *pb.Assignment, ended func(exitCode int32)) {
	p := processOf(a)
	l.mu.Lock()
	l.starts[p]++
	l.running[p]++
	if l.running[p] > 1 {
		l.broken[pod.Namespace] = fmt.Sprintf("Job %s, index %d, runs twice at once", a.GetJobName(), p.index)
	}
	code, after := int32(0), moment
	switch a.GetArgv()[0] {
	case fail:
		code = 3
	case failOnce:
		if l.starts[p] == 1 {
			code = 3
		}
	case hold:
		after = 0
		l.ends[p] = sync.OnceFunc(func() { go ended(0) })
		if l.released[p.job] {
			after = moment
		}
	}
	l.mu.Unlock()
	if after > 0 {
		time.AfterFunc(after, func() { ended(code) })
	}
	go l.changed(pod.Namespace, "start "+a.GetJobName()+"/"+strconv.Itoa(int(p.index))+" on "+pod.Name)
}

// End is simulated.Work's.
func (l *ledger) End(pod types.NamespacedName, a *pb.Assignment) {
	p := processOf(a)
	l.mu.Lock()
	l.running[p]--
	l.mu.Unlock()
	go l.changed(pod.Namespace, "end "+a.GetJobName()+"/"+strconv.Itoa(int(p.index))+" on "+pod.Name)
}

// release lets what a Job holds end.
func (l *ledger) release(job types.UID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.released[job] = true
	for p, end := range l.ends {
		if p.job == job {
			end()
		}
	}
}

// of a Job: how often an index was started, and whether something of the Job runs.
func (l *ledger) of(job types.UID, index int32) (starts int, running bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p, n := range l.running {
		running = running || p.job == job && n > 0
	}
	return l.starts[process{job, index}], running
}

// trouble is what was broken in a namespace.
func (l *ledger) trouble(namespace string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.broken[namespace]
}
