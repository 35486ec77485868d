package engine

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/pkg/worker"
)

// task is one index of a Job that has begun and is not done.
type task struct {
	job   *job
	index int32

	// attempt is the one that counts, nil unless one runs.
	attempt *attempt
	// lastTry is the highest try that was ever made, whether it started or not, and last the highest token
	// that is known.
	lastTry int32
	last    Token
	// settled is the highest token of those that were settled, and settledTry the try of the one that the
	// stored status tells of. Their results count no more when they are told again.
	settled    Token
	settledTry int32
	// retries are the tries that count against the Job's, and failures those that decide how long to wait.
	retries, failures int32
	// lost is how many workers the task has lost.
	lost int32
	// wait is until the next try, at the earliest; it is set while the task is in job.retrying.
	wait timer[*task]
	// due is when it could be tried again, zero if it has only begun.
	due time.Time
	// unstored is true until the failure is stored that the task waits after.
	unstored bool
}

// attempt is one execution of a task on a worker.
type attempt struct {
	token  Token
	worker *podWorker
	// sequence of the command that carried it, unless it is unsent.
	sequence uint64
	// unsent attempts wait for a read or a write before they are sent. See task.prepare.
	unsent bool
	// sent is when it was sent, zero if this leader has not.
	sent time.Time
	// started is when its process started, zero while that is not known.
	started time.Time
	// orphaned: its worker's agent has died, and it is not known yet why.
	orphaned bool
	// noted: the status counts it.
	noted bool
	// omitted: the status of its indexed job has no room for it.
	omitted bool
	// version of the write that tells of it, of an indexed job; 0 while none does.
	version uint64
	// recorded: the API knows that it runs.
	recorded bool
	// share of a worker that it takes, in millionths.
	share int64
	// usage is what it takes from its worker, and files what it takes of the pool's open files.
	usage, files worker.ResourceUsage
	// memory is what its processes had when it was last heard of, in bytes.
	memory int64
}

// startedBefore tells whether the attempt is known to have started, and earlier than another.
func (a *attempt) startedBefore(o *attempt) bool {
	return !a.started.IsZero() && (o.started.IsZero() || a.started.Before(o.started))
}

// task returns the task of an index, a new one if it has not begun.
func (j *job) task(index int32) *task {
	t := j.tasks[index]
	if t == nil {
		t = &task{job: j, index: index}
		j.book(t)
		if j.plain() && index == 0 {
			t.restore(&j.object.Status)
		}
	}
	return t
}

// book adds a task that has begun. A job that waits has none, and no map.
func (j *job) book(t *task) {
	if j.tasks == nil {
		j.tasks = map[int32]*task{}
	}
	j.tasks[t.index] = t
}

// restore takes over what the status tells of earlier tries of a plain job.
func (t *task) restore(status *v1alpha1.JobStatus) {
	t.lastTry, t.retries = max(t.lastTry, min(maxTry, deref(status.Attempts))), max(t.retries, deref(status.Retries))
	t.lost, t.failures = max(t.lost, deref(status.LostWorkers)), max(t.failures, t.retries)
	for _, ended := range status.EndedAttempts {
		if token, err := ParseToken(t.job.object.UID, ended.Token); err == nil {
			t.know(token)
			t.noteSettled(token)
		}
	}
}

// noteSettled notes that the attempt of this token is settled.
func (t *task) noteSettled(token Token) {
	if token.Compare(t.settled) > 0 {
		t.settled = token
	}
}

// hasSettled tells whether an attempt is settled.
func (t *task) hasSettled(token Token) bool {
	return t.settled.Try > 0 && token.Compare(t.settled) <= 0 || token.Try <= t.settledTry
}

// know notes that there is, or was, an attempt of this token.
func (t *task) know(token Token) {
	t.lastTry = max(t.lastTry, token.Try)
	if token.Compare(t.last) > 0 {
		t.last = token
	}
}

// outranks tells whether a later attempt than the token's is known.
func (t *task) outranks(token Token) bool { return token.Compare(t.last) < 0 }

// isHandler tells whether the task is the job's onFailure.
func (t *task) isHandler() bool { return t.index == t.job.size }

