package simulation

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// pod is a worker pod as it is on its node, whatever the API server has.
type pod struct {
	w       *world
	tenant  *tenant
	name    string
	ordinal int
	uid     types.UID
	slots   int
	// agent is nil until its container has started, and while it is being started again.
	agent *agent
	runs  int
	// spool has the results while there is no agent.
	spool []*held
	// endBy is when a deleted pod is ended at the latest.
	endBy time.Time
	// away is until when nothing reaches its agent, and lost until when its node is not there for the kubelet
	// either.
	away, lost time.Time
	dead       bool
	// hostile: what runs in it has taken its agent's place, or has its token. Old: its agent is one of the version before.
	hostile, old bool
}

func (p *pod) isCut() bool  { return p.w.now.Before(p.away) || p.isLost() }
func (p *pod) isLost() bool { return p.w.now.Before(p.lost) }

// podOf is the pod on its node; nil if nothing is left of it.
func (w *world) podOf(uid types.UID) *pod {
	for _, p := range w.pods {
		if p.uid == uid {
			return p
		}
	}
	return nil
}

// createPod makes a worker, unless the name is taken.
func (w *world) createPod(t *tenant, ordinal int) types.UID {
	name := t.podName(ordinal)
	if w.api.pods.live[name] != nil {
		return ""
	}
	w.made++
	uid := types.UID(fmt.Sprint("pod-", w.made))
	revision := w.revise()
	w.api.pods.put(name, revision, &podObject{tenant: t, name: name, uid: uid, ordinal: ordinal, revision: revision})
	w.pods = append(w.pods, &pod{w: w, tenant: t, name: name, ordinal: ordinal, uid: uid, slots: t.config.Slots, old: w.makesOld()})
	w.note("%s is made: %s", uid, name)
	return uid
}

// startAgent starts the agent's container, with what the last run of it has left on disk.
func (p *pod) startAgent() {
	p.runs++
	p.agent = &agent{w: p.w, pod: p, run: p.runs, heard: p.w.now, last: p.w.now, results: p.spool, draining: !p.endBy.IsZero()}
	for _, h := range p.spool {
		h.sent = nil
	}
	p.spool = nil
}

// stopAgent ends the agent's container: what it runs ends with it, and leaves no results.
func (p *pod) stopAgent() {
	a := p.agent
	if a == nil {
		return
	}
	a.dead = true
	for _, proc := range a.live {
		proc.ended = true
		p.w.noteKilled(p, proc)
	}
	a.live = nil
	p.spool, p.agent = a.results, nil
	if a.stream != nil {
		a.stream.agentEnded = true
	}
}

// kubelet does the next thing that there is to do about a pod.
func (w *world) kubelet(p *pod) {
	object := w.api.pods.live[p.name]
	ours := object != nil && object.uid == p.uid
	switch {
	case p.isLost():
	case !ours: // someone has removed it by force
		w.count(answered, forgottenPod)
		p.end()
	case p.dead:
		w.endObject(p, object)
	case object.terminating && (p.agent == nil || p.agent.drained() || !w.now.Before(p.endBy)):
		if p.agent != nil && len(p.agent.live) > 0 {
			w.note("%s is ended with its grace over", p.uid)
		}
		p.stopAgent()
		p.dead = true
	case object.terminating:
		p.agent.draining = true
	case p.agent == nil:
		p.startAgent()
	case !object.started:
		w.putPod(p.name, func(o *podObject) { o.started = true })
	}
}

// endObject has the API server know that a pod has ended.
func (w *world) endObject(p *pod, object *podObject) {
	switch {
	case object.terminating:
		w.forgetPod(p.name)
		p.end()
	case !object.terminated:
		w.putPod(p.name, func(o *podObject) { o.terminated = true })
	}
}

// end is that nothing is left of a pod on its node.
func (p *pod) end() {
	p.stopAgent()
	p.dead = true
	p.w.pods = without(p.w.pods, p)
}

// crashPod ends a pod for good, as an eviction by the kubelet does.
func (w *world) crashPod(p *pod) {
	if p.dead || p.isLost() {
		return
	}
	w.note("%s ends by itself", p.uid)
	w.count(podCrash, objectOfPod(p))
	p.stopAgent()
	p.dead = true
}

// restartAgent has a container end that starts again.
func (w *world) restartAgent(p *pod) {
	if p.dead || p.agent == nil {
		return
	}
	w.note("the agent of %s restarts", p.uid)
	w.count(agentRestart, objectOfPod(p))
	p.stopAgent()
}

// silencePod keeps the network from a pod's agent for a while.
func (w *world) silencePod(p *pod, d time.Duration) {
	w.note("%s is cut off for %v", p.uid, d)
	f := partitionShort
	switch {
	case d > workerLost:
		f = partitionLong
	case d > 20*time.Second:
		f = partitionFence
	}
	w.count(f, objectOfPod(p))
	p.away = w.now.Add(d)
}

// losePod has a pod's node vanish, for a while or for good.
func (w *world) losePod(p *pod, d time.Duration) {
	w.note("the node of %s is lost for %v", p.uid, d)
	w.count(nodeLost, objectOfPod(p))
	p.lost = w.now.Add(d)
}

// evict deletes a pod as a user or an eviction does.
func (w *world) evict(p *pod) {
	object := w.api.pods.live[p.name]
	if object == nil || object.uid != p.uid || object.terminating {
		return
	}
	w.note("%s is evicted", p.uid)
	w.count(evicted, objectOfPod(p))
	_ = w.deletePod(p.name, p.uid, []time.Duration{drainGrace, 30 * time.Second, time.Second}[w.rng.IntN(3)])
}

// forceDelete removes a lost pod's object: the one case in which what it runs may overlap with another.
func (w *world) forceDelete(p *pod) {
	object := w.api.pods.live[p.name]
	if object == nil || object.uid != p.uid || !p.isLost() {
		return
	}
	w.note("%s is removed by force", p.uid)
	w.count(forced, objectOfPod(p))
	if p.agent != nil {
		for _, proc := range p.agent.live {
			w.history.ended(p, proc) // what it still does is the documented overlap
		}
	}
	w.forgetPod(p.name)
}
