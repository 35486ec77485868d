package check

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/workerpool-dev/workerpool/test/chaos/ledger"
)

// history is a History that is looked up.
type history struct {
	History
	pods map[string]Pod
	// processes of each task, in the order in which they began.
	processes map[string]map[int][]ledger.Process
}

// Judge finds all violations, and the documented overlaps, by Job.
func Judge(in History) []Finding {
	h := &history{History: in, pods: map[string]Pod{}, processes: map[string]map[int][]ledger.Process{}}
	for _, pod := range in.Pods {
		h.pods[pod.UID] = pod
	}
	all := slices.SortedFunc(slices.Values(in.Processes), func(a, b ledger.Process) int { return cmp.Compare(a.Begun, b.Begun) })
	for _, p := range all {
		if h.processes[p.Job] == nil {
			h.processes[p.Job] = map[int][]ledger.Process{}
		}
		h.processes[p.Job][p.Index] = append(h.processes[p.Job][p.Index], p)
	}
	var findings []Finding
	for i := range in.Jobs {
		j := &judge{history: h, job: &in.Jobs[i]}
		j.judge()
		findings = append(findings, j.findings...)
	}
	for _, orphan := range in.Orphans {
		findings = append(findings, Finding{Verdict: Orphaned, Text: orphan})
	}
	return findings
}

// judge of one Job.
type judge struct {
	*history

	job      *Job
	findings []Finding
	timeline []string
}

func (j *judge) find(verdict Verdict, format string, args ...any) {
	if j.timeline == nil {
		j.timeline = j.history.timeline(j.job)
	}
	j.findings = append(j.findings, Finding{verdict, j.job.Key, fmt.Sprintf(format, args...), j.timeline})
}

func (j *judge) judge() {
	for index, processes := range j.processes[j.job.Key] {
		j.overlaps(index, processes)
		j.repeats(index, processes)
	}
	j.once()
	j.finalIsFinal()
	switch {
	case j.job.Missing:
		j.find(Lost, "The Job is gone, and nobody deleted it.")
	case !finished(j.job.State):
		j.find(Stuck, "It is %s (%s) at the end.", j.job.State, j.job.Reason)
	default:
		j.done()
		j.agrees()
	}
}

// overlaps finds processes of one task that lived at once. Both said so by the same clock.
func (j *judge) overlaps(index int, processes []ledger.Process) {
	for i, a := range processes {
		for _, b := range processes[i+1:] {
			if a.Alive <= b.Begun {
				continue
			}
			text := fmt.Sprintf("Task %d: process %s on %s lived %v after %s had begun on %s.", index, short(a), a.Pod, a.Alive-b.Begun, short(b), b.Pod)
			if why := j.unreachable(j.job, a, b.Begun); why != "" {
				j.find(DocumentedOverlap, "%s %s", text, why)
			} else {
				j.find(ConcurrentTwice, "%s", text)
			}
		}
	}
}

// repeats finds processes that ran though the one before gave no cause.
func (j *judge) repeats(index int, processes []ledger.Process) {
	recorded := j.recordedEnd()
	failures := 0
	for i, b := range processes {
		if recorded != 0 && b.Begun > recorded {
			j.find(UnjustifiedRepeat, "Task %d: process %s began on %s after the Job's end was recorded.", index, short(b), b.Pod)
		}
		if i == 0 {
			continue
		}
		a := processes[i-1]
		switch {
		case !a.Ended && !j.cutOff(j.job, a):
			j.find(UnjustifiedRepeat, "Task %d: nothing explains that process %s on %s was cut off; %s ran in its place.", index, short(a), a.Pod, short(b))
		case !a.Ended:
		case j.resultLost(a, &b):
		case a.Code == 0:
			j.find(UnjustifiedRepeat, "Task %d: process %s on %s had succeeded; %s ran again.", index, short(a), a.Pod, short(b))
		default:
			if failures++; failures > j.job.MaxRetries {
				j.find(UnjustifiedRepeat, "Task %d: process %s ran after %d failures, and there are %d retries.", index, short(b), failures, j.job.MaxRetries)
			}
		}
	}
}

// recordedEnd is when the Job was first seen to be finished, 0 if it was not.
func (j *judge) recordedEnd() Time {
	for _, c := range j.job.Changes {
		if finished(c.State) {
			return c.At
		}
	}
	return 0
}

func (j *judge) once() {
	if n := len(j.processes[j.job.Key][0]); j.job.AtMostOnce && n > 1 {
		j.find(AtMostOnceBroken, "It ran %d times.", n)
	}
}

