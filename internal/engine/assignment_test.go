package engine

import (
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

func TestAnAssignmentIsWhatTheJobSays(t *testing.T) {
	w, p := lone(t)
	uid := w.runJob(func(s *v1alpha1.JobSpec) {
		s.Command, s.Args, s.WorkingDir, s.Stdin = []string{"sh", "-c"}, []string{"echo {}", ""}, "/work", "in"
		s.Env = []v1alpha1.EnvVar{{Name: "B", Value: new("2")}, {Name: "A"}, {Name: "B2", Value: new("")}}
	}, takes("", "64Mi", 32))
	a := p.assigned[0]
	if !slices.Equal(a.Argv, []string{"sh", "-c", "echo {}", ""}) || a.WorkingDir != "/work" || a.Stdin != "in" || a.HTTP != nil {
		t.Errorf("assignment %+v", a)
	}
	if !slices.Equal(a.Env, []Variable{{"B", "2"}, {"A", ""}, {"B2", ""}}) {
		t.Errorf("environment %v, want the Job's, in its order, and nothing else", a.Env)
	}
	if a.JobName != w.jobs[uid].job.Name || a.Token != (Token{Job: uid, Try: 1, Epoch: w.epoch}) {
		t.Errorf("of %s, %+v", a.JobName, a.Token)
	}
	if a.MemoryLimit != 64<<20 || a.MemoryShare != 64<<20 || a.MaxOpenFiles != 32 {
		t.Errorf("memory limit %d, share %d, files %d", a.MemoryLimit, a.MemoryShare, a.MaxOpenFiles)
	}
}

func TestThePartsOfAnArgvAreItsOwn(t *testing.T) {
	w, p := lone(t)
	spec := command(items("x", "y"))
	spec.Command = append(make([]string, 0, 8), "say") // with room for more
	spec.Args = []string{"{}"}
	w.create(spec)
	w.turn()
	if x, y := p.assigned[0].Command(), p.assigned[1].Command(); x[1] != "x" || y[1] != "y" {
		t.Errorf("%q and %q: the tasks share an argv", x, y)
	}
}

func TestTheSizeOfAnAssignmentCountsAllThatUsersSay(t *testing.T) {
	a := Assignment{
		Argv: []string{"12", "345"}, Env: []Variable{{"1", "23"}}, WorkingDir: "1234", Stdin: "12345",
		HTTP: &Request{Path: "123456", Body: "1234567", Headers: []Variable{{"1234", "5678"}}},
	}
	if got, want := a.Size(), 5+3+4+5+6+7+8; got != want {
		t.Errorf("%d, want %d", got, want)
	}
}

// What is in order can be sent to several workers in one go; each gets its own.
func TestEachWorkerGetsItsOwnTasks(t *testing.T) {
	w, p := lone(t)
	q := w.join()
	uid := w.runJob(completions(4))
	got := map[types.UID]int{}
	for _, pod := range []*simPod{p, q} {
		for _, a := range pod.assigned {
			if on, _ := w.running(uid, a.Token.Index); on != pod {
				t.Errorf("task %d was sent to %s and runs elsewhere", a.Token.Index, pod.uid)
			}
			got[pod.uid]++
		}
	}
	if got[p.uid] != 2 || got[q.uid] != 2 {
		t.Errorf("assigned %v", got)
	}
}
