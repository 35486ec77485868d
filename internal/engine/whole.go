package engine

import (
	"slices"
	"time"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

const (
	// largeSpec is from what size on a spec is not kept whole while its Job waits. Smaller ones are not worth a read.
	largeSpec = 4 << 10
	// loadPatience is how long a slot is held for a task whose Job is being read.
	loadPatience = 10 * time.Second
	// maxKept is how many bytes of large specs are kept for Jobs that have more tasks to start.
	maxKept = 32 << 20
)

// Reduce returns what decides when, where and how often a Job is run, and what its end means, without what is only
// needed to run it. It returns false for a spec that is small enough to be kept whole.
func Reduce(spec *v1alpha1.JobSpec) (v1alpha1.JobSpec, bool) {
	if bulkOf(spec) < largeSpec {
		return *spec, false
	}
	r := *spec
	r.Command, r.Args, r.Env, r.WorkingDir, r.Stdin, r.Items = nil, nil, nil, "", "", nil
	if len(spec.Items) > 0 {
		r.Completions = new(max(deref(spec.Completions), int32(len(spec.Items))))
	}
	if spec.HTTP != nil {
		r.HTTP = &v1alpha1.HTTPRequest{}
	}
	if spec.OnFailure != nil {
		r.OnFailure = &v1alpha1.FailureHandler{}
	}
	return r, true
}

// IsReduced tells whether a spec is one that Reduce has made: no other says neither what to run nor what to ask for.
func IsReduced(spec *v1alpha1.JobSpec) bool {
	return len(spec.Command) == 0 && (spec.HTTP == nil || spec.HTTP.Path == "")
}

// bulkOf is about how many bytes of memory take what Reduce drops.
func bulkOf(spec *v1alpha1.JobSpec) int {
	n := len(spec.WorkingDir) + len(spec.Stdin) + bulkOfTexts(spec.Command) + bulkOfTexts(spec.Args) + bulkOfTexts(spec.Items) + bulkOfEnv(spec.Env)
	if h := spec.HTTP; h != nil {
		n += len(h.Path) + len(h.Body)
		for i := range h.Headers {
			n += variableSize + len(h.Headers[i].Name) + len(deref(h.Headers[i].Value))
		}
	}
	if f := spec.OnFailure; f != nil {
		n += bulkOfTexts(f.Command) + bulkOfTexts(f.Args) + bulkOfEnv(f.Env)
	}
	return n
}

// textSize and variableSize are the bytes of a string, and of a variable or header, beside their text.
const textSize, variableSize = 16, 40

func bulkOfTexts(texts []string) int {
	n := textSize * len(texts)
	for _, text := range texts {
		n += len(text)
	}
	return n
}

func bulkOfEnv(env []v1alpha1.EnvVar) int {
	n := variableSize * len(env)
	for i := range env {
		n += len(env[i].Name) + len(deref(env[i].Value))
	}
	return n
}

// setSpec takes over a spec. A whole one that is held stays so: it can change in little.
func (j *job) setSpec(object *Job) {
	spec, held := object.Spec, j.object.Spec
	switch {
	case !object.Reduced:
		j.reduced, j.loading, j.overdue, j.bulk = false, false, false, bulkOf(spec)
	case held == nil || j.reduced:
		j.reduced = true
	default:
		own := *held
		own.Suspend, own.Priority, own.TTLSecondsAfterFinished = spec.Suspend, spec.Priority, spec.TTLSecondsAfterFinished
		spec = &own
	}
	j.object.Spec = spec
}

// load asks for the whole spec, once.
func (j *job) load() {
	if !j.loading {
		j.loading, j.loadBy = true, j.engine().now.Add(loadPatience)
		j.engine().out.Load(j.object.JobRef)
	}
}

// prepareAll goes on with what waits to be sent.
func (j *job) prepareAll() {
	for _, t := range j.sorted() {
		if t.attempt != nil && t.attempt.unsent {
			t.prepare()
		}
	}
}

// prepare does what is next before an attempt is sent: its Job is read, of one that may run once only it is stored, and
// then it is sent. Its token is none that counts before: an earlier attempt may turn out to run, or to have ended.
func (t *task) prepare() {
	j, a := t.job, t.attempt
	switch {
	case j.reduced:
		j.load()
		return
	case !a.noted && a.worker.resetFailure != "": // it would be refused
		t.withdraw()
		j.proceed()
		return
	}
	if f := t.tooLong(); f != nil {
		t.release()
		t.refuse(*f)
		return
	}
	t.know(a.token)
	switch {
	case a.recorded || !j.atMostOnce() || t.isHandler():
		t.send()
	case !a.noted:
		j.noteAttempt(t)
		j.write(0)
	}
}

// giveUpLoading gives back what is booked for a Job that is not read in time, so that others run there. The read goes on,
// and nothing more of the Job is started before.
func (j *job) giveUpLoading() {
	j.overdue, j.note = true, "The Job can't be read from the API server."
	for _, t := range j.sorted() {
		if t.attempt != nil && t.attempt.unsent {
			t.withdraw()
		}
	}
}

// lighten drops what is only needed to run the Job if nothing waits to be sent. It is kept for a while for a Job with
// more tasks, as far as there is room for it.
func (j *job) lighten() {
	if j.isShed() || j.reduced || j.bulk < largeSpec || len(j.unsent) > 0 {
		return
	}
	for _, t := range j.tasks {
		if t.attempt != nil && t.attempt.unsent {
			return
		}
	}
	if !j.plain() && j.running > 0 && j.failing == nil && (len(j.again) > 0 || j.fresh()) {
		j.engine().keep(j)
		return
	}
	j.reduce()
}

// reduce drops what is only needed to run the Job: it is read again when something of it is to be sent.
func (j *job) reduce() {
	spec, _ := Reduce(j.object.Spec)
	j.object.Spec, j.reduced = &spec, true
	j.engine().unkeep(j)
}

// keep notes that a large spec is kept, and drops those that were not used for the longest time if it becomes too much.
func (e *Engine) keep(j *job) {
	e.unkeep(j)
	e.kept = append(e.kept, j)
	for e.keptBytes += j.bulk; e.keptBytes > maxKept; {
		e.kept[0].reduce()
	}
}

func (e *Engine) unkeep(j *job) {
	if i := slices.Index(e.kept, j); i >= 0 {
		e.kept = slices.Delete(e.kept, i, i+1)
		e.keptBytes -= j.bulk
	}
}
