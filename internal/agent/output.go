package agent

import (
	"bytes"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	pb "github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
)

const (
	// tailBytes is how much of an attempt's output is in its result.
	tailBytes = 4096
	// outputBurst is how much an attempt may write into the log at once, and outputRate how much in a second from then on,
	// in bytes as they are written. More than that nobody keeps: the kubelet's own default is 50 MiB for a container.
	outputBurst = 32 << 20
	outputRate  = 4 << 20
	// ownRecords is how much of the burst may be taken with a record for each line. Short lines become ten times as long by
	// that, and the container runtime works for each, so of a flood a record has many.
	ownRecords = 4 << 20
	// resumeAt is how much must be free again before output is written on that was left out: a flood comes in few stretches.
	resumeAt = 1 << 20
	// maxPipe bounds what is still read from a pipe whose writers should be gone, in bytes: more than a
	// pipe can hold unless somebody writes on.
	maxPipe = 1 << 20
)

// tail keeps the end of what was written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

func (t *tail) write(p []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(p) >= tailBytes {
		t.buf = append(t.buf[:0], p[len(p)-tailBytes:]...)
		return
	}
	// Moving the end to the front once in tailBytes is cheaper than a ring is long.
	if len(t.buf)+len(p) > 2*tailBytes {
		t.buf = append(t.buf[:0], t.buf[len(t.buf)+len(p)-tailBytes:]...)
	}
	t.buf = append(t.buf, p...)
}

// bytes returns a copy.
func (t *tail) bytes() []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return bytes.Clone(t.buf[max(0, len(t.buf)-tailBytes):])
}

// output reads what an attempt writes, into the log and the tail.
type output struct {
	tail  tail
	pipes [2]*os.File
	log   *lineLog
	rate  *rate.Limiter
	// reset: it is of an attempt's reset.
	reset bool
	// readers counts the pipes that are not read to their end.
	readers atomic.Int32
	// read is closed when both pipes are read to their end.
	read chan struct{}
	// abandon is closed to give up writing to the log.
	abandon chan struct{}
}

func newOutput(log *lineLog) *output {
	return &output{
		log:     log,
		rate:    rate.NewLimiter(log.rate, outputBurst),
		read:    make(chan struct{}),
		abandon: make(chan struct{}),
	}
}

func readOutput(p *process, a *pb.Assignment, reset bool, log *lineLog) *output {
	o := newOutput(log)
	o.pipes, o.reset = [2]*os.File{p.stdout, p.stderr}, reset
	o.readers.Store(int32(len(o.pipes)))
	go o.readPipe(p.stdout, a, "stdout")
	go o.readPipe(p.stderr, a, "stderr")
	return o
}

// finish returns the tail when all that was written has been read. The process must have ended and be
// cleaned away. Whoever has a pipe open all the same is not waited for, and a log that does not take
// the rest within the limit loses it.
func (o *output) finish(limit time.Duration) []byte {
	select {
	case <-o.read:
		return o.tail.bytes()
	default:
	}
	for _, pipe := range o.pipes {
		// A reader that has just come to the end has closed it.
		_ = pipe.SetReadDeadline(time.Unix(1, 0))
	}
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	select {
	case <-o.read:
	case <-timeout.C:
		close(o.abandon)
	}
	return o.tail.bytes()
}

// budget is what may be written now, in bytes. Of both streams together.
func (o *output) budget(now time.Time) int { return int(o.rate.TokensAt(now)) }

// spend takes what was written, or a little more than there is.
func (o *output) spend(now time.Time, n int) { o.rate.ReserveN(now, min(n, outputBurst)) }

func (o *output) readPipe(pipe *os.File, a *pb.Assignment, stream string) {
	defer func() {
		if o.readers.Add(-1) == 0 {
			close(o.read)
		}
	}()
	defer pipe.Close()
	buf := buffers.Get().(*[maxPiece + 1]byte)
	defer buffers.Put(buf)
	s := &splitter{buf: buf[:], output: o, assignment: a, stream: stream}
	for {
		n, err := pipe.Read(s.free())
		s.took(n)
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				s.drain(pipe)
			}
			break
		}
	}
	s.end()
}

