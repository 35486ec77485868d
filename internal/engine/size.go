package engine

import (
	"fmt"
	"strings"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
)

// Bounds of what is stored of a Job.
const (
	// maxStored is how many bytes a Job may have with its status: etcd takes 1.5 MiB, and others may write to it too.
	maxStored = 14 << 20 / 10
	// maxRanges is how long a set of indexes may be as ranges, in bytes. A bitmap of all that a Job may have is not
	// much longer.
	maxRanges    = 16 << 10
	bitmapPrefix = "bitmap:"
	maxIndexText = len(bitmapPrefix) + (100_000/64+1)*8*4/3 + 4
	// maxRetriedText is how long retriedIndexes may be, and maxRetriedPart one of its parts.
	maxRetriedText = 64 << 10
	maxRetriedPart = len(",99999:2147483647:2147483647")
)

// Bounds of what is sent to a worker.
const (
	// maxArgument is how long one argument may be: the kernel takes 128 KiB with the byte that ends it. A path that is
	// longer no server takes.
	maxArgument = 128<<10 - 1
	// maxAssignment is how large a task may be with its item. It is no less than what a Job without items can have.
	maxAssignment = 3 << 20 / 2
)

// maxEscape is how many bytes one of a text may become in JSON: `<` is \u003c.
const maxEscape = 6

// largestStatus is how many bytes the status of a Job of so many tasks may have, of which so many run at once, with what
// the API server stores of who wrote it.
func largestStatus(tasks, parallel int32, plain bool) int {
	const (
		numbers    = 4 << 10                // counters, times, names of fields and managedFields
		message    = 1024 * maxEscape       // status, result, and the conditions Failed and FailureTarget
		output     = 4096 * maxEscape       // replaced characters are shorter
		attempt    = 1 << 10                // one that runs and three that ended
		worker     = 180                    // a part of runningIndexes, but for its indexes
		perRunning = worker + len("99999,") // at worst, each task has a worker of its own
		perRetried = maxRetriedPart         // and all that may be tried again
		perIndex   = len("99999,")          // in one of the two sets
	)
	n := numbers + 4*message + output + 4*attempt
	if plain {
		return n
	}
	running := int(min(tasks, parallel))
	return n + 2*min(int(tasks)*perIndex, maxIndexText) + min(int(tasks)*perRetried, maxRetriedText) +
		min(running, maxRunningWorkers)*perRunning
}

// tooLarge tells whether the end of the job might not be stored, because of its own size. Such a job is not begun.
func (j *job) tooLarge() *obstacle {
	status := largestStatus(j.size, j.parallel, j.plain())
	if j.object.Bytes+status <= maxStored {
		return nil
	}
	return &obstacle{v1alpha1.ReasonDoesNotFit, fmt.Sprintf(
		"The Job has %d bytes as it is stored, its status may need %d, and together they may have %d. Make the Job smaller: of stdin, args, env, items and "+
			"annotations, the characters <, > and & and control characters count six times.", j.object.Bytes, status, maxStored)}
}

const placeholder = "{}"

// growth is how many bytes a text gains by an item of so many bytes in place of each placeholder.
func growth(text string, item int) int {
	return strings.Count(text, placeholder) * (item - len(placeholder))
}

// form is what the items of a job are filled into: how large each task gets is found without a look at the texts.
type form struct {
	// fixed is how many bytes a task has without its item.
	fixed int
	// holes are the texts with placeholders.
	holes []hole
}

type hole struct {
	// name of the text, for people.
	name string
	// bytes that it has, and how many placeholders.
	bytes, placeholders int
}

func newForm(spec *v1alpha1.JobSpec) *form {
	f := &form{fixed: len(spec.Stdin) + len(spec.WorkingDir)}
	for _, word := range spec.Command {
		f.fixed += len(word)
	}
	for i, arg := range spec.Args {
		f.add("argument", i, arg)
	}
	for _, v := range spec.Env {
		f.fixed += len(v.Name) + len(deref(v.Value))
	}
	if r := spec.HTTP; r != nil {
		f.add("path", 0, r.Path)
		f.fixed += len(r.Body)
		for _, h := range r.Headers {
			f.fixed += len(h.Name) + len(deref(h.Value))
		}
	}
	return f
}

func (f *form) add(kind string, i int, text string) {
	f.fixed += len(text)
	if n := strings.Count(text, placeholder); n > 0 {
		if kind == "argument" {
			kind = fmt.Sprint(kind, " ", i+1)
		}
		f.holes = append(f.holes, hole{kind, len(text), n})
	}
}

// tooLong tells whether the task is larger with its item than a worker can start. It is not sent then: a message that
// the agent does not take would end its session, with all that others run there.
func (t *task) tooLong() *failure {
	j := t.job
	if t.isHandler() || t.item() == nil {
		return nil
	}
	if j.form == nil {
		j.form = newForm(j.object.Spec)
	}
	item := len(*t.item())
	if j.object.Spec.HTTP != nil {
		item = len(escape(*t.item()))
	}
	total := j.form.fixed + item
	for _, h := range j.form.holes {
		grown := h.placeholders * (item - len(placeholder))
		if n := h.bytes + grown; n > maxArgument {
			return cannotStart("The %s has %d bytes with the item filled in, and may have %d.", h.name, n, maxArgument)
		}
		total += grown
	}
	if total > maxAssignment {
		return cannotStart("The task has %d bytes with the item filled in, and may have %d.", total, maxAssignment)
	}
	return nil
}

func cannotStart(format string, args ...any) *failure {
	return &failure{reason: v1alpha1.ReasonCannotStart, message: fmt.Sprintf(format, args...), permanent: true}
}

// refuse fails a task that can't be sent. To try it again would change nothing, whatever the Job's rules say.
func (t *task) refuse(f failure) {
	j := t.job
	j.changed, j.endTime = true, j.engine().now
	action := j.rule(f)
	if action != v1alpha1.ActionFail {
		action = ""
	}
	t.act(action, f, resultOf(Result{Outcome: CannotStart}, &f))
	j.proceed()
}
