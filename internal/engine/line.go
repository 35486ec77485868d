package engine

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"time"

	amount "k8s.io/apimachinery/pkg/api/resource"

	"github.com/workerpool-dev/workerpool/api/v1alpha1"
	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/queue"
	"github.com/workerpool-dev/workerpool/pkg/worker/resource"
)

// place is where a job is in line.
type place int8

const (
	// away: not in line, because nothing of the job can be started now.
	away place = iota
	// parked: not in line, for a reason that the user can do something about, or that time changes.
	parked
	// overflow: beyond the queue's capacity.
	overflow
	// invited: on its way from the overflow to the queue.
	invited
	// queued: in the queue.
	queued
)

// obstacle is why a job is parked.
type obstacle struct{ reason, message string }

// takePlace puts the job where it belongs: in line if something of it can be started, and out of it if not.
func (j *job) takePlace() {
	j.obstacle = j.findObstacle()
	if !j.isShed() {
		j.share = j.pool.shareOf(j)
	}
	switch {
	case j.pool.closing:
		j.leaveLine()
	case j.obstacle != nil:
		j.leaveLine()
		j.park()
	case !j.startable():
		j.leaveLine()
	case j.place == invited && !j.isShed():
		j.pool.admit(j)
	case j.place == away, j.place == parked, j.place == queued && j.kind.Value() != j.request():
		j.leaveLine()
		j.pool.enqueue(j)
	}
	j.count()
	j.publish()
}

// findObstacle returns nil if the job may be in line. What waits beyond the capacity was looked at before,
// and is again when its time comes.
func (j *job) findObstacle() *obstacle {
	switch {
	case j.suspend && j.failing == nil:
		return &obstacle{v1alpha1.ReasonSuspended, "The Job is suspended. It goes on once spec.suspend is false."}
	case j.failing != nil:
		return nil
	case !j.startAfter.IsZero() && j.startAfter.After(j.engine().now):
		return &obstacle{v1alpha1.ReasonNotYet, fmt.Sprintf(
			"The Job is not started before %s.", j.startAfter.Round(time.Second).UTC().Format(time.RFC3339))}
	case j.isShed():
		return j.obstacle
	}
	if o := j.tooLarge(); o != nil {
		return o
	}
	if o := j.pool.wrongHandler(j); o != nil {
		return o
	}
	return j.pool.doesNotFit(j)
}

// park keeps the job out of line. What stands in its way is looked at again when the pool changes, or the
// Job does, or its time comes.
func (j *job) park() {
	j.place, j.admitted = parked, false
	j.pool.parked[j] = true
	if j.running == 0 {
		j.shed()
	}
}

// leaveLine takes the job out of line, wherever it is.
func (j *job) leaveLine() {
	switch j.place {
	case overflow:
		j.pool.overflow.Remove(j)
	case invited:
		j.pool.invited--
	case queued:
		j.pool.queue.Remove(j)
	case parked:
		delete(j.pool.parked, j)
	case away:
	}
	j.place = away
	j.count()
}

func (j *job) reprioritize() {
	switch j.place {
	case overflow:
		j.pool.overflow.Reprioritize(j, j.Priority())
	case queued:
		j.pool.queue.Reprioritize(j, j.Priority())
	case away, parked, invited:
	}
}

func (p *pool) wrongHandler(j *job) *obstacle {
	switch want := j.handler(); {
	case serves(p.config.Handler, want):
		return nil
	case want == v1alpha1.HandlerHTTP:
		return &obstacle{v1alpha1.ReasonWrongHandler, "The Job is an HTTP request, and the pool's workers run commands: its handler must be of type HTTP."}
	default:
		return &obstacle{v1alpha1.ReasonWrongHandler, "The Job is a command, and the pool's workers serve HTTP: its handler must be of type Exec."}
	}
}

// serves tells whether a worker with this handler runs what wants that. Without one, it runs commands.
func serves(handler, want v1alpha1.HandlerType) bool {
	return cmp.Or(handler, v1alpha1.HandlerExec) == want
}

