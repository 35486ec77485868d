package agent

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	pb "github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
)

type logLine struct {
	Time    time.Time
	Job     string
	UID     string
	Attempt int
	Index   int
	Reset   bool
	Stream  string
	Line    string
	Partial bool
	Skipped int
}

func parseLog(t *testing.T, log string) []logLine {
	t.Helper()
	var lines []logLine
	in := bufio.NewScanner(strings.NewReader(log))
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		var l logLine
		decoder := json.NewDecoder(bytes.NewReader(in.Bytes()))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&l); err != nil {
			t.Fatalf("%v in %q", err, in.Text())
		}
		lines = append(lines, l)
	}
	return lines
}

func TestLogLines(t *testing.T) {
	o := newOperator(t)
	log := &lockedBuffer{}
	runAgent(t, testConfig(t, o), log)
	s := o.accepted()
	a := shell("uid", `printf 'one\n\ntwo "q" \\ \t\001\377é\n'; printf 'no newline'`)
	a.JobName, a.Token.Index, a.Token.Try = `na"me`, 7, 2
	s.run(a)
	s.run(shell("b", "echo oops >&2"))

	got := parseLog(t, log.String())
	var texts []string
	for _, l := range got {
		texts = append(texts, l.Line)
		if l.Partial || time.Since(l.Time) > time.Hour {
			t.Errorf("line %+v", l)
		}
	}
	if !slicesEqual(texts, "one", "", "two \"q\" \\ \t\x01\uFFFDé", "no newline", "oops") {
		t.Fatalf("lines %q", texts)
	}
	first, last := got[0], got[4]
	first.Time, last.Time = time.Time{}, time.Time{}
	if want := (logLine{Job: `na"me`, UID: "uid", Attempt: 2, Index: 7, Stream: "stdout", Line: "one"}); first != want {
		t.Errorf("first %+v", first)
	}
	if want := (logLine{Job: "b", UID: "b", Attempt: 1, Stream: "stderr", Line: "oops"}); last != want {
		t.Errorf("last %+v", last)
	}
}

func TestLongLinesAreInPieces(t *testing.T) {
	for _, length := range []int{maxPiece - 1, maxPiece, maxPiece + 1, 2 * maxPiece, 2*maxPiece + 1, 100_000} {
		line := strings.Repeat("aé€😀", length/10+1)
		log := &lockedBuffer{}
		feed(log, []byte(line+"\nnext\n"))
		var whole strings.Builder
		got := parseLog(t, log.String())
		for i, l := range got[:len(got)-1] {
			whole.WriteString(l.Line)
			if len(l.Line) > maxPiece || l.Partial != (i < len(got)-2) {
				t.Errorf("piece %d of a line of %d: %d bytes, partial %v", i, len(line), len(l.Line), l.Partial)
			}
		}
		if whole.String() != line || got[len(got)-1].Line != "next" {
			t.Errorf("a line of %d bytes came out as %d", len(line), whole.Len())
		}
	}
}

// feed puts bytes through a splitter, in reads of random lengths.
func feed(log io.Writer, content []byte) {
	s := newSplitter(log)
	s.output.rate.SetLimit(rate.Inf)
	s.read(content)
	s.end()
}

// newSplitter is of an attempt that has written nothing yet.
func newSplitter(log io.Writer) *splitter {
	return &splitter{
		buf: new([maxPiece + 1]byte)[:], output: newOutput(newLineLog(log, slog.New(slog.DiscardHandler))),
		assignment: &pb.Assignment{}, stream: "stdout",
	}
}

func (s *splitter) read(content []byte) {
	for len(content) > 0 {
		n := copy(s.free()[:1+rand.IntN(len(s.free()))], content)
		content = content[n:]
		s.took(n)
	}
}

// reader is a log that is read as it is written: it takes no memory for what it is told.
type reader struct {
	t *testing.T
	// written are the bytes of the log, told those of the stream that it has or says that it leaves out, and skipped the latter.
	written, told, skipped, records int
	// gaps is how often something is left out.
	gaps int
	// hash is of what the log has, begin is its beginning, and end its end.
	hash       hash.Hash
	begin, end []byte
	rest       []byte
}

func newReader(t *testing.T) *reader { return &reader{t: t, hash: sha256.New()} }

func (r *reader) Write(p []byte) (int, error) {
	r.written += len(p)
	r.rest = append(r.rest, p...)
	for {
		record, rest, whole := bytes.Cut(r.rest, newline)
		if !whole {
			return len(p), nil
		}
		r.take(record)
		r.rest = append(r.rest[:0], rest...)
	}
}

