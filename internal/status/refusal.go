package status

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/internal/engine"
)

const (
	// denialPatience is how long a status that is denied is tried again before the denial counts as this Job's own.
	denialPatience = time.Minute
	// retryRefused is the pause between tries to store the end of a Job that was refused: the Job may become
	// smaller, and a policy may change.
	retryRefused = 10 * time.Minute
)

// refusal is an answer that the same request gets again.
type refusal int

const (
	// notRefused: the next try may succeed.
	notRefused refusal = iota
	// tooLarge: the Job with this status is larger than the API server or etcd takes.
	tooLarge
	// invalid: the API server's schema, or a policy, refuses this status.
	invalid
	// forbidden: a policy, or the operator's role, allows no write.
	forbidden
)

// refusedError is such an answer.
type refusedError struct {
	refusal
	error
}

func (e *refusedError) Unwrap() error { return e.error }

func refusalOf(err error) refusal {
	var answer apierrors.APIStatus
	if !errors.As(err, &answer) {
		return notRefused
	}
	switch answer.Status().Code {
	case http.StatusRequestEntityTooLarge:
		return tooLarge
	case http.StatusUnprocessableEntity, http.StatusBadRequest:
		return invalid
	case http.StatusForbidden:
		return forbidden
	case http.StatusInternalServerError:
		// What etcd says, and what its client says before it sends more than 2 MiB. It has no code of its own.
		if m := answer.Status().Message; strings.Contains(m, "request is too large") || strings.Contains(m, "message larger than max") {
			return tooLarge
		}
	}
	return notRefused
}

// refuse decides what becomes of a write that was refused. A smaller one is tried at once, in steps. If even the
// smallest is refused, the engine is told: nobody waits for that write any more.
func (w *Writer) refuse(ctx context.Context, eng Engine, e *entry, write engine.Write, cause *refusedError) {
	canCut := cause.refusal == tooLarge || cause.refusal == invalid && e.deniedSince.IsZero() // else less of it was denied too
	if canCut && e.cut < smallest {
		w.retry(e, write, func() { e.cut++ })
		return
	}
	log := logf.FromContext(ctx).WithValues("job", write.Job.NamespacedName)
	if cause.refusal != tooLarge && (!w.deniedAlone(e) || write.Passing()) {
		w.again(e, write, "")
		log.Error(cause, "The API server denies a Job's status, will try again")
		return
	}
	switch _, over, err := w.find(ctx, write); {
	case err != nil:
		w.again(e, write, "")
		return
	case over != nil:
		over.tell(eng, write)
		w.finish(e, write, "")
		return
	}
	if !e.told {
		log.Error(cause, "The API server refuses a Job's status for good")
		w.note(write, "StatusRefused", "The status of the Job can't be stored: "+cause.Error())
		eng.Refused(write, cause.Error())
	}
	w.setAside(e, write)
}

// deniedAlone tells whether a Job's status has been denied for a while, and those of others were stored since: it is
// this Job that is denied, and not the operator. The next try is of the whole status again.
func (w *Writer) deniedAlone(e *entry) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	e.cut = 0
	now := w.Clock.Now()
	if e.deniedSince.IsZero() {
		e.deniedSince = now
	}
	return now.Sub(e.deniedSince) >= denialPatience && w.storedAt.After(e.deniedSince)
}

// setAside keeps the end of a Job that was refused, to be tried again seldom. The engine asks anew for what is not final.
func (w *Writer) setAside(e *entry, write engine.Write) {
	w.mu.Lock()
	defer w.mu.Unlock()
	e.inFlight, e.cut = false, 0
	if e.pending == nil && !e.dropped && write.Final() {
		e.pending, e.due, e.told = &write, w.Clock.Now().Add(retryRefused), true
	}
	if e.dropped = false; e.pending == nil {
		e.forgive()
	}
	w.queueLocked(e)
	w.forgetLocked(e)
}

// note tells the Job's user, and counts.
func (w *Writer) note(write engine.Write, reason, message string) {
	w.refusals.WithLabelValues(reason).Inc()
	if w.Recorder == nil {
		return
	}
	job := &v1alpha1.Job{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "Job"},
		ObjectMeta: metav1.ObjectMeta{Namespace: write.Job.Namespace, Name: write.Job.Name, UID: write.Job.UID},
	}
	w.Recorder.Eventf(job, nil, corev1.EventTypeWarning, reason, "StoreStatus", "%s", firstOf(message, 900))
}

// Register makes the Writer's metric known.
func (w *Writer) Register(registry prometheus.Registerer) error { return registry.Register(w.refusals) }

func newRefusals() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "workerpool_status_refusals_total",
		Help: "Ends of Jobs that the API server stores only in part, or not at all, because they are too large or a policy denies them.",
	}, []string{"reason"})
}

// smallest is how often a status can be cut. Each cut leaves out more.
const smallest = 3

const (
	// shortMessage is what is left of a message, and longMessage what is left where a note is added.
	shortMessage, longMessage = 120, 900
	cutNote                   = " (The API server does not store the whole status. It was shortened.)"
)

// cut makes a status smaller: without the output first, then with short messages, then without all that nobody has to
// know to go on. The indexes of a Job that goes on stay: its tasks would run again.
func cut(write engine.Write, times int) engine.Write {
	if times == 0 {
		return write
	}
	s := write.Status.DeepCopy()
	write.Status = *s
	s = &write.Status
	if s.Result != nil {
		s.Result.Output = ""
	}
	most := longMessage
	if times >= 2 {
		most = shortMessage
		for i := range s.Conditions {
			s.Conditions[i].Message = firstOf(s.Conditions[i].Message, shortMessage)
		}
		if s.Result != nil {
			s.Result.Message = firstOf(s.Result.Message, shortMessage)
		}
	}
	s.Message = strings.TrimSpace(firstOf(s.Message, most) + cutNote)
	if times >= smallest {
		s.EndedAttempts, s.Usage = nil, nil
		if write.Final() {
			s.SucceededIndexes, s.FailedIndexes, s.RetriedIndexes, s.RunningIndexes = "", "", "", nil
		}
	}
	return write
}

// firstOf is the beginning of a text, of at most so many characters.
func firstOf(text string, characters int) string {
	for i := range text {
		if characters == 0 {
			return text[:i]
		}
		characters--
	}
	return text
}
