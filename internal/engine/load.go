package engine

import (
	"math"
	"time"
)

// worker shares are counted in millionths, so that sums are exact.
const wholeWorker = 1_000_000

// shareOf is how much of a new worker a task of the job takes: a slot, or more of it if the job asks for more.
func (p *pool) shareOf(j *job) int64 {
	of, usage := p.config.Resources, usageOf(j.Resources(), p.config.Resources, p.config.Slots)
	share := 1 / float64(max(1, p.config.Slots))
	if of.CPU > 0 {
		share = max(share, usage.CPU/of.CPU)
	}
	if of.Memory > 0 {
		share = max(share, float64(usage.Memory)/float64(of.Memory))
	}
	return int64(min(share, 1) * wholeWorker)
}

// startableTasks is how many tasks of the job could be started at once, if there were room.
func (j *job) startableTasks() int64 {
	switch {
	case j.place != queued && j.place != invited && j.place != overflow:
		return 0
	case j.failing != nil: // its onFailure
		return 1
	}
	fresh := j.size - int32(len(j.tasks))
	if !j.plain() {
		fresh -= j.indexed.done()
	}
	return int64(min(max(0, fresh)+int32(len(j.again)), j.parallel-int32(j.running)))
}

// count brings the pool's backlog in line with the job.
func (j *job) count() {
	before := j.backlog
	j.backlog = j.startableTasks() * j.share
	j.pool.backlog += j.backlog - before
}

// loadMemory is how long it takes to forget most of what tasks took: e of it is left then.
const loadMemory = 5 * time.Minute

// load measures how long the tasks of a pool take, by the time that they have spent on workers, those that
// still run included, for each that has ended. What is long ago counts less.
type load struct {
	// running is the share of workers that is taken since at.
	running int64
	at      time.Time
	// spent is the workers' time that tasks took, in shares times seconds, and ended the shares of those
	// that have ended.
	spent, ended float64
}

// add notes that a share of a worker is taken from now on, or given back if it is negative.
func (l *load) add(share int64, now time.Time) {
	l.advance(now)
	l.running += share
}

// end notes that a task has ended by itself.
func (l *load) end(share int64, now time.Time) {
	l.advance(now)
	l.ended += float64(share)
}

func (l *load) advance(now time.Time) {
	passed := now.Sub(l.at)
	l.at = now
	left := math.Exp(-passed.Seconds() / loadMemory.Seconds())
	l.spent = l.spent*left + float64(l.running)*loadMemory.Seconds()*(1-left)
	l.ended *= left
}

// longest is what tasks take of which none has ended yet.
const longest = 365 * 24 * time.Hour

// taskTime is how long a task takes, about.
func (l *load) taskTime(now time.Time) time.Duration {
	l.advance(now)
	if l.ended < 1 || l.spent/l.ended > longest.Seconds() { // a millionth of a worker
		return longest
	}
	return time.Duration(l.spent / l.ended * float64(time.Second))
}

// demand is what the pool's Jobs want of workers.
func (p *pool) demand() Demand {
	return Demand{
		Known:    p.open(),
		Waiting:  float64(p.backlog) / wholeWorker,
		Running:  float64(p.load.running) / wholeWorker,
		TaskTime: p.load.taskTime(p.engine.now),
	}
}