func (j *judge) finalIsFinal() {
	var last *Change
	for i := range j.job.Changes {
		c := &j.job.Changes[i]
		if last != nil && c.Text != last.Text {
			j.find(Disagree, "It was %s, which is final, and became %s.", last.Text, c.Text)
			return
		}
		if finished(c.State) {
			last = c
		}
	}
}

// done finds Jobs that are said to have succeeded without a process that did it.
func (j *judge) done() {
	for index := range j.job.Tasks {
		said := j.job.State == "Succeeded"
		if j.job.Indexed {
			said = slices.Contains(j.job.Succeeded, index)
		}
		if said && !slices.ContainsFunc(j.processes[j.job.Key][index], succeeded) {
			j.find(Lost, "Task %d is said to have succeeded, and no process did it.", index)
		}
	}
}

func succeeded(p ledger.Process) bool { return p.Ended && p.Code == 0 }
func failed(p ledger.Process) bool    { return p.Ended && p.Code != 0 }

// agrees finds final statuses that say something else than the ledger.
func (j *judge) agrees() {
	switch {
	case j.job.State == "Failed" && j.interrupted():
		return
	case j.job.State == "Failed" && j.job.Fails <= j.job.MaxRetries:
		j.find(Disagree, "It has failed (%s), and should have succeeded.", j.job.Reason)
		return
	case j.job.State == "Succeeded" && j.job.Fails > j.job.MaxRetries:
		j.find(Disagree, "It has succeeded, and should have failed.")
		return
	}
	if j.job.Attempts < 1 {
		j.find(Disagree, "It is %s, and its status has no attempt.", j.job.State)
	}
	j.agreesOnRetries()
	if j.job.Indexed {
		j.agreesOnIndexes()
	} else if !j.job.HTTP {
		j.agreesOnExitCode()
	}
}

// interrupted tells whether it may have failed because it was cut off.
func (j *judge) interrupted() bool {
	switch j.job.Reason {
	case "Interrupted", "WorkerLost":
	default:
		return false
	}
	if !j.job.AtMostOnce {
		const mostLost = 5
		cut := 0
		for _, processes := range j.processes[j.job.Key] {
			for _, p := range processes {
				if !p.Ended {
					cut++
				}
			}
		}
		return j.job.Reason == "WorkerLost" && cut >= mostLost
	}
	for _, p := range j.processes[j.job.Key][0] {
		if !p.Ended && j.cutOff(j.job, p) || p.Ended && j.resultLost(p, nil) {
			return true
		}
	}
	// It may have been cut off before it could reach the ledger.
	return len(j.processes[j.job.Key][0]) == 0 && len(j.Faults) > 0
}

// agreesOnRetries: each failure but the last of a task that failed for good is a retry, unless it was lost. Of requests the
// agent sees failures that the server does not.
func (j *judge) agreesOnRetries() {
	if j.job.HTTP {
		return
	}
	most, lost := 0, 0
	for _, processes := range j.processes[j.job.Key] {
		for _, p := range processes {
			if failed(p) {
				most++
				if j.resultLost(p, nil) {
					lost++
				}
			}
		}
		if j.job.Fails > j.job.MaxRetries {
			most--
		}
	}
	if j.job.Retries < most-lost || j.job.Retries > most {
		j.find(Disagree, "Its status has %d retries; the ledger has %d, of which %d may not be known.", j.job.Retries, most, lost)
	}
}

// agreesOnIndexes: what is said to have succeeded though nobody did it is lost, and found by done.
func (j *judge) agreesOnIndexes() {
	for index := range j.job.Tasks {
		done := slices.ContainsFunc(j.processes[j.job.Key][index], succeeded)
		good, bad := slices.Contains(j.job.Succeeded, index), slices.Contains(j.job.Failed, index)
		if good == bad || done && bad {
			j.find(Disagree, "Task %d: among the succeeded ones: %v; among the failed ones: %v; in the ledger as done: %v.", index, good, bad, done)
		}
	}
}

func (j *judge) agreesOnExitCode() {
	if j.job.ExitCode == nil {
		j.find(Disagree, "It is %s without an exit code.", j.job.State)
		return
	}
	for _, p := range slices.Backward(j.processes[j.job.Key][0]) {
		if !p.Ended {
			continue
		}
		if p.Code != int(*j.job.ExitCode) {
			j.find(Disagree, "Its exit code is %d; the last process ended with %d.", *j.job.ExitCode, p.Code)
		}
		return
	}
}

func short(p ledger.Process) string { return p.ID[:min(len(p.ID), 6)] }