// doesNotFit tells whether a task of the job is too large for a new worker, and for each that is there.
func (p *pool) doesNotFit(j *job) *obstacle {
	asked := j.Resources()
	if most := p.config.Limits.Files; most > 0 && asked.Files > most {
		return &obstacle{v1alpha1.ReasonDoesNotFit, fmt.Sprintf(
			"Each task of the Job takes %d files, and the pool's spec.limits.files is %d. Ask for less, or raise the limit.", asked.Files, most)}
	}
	var err *resource.TooLargeError
	if !errors.As(p.template.Check(usageOf(asked, p.config.Resources, p.config.Slots)), &err) {
		return nil
	}
	for _, w := range p.workers {
		if !w.draining() && w.fits(asked) {
			return nil
		}
	}
	return &obstacle{v1alpha1.ReasonDoesNotFit, fmt.Sprintf(
		"The Job takes %s of %s, and a worker of the pool has %s for its Jobs. Make the Job smaller, or the requests of the pool's job container larger.",
		quantity(err.Resource, err.Want), err.Resource, quantity(err.Resource, err.Limit))}
}

// quantity writes an amount of a TooLargeError as the API does.
func quantity(name string, n int64) string {
	switch name {
	case resource.Memory:
		return amount.NewQuantity(n, amount.BinarySI).String()
	case resource.CPU:
		return amount.NewScaledQuantity(n, amount.Nano).String()
	}
	return fmt.Sprint(n)
}

// enqueue puts a job in line: into the queue, or into the overflow if that is full.
func (p *pool) enqueue(j *job) {
	if j.isShed() || !j.admitted && (p.overflow.Len() > 0 || p.queue.Len()+p.invited >= p.config.Capacity) {
		p.overflowed(j)
		return
	}
	push := p.queue.TryPush
	if j.admitted {
		push = p.queue.Return
	}
	switch err := push(p.engine.now, j.itemOfKind()); {
	case err == nil:
		p.entered(j)
	case errors.Is(err, worker.ErrFull), errors.Is(err, worker.ErrClosed):
		p.overflowed(j) // somebody else has pushed, or closed the queue
	default:
		panic(fmt.Sprintf("job %s: %v", j.object.UID, err))
	}
}

func (p *pool) entered(j *job) {
	j.place, j.admitted, j.queuedAt = queued, true, p.engine.now
	if j.object.Status.QueuedTime == nil {
		j.object.Status.QueuedTime = microTime(p.engine.now)
	}
}

func (p *pool) overflowed(j *job) {
	if err := p.overflow.TryPush(p.engine.now, j.item()); err != nil {
		panic(fmt.Sprintf("job %s: %v", j.object.UID, err))
	}
	j.place = overflow
	if j.running == 0 {
		j.shed()
	}
}

// invite asks for as many of the Jobs beyond the capacity as there is room for.
func (p *pool) invite() {
	for p.queue.Len()+p.invited < p.config.Capacity {
		next, ok := p.overflow.TryPop(p.engine.now, takeAny)
		if !ok {
			return
		}
		j := next.(*job)
		j.place = invited
		p.invited++
		p.engine.out.Look(j.object.JobRef)
	}
}

func takeAny(worker.Job) queue.Choice { return queue.Take }

// admit lets in an invited job, with all that there is to know of it.
func (p *pool) admit(j *job) {
	p.invited--
	if err := p.queue.Return(p.engine.now, j.itemOfKind()); err != nil {
		panic(fmt.Sprintf("job %s: %v", j.object.UID, err))
	}
	p.entered(j)
}

// reconsider looks again at the jobs that stand aside, because the pool has changed.
func (p *pool) reconsider() {
	for _, j := range inOrder(maps.Keys(p.parked)) {
		p.engine.out.Look(j.object.JobRef)
	}
	p.recheck()
}

// recheck parks the queued jobs that can't be run any more.
func (p *pool) recheck() {
	for next := range p.queue.All(p.engine.now) {
		if j, ours := next.(*job); ours {
			j.takePlace()
		}
	}
}
