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
	// outputRate is how much of an attempt's output is taken in a second, in bytes, once outputBurst was at
	// once: who writes more waits. Without it one that writes as fast as it can has the node busy with its
	// log, of which little is kept, and its neighbours wait for a processor.
	outputRate  = 8 << 20
	outputBurst = 8 << 20
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

// pace waits until n more bytes may be taken, or the output is abandoned.
func (o *output) pace(n int) {
	wait := o.rate.ReserveN(time.Now(), n).Delay()
	if wait == 0 {
		return
	}
	turn := time.NewTimer(wait)
	defer turn.Stop()
	select {
	case <-turn.C:
	case <-o.abandon:
	}
}

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
}

// free is never empty.
func (s *splitter) free() []byte { return s.buf[s.used:] }

// took says that n more bytes are in what was free.
func (s *splitter) took(n int) {
	if n == 0 {
		return
	}
	s.output.tail.write(s.buf[s.used : s.used+n])
	newline := bytes.LastIndexByte(s.buf[s.used:s.used+n], '\n')
	whole := 0
	if newline >= 0 {
		whole = s.used + newline + 1
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

// end emits a last line that has no newline.
func (s *splitter) end() {
	if s.used > 0 {
		s.emit(s.used, false)
	}
}

// emit logs the first n bytes and moves the rest to the front.
func (s *splitter) emit(n int, partial bool) {
	if s.header == nil {
		s.header = newLineHeader(s.assignment, s.stream, s.output.reset)
	}
	s.output.pace(n)
	// An abandoned attempt has ended: nobody is left to tell.
	_ = s.output.log.write(s.header, time.Now(), s.buf[:n], partial, s.output.abandon)
	s.used = copy(s.buf, s.buf[n:s.used])
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
