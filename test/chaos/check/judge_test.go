package check_test

import (
	"slices"
	"testing"
	"time"

	. "github.com/onsi/gomega"

	"github.com/workerpool-dev/workerpool/test/chaos/check"
	"github.com/workerpool-dev/workerpool/test/chaos/ledger"
)

// at is a time of a forged history, in seconds.
func at(seconds float64) check.Time { return check.Time(seconds * float64(time.Second)) }

// forged is a history of one Job, ns/job, with one task unless it says otherwise.
type forged struct{ check.History }

// story begins a history of a Job that succeeds.
func story(changes ...func(*forged)) check.History {
	f := &forged{check.History{Jobs: []check.Job{{
		Key: "ns/job", Tasks: 1, Code: 3, State: "Succeeded", ExitCode: new(int32(0)), Attempts: 1,
	}}}}
	for _, change := range changes {
		change(f)
	}
	return f.History
}

func job(change func(*check.Job)) func(*forged) { return func(f *forged) { change(&f.Jobs[0]) } }

// ran adds a process that ended with a code.
func ran(id, pod string, begun, ended float64, code int) func(*forged) {
	return ranTask(0, id, pod, begun, ended, code)
}

func ranTask(index int, id, pod string, begun, ended float64, code int) func(*forged) {
	return func(f *forged) {
		f.Processes = append(f.Processes, ledger.Process{
			ID: id, Job: "ns/job", Index: index, Pod: "ns/" + pod, PodUID: pod, Begun: at(begun), Registered: at(begun),
			Alive: at(ended), Closed: at(ended), Ended: true, Code: code,
		})
	}
}

// died adds a process that was killed.
func died(id, pod string, begun, end float64) func(*forged) {
	return func(f *forged) {
		ran(id, pod, begun, end, 0)(f)
		f.Processes[len(f.Processes)-1].Ended = false
	}
}

func fault(kind check.Kind, from, to float64, pods ...string) func(*forged) {
	return func(f *forged) {
		f.Faults = append(f.Faults, check.Fault{Kind: kind, From: at(from), To: at(to), Pods: pods, Detail: "forged"})
	}
}

// deleted adds a worker whose processes may be killed from the deadline on.
func deleted(pod string, deadline, gone float64) func(*forged) {
	return func(f *forged) {
		f.Pods = append(f.Pods, check.Pod{Key: "ns/" + pod, UID: pod, Deadline: at(deadline), Gone: at(gone)})
	}
}

// seen adds a change of the Job's status.
func seen(second float64, state, pod string) func(*forged) {
	return job(func(j *check.Job) {
		j.Changes = append(j.Changes, check.Change{At: at(second), State: state, PodUID: pod, Text: state})
	})
}

func retried(fails, retries int) func(*forged) {
	return job(func(j *check.Job) { j.Fails, j.MaxRetries, j.Retries = fails, fails, retries })
}

func once(j *check.Job) { j.AtMostOnce = true }

func interrupted(j *check.Job) {
	j.AtMostOnce, j.State, j.Reason, j.ExitCode = true, "Failed", "Interrupted", nil
}

