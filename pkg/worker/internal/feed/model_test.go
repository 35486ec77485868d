package feed_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/workerpool-dev/workerpool/pkg/worker"
	"github.com/workerpool-dev/workerpool/pkg/worker/internal/feed"
)

// model is the queue as one would write it without a thought for speed: slices, and the rules of settle.
type model struct {
	size     int
	closed   bool
	ready    []worker.Job
	delayed  []modelDelayed
	pushers  []*modelCall
	poppers  []*modelCall
	taken    int
	ended    uint64
	failed   uint64
	arrivals int
}

type modelDelayed struct {
	job     worker.Job
	due     time.Time
	arrival int
}

// modelCall is a call that waits, or has returned.
type modelCall struct {
	returned bool
	job      worker.Job // what it pushes or got
	err      error
	taker    *modelTaker // who gets the job, nil if that is a plain pop
}

type modelTaker struct {
	next          *modelCall // that waits, or nil
	holds         worker.Job
	stopped       bool
	ended, failed uint64
}

// settle applies the rules until none does anything more: who waits gets what is there.
func (m *model) settle() {
	for {
		switch {
		case len(m.poppers) > 0 && len(m.ready) > 0:
			c := m.poppers[0]
			m.poppers = m.poppers[1:]
			c.returned, c.job = true, m.ready[0]
			m.ready = m.ready[1:]
			if c.taker != nil {
				c.taker.next, c.taker.holds = nil, c.job
				m.taken++
			}
		case len(m.pushers) > 0 && (!m.full() || len(m.poppers) > 0):
			c := m.pushers[0]
			m.pushers = m.pushers[1:]
			c.returned = true
			m.ready = append(m.ready, c.job)
		case len(m.poppers) > 0 && m.over():
			m.end(m.poppers[0], worker.ErrClosed)
		default:
			return
		}
	}
}

func (m *model) full() bool { return len(m.ready)+len(m.delayed) >= m.size }

func (m *model) over() bool {
	return m.closed && len(m.ready)+len(m.delayed)+m.taken == 0
}

// end has a call that waits return an error.
func (m *model) end(c *modelCall, err error) {
	is := func(o *modelCall) bool { return o == c }
	m.pushers, m.poppers = slices.DeleteFunc(m.pushers, is), slices.DeleteFunc(m.poppers, is)
	c.returned, c.job, c.err = true, nil, err
	if c.taker != nil {
		c.taker.next = nil
	}
}

// push returns the call, whose error is ErrFull if it would wait and must not.
func (m *model) push(j worker.Job, wait bool) *modelCall {
	c := &modelCall{job: j}
	switch {
	case j == nil:
		m.end(c, worker.ErrInvalid)
	case m.closed:
		m.end(c, worker.ErrClosed)
	case !wait && m.full() && len(m.poppers) == 0:
		m.end(c, worker.ErrFull)
	default:
		m.pushers = append(m.pushers, c)
		m.settle()
	}
	return c
}

func (m *model) pop(taker *modelTaker) *modelCall {
	c := &modelCall{taker: taker}
	m.poppers = append(m.poppers, c)
	if taker != nil {
		taker.next = c
	}
	m.settle()
	return c
}

func (m *model) back(j worker.Job, delay time.Duration) {
	if delay <= 0 {
		m.ready = append(m.ready, j)
	} else {
		m.arrivals++
		m.delayed = append(m.delayed, modelDelayed{j, time.Now().Add(delay), m.arrivals})
		slices.SortFunc(m.delayed, func(a, b modelDelayed) int {
			return cmp.Or(a.due.Compare(b.due), cmp.Compare(a.arrival, b.arrival))
		})
	}
	m.settle()
}

func (m *model) advance() {
	for len(m.delayed) > 0 && !m.delayed[0].due.After(time.Now()) {
		m.ready = append(m.ready, m.delayed[0].job)
		m.delayed = m.delayed[1:]
		m.settle()
	}
}

func (m *model) close() {
	m.closed = true
	for len(m.pushers) > 0 {
		m.end(m.pushers[0], worker.ErrClosed)
	}
	m.settle()
}

func (m *model) drain() []worker.Job {
	drained := m.ready
	for _, d := range m.delayed {
		drained = append(drained, d.job)
	}
	m.ready, m.delayed = nil, nil
	m.settle()
	return drained
}

func (m *model) next(t *modelTaker, last feed.Outcome) *modelCall {
	m.account(t, last)
	if t.stopped {
		m.settle()
		return &modelCall{returned: true, err: worker.ErrStopped}
	}
	return m.pop(t)
}

// account settles what the taker holds.
func (m *model) account(t *modelTaker, last feed.Outcome) {
	if t.holds == nil {
		return
	}
	t.holds = nil
	m.taken--
	if last != feed.None {
		m.ended++
		t.ended++
	}
	if last == feed.Failed {
		m.failed++
		t.failed++
	}
}

