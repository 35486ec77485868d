package engine

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// facts are what a Job's status tells that stays true, whoever writes it next. All the rest, like its state, is how things
// stood when it was written.
type facts struct {
	// leader has written the status. What it says of its own lead it knows best.
	leader string
	// attempts, retries and lost are the status's counts of these names, lost that of lost workers.
	attempts, retries, lost int32
	// running is the token of the attempt that runs, of a plain Job, and ended are those that have ended, the latest last.
	running string
	ended   []v1alpha1.Attempt
	// result of a plain Job's last attempt that has ended, or of the first task that failed for good; nil if there is none.
	result *v1alpha1.JobResult
	// failing is why the Job fails, nil if it does not, or not yet.
	failing *failure
	// succeeded and failed are the tasks of an indexed Job that are done, and tries are those that have failed and are not.
	succeeded, failed indexSet
	tries             map[int32]tries
}

// tries are those of a task that has failed and is to be tried again: how many of them count, and which has ended last.
type tries struct{ retries, ended int32 }

// factsOf reads them from the status of a Job of so many tasks; 0 if it is a plain one. A task that is there as both done and
// failed has failed.
func factsOf(s *v1alpha1.JobStatus, size int32) facts {
	f := facts{
		leader: s.Leader, attempts: deref(s.Attempts), retries: deref(s.Retries), lost: deref(s.LostWorkers),
		ended: s.EndedAttempts, result: s.Result, failing: failingOf(s.Conditions),
	}
	if s.Attempt != nil {
		f.running = s.Attempt.Token
	}
	if size == 0 {
		return f
	}
	f.succeeded.parse(s.SucceededIndexes, size)
	f.failed.parse(s.FailedIndexes, size)
	for index := range f.failed.all() {
		f.succeeded.remove(index)
	}
	for part := range strings.SplitSeq(s.RetriedIndexes, ",") {
		index, t, ok := parseRetried(part)
		if _, twice := f.tries[index]; ok && index < size && !twice && !f.done(index) {
			f.try(index, t)
		}
	}
	return f
}

func failingOf(conditions []metav1.Condition) *failure {
	c := meta.FindStatusCondition(conditions, v1alpha1.JobFailureTarget)
	if c == nil || c.Status != metav1.ConditionTrue {
		return nil
	}
	return &failure{reason: c.Reason, message: c.Message}
}

func (f *facts) done(index int32) bool { return f.succeeded.has(index) || f.failed.has(index) }

func (f *facts) try(index int32, t tries) {
	if f.tries == nil {
		f.tries = map[int32]tries{}
	}
	f.tries[index] = t
}

// merge returns what is known of a Job once it is seen what is stored of it. It takes nothing away: what has ended stays so, and
// no count becomes less. Where both tell the end of the same task, what is known stands. Neither of the two is changed.
func (f facts) merge(stored facts) facts {
	known := f
	f.succeeded, f.failed, f.tries = known.succeeded.clone(), known.failed.clone(), maps.Clone(known.tries)
	f.lost = max(known.lost, stored.lost)
	f.retries = max(known.retries, stored.retries)
	f.attempts = max(known.attempts, stored.attempts)
	if known.failing == nil {
		f.failing = stored.failing
	}
	if known.result == nil {
		f.result = stored.result
	}
	retries := f.mergeTasks(&known, &stored)
	if stored.leader == known.leader { // its counts are of before, and an attempt that was stored and then not sent is taken back
		f.attempts = known.attempts
		return f
	}
	attempts, more := f.mergeEnded(&known, &stored)
	f.attempts = max(f.attempts, known.attempts+min(attempts, stored.attempts))
	f.retries = max(f.retries, known.retries+min(retries+more, stored.retries))
	return f
}

// mergeEnded adds the attempts of a plain Job that another leader has stored as ended. It returns how many of them were not known at all, and how
// many were not known to have failed: the counts of two leaders that know of different ones add up.
func (f *facts) mergeEnded(known, stored *facts) (attempts, failed int32) {
	seen := map[string]int{} // an attempt of onFailure may have the token of one of the task
	for i := range known.ended {
		seen[known.ended[i].Token]++
	}
	var news []v1alpha1.Attempt
	for i := range stored.ended {
		switch a := &stored.ended[i]; {
		case seen[a.Token] > 0:
			seen[a.Token]--
		case len(known.ended) == maxEnded && endedBefore(*a, known.ended[0]) <= 0: // it was known, and had to make room
		default:
			news = append(news, *a)
			if a.Token != known.running {
				attempts++
			}
			if a.Reason != "" && a.Reason != v1alpha1.ReasonInterrupted && a.Reason != v1alpha1.ReasonWorkerLost {
				failed++
			}
		}
	}
	if len(news) == 0 {
		return 0, 0
	}
	all := append(slices.Clone(known.ended), news...)
	slices.SortStableFunc(all, endedBefore)
	f.ended = all[max(0, len(all)-maxEnded):]
	if stored.result != nil && f.ended[len(f.ended)-1].Token == news[len(news)-1].Token {
		f.result = stored.result
	}
	return attempts, failed
}

// endedBefore compares when two attempts have ended.
func endedBefore(a, b v1alpha1.Attempt) int {
	switch {
	case a.EndTime == nil && b.EndTime == nil:
		return 0
	case a.EndTime == nil:
		return -1
	case b.EndTime == nil:
		return 1
	}
	return a.EndTime.Compare(b.EndTime.Time)
}

