package simulation

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/engine"
)

// villain is the worker that is hostile in some worlds, from some moment on. What runs in it says whatever it likes, of whatever
// Job, beside what an honest agent says or in place of that. It has its agent's token, and so its session; it has no other's, and
// it can prove no attempt that was not sent to it.
//
// What must hold nevertheless: all promises, for the Jobs of the other pool, and for the attempts of its own pool that other
// workers have. Of those that it was sent, it may tell what it likes: what it says of them is taken for the truth here. It is not
// to be started, ended, missed or lost by what it does, so the checks leave out what happens on it.
type villain struct {
	exists bool
	// tenant is whose worker it is.
	tenant *tenant
	// wild: it tells also of ends that no process here has, such as that a deadline is over.
	wild bool
	// mixed: some workers have an agent of the version before, which has no proofs. What such a one says of its own pool is believed
	// as far as it fits, so that a pool has to trust its workers until the last of these is gone.
	mixed bool
	// pod is the one that is hostile now, and all are those that were.
	pod *pod
	all map[types.UID]bool
	// quiet is until when it says nothing.
	quiet time.Time
	// until is when it ends its lies, once all is well: as long as it says that it runs what it was sent, that does not end.
	until time.Time
	// lawless: it is old itself, and its own pool is not protected from it.
	lawless bool
}

// chooseVillain says whether the world has a hostile worker, and what it is like.
func (w *world) chooseVillain() {
	v := &w.villain
	v.exists = w.plan.IntN(3) == 0
	v.wild, v.mixed = w.plan.IntN(3) == 0, w.plan.IntN(3) == 0
	v.all = map[types.UID]bool{}
}

// makesOld tells whether the next worker gets an agent of the version before.
func (w *world) makesOld() bool { return w.villain.mixed && w.plan.IntN(2) == 0 }

// turnSome has a worker become hostile, if none is.
func (w *world) turnSome() {
	v := &w.villain
	if v.pod != nil && !v.pod.dead && w.podOf(v.pod.uid) == v.pod {
		return
	}
	p := w.victim()
	if p == nil || p.dead || p.agent == nil || v.tenant != nil && v.tenant != p.tenant {
		return
	}
	w.note("%s is hostile from now on", p.uid)
	v.pod, v.tenant, p.hostile, v.all[p.uid] = p, p.tenant, true, true
	v.lawless = v.lawless || p.old
	for _, proc := range p.agent.live {
		if !proc.started.IsZero() {
			w.record(proc.token).starts-- // it may say that it has not
		}
	}
}

// spared tells whether nothing is promised about a Job.
func (w *world) spared(j *jobTruth) bool {
	return j == nil || w.villain.lawless && j.tenant == w.villain.tenant
}

// isOutlaw tells whether nothing is promised about what a pod does: it is hostile, or was removed by force.
func (w *world) isOutlaw(p *pod) bool { return p.hostile || w.isZombie(p) }

// isContradicted tells whether a pod's agent is one of the version before, and the status says that a task runs on another: it can't
// prove that a leader, whose write is lost, has given it a later attempt, and so is not believed.
func (p *pod) isContradicted(j *jobTruth, s *v1alpha1.JobStatus, index int32) bool {
	if !p.old {
		return false
	}
	for _, on := range s.RunningIndexes {
		if on.PodUID != p.uid && hasIndex(on.Indexes, index) {
			return true
		}
	}
	return s.Attempt != nil && s.Attempt.PodUID != p.uid && (j.plain() || index == j.size())
}

// touched tells whether the hostile worker was sent an attempt of a Job.
func (w *world) touched(j *jobTruth) bool {
	for _, pods := range j.issued {
		for uid := range pods {
			if w.villain.all[uid] {
				return true
			}
		}
	}
	return false
}

// forgeSome has the hostile worker say something: in its session, or in a new one.
func (w *world) forgeSome() {
	v := &w.villain
	p := v.pod
	if p == nil || p.agent == nil || p.isCut() {
		return
	}
	a := p.agent
	switch {
	case w.chance(20):
		v.quiet = w.now.Add(time.Duration(w.rng.IntN(10)) * time.Second)
	case a.stream == nil || !a.welcomed || w.chance(12):
		if op := pick(w.rng, w.published); op != nil && op.acts() {
			a.dial(op)
			hello := a.stream.up[0].hello
			w.forge(a, &hello.Running, &hello.Results, &hello.Draining)
			if w.chance(2) {
				hello.Instance = fmt.Sprint("forged-", w.rng.IntN(1000))
			}
		}
	default:
		r := &engine.Report{Seen: []uint64{a.seen, a.seen, 0, math.MaxUint64}[w.rng.IntN(4)], Running: a.running()}
		if w.chance(2) {
			r.Results = a.unsent()
		}
		w.forge(a, &r.Running, &r.Results, &r.Draining)
		a.stream.up = append(a.stream.up, message{report: r})
	}
}

// forge adds to a message, and takes from it.
func (w *world) forge(a *agent, running *[]engine.Running, results *[]engine.Result, draining *bool) {
	if w.chance(3) {
		*running = nil
	}
	*draining = *draining || w.chance(8)
	for range 1 + w.rng.IntN(4) {
		token, name := w.forgeToken()
		for range 1 + w.rng.IntN(2)*w.rng.IntN(3) {
			if w.chance(2) {
				*running = append(*running, engine.Running{Token: token, JobName: name, Pending: w.chance(3), StartedAgo: w.forgeAge()})
			} else {
				*results = append(*results, w.forgeResult(a.pod, token, name))
			}
		}
	}
}

