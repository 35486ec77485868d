package engine

import (
	"encoding/json"
	"maps"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// What tests do with a world in which all goes well.

// command is a Job of the pool that runs a command, changed as the test wants it. Its priority is 0.
func command(change ...func(*v1alpha1.JobSpec)) *v1alpha1.JobSpec {
	spec := &v1alpha1.JobSpec{Command: []string{"true"}, Priority: new(int32(0))}
	for _, c := range change {
		c(spec)
	}
	return spec
}

// runJob makes a Job and lets its tasks start.
func (w *world) runJob(change ...func(*v1alpha1.JobSpec)) types.UID {
	uid := w.create(command(change...))
	w.turn()
	return uid
}

// configure changes the pool. Pods that are there stay as they were made.
func (w *world) configure(change func(*PoolConfig)) {
	change(&w.config)
	w.engine.SetPool(w.config)
}

// status is what is stored of a Job.
func (w *world) status(uid types.UID) *v1alpha1.JobStatus { return &w.jobs[uid].job.Status }

// turn lets all happen for which no time need pass: agents act and report, Jobs are looked at, and writes
// that are due are stored.
func (w *world) turn() {
	for range 5 {
		w.agents()
		w.bury()
		w.lookAll()
		w.storeDue()
	}
}

// agents lets the agents act on what they were told, and report.
func (w *world) agents() {
	for _, p := range w.pods {
		for p.session != nil && len(p.session.inbox) > 0 {
			w.receive(p)
		}
		w.report(p)
	}
}

func (w *world) lookAll() {
	for len(w.looks) > 0 || len(w.loads) > 0 || w.opened {
		w.look()
	}
}

func (w *world) storeDue() {
	for _, uid := range slices.Sorted(maps.Keys(w.writes)) {
		if !w.writes[uid].Due.After(w.now) {
			w.carryOut(uid, 0)
		}
	}
}

// live is turns for so long. A process ends only where a test ends it.
func (w *world) live(d time.Duration) {
	w.turn()
	for end := w.now.Add(d); w.now.Before(end); {
		w.pass(min(TickInterval, end.Sub(w.now)))
		w.turn()
	}
}

// idle lets time pass for the engine alone: nothing is stored, and no agent says anything.
func (w *world) idle(d time.Duration) {
	for end := w.now.Add(d); w.now.Before(end); {
		w.pass(min(TickInterval, end.Sub(w.now)))
	}
}

// running tells on which pod a task runs, and by which token; nil if it does not.
func (w *world) running(uid types.UID, index int32) (*simPod, Token) {
	for _, p := range w.pods {
		for token := range p.running {
			if token.Job == uid && token.Index == index {
				return p, token
			}
		}
	}
	return nil, Token{}
}

// runs tells which tasks of a Job run, in order.
func (w *world) runs(uid types.UID) []int32 {
	var indexes []int32
	for _, p := range w.pods {
		for token := range p.running {
			if token.Job == uid {
				indexes = append(indexes, token.Index)
			}
		}
	}
	slices.Sort(indexes)
	return indexes
}

// exit lets the process of a task end with a code, which its agent reports.
func (w *world) exit(uid types.UID, index, code int32) {
	w.t.Helper()
	exits := w.jobs[uid].exits
	exits[index] = append(exits[index], code)
	w.finish(uid, index, Result{Outcome: Exited, ExitCode: code})
}

// finish ends what runs of a task with a result, which its agent reports. Nothing is stored of it yet.
func (w *world) finish(uid types.UID, index int32, r Result) Token {
	w.t.Helper()
	p, token := w.running(uid, index)
	if p == nil {
		w.t.Fatalf("task %d of %s does not run: it is %s %s", index, uid, w.status(uid).State, w.status(uid).Reason)
	}
	r.Token, r.JobName, r.StartedAgo = token, p.running[token].job, w.now.Sub(p.running[token].started)
	w.beginReset(p, token)
	delete(p.running, token)
	p.results = append(p.results, r)
	w.report(p)
	return token
}

// assignment is the last one of a task that any agent got.
func (w *world) assignment(uid types.UID, index int32) Assignment {
	w.t.Helper()
	var last Assignment
	for _, p := range w.pods {
		for _, a := range p.assigned {
			if a.Token.Job == uid && a.Token.Index == index && a.Token.Compare(last.Token) > 0 {
				last = a
			}
		}
	}
	if last.Token.Job == "" {
		w.t.Fatalf("task %d of %s was never assigned: it is %s %s", index, uid, w.status(uid).State, w.status(uid).Reason)
	}
	return last
}

// wantState wants a Job to be stored so.
func (w *world) wantState(uid types.UID, state v1alpha1.JobState, reason string) {
	w.t.Helper()
	if s := w.status(uid); s.State != state || s.Reason != reason {
		w.t.Errorf("%s is stored as %s %s %q, want %s %s", uid, s.State, s.Reason, s.Message, state, reason)
	}
}

// wantRuns wants these tasks of a Job to run.
func (w *world) wantRuns(uid types.UID, want ...int32) {
	w.t.Helper()
	if got := w.runs(uid); !slices.Equal(got, want) {
		w.t.Errorf("of %s run %v, want %v", uid, got, want)
	}
}

// room makes a lone world whose worker has so many slots, and no limits.
func room(t *testing.T, slots int) (*world, *simPod) {
	t.Helper()
	w, p := lone(t)
	w.drop(p)
	p.gone = true
	w.configure(func(c *PoolConfig) { c.Slots, c.Resources.CPU, c.Resources.Memory = slots, 0, 0 })
	return w, w.join()
}

// join adds a pod, made as the pool is now, and connects it.
func (w *world) join() *simPod {
	w.addPod()
	p := w.pods[len(w.pods)-1]
	w.listPods()
	w.connect(p)
	return p
}

func describeStatus(s *v1alpha1.JobStatus) string {
	text, _ := json.Marshal(s)
	return string(text)
}

// The API server is asked, and the cache tells late. Found by the simulation.
func TestAJobThatHasEndedElsewhereIsNotTakenInAgainFromALateCache(t *testing.T) {
	for name, say := range map[string]func(*Engine, types.UID){"deleted": (*Engine).Gone, "finished": (*Engine).Finished} {
		t.Run(name, func(t *testing.T) {
			w, p := lone(t)
			w.createJob()
			uid := w.jobUIDs()[0]
			w.receive(p)
			say(w.engine, uid)
			w.receive(p) // it is killed
			w.report(p)
			w.submit(uid) // the cache shows it as it was
			w.receive(p)
			if len(p.running) != 0 || w.engine.jobs[uid] != nil {
				t.Errorf("it was taken in again: %v run", p.running)
			}
			w.engine.Cancel(uid) // the cache shows that it is gone
			if len(w.engine.settled) != 0 {
				t.Errorf("%v is remembered for ever", w.engine.settled)
			}
			w.engine.Gone(uid)
			if len(w.engine.settled) != 0 {
				t.Errorf("%v is remembered, though the cache has shown it", w.engine.settled)
			}
		})
	}
}