// start makes a new attempt on a worker. It is sent by the job's Process, at once or when it is stored. Its token is
// higher than all that are known, so that its result counts: their epochs may be above ours after an etcd restore, or
// where the Lease was edited.
func (t *task) start(w *podWorker) {
	j := t.job
	token := Token{Job: j.object.UID, Index: t.index, Try: next(t.lastTry), Epoch: j.engine().epoch}
	if t.last.Epoch.Compare(token.Epoch) > 0 {
		token.Epoch = t.last.Epoch
	}
	w.take(t, &attempt{token: token, worker: w, unsent: j.reduced || j.atMostOnce() && !t.isHandler()})
	w.begin()
	if t.attempt.unsent {
		t.prepare()
		return
	}
	t.know(token)
	j.unsent = append(j.unsent, t)
}

// send sends an attempt for which something had to be done first, unless its worker has no session: it is sent in the
// next one then.
func (t *task) send() {
	if t.attempt.worker.session == nil {
		return
	}
	t.attempt.unsent = false
	t.attempt.sequence = t.attempt.worker.sequence + 1
	t.job.unsent = append(t.job.unsent, t)
	_ = t.job.Process() // it never fails: losing what was sent shows in the worker's reports
	if t.attempt.recorded {
		t.attempt.worker.record(t.attempt.token)
	}
}

// stop ends the task's attempt. One that was not sent yet is taken back.
func (t *task) stop() {
	if t.attempt.unsent {
		t.withdraw()
		return
	}
	t.attempt.worker.kill(t.attempt.token, t.job.grace())
}

// withdraw takes back an attempt that was not sent.
func (t *task) withdraw() {
	a := t.attempt
	t.release()
	t.unbook(a)
}

// unbook puts back a task whose attempt has ended and has not run.
func (t *task) unbook(a *attempt) {
	if a.noted {
		t.job.takeBack(t)
		return
	}
	t.job.putBack(t)
}

// putBack has a task started again as soon as there is room.
func (j *job) putBack(t *task) {
	if t.isHandler() {
		return // nextTask finds it
	}
	t.due = j.engine().now
	j.again = append(j.again, t)
}

// noteStarted takes over when the attempt's process started.
func (t *task) noteStarted(ago time.Duration) {
	a := t.attempt
	if !a.started.IsZero() {
		return
	}
	a.started = t.job.engine().now.Add(-ago)
	t.meterStart()
	t.job.noteAttempt(t)
	t.job.publish()
}

// adopt takes over what the Job's stored status has as running.
func (j *job) adopt(stored *v1alpha1.JobStatus) {
	if recorded := stored.Attempt; recorded != nil {
		index := int32(0)
		if j.failing != nil || !j.plain() {
			index = j.size
		}
		token, err := ParseToken(j.object.UID, recorded.Token)
		if err != nil {
			if !j.atMostOnce() {
				return // the agents know what runs
			}
			token = Token{Job: j.object.UID} // it has been sent, whatever it is
		}
		token.Index = index
		a := &attempt{token: token, noted: true, recorded: true}
		if recorded.StartTime != nil {
			a.started = recorded.StartTime.Time
		}
		j.adoptAttempt(a, recorded.PodUID, recorded.Worker)
	}
	if j.plain() {
		return
	}
	for _, on := range stored.RunningIndexes {
		var set indexSet
		set.parse(on.Indexes, j.size)
		for index := range set.all() {
			if !j.indexed.has(index) {
				// Which of its attempts it is, its agent says.
				a := &attempt{token: Token{Job: j.object.UID, Index: index}, noted: true, recorded: true}
				j.adoptAttempt(a, on.PodUID, on.Worker)
			}
		}
	}
}

// adoptAttempt books an attempt on its worker. That no list of pods has the worker does not prove that nothing runs there:
// whoever makes the lists finds it in the snapshot, and says so once it is gone.
func (j *job) adoptAttempt(a *attempt, pod types.UID, name string) {
	t := j.task(a.token.Index)
	t.know(a.token)
	w := j.pool.workers[pod]
	if w == nil {
		w = j.pool.worker(pod, name)
		w.since = j.engine().now
		j.engine().out.PoolChanged(j.pool.config.Key)
	}
	w.take(t, a)
}

// retryLater has a task tried again after a while.
func (j *job) retryLater(t *task) {
	t.failures = next(t.failures)
	t.wait.of = t
	j.retrying.set(&t.wait, j.engine().now.Add(j.backoff(t.failures)))
}

