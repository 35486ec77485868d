package agent

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"strconv"
	"time"
	"unicode/utf8"

	"golang.org/x/time/rate"

	pb "github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
)

const (
	// maxPiece is the longest piece of a job's line in one log line, in bytes before encoding.
	maxPiece = 16 << 10
	// flushBytes of encoded log lines are written at once, if there are so many.
	flushBytes = 32 << 10
)

var newline = []byte("\n")

var errAbandoned = errors.New("the log has not taken the output in time")

// lineLog writes the lines of all jobs to the container's stdout, as JSON objects of one line. It has
// one buffer for all, so that a log that nobody reads takes no memory.
type lineLog struct {
	w   io.Writer
	log *slog.Logger
	// rate of each attempt's output, in bytes a second.
	rate rate.Limit
	// turn is held to use the rest. It is a channel so that waiting for it can end.
	turn   chan struct{}
	buf    []byte
	failed bool
}

func newLineLog(w io.Writer, log *slog.Logger) *lineLog {
	return &lineLog{w: w, log: log, rate: outputRate, turn: make(chan struct{}, 1)}
}

// lineHeader is what all log lines of a stream of an attempt, or of its reset, have in common, encoded.
type lineHeader []byte

func newLineHeader(a *pb.Assignment, stream string, reset bool) lineHeader {
	h := appendString([]byte(`,"job":`), []byte(a.GetJobName()))
	h = appendString(append(h, `,"uid":`...), []byte(a.GetToken().GetJobUid()))
	h = strconv.AppendInt(append(h, `,"attempt":`...), int64(a.GetToken().GetTry()), 10)
	h = strconv.AppendInt(append(h, `,"index":`...), int64(a.GetToken().GetIndex()), 10)
	if reset {
		h = append(h, `,"reset":true`...)
	}
	h = appendString(append(h, `,"stream":`...), []byte(stream))
	return append(h, `,"line":`...)
}

// record is something to be logged of a stream.
type record struct {
	// text is whole lines, each with its newline or not if it is the last; or, if partial, a piece of a longer line.
	text    []byte
	partial bool
	// shared: all lines are in one record.
	shared bool
	// skipped, if not 0, is how many bytes of the stream are left out here. There is no text then.
	skipped int
}

// write returns how many bytes it has written. It blocks while the log does, at most until abandon is closed. A log that
// can't be written loses lines: jobs run on.
func (l *lineLog) write(h lineHeader, now time.Time, r record, abandon <-chan struct{}) (n int, err error) {
	select {
	case l.turn <- struct{}{}:
	case <-abandon:
		return 0, errAbandoned
	}
	defer func() { <-l.turn }()
	if r.skipped > 0 {
		l.buf = appendRecord(l.buf, h, now, nil, r)
	}
	for text := r.text; len(text) > 0; {
		line := bytes.TrimSuffix(text, newline)
		if !r.shared {
			line, text, _ = bytes.Cut(text, newline)
		} else {
			text = nil
		}
		l.buf = appendRecord(l.buf, h, now, line, r)
		if len(l.buf) >= flushBytes {
			n += l.flush()
		}
	}
	return n + l.flush(), nil
}

// flush returns how many bytes there were.
func (l *lineLog) flush() int {
	n := len(l.buf)
	_, err := l.w.Write(l.buf)
	if err != nil && !l.failed {
		l.log.Error("Cannot write the output of jobs", "error", err)
	}
	l.failed = err != nil
	l.buf = l.buf[:0]
	return n
}

func appendRecord(buf []byte, h lineHeader, now time.Time, line []byte, r record) []byte {
	buf = append(buf, `{"time":"`...)
	buf = now.UTC().AppendFormat(buf, time.RFC3339Nano)
	buf = append(buf, '"')
	buf = append(buf, h...)
	buf = appendString(buf, line)
	if r.partial {
		buf = append(buf, `,"partial":true`...)
	}
	if r.skipped > 0 {
		buf = strconv.AppendInt(append(buf, `,"partial":true,"skipped":`...), int64(r.skipped), 10)
	}
	return append(buf, "}\n"...)
}

const hexDigits = "0123456789abcdef"

// appendString appends s as a JSON string. What is not UTF-8 becomes U+FFFD.
func appendString(buf, s []byte) []byte {
	buf = append(buf, '"')
	start := 0
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' {
				i++
				continue
			}
			buf = appendEscaped(append(buf, s[start:i]...), c)
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRune(s[i:])
		if r == utf8.RuneError && size == 1 {
			buf = append(append(buf, s[start:i]...), "\uFFFD"...)
			start = i + 1
		}
		i += size
	}
	return append(append(buf, s[start:]...), '"')
}

func appendEscaped(buf []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(buf, '\\', c)
	case '\n':
		return append(buf, `\n`...)
	case '\r':
		return append(buf, `\r`...)
	case '\t':
		return append(buf, `\t`...)
	}
	return append(buf, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
}