func (r *reader) take(record []byte) {
	var l logLine
	if err := json.Unmarshal(record, &l); err != nil {
		r.t.Errorf("%v in %.100q", err, record)
	}
	text := []byte(l.Line)
	if !l.Partial {
		text = append(text, '\n')
	}
	r.records++
	r.told += len(text) + l.Skipped
	r.skipped += l.Skipped
	if l.Skipped > 0 {
		r.gaps++
	}
	r.hash.Write(text)
	if len(r.begin) < maxPiece {
		r.begin = append(r.begin, text...)
	}
	r.end = append(r.end, text...)
	r.end = append([]byte(nil), r.end[max(0, len(r.end)-maxPiece):]...)
}

func TestAFloodOfShortLinesSharesRecordsAndLosesNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newReader(t)
		s := newSplitter(log)
		piece := []byte(strings.Repeat("y\n", 5000))
		want := sha256.New()
		for range 1000 {
			s.read(piece)
			want.Write(piece)
		}
		s.end()
		size := 1000 * len(piece)
		if log.skipped != 0 || !bytes.Equal(log.hash.Sum(nil), want.Sum(nil)) {
			t.Errorf("%d bytes came out as %d, or others", size, log.told)
		}
		if log.written > 2*size+ownRecords || log.records > 100_000 {
			t.Errorf("%d lines of %d bytes took %d records of %d bytes", size/2, size, log.records, log.written)
		}
	})
}

func TestOfMoreThanTheBoundTheBeginningAndTheEndAreLoggedAndTheRestIsCounted(t *testing.T) {
	const last = "the last line\n"
	floods := map[string]string{
		"short lines": strings.Repeat("y\n", 5000), "one line": strings.Repeat("x", 10_000), "binary bytes": strings.Repeat("\x01", 10_000),
	}
	for name, piece := range floods {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := newReader(t)
				s := newSplitter(log)
				for range 6400 {
					s.read([]byte(piece))
				}
				s.read([]byte(last))
				s.end()
				size := 6400*len(piece) + len(last)
				if log.written > outputBurst+64*maxPiece || log.written < outputBurst/2 {
					t.Errorf("%d bytes were written", log.written)
				}
				if log.told != size || log.skipped < size/8 {
					t.Errorf("of %d bytes %d were told of, and %d left out", size, log.told, log.skipped)
				}
				if !strings.HasPrefix(string(log.begin), piece) || !strings.HasSuffix(string(log.end), piece[len(piece)/2:]+last) {
					t.Errorf("it begins with %.100q and ends with %q", log.begin, log.end[len(log.end)-100:])
				}
				if got := string(s.output.tail.bytes()); !strings.HasSuffix(piece+last, got) || len(got) != tailBytes {
					t.Errorf("the tail is %q", got)
				}
			})
		})
	}
}

func TestAfterAFloodTheLogGoesOnInLongStretches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newReader(t)
		s := newSplitter(log)
		piece := []byte(strings.Repeat("x", maxPiece-1) + "\n")
		for range 2 * outputBurst / maxPiece { // what may be written at once
			s.read(piece)
		}
		before, gaps := log.written, log.gaps
		const passing = 10
		for range passing * 100 { // 16 MiB a second
			time.Sleep(10 * time.Millisecond)
			for range 10 {
				s.read(piece)
			}
		}
		s.end()
		if written, most := log.written-before, passing*outputRate+resumeAt; written < passing*outputRate/2 || written > most {
			t.Errorf("%d bytes were written in %d seconds, and may be %d", written, passing, most)
		}
		if n := log.gaps - gaps; n > passing*outputRate/resumeAt+1 || n == 0 {
			t.Errorf("output was left out %d times", n)
		}
		// In quiet times each line has its record again.
		time.Sleep(time.Minute)
		records := log.records
		s.read([]byte("one\ntwo\n"))
		if log.records != records+2 {
			t.Errorf("two lines are in %d records", log.records-records)
		}
	})
}

func FuzzLines(f *testing.F) {
	f.Add([]byte("one\ntwo"))
	f.Add([]byte{0xff, '\n', 0xf0, 0x9f, '\n', 0, '"', '\\'})
	f.Fuzz(func(t *testing.T, content []byte) {
		log := &lockedBuffer{}
		feed(log, content)
		var got strings.Builder
		for _, l := range parseLog(t, log.String()) {
			got.WriteString(l.Line)
			if !l.Partial {
				got.WriteByte('\n')
			}
		}
		// Each byte that is not UTF-8 becomes one U+FFFD, as it does where a range reads them.
		want := string([]rune(string(content)))
		if want != "" && !strings.HasSuffix(want, "\n") {
			want += "\n"
		}
		if got.String() != want {
			t.Errorf("%q came out as %q, want %q", content, got.String(), want)
		}
	})
}

// counter counts what is written to it.
type counter struct{ n atomic.Int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return len(p), nil
}