// unqueue takes a task out of wherever it waits for its next try.
func (j *job) unqueue(t *task) {
	j.retrying.set(&t.wait, time.Time{})
	if i := slices.Index(j.again, t); i >= 0 {
		j.again = slices.Delete(j.again, i, i+1)
	}
}

// wakeRetries has the tasks tried again whose time has come. A failure must be stored before.
func (j *job) wakeRetries() {
	for j.retrying.due(j.engine().now) && !j.retrying[0].of.unstored {
		j.putBack(j.retrying.take())
	}
}

// drop forgets a task that is done.
func (j *job) drop(t *task) {
	j.unqueue(t)
	delete(j.tasks, t.index)
}

// backoff is how long to wait after so many failures: between a half and all of what the Job, or its
// pool's defaults, say.
func (j *job) backoff(failures int32) time.Duration {
	b := v1alpha1.Backoff{}
	if own := j.object.Spec.Backoff; own != nil {
		b = *own
	} else if defaults := j.pool.config.Defaults.Backoff; defaults != nil {
		b = *defaults
	}
	initial, factor, most := int64(1), int64(2), int64(300)
	for to, from := range map[*int64]*int32{&initial: b.InitialSeconds, &factor: b.Factor, &most: b.MaxSeconds} {
		if from != nil {
			*to = int64(*from)
		}
	}
	wait := initial
	for n := int32(1); n < failures && wait < most && wait > 0 && factor > 1; n++ {
		wait *= factor
	}
	d := time.Duration(min(wait, most)) * time.Second
	return d/2 + time.Duration(j.engine().chance()*float64(d/2))
}

// Environment variables that tasks get.
const (
	envIndex          = "JOB_COMPLETION_INDEX"
	envItem           = "JOB_ITEM"
	envFailureReason  = "JOB_FAILURE_REASON"
	envFailureMessage = "JOB_FAILURE_MESSAGE"
)

// assignment is what the task's worker is told to do.
func (t *task) assignment() Assignment {
	j, spec := t.job, t.job.object.Spec
	a := Assignment{
		Token: t.attempt.token, JobName: j.object.Name, Grace: j.grace(),
		Env: variables(nil, spec.Env), WorkingDir: spec.WorkingDir,
		MemoryShare: t.attempt.usage.Memory, Reset: j.pool.config.Reset,
	}
	asked := j.Resources()
	a.MemoryLimit, a.MaxOpenFiles = asked.Memory, int32(asked.Files)
	a.Timeout = j.timeout()
	if t.isHandler() {
		a.Argv = concat(spec.OnFailure.Command, spec.OnFailure.Args)
		a.Env = append(variables(a.Env, spec.OnFailure.Env),
			Variable{envFailureReason, j.failing.reason}, Variable{envFailureMessage, j.failing.message})
		return a
	}
	if !j.deadline.IsZero() {
		a.Deadline = max(time.Millisecond, j.deadline.Sub(j.engine().now))
	}
	a.Stdin = spec.Stdin
	t.fillIn(&a, spec)
	return a
}

// fillIn says what the task does, with its index and its item.
func (t *task) fillIn(a *Assignment, spec *v1alpha1.JobSpec) {
	a.Item = t.item()
	if r := spec.HTTP; r != nil {
		a.HTTP = &Request{Method: r.Method, Path: r.Path, Body: r.Body}
		for _, h := range r.Headers {
			a.HTTP.Headers = append(a.HTTP.Headers, Variable{h.Name, deref(h.Value)})
		}
		return
	}
	a.Argv, a.Fill = concat(spec.Command, spec.Args), len(spec.Command)
	if !t.job.plain() {
		a.Env = append(a.Env, Variable{envIndex, strconv.Itoa(int(t.index))})
	}
	if a.Item != nil {
		a.Env = append(a.Env, Variable{envItem, *a.Item})
	}
}

// item of the task, nil if its Job has none.
func (t *task) item() *string {
	if items := t.job.object.Spec.Items; int(t.index) < len(items) {
		return &items[t.index]
	}
	return nil
}

// escape makes a text fit into any part of a path or a query.
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

func variables(to []Variable, env []v1alpha1.EnvVar) []Variable {
	for _, v := range env {
		to = append(to, Variable{v.Name, deref(v.Value)})
	}
	return to
}

func concat(a, b []string) []string {
	return append(append(make([]string, 0, len(a)+len(b)), a...), b...)
}