// splitter cuts a stream into lines, and lines that are too long into pieces.
type splitter struct {
	buf []byte
	// used is how much of buf holds the beginning of a line.
	used       int
	output     *output
	assignment *pb.Assignment
	stream     string
	header     lineHeader
	// skipping: the budget is used up. Then held is what came last, in case that it is the end, and skipped is how much was left
	// out before that.
	skipping bool
	held     record
	skipped  int
}

// free is never empty.
func (s *splitter) free() []byte { return s.buf[s.used:] }

// took says that n more bytes are in what was free.
func (s *splitter) took(n int) {
	if n == 0 {
		return
	}
	s.output.tail.write(s.buf[s.used : s.used+n])
	whole := 0
	if last := bytes.LastIndexByte(s.buf[s.used:s.used+n], '\n'); last >= 0 {
		whole = s.used + last + 1
	}
	s.used += n
	if whole > 0 {
		s.emit(whole, false)
	}
	if s.used == len(s.buf) {
		s.emit(pieceLength(s.buf[:maxPiece]), true)
	}
}

// drain takes what is in the pipe without waiting for more.
func (s *splitter) drain(pipe *os.File) {
	conn, err := pipe.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Control(func(fd uintptr) {
		for total := 0; total < maxPipe; {
			n, err := unix.Read(int(fd), s.free())
			if err == unix.EINTR {
				continue
			}
			if n <= 0 {
				return
			}
			s.took(n)
			total += n
		}
	})
}

// end emits a last line that has no newline, and what is held.
func (s *splitter) end() {
	if s.used > 0 {
		s.emit(s.used, false)
	}
	s.resume(time.Now())
}

// emit logs the first n bytes and moves the rest to the front.
func (s *splitter) emit(n int, partial bool) {
	if s.header == nil {
		s.header = newLineHeader(s.assignment, s.stream, s.output.reset)
	}
	now := time.Now()
	budget := s.output.budget(now)
	r := record{text: s.buf[:n], partial: partial, shared: budget < outputBurst-ownRecords}
	if budget <= 0 || s.skipping && budget < resumeAt {
		s.skip(r)
	} else {
		s.resume(now)
		s.write(now, r)
	}
	s.used = copy(s.buf, s.buf[n:s.used])
}

// skip holds a record, and leaves out what was held long enough.
func (s *splitter) skip(r record) {
	s.skipping = true
	r.text = append(s.held.text, r.text...)
	s.held = r
	if len(s.held.text) > 2*maxPiece { // seldom, since all of it is moved
		s.trim()
	}
}

// trim leaves out all that is held but the last piece.
func (s *splitter) trim() {
	if n := len(s.held.text) - maxPiece; n > 0 {
		s.skipped += n
		s.held.text = append(s.held.text[:0], s.held.text[n:]...)
	}
}

// resume logs what is held, and before it how much was left out.
func (s *splitter) resume(now time.Time) {
	if !s.skipping {
		return
	}
	s.trim()
	if s.skipped > 0 {
		s.write(now, record{skipped: s.skipped})
	}
	s.write(now, s.held)
	s.skipping, s.held, s.skipped = false, record{}, 0
}

func (s *splitter) write(now time.Time, r record) {
	// An abandoned attempt has ended: nobody is left to tell.
	n, _ := s.output.log.write(s.header, now, r, s.output.abandon)
	s.output.spend(now, n)
}

// pieceLength is len(p), or less so that no character is cut in two.
func pieceLength(p []byte) int {
	for n := len(p); n > len(p)-utf8.UTFMax; n-- {
		if utf8.RuneStart(p[n-1]) {
			if !utf8.FullRune(p[n-1:]) {
				return n - 1
			}
			break
		}
	}
	return len(p)
}