func (w *world) forgeResult(p *pod, token engine.Token, name string) engine.Result {
	r := engine.Result{
		Token: token, JobName: name, Outcome: engine.Exited, ExitCode: w.rng.Int32N(3),
		StartedAgo: w.forgeAge(), EndedAgo: w.forgeAge(), Output: "forged",
	}
	if w.villain.wild || !w.issuedTo(token, p) {
		r.Outcome = engine.Outcome(1 + w.rng.IntN(int(engine.Responded)))
	}
	return r
}

// forgeAge is how long ago something is said to be. The wire lets no negative one through.
func (w *world) forgeAge() time.Duration {
	return []time.Duration{0, 0, time.Second, time.Hour, 100 * 365 * 24 * time.Hour, math.MaxInt64}[w.rng.IntN(6)]
}

// holdsUp is how long it goes on once all is well.
const holdsUp = 2 * time.Minute

// strangers is how many Jobs it makes up.
const strangers = 3

// forgeToken names an attempt: one that there is, or is not, or is not yet. It knows all Jobs, and what was sent of them.
func (w *world) forgeToken() (token engine.Token, name string) {
	now := engine.Epoch{LeaseCreated: w.api.lease.created.UnixMicro(), Transitions: int64(w.api.lease.transitions)}
	j := w.target()
	if j == nil {
		return engine.Token{Job: types.UID(fmt.Sprint("stranger-", w.rng.IntN(strangers))), Try: 1, Epoch: now}, "stranger"
	}
	token = engine.Token{Job: j.uid, Index: w.rng.Int32N(j.size() + 1), Try: 1, Epoch: now}
	if t := j.tasks[token.Index]; t != nil && t.sent.Try > 0 {
		token = t.sent
	}
	switch w.rng.IntN(8) {
	case 0, 1:
		token.Try++
	case 2:
		token.Try = []int32{1, 2, 0, -1, math.MaxInt32, math.MaxInt32 - 1}[w.rng.IntN(6)]
	}
	switch w.rng.IntN(6) {
	case 0:
		token.Epoch = now
	case 1:
		token.Epoch = []engine.Epoch{
			{}, {LeaseCreated: now.LeaseCreated, Transitions: now.Transitions + 1}, {LeaseCreated: now.LeaseCreated, Transitions: now.Transitions - 1},
			{LeaseCreated: math.MaxInt64, Transitions: math.MaxInt64},
		}[w.rng.IntN(4)]
	}
	if w.chance(10) {
		token.Index = []int32{-1, j.size() + 1, math.MaxInt32, math.MinInt32}[w.rng.IntN(4)]
	}
	if name = j.name; w.chance(4) {
		name = []string{"no-such-job", w.truth(pick(w.rng, w.uids)).name}[w.rng.IntN(2)]
	}
	return token, name
}

// target is a Job that is lied about, rather one that has not ended; nil for one that there never was.
func (w *world) target() *jobTruth {
	if len(w.uids) == 0 || w.chance(12) {
		return nil
	}
	j := w.truth(pick(w.rng, w.uids))
	for range 4 {
		if j.final == "" && !j.gone {
			break
		}
		j = w.truth(pick(w.rng, w.uids))
	}
	return j
}

// issuedTo tells whether a leader has sent an attempt to a pod. That is what a proof proves.
func (w *world) issuedTo(token engine.Token, p *pod) bool {
	j := w.truth(token.Job)
	return j != nil && j.issued[token][p.uid]
}

// readable tells whether the wire lets a message through: it ends a session in which a token is not even well formed.
func (m *message) readable() bool {
	running, results := m.said()
	for _, r := range running {
		if r.Token.Try < 1 || r.Token.Index < 0 {
			return false
		}
	}
	for _, r := range results {
		if r.Token.Try < 1 || r.Token.Index < 0 {
			return false
		}
	}
	return true
}

// said is what a message says of attempts.
func (m *message) said() ([]engine.Running, []engine.Result) {
	if m.hello != nil {
		return m.hello.Running, m.hello.Results
	}
	return m.report.Running, m.report.Results
}

// believe takes for the truth what the hostile worker says of attempts that were sent to it, and counts what else it says.
func (s *stream) believe(results []engine.Result) {
	w := s.w
	if !s.pod.hostile {
		return
	}
	for _, r := range results {
		w.count(lying, w.lieOf(s.pod, r.Token))
		if !w.issuedTo(r.Token, s.pod) {
			continue
		}
		j, t := w.truth(r.Token.Job), w.record(r.Token)
		s.op.heard[r.Token] = true
		if r.Token.Index == j.size() {
			t.starts++
		}
		if r.Outcome == engine.Exited {
			t.exits = append(t.exits, exit{r.Token, r.ExitCode})
			continue
		}
		j.wild = true
		t.cutOff++
	}
}

// lieOf tells whose attempt a result is said to be of.
func (w *world) lieOf(p *pod, token engine.Token) object {
	j := w.truth(token.Job)
	switch {
	case j == nil:
		return jobUnknown
	case j.gone || j.final != "":
		return jobEnded
	case j.tenant != p.tenant:
		return jobOfOthers
	case w.issuedTo(token, p):
		return jobOwn
	case j.tasks[token.Index] != nil && j.tasks[token.Index].sent.Try > 0:
		return jobElsewhere
	}
	return jobWaiting
}

// newPlan is the chance that says what a world has.
func newPlan(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 2)) }