// comparison runs the queue and the model side by side.
type comparison struct {
	t       *testing.T
	q       *feed.FIFO[worker.Job]
	m       *model
	program []byte
	trace   []string

	takers []*modelTaker
	real   []feed.Taker[worker.Job]

	waiting []*pair
	popped  []worker.Job // by plain pops: these can be requeued

	// Each job that was accepted is in the books, popped, or has left.
	accepted, left int
}

// pair is a call of the queue and the model's.
type pair struct {
	got    *call
	want   *modelCall
	cancel context.CancelCauseFunc // nil if it can't be cancelled
	pushes bool
}

// The steps of a program: a byte each, with one for its argument. What comes more often takes more
// of the bytes.
const (
	doPush byte = iota
	doPushAgain
	doPushWaiting
	doPop
	doPopAgain
	doNext
	doNextAgain
	doSettle
	doRequeue
	doRequeueTaken
	doCancel
	doStop
	doSleep
	doSleepAgain
	doClose
	doDrain
	steps
)

var (
	delays = []time.Duration{0, time.Second, time.Minute, time.Minute + 1, time.Hour, 1 << 62, -1}
	naps   = []time.Duration{1, time.Second, time.Minute, time.Hour}
)

func (c *comparison) run() {
	for len(c.program) >= 2 && !c.t.Failed() {
		c.step(c.program[0]%steps, int(c.program[1]))
		c.program = c.program[2:]
		c.same()
	}
	c.finish()
}

func (c *comparison) step(step byte, arg int) {
	switch step {
	case doPush, doPushAgain:
		c.push(arg)
	case doPushWaiting:
		c.pushWaiting()
	case doPop, doPopAgain:
		c.popWaiting()
	case doNext, doNextAgain:
		c.next(arg)
	case doSettle:
		c.settle(arg)
	case doRequeue:
		c.requeue(arg)
	case doRequeueTaken:
		c.requeueTaken(arg)
	case doCancel:
		c.cancelCall(arg)
	case doStop:
		c.stopTaker(arg)
	case doSleep, doSleepAgain:
		c.note("sleep %v", naps[arg%len(naps)])
		time.Sleep(naps[arg%len(naps)])
		c.m.advance()
	case doClose:
		if arg%4 == 0 { // rare, so that most programs go on for long
			c.close()
		}
	case doDrain:
		if arg%4 == 0 {
			c.drain()
		}
	}
}

func (c *comparison) note(format string, args ...any) {
	c.trace = append(c.trace, fmt.Sprintf(format, args...))
}

func (c *comparison) fatalf(format string, args ...any) {
	c.t.Helper()
	c.t.Fatalf("size %d:\n  %s\n%s", c.m.size, strings.Join(c.trace, "\n  "), fmt.Sprintf(format, args...))
}

func (c *comparison) newJob() worker.Job { return &job{id: len(c.trace)} }

func (c *comparison) push(arg int) {
	j := c.newJob()
	if arg%32 == 31 {
		j = nil
	}
	c.note("Push %v", j)
	got, want := c.q.Push(j), c.m.push(j, false)
	if !errors.Is(got, want.err) {
		c.fatalf("Push returned %v, want %v", got, want.err)
	}
	if got == nil {
		c.accepted++
	}
}

func (c *comparison) pushWaiting() {
	j := c.newJob()
	c.note("PushContext %v", j)
	ctx, cancel := context.WithCancelCause(c.t.Context())
	c.waiting = append(c.waiting, &pair{
		got:    goPush(ctx, c.q, j),
		want:   c.m.push(j, true),
		cancel: cancel,
		pushes: true,
	})
}

func (c *comparison) popWaiting() {
	c.note("PopContext")
	ctx, cancel := context.WithCancelCause(c.t.Context())
	c.waiting = append(c.waiting, &pair{got: goPop(ctx, c.q), want: c.m.pop(nil), cancel: cancel})
}

func outcome(arg int) feed.Outcome { return feed.Outcome(arg / 16 % 3) }

func (c *comparison) next(arg int) {
	i := arg % len(c.takers)
	if c.takers[i].next != nil {
		return
	}
	c.note("taker %d: Next(%d)", i, outcome(arg))
	c.leave(i, outcome(arg))
	got := start(func() (worker.Job, error) { return c.real[i].Next(outcome(arg)) })
	c.waiting = append(c.waiting, &pair{got: got, want: c.m.next(c.takers[i], outcome(arg))})
}

// leave counts a job that is held and leaves the books.
func (c *comparison) leave(i int, last feed.Outcome) {
	if c.takers[i].holds != nil && last == feed.None {
		c.left++
	}
}

