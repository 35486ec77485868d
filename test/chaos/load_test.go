package main

import (
	"slices"
	"testing"

	. "github.com/onsi/gomega"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/test/chaos/check"
)

func TestNumbersOfAStatus(t *testing.T) {
	for list, want := range map[string][]int{
		"": nil, "3": {3}, "0-2": {0, 1, 2}, "0-1,4,7-8": {0, 1, 4, 7, 8}, "x": nil, "1-": nil, "2,y-3,5": {2, 5},
	} {
		if got := numbers(list); !slices.Equal(got, want) {
			t.Errorf("numbers of %q: %v, want %v", list, got, want)
		}
	}
}

// jobs of a load that no cluster sees.
func jobs(seed uint64, n int) (all []check.Job, objects []*v1alpha1.Job) {
	l := newLoad(&world{settings: settings{seed: seed}})
	for i := range n {
		job, object := l.next(i)
		all, objects = append(all, job), append(objects, object)
	}
	return all, objects
}

func TestASeedMakesTheSameLoadAgain(t *testing.T) {
	g := NewWithT(t)
	first, firstObjects := jobs(7, 500)
	again, againObjects := jobs(7, 500)
	other, _ := jobs(8, 500)
	g.Expect(again).To(Equal(first))
	g.Expect(againObjects).To(Equal(firstObjects))
	g.Expect(other).NotTo(Equal(first))
}

func TestALoadHasEveryKindOfJob(t *testing.T) {
	g := NewWithT(t)
	seen := map[string]int{}
	percent := 0
	for _, kind := range kinds {
		percent += kind.percent
	}
	g.Expect(percent).To(Equal(100))
	all, objects := jobs(1, 2000)
	for i, job := range all {
		spec := objects[i].Spec
		g.Expect(job.Key).To(Equal(objects[i].Namespace + "/" + objects[i].Name))
		for what, is := range map[string]bool{
			"indexed": spec.Completions != nil, "items": spec.Items != nil, "once": job.AtMostOnce, "http": job.HTTP,
			"urgent": spec.Priority != nil, "retried": job.Fails > 0 && job.Fails <= job.MaxRetries, "failing": job.Fails > job.MaxRetries,
		} {
			if is {
				seen[what]++
			}
		}
	}
	for _, what := range []string{"indexed", "items", "once", "http", "urgent", "retried", "failing"} {
		g.Expect(seen[what]).To(BeNumerically(">", 40), what)
	}
}

func TestEachKindOfFaultIsInALaneAndCanBeMade(t *testing.T) {
	g := NewWithT(t)
	w := &world{}
	kinds := map[check.Kind]bool{}
	for _, l := range lanes {
		for _, kind := range l.kinds {
			kinds[kind] = true
			g.Expect(w.maker(kind)).NotTo(BeNil(), string(kind))
		}
	}
	g.Expect(kinds).To(HaveLen(15))
}

func TestTooFewFaultsAreAnError(t *testing.T) {
	g := NewWithT(t)
	w := &world{settings: settings{each: 3, least: 60}, effective: map[check.Kind]int{}}
	for _, l := range lanes {
		for _, kind := range l.kinds {
			w.effective[kind] = 3
		}
	}
	g.Expect(w.enough()).To(MatchError("45 faults have taken effect, and there are to be 60"))
	w.effective[check.KillAgent] = 18
	g.Expect(w.enough()).To(Succeed())
	w.effective[check.KillEtcd] = 2
	g.Expect(w.enough()).To(MatchError(ContainSubstring("kill_etcd has taken effect 2 times, not 3")))
}
