package check

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// event is a line of a timeline.
type event struct {
	at   Time
	text string
}

// timeline is all that is known of a Job: its processes, its status, and the faults around them.
func (h *history) timeline(j *Job) []string {
	events := h.life(j)
	if len(events) == 0 {
		return []string{}
	}
	first := slices.MinFunc(events, byTime).at
	last := slices.MaxFunc(events, byTime).at
	for _, f := range h.Faults {
		if f.To+healLag >= first && f.From <= last+healLag {
			events = append(events, event{f.From, fmt.Sprintf("fault    %s, for %v: %s", f.Kind, (f.To - f.From).Round(time.Millisecond), f.Detail)})
		}
	}
	slices.SortStableFunc(events, byTime)
	lines := make([]string, 0, len(events))
	for _, e := range events {
		lines = append(lines, fmt.Sprintf("%10.3f  %s", e.at.Seconds(), e.text))
	}
	return lines
}

func byTime(a, b event) int { return cmp.Compare(a.at, b.at) }

// life of a Job and of its workers.
func (h *history) life(j *Job) []event {
	var events []event
	pods := map[string]bool{}
	for _, processes := range h.processes[j.Key] {
		for _, p := range processes {
			pods[p.PodUID] = true
			events = append(events, event{p.Begun, fmt.Sprintf("process  %s of task %d begins on %s (pod %s)", short(p), p.Index, p.Pod, p.PodUID)})
			if p.Ended {
				events = append(events, event{p.Alive, fmt.Sprintf("process  %s ends with %d", short(p), p.Code)})
			} else {
				events = append(events, event{p.Alive, fmt.Sprintf("process  %s is heard for the last time", short(p))})
			}
			if p.Closed != 0 {
				events = append(events, event{p.Closed, fmt.Sprintf("process  %s is closed", short(p))})
			}
		}
	}
	for uid := range pods {
		pod := h.pods[uid]
		if pod.Deadline != 0 {
			events = append(events, event{pod.Deadline, fmt.Sprintf("pod      %s (%s) is past its grace", pod.Key, uid)})
		}
		if pod.Gone != 0 {
			events = append(events, event{pod.Gone, fmt.Sprintf("pod      %s (%s) is gone", pod.Key, uid)})
		}
	}
	for _, c := range j.Changes {
		events = append(events, event{c.At, "status   " + c.Text})
	}
	return events
}