func (c *comparison) settle(arg int) {
	i := arg % len(c.takers)
	if c.takers[i].next != nil {
		return
	}
	c.note("taker %d: Settle(%d)", i, outcome(arg))
	c.leave(i, outcome(arg))
	c.real[i].Settle(outcome(arg))
	c.m.account(c.takers[i], outcome(arg))
	c.m.settle()
}

func (c *comparison) requeue(arg int) {
	if len(c.popped) == 0 {
		if err := c.q.Requeue(nil, 0); !errors.Is(err, worker.ErrInvalid) {
			c.fatalf("Requeue of nil returned %v", err)
		}
		return
	}
	j, delay := c.popped[0], delays[arg%len(delays)]
	c.popped = c.popped[1:]
	c.note("Requeue %v after %v", j, delay)
	if err := c.q.Requeue(j, delay); err != nil {
		c.fatalf("Requeue: %v", err)
	}
	c.m.back(j, delay)
}

func (c *comparison) requeueTaken(arg int) {
	i, delay := arg%len(c.takers), delays[arg/16%len(delays)]
	j := c.takers[i].holds
	if j == nil {
		return
	}
	c.note("taker %d: Requeue %v after %v", i, j, delay)
	if err := c.real[i].Requeue(j, delay); err != nil {
		c.fatalf("Requeue: %v", err)
	}
	c.m.account(c.takers[i], feed.None)
	c.m.back(j, delay)
}

func (c *comparison) cancelCall(arg int) {
	if len(c.waiting) == 0 {
		return
	}
	p := c.waiting[arg%len(c.waiting)]
	if p.cancel == nil {
		return
	}
	c.note("cancel call %d", arg%len(c.waiting))
	p.cancel(errCause)
	c.m.end(p.want, errCause)
}

func (c *comparison) stopTaker(arg int) {
	i := arg % len(c.takers)
	t := c.takers[i]
	c.note("taker %d: Stop", i)
	c.real[i].Stop()
	t.stopped = true
	if t.next != nil {
		c.m.end(t.next, worker.ErrStopped)
	}
	if arg/16%2 == 0 && t.holds == nil { // most often, another one comes in its place
		c.takers[i], c.real[i] = &modelTaker{}, c.q.NewTaker()
	}
}

func (c *comparison) close() {
	c.note("Close")
	if err := c.q.Close(); err != nil {
		c.fatalf("Close: %v", err)
	}
	c.m.close()
}

func (c *comparison) drain() {
	c.note("Drain")
	got, want := c.q.Drain(), c.m.drain()
	if !slices.Equal(got, want) {
		c.fatalf("drained %v, want %v", got, want)
	}
	c.left += len(got)
}

// same compares all that can be seen.
func (c *comparison) same() {
	c.t.Helper()
	synctest.Wait()
	c.waiting = slices.DeleteFunc(c.waiting, c.returned)
	if broken := c.q.Broken(); broken != "" {
		c.fatalf("%s", broken)
	}
	want := feed.Books{
		Ready: len(c.m.ready), Delayed: len(c.m.delayed), Taken: c.m.taken, Ended: c.m.ended, Failed: c.m.failed,
	}
	b := c.q.Books()
	if b != want || c.q.Len() != want.Ready || c.q.Delayed() != want.Delayed {
		c.fatalf("books are %+v, Len %d, Delayed %d; want %+v", b, c.q.Len(), c.q.Delayed(), want)
	}
	if sum := b.Ready + b.Delayed + b.Taken + int(b.Ended) + len(c.popped) + c.left; sum != c.accepted {
		c.fatalf("%d jobs were accepted, and %d are in %+v, %d popped, %d left", c.accepted, sum, b, len(c.popped), c.left)
	}
	for i, t := range c.takers {
		want := feed.View[worker.Job]{Holds: t.holds != nil, Item: t.holds, Ended: t.ended, Failed: t.failed}
		if got := c.real[i].View(); got != want {
			c.fatalf("taker %d: view is %+v, want %+v", i, got, want)
		}
	}
}

// returned compares a call, and tells whether it is done with.
func (c *comparison) returned(p *pair) bool {
	if returned := p.got.returned(); returned != p.want.returned {
		c.fatalf("a call has returned: %v, want %v", returned, p.want.returned)
	}
	if !p.want.returned {
		return false
	}
	if p.cancel != nil {
		p.cancel(nil)
	}
	if p.pushes {
		p.want.job = nil
	}
	if p.got.job != p.want.job || !errors.Is(p.got.err, p.want.err) {
		c.fatalf("a call returned %v, %v; want %v, %v", p.got.job, p.got.err, p.want.job, p.want.err)
	}
	switch {
	case p.want.err != nil:
	case p.pushes:
		c.accepted++
	case p.want.taker == nil:
		c.popped = append(c.popped, p.want.job)
	}
	return true
}