func TestHugeOutputTakesLittleMemory(t *testing.T) {
	const size = 50_000_000
	tests := map[string]string{
		"without a newline": "head -c 50000000 /dev/zero | tr '\\0' x",
		"binary":            "head -c 50000000 /dev/urandom",
	}
	for name, script := range tests {
		t.Run(name, func(t *testing.T) {
			o := newOperator(t)
			log := &counter{}
			runAgent(t, testConfig(t, o), log)
			s := o.accepted()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			r := s.run(shell("a", script))
			runtime.ReadMemStats(&after)
			if len(r.GetOutput()) != tailBytes || log.n.Load() < outputBurst {
				t.Errorf("tail of %d bytes, log of %d", len(r.GetOutput()), log.n.Load())
			}
			// Heartbeats and the test itself allocate too: what counts is that the output does not.
			if allocated := after.TotalAlloc - before.TotalAlloc; allocated > size/2 {
				t.Errorf("allocated %d bytes", allocated)
			}
		})
	}
}

// slow is a log that is slower than what writes.
type slow struct{ counter }

func (s *slow) Write(p []byte) (int, error) {
	for range 8 {
		_ = sha256.Sum256(p)
	}
	return s.counter.Write(p)
}

func TestOutputDoesNotMakeTheAgentGrow(t *testing.T) {
	const size, most = 64 << 20, 16 << 20
	for name, log := range map[string]io.Writer{"a log that takes all": &counter{}, "a slow log": &slow{}} {
		t.Run(name, func(t *testing.T) {
			o := newOperator(t)
			runAgent(t, testConfig(t, o), log)
			s := o.accepted()
			s.run(shell("first", "echo x"))
			debug.FreeOSMemory()
			before := resident(os.Getpid()).bytes
			most := before + most
			s.assign(shell("a", fmt.Sprintf("yes 'a line of some length, as programs write them' | head -c %d", size)))
			s.until("the result", func(r *pb.Report) bool {
				if now := resident(os.Getpid()).bytes; now > most {
					t.Errorf("grown from %d to %d bytes", before, now)
				}
				return len(r.GetResults()) > 0
			})
		})
	}
}

// gate is a log that nobody reads until it is opened.
type gate struct{ opened chan struct{} }

func (g *gate) Write(p []byte) (int, error) { <-g.opened; return len(p), nil }

func TestABlockedLogHoldsUpOnlyTheOutput(t *testing.T) {
	o := newOperator(t)
	c := testConfig(t, o)
	c.timing.drain = 50 * time.Millisecond
	log := &gate{make(chan struct{})}
	defer close(log.opened)
	runAgent(t, c, log)
	s := o.accepted()
	s.assign(shell("much", "head -c 1000000 /dev/zero; exec sleep 1000"), shell("little", "echo x; exit 3"))
	if r := s.result(tokenFor("little")); r.GetExitCode() != 3 {
		t.Errorf("result %v", r)
	}
	if r := s.run(shell("silent", "exit 4")); r.GetExitCode() != 4 {
		t.Errorf("result %v", r)
	}
	s.send(&pb.OperatorMessage{Kills: []*pb.Kill{{Token: tokenFor("much")}}})
	if r := s.result(tokenFor("much")); r.GetOutcome() != pb.Outcome_OUTCOME_KILLED {
		t.Errorf("result %v", r)
	}
}

// heldPipes are those of a process that has written x and whose pipes somebody holds open.
func heldPipes(t *testing.T) *process {
	t.Helper()
	p := &process{}
	for _, end := range []**os.File{&p.stdout, &p.stderr} {
		read, writer, err := pipe("held")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(writer) })
		if _, err := unix.Write(writer, []byte("x\n")); err != nil {
			t.Fatal(err)
		}
		*end = read
	}
	return p
}

func TestWhatIsInAHeldPipeIsRead(t *testing.T) {
	p := heldPipes(t)
	for _, end := range []*os.File{p.stdout, p.stderr} {
		if err := end.SetReadDeadline(time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
	}
	o := readOutput(p, &pb.Assignment{}, false, newLineLog(io.Discard, slog.New(slog.DiscardHandler)))
	if got := o.finish(patience); string(got) != strings.Repeat("x\n", 2) {
		t.Errorf("tail %q", got)
	}
}

func TestReadersGiveUpABlockedLog(t *testing.T) {
	log := newLineLog(io.Discard, slog.New(slog.DiscardHandler))
	log.turn <- struct{}{}
	o := readOutput(heldPipes(t), &pb.Assignment{}, false, log)
	o.finish(time.Millisecond)
	select {
	case <-o.read:
	case <-time.After(patience):
		t.Error("the readers still wait for the log")
	}
}