// mergeTasks adds the tasks of an indexed Job that are stored as done, or as failed and to be tried again. It returns how many tries
// were not known to have failed.
func (f *facts) mergeTasks(known, stored *facts) (failed int32) {
	for index := range stored.succeeded.all() {
		if !known.done(index) {
			f.succeeded.add(index)
		}
	}
	for index := range stored.failed.all() {
		if !known.done(index) {
			f.failed.add(index)
		}
	}
	for index := range known.tries {
		if f.done(index) {
			delete(f.tries, index)
		}
	}
	for index, theirs := range stored.tries {
		if f.done(index) {
			continue
		}
		ours := known.tries[index]
		failed += max(0, theirs.retries-ours.retries)
		f.try(index, tries{max(ours.retries, theirs.retries), max(ours.ended, theirs.ended)})
	}
	return failed
}

// facts are what is known of the job.
func (j *job) facts() facts {
	f := factsOf(&j.object.Status, 0)
	f.leader, f.failing = j.engine().leader, j.failing
	if j.plain() {
		return f
	}
	f.succeeded, f.failed = j.indexed.succeeded, j.indexed.failed
	for index, t := range j.tasks {
		if t.retries > 0 {
			f.try(index, tries{t.retries, max(t.settled.Try, t.settledTry)})
		}
	}
	return f
}

// learn takes over what a stored status tells that was not known: an earlier leader has written it, or somebody else. It returns
// whether there was anything.
func (j *job) learn(stored *v1alpha1.JobStatus) bool {
	if s := &j.object.Status; !j.plain() && s.SucceededIndexes == stored.SucceededIndexes && s.FailedIndexes == stored.FailedIndexes &&
		s.RetriedIndexes == stored.RetriedIndexes && deref(s.Attempts) == deref(stored.Attempts) && deref(s.Retries) == deref(stored.Retries) &&
		deref(s.LostWorkers) == deref(stored.LostWorkers) && failingOf(s.Conditions) == nil == (failingOf(stored.Conditions) == nil) {
		return false // as it is written mostly: many indexes take long to read
	}
	size := j.size
	if j.plain() {
		size = 0
	}
	known, theirs := j.facts(), factsOf(stored, size)
	if j.settling {
		theirs.tries = nil // nothing is tried any more
	}
	all := known.merge(theirs)
	if reflect.DeepEqual(all, known) {
		return false
	}
	s := &j.object.Status
	s.Attempts, s.Retries, s.LostWorkers = counted(all.attempts), counted(all.retries), counted(all.lost)
	s.EndedAttempts, s.Result = all.ended, all.result
	j.changed = true
	if j.failing == nil && all.failing != nil && !j.settling {
		j.announced = true
		j.setCondition(v1alpha1.JobFailureTarget, metav1.ConditionTrue, all.failing.reason, all.failing.message)
		j.fail(*all.failing)
	}
	if j.plain() {
		j.learnEnds()
	} else {
		j.learnTasks(&all)
	}
	return true
}

// counted is a count as a status has it.
func counted(n int32) *int32 {
	if n == 0 {
		return nil
	}
	return &n
}

// learnEnds brings the task of a plain job in line with the attempts that have ended.
func (j *job) learnEnds() {
	switch t := j.tasks[0]; {
	case j.settling:
	case t != nil:
		t.restore(&j.object.Status)
		t.endSettled()
	case len(j.object.Status.EndedAttempts) > 0 && j.failing == nil:
		j.putBack(j.task(0)) // it knows then which results are settled
	}
}

// learnTasks brings the tasks of an indexed job in line with the facts.
func (j *job) learnTasks(all *facts) {
	j.indexed.succeeded, j.indexed.failed = all.succeeded, all.failed
	if j.settling {
		return
	}
	for _, t := range j.sorted() {
		if j.indexed.has(t.index) {
			t.abandon()
			j.drop(t)
		}
	}
	for _, index := range slices.Sorted(maps.Keys(all.tries)) {
		j.learnTries(index, all.tries[index])
	}
}

// learnTries takes over what is stored of a task that has failed and is not done.
func (j *job) learnTries(index int32, stored tries) {
	t := j.tasks[index]
	if t == nil {
		t = &task{job: j, index: index}
		j.book(t)
		j.again = append(j.again, t)
	}
	t.retries, t.failures = max(t.retries, stored.retries), max(t.failures, stored.retries)
	t.lastTry, t.settledTry = max(t.lastTry, stored.ended), max(t.settledTry, stored.ended)
	t.endSettled()
}

// endSettled ends the task's attempt if it, or a later one, has ended as it is stored. The task is to be tried again.
func (t *task) endSettled() {
	switch a := t.attempt; {
	case a == nil || a.token.Try == 0 || !t.hasSettled(a.token):
	case a.unsent:
		t.withdraw()
	default:
		t.abandon()
		if t.job.plain() {
			t.job.object.Status.Attempt = nil
		}
		t.job.putBack(t)
	}
}

// abandon ends the task's attempt, if there is one, whose result counts no more.
func (t *task) abandon() {
	a := t.attempt
	if a == nil {
		return
	}
	if !a.unsent && a.token.Try > 0 {
		a.worker.kill(a.token, 0)
	}
	t.release()
}