// finish ends all calls: Close and Drain, and takers that settle, are enough for that.
func (c *comparison) finish() {
	c.close()
	c.drain()
	for i := range c.takers {
		if c.takers[i].next == nil {
			c.settle(i)
		}
	}
	c.same()
	if len(c.waiting) > 0 {
		c.fatalf("closed and drained, but %d calls wait", len(c.waiting))
	}
}

// compare runs a program: the first byte is the size of the queue.
func compare(t *testing.T, program []byte) {
	if len(program) == 0 {
		return
	}
	synctest.Test(t, func(t *testing.T) {
		size := 1 + int(program[0]%5)
		q := feed.NewFIFO[worker.Job](size)
		c := &comparison{t: t, q: q, m: &model{size: size}, program: program[1:]}
		for range 3 {
			c.takers = append(c.takers, &modelTaker{})
			c.real = append(c.real, q.NewTaker())
		}
		c.run()
	})
}

func TestFIFODoesAsTheModel(t *testing.T) {
	const programs, most = 2000, 300
	for seed := range uint64(programs) {
		random := rand.New(rand.NewPCG(1, seed))
		program := make([]byte, random.IntN(most))
		for i := range program {
			program[i] = byte(random.Uint32())
		}
		compare(t, program)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func FuzzFIFO(f *testing.F) {
	for _, program := range [][]byte{
		{},
		// A push and a pop that wait for each other.
		{0, doPush, 0, doPushWaiting, 0, doPushWaiting, 0, doPop, 0, doPop, 0, doPop, 0, doPop, 0, doPush, 0},
		// Room is taken by what is delayed.
		{0, doPush, 0, doPop, 0, doRequeue, 4, doPushWaiting, 0, doPush, 0, doPop, 0, doPop, 0, doPush, 0, doSleep, 3},
		{0, doPush, 0, doPop, 0, doRequeue, 4, doPop, 0, doPop, 0, doPushWaiting, 0, doSleep, 3, doPush, 0},
		// All go home when the last delayed job comes, or a worker puts one back.
		{1, doPush, 0, doPop, 0, doRequeue, 2, doClose, 0, doPop, 0, doPop, 0, doNext, 0, doSleep, 2, doSettle, 16},
		{1, doPush, 0, doNext, 0, doClose, 0, doPop, 0, doPop, 0, doRequeueTaken, 0, doRequeue, 0, doPop, 0},
		{1, doPush, 0, doNext, 0, doClose, 0, doNext, 1, doNext, 2, doRequeueTaken, 32, doStop, 0, doNext, 0, doSleep, 2, doNext, 17},
		// Workers that settle in all ways, and are stopped with and without a job.
		{2, doPush, 0, doPush, 0, doPush, 0, doNext, 0, doNext, 1, doNext, 2, doNext, 16, doNext, 33, doSettle, 34, doStop, 0, doStop, 17, doPush, 0},
		{2, doPush, 0, doNext, 0, doStop, 0, doNext, 32, doNext, 0, doPush, 0, doNext, 1, doStop, 17, doRequeueTaken, 17, doNext, 2},
		// Calls that leave from the front, the middle and the end of those that wait.
		{0, doPop, 0, doNext, 0, doPop, 0, doNext, 1, doPop, 0, doCancel, 2, doStop, 17, doCancel, 0, doPush, 0, doPush, 0, doCancel, 0},
		{0, doPush, 0, doPushWaiting, 0, doPushWaiting, 0, doPushWaiting, 0, doPushWaiting, 0, doCancel, 1, doCancel, 0, doPop, 0, doClose, 0, doPushWaiting, 0, doPush, 0},
		// Drain of an open queue, and of a closed one for which some wait.
		{1, doPush, 0, doPush, 0, doPushWaiting, 0, doPushWaiting, 0, doPushWaiting, 0, doDrain, 0, doDrain, 0, doPop, 0},
		{1, doPush, 0, doPop, 0, doRequeue, 3, doClose, 0, doNext, 0, doPop, 0, doDrain, 0, doPush, 0, doDrain, 0},
		// Delays in all orders, and the clock in all steps.
		{4, doPush, 0, doPush, 0, doPush, 0, doPop, 0, doPop, 0, doPop, 0, doRequeue, 4, doRequeue, 1, doRequeue, 2, doPop, 0, doSleep, 1, doSleep, 0, doPop, 0, doSleep, 2, doSleep, 3, doPop, 0},
		{4, doPush, 0, doPush, 0, doPush, 0, doPop, 0, doPop, 0, doPop, 0, doRequeue, 2, doRequeue, 2, doRequeue, 5, doSleep, 2, doPop, 0, doPop, 0, doPop, 0, doSleep, 3, doRequeue, 6, doPush, 31},
	} {
		f.Add(program)
	}
	f.Fuzz(compare)
}