func verdicts(h check.History) []check.Verdict {
	var all []check.Verdict
	for _, f := range check.Judge(h) {
		all = append(all, f.Verdict)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func TestGoodHistoriesPass(t *testing.T) {
	for name, h := range map[string]check.History{
		"it ran": story(ran("a", "p", 1, 2, 0)),
		"it was cut off by the kill of its agent":  story(died("a", "p", 1, 5), ran("b", "p", 9, 10, 0), fault(check.KillAgent, 4.9, 5, "p")),
		"its container was killed":                 story(died("a", "p", 1, 5), ran("b", "p", 9, 10, 0), fault(check.KillContainer, 4.9, 5, "p")),
		"its pod was deleted and its grace passed": story(died("a", "p", 1, 30), ran("b", "q", 31, 32, 0), deleted("p", 30, 31)),
		"it was fenced, and not recorded": story(
			died("a", "p", 1, 25), ran("b", "q", 28, 29, 0), fault(check.StopLeader, 2, 27)),
		"it failed as often as it may": story(
			retried(2, 2), ran("a", "p", 1, 2, 3), ran("b", "p", 3, 4, 3), ran("c", "p", 5, 6, 0)),
		"it failed for good": story(
			job(func(j *check.Job) {
				j.Fails, j.MaxRetries, j.Retries, j.State, j.Reason, j.ExitCode = 2, 1, 1, "Failed", "ExitCode", new(int32(3))
			}), ran("a", "p", 1, 2, 3), ran("b", "p", 3, 4, 3)),
		"the agent was killed before it could keep the result": story(
			ran("a", "p", 1, 2, 0), fault(check.KillAgent, 2.1, 2.2, "p"), ran("b", "q", 9, 10, 0)),
		"the pod was force-deleted with a result": story(
			ran("a", "p", 1, 2, 0), fault(check.ForceDeletePod, 2.5, 2.6, "p"), ran("b", "q", 9, 10, 0)),
		"the pod was given up with a result that nobody heard": story(
			ran("a", "p", 10, 20, 0), fault(check.PartitionLong, 9, 55, "p"), deleted("p", 43, 44), ran("b", "q", 46, 47, 0)),
		"the worker was silent through a takeover": story(
			ran("a", "p", 10, 20, 0), fault(check.PartitionShort, 9, 60, "p"), fault(check.KillLeader, 15, 31), ran("b", "q", 50, 51, 0)),
		"a failure was lost with its pod": story(
			retried(1, 0), ran("a", "p", 1, 2, 3), fault(check.ForceDeletePod, 2.5, 2.6, "p"), ran("b", "q", 9, 10, 0)),
		"at most once, and done":                            story(job(once), ran("a", "p", 1, 2, 0)),
		"at most once, and cut off":                         story(job(interrupted), died("a", "p", 1, 5), fault(check.KillAgent, 4.9, 5, "p")),
		"at most once, and cut off before its first word":   story(job(interrupted), fault(check.KillAgent, 4.9, 5, "p")),
		"five workers were lost":                            story(fiveLost),
		"all indexes have succeeded":                        story(indexed([]int{0, 1}, nil), ranTask(0, "a", "p", 1, 2, 0), ranTask(1, "b", "p", 1, 2, 0)),
		"an index has failed":                               story(anIndexFailed),
		"its state was seen to become final, and was again": story(ran("a", "p", 1, 2, 0), seen(1.5, "Running", "p"), seen(2.1, "Succeeded", ""), seen(3, "Succeeded", "")),
	} {
		if findings := check.Judge(h); len(findings) > 0 {
			t.Errorf("%s: found %+v", name, findings)
		}
	}
}

func fiveLost(f *forged) {
	f.Jobs[0].State, f.Jobs[0].Reason, f.Jobs[0].ExitCode = "Failed", "WorkerLost", nil
	for i := range 5 {
		second := 10 * float64(i+1)
		died(string(rune('a'+i)), "p", second, second+5)(f)
		fault(check.KillAgent, second+4.9, second+5, "p")(f)
	}
}

func indexed(succeeded, failed []int) func(*forged) {
	return job(func(j *check.Job) { j.Indexed, j.Tasks, j.Succeeded, j.Failed = true, 2, succeeded, failed })
}

func anIndexFailed(f *forged) {
	indexed([]int{}, []int{0, 1})(f)
	f.Jobs[0].State, f.Jobs[0].Reason, f.Jobs[0].Fails = "Failed", "IndexesFailed", 1
	f.Jobs[0].Succeeded = nil
	ranTask(0, "a", "p", 1, 2, 3)(f)
	ranTask(1, "b", "p", 1, 2, 3)(f)
}

func TestForgedViolationsAreFound(t *testing.T) {
	missing := func(j *check.Job) { j.Missing = true }
	for name, c := range map[string]struct {
		history check.History
		want    check.Verdict
	}{
		"the Job is gone":                 {story(job(missing), ran("a", "p", 1, 2, 0)), check.Lost},
		"it succeeded, and nobody did it": {story(job(func(j *check.Job) { j.ExitCode = new(int32(0)) })), check.Lost},
		"it succeeded, and the only process failed": {
			story(ran("a", "p", 1, 2, 3), job(func(j *check.Job) { j.ExitCode, j.Retries = new(int32(3)), 1 })), check.Lost},
		"an index succeeded, and nobody did it": {
			story(indexed([]int{0, 1}, nil), ranTask(0, "a", "p", 1, 2, 0)), check.Lost},
		"two lived at once": {
			story(died("a", "p", 1, 5), ran("b", "q", 4.5, 6, 0), fault(check.KillAgent, 4.9, 5, "p")), check.ConcurrentTwice},
		"the third lived beside the first": {
			story(died("a", "p", 1, 9), died("b", "q", 4, 5), ran("c", "q", 8, 10, 0),
				fault(check.KillAgent, 4.9, 9, "p", "q")), check.ConcurrentTwice},
		"nobody interrupted the first": {story(died("a", "p", 1, 5), ran("b", "q", 9, 10, 0)), check.UnjustifiedRepeat},
		"another pod's agent was killed": {
			story(died("a", "p", 1, 5), ran("b", "q", 9, 10, 0), fault(check.KillAgent, 4.9, 5, "other")), check.UnjustifiedRepeat},
		"its agent was killed long after": {
			story(died("a", "p", 1, 5), ran("b", "q", 9, 10, 0), fault(check.KillAgent, 8, 8.1, "p")), check.UnjustifiedRepeat},
		"its agent had been killed long before": {
			story(died("a", "p", 11, 25), ran("b", "q", 29, 30, 0), fault(check.KillAgent, 9, 9.1, "p")), check.UnjustifiedRepeat},
		"the first had succeeded, and there are retries": {
			story(job(func(j *check.Job) { j.MaxRetries = 5 }), ran("a", "p", 1, 2, 0), ran("b", "q", 9, 10, 0)), check.UnjustifiedRepeat},
		"the first had succeeded": {story(ran("a", "p", 1, 2, 0), ran("b", "q", 9, 10, 0)), check.UnjustifiedRepeat},
		"the first had succeeded long before its agent was killed": {
			story(ran("a", "p", 1, 2, 0), fault(check.KillAgent, 60, 60, "p"), ran("b", "q", 70, 71, 0)), check.UnjustifiedRepeat},
		"the first had succeeded, and the operator was killed before it knew": {
			story(ran("a", "p", 10, 11, 0), fault(check.KillLeader, 10.5, 26), ran("b", "q", 30, 31, 0)), check.UnjustifiedRepeat},
		"a busy worker was deleted and killed before its grace had passed": {
			story(died("a", "p", 1, 20), ran("b", "q", 22, 23, 0), deleted("p", 30, 31)), check.UnjustifiedRepeat},
		"it was recorded, and fenced nevertheless": {
			story(died("a", "p", 1, 35), seen(2, "Running", "p"), ran("b", "q", 38, 39, 0), fault(check.StopLeader, 12, 37)), check.UnjustifiedRepeat},
		"it was fenced too early": {
			story(died("a", "p", 1, 10), ran("b", "q", 28, 29, 0), fault(check.StopLeader, 2, 27)), check.UnjustifiedRepeat},
		"it was tried once more than it may": {
			story(retried(1, 1), job(func(j *check.Job) { j.Retries = 2 }),
				ran("a", "p", 1, 2, 3), ran("b", "p", 3, 4, 3), ran("c", "p", 5, 6, 0)), check.UnjustifiedRepeat},
		"it ran after its end was recorded": {
			story(ran("a", "p", 1, 2, 0), seen(2.1, "Succeeded", ""), fault(check.KillAgent, 2.1, 2.2, "p"), ran("b", "q", 9, 10, 0)), check.UnjustifiedRepeat},
		"at most once, and twice": {
			story(job(once), died("a", "p", 1, 5), ran("b", "q", 9, 10, 0), fault(check.KillAgent, 4.9, 5, "p")), check.AtMostOnceBroken},
		"it never ended": {story(job(func(j *check.Job) { j.State = "Running" })), check.Stuck},
		"at most once, done, and said to be interrupted": {
			story(job(interrupted), ran("a", "p", 1, 2, 0)), check.Disagree},
		"it is said to have failed": {
			story(job(func(j *check.Job) { j.State, j.Reason = "Failed", "ExitCode" }), ran("a", "p", 1, 2, 0)), check.Disagree},
		"it is said to have succeeded": {
			story(job(func(j *check.Job) { j.Fails = 1 }), ran("a", "p", 1, 2, 0)), check.Disagree},
		"another exit code":  {story(job(func(j *check.Job) { j.ExitCode = new(int32(1)) }), ran("a", "p", 1, 2, 0)), check.Disagree},
		"no exit code":       {story(job(func(j *check.Job) { j.ExitCode = nil }), ran("a", "p", 1, 2, 0)), check.Disagree},
		"no attempt":         {story(job(func(j *check.Job) { j.Attempts = 0 }), ran("a", "p", 1, 2, 0)), check.Disagree},
		"a retry is missing": {story(retried(1, 0), ran("a", "p", 1, 2, 3), ran("b", "p", 3, 4, 0)), check.Disagree},
		"a retry too many":   {story(retried(1, 2), ran("a", "p", 1, 2, 3), ran("b", "p", 3, 4, 0)), check.Disagree},
		"an index is missing": {
			story(indexed([]int{0}, nil), ranTask(0, "a", "p", 1, 2, 0), ranTask(1, "b", "p", 1, 2, 0)), check.Disagree},
		"lost workers, and none was lost": {
			story(job(func(j *check.Job) { j.State, j.Reason = "Failed", "WorkerLost" }), ran("a", "p", 1, 2, 0)), check.Disagree},
		"what is final has changed": {
			story(ran("a", "p", 1, 2, 0), seen(2, "Failed", ""), seen(3, "Succeeded", "")), check.Disagree},
		"a worker is left": {
			story(ran("a", "p", 1, 2, 0), func(f *forged) { f.Orphans = []string{"pod ns/p"} }), check.Orphaned},
		"the pod was force-deleted, and its process lived on": {
			story(died("a", "p", 1, 9), fault(check.ForceDeletePod, 4, 4.1, "p"), ran("b", "q", 5, 6, 0)), check.DocumentedOverlap},
		"the node was not ready": {
			story(died("a", "p", 1, 9), fault(check.NodeNotReady, 3, 30), fault(check.KillAgent, 9, 9, "p"), ran("b", "q", 5, 6, 0)), check.DocumentedOverlap},
		"the server went on with what was cut off": {
			story(job(func(j *check.Job) { j.HTTP = true }),
				died("a", "p", 1, 9), fault(check.KillAgent, 8.9, 9, "p"), ran("b", "q", 8.5, 9, 0)), check.DocumentedOverlap},
	} {
		if got := verdicts(c.history); !slices.Equal(got, []check.Verdict{c.want}) {
			t.Errorf("%s: found %v, want %s: %+v", name, got, c.want, check.Judge(c.history))
		}
	}
}

func TestEachPairThatLivedAtOnceIsFound(t *testing.T) {
	g := NewWithT(t)
	g.Expect(check.Judge(story(
		died("a", "p", 1, 9), died("b", "q", 4, 5), ran("c", "q", 8, 10, 0), fault(check.KillAgent, 4.9, 9, "p", "q"),
	))).To(ConsistOf(
		HaveField("Text", ContainSubstring("process a on ns/p lived 5s after b had begun on ns/q")),
		HaveField("Text", ContainSubstring("process a on ns/p lived 1s after c had begun on ns/q")),
	))
}

func TestAForceDeletionAfterwardsExplainsNoOverlap(t *testing.T) {
	g := NewWithT(t)
	g.Expect(verdicts(story(died("a", "p", 1, 9), ran("b", "q", 5, 6, 0), fault(check.ForceDeletePod, 7, 7.1, "p")))).
		To(ConsistOf(check.ConcurrentTwice))
}

func TestTheTimelineHasLedgerFaultsAndStatusInOrder(t *testing.T) {
	g := NewWithT(t)
	findings := check.Judge(story(
		died("a", "p", 1, 5), ran("b", "q", 4, 6, 0), fault(check.KillAgent, 4.9, 5, "p"), seen(2, "Running", "p"), deleted("p", 40, 41),
		fault(check.KillAgent, 500, 501, "p"),
	))
	g.Expect(findings).To(HaveLen(1))
	g.Expect(findings[0].Job).To(Equal("ns/job"))
	g.Expect(findings[0].Timeline).To(Equal([]string{
		"     1.000  process  a of task 0 begins on ns/p (pod p)",
		"     2.000  status   Running",
		"     4.000  process  b of task 0 begins on ns/q (pod q)",
		"     4.900  fault    kill_agent, for 100ms: forged",
		"     5.000  process  a is heard for the last time",
		"     5.000  process  a is closed",
		"     6.000  process  b ends with 0",
		"     6.000  process  b is closed",
		"    40.000  pod      ns/p (p) is past its grace",
		"    41.000  pod      ns/p (p) is gone",
	}))
}
