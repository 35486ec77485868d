package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	pb "github.com/workerpool-dev/workerpool/internal/dispatch/dispatchpb"
)

func resultFor(job string, output int) *result {
	return &result{
		token:   tokenOf(tokenFor(job)),
		outcome: pb.Outcome_OUTCOME_EXITED,
		output:  bytes.Repeat([]byte("x"), output),
		started: time.Unix(1000, 5),
		ended:   time.Unix(1001, 0),
	}
}

func reopen(t *testing.T, dir string) (*spool, map[string]*result) {
	t.Helper()
	s, results, err := openSpool(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	byJob := map[string]*result{}
	for _, r := range results {
		byJob[r.token.task.jobUID] = r
	}
	return s, byJob
}

func mustWrite(t *testing.T, s *spool, results ...*result) {
	t.Helper()
	for _, r := range results {
		if err := s.write(r); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSpoolKeepsWhatIsNotSettled(t *testing.T) {
	dir := t.TempDir()
	s, _ := reopen(t, dir)
	a, b, c := resultFor("a", 10), resultFor("b", 20), resultFor("c", 30)
	c.httpStatus = 404
	mustWrite(t, s, a, b)
	if err := s.forget([]*result{a, resultFor("unknown", 0)}); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, s, c)
	s, got := reopen(t, dir)
	if len(got) != 2 || len(got["b"].output) != 20 || got["c"].httpStatus != 404 || !got["c"].ended.Equal(c.ended) || !got["c"].started.Equal(c.started) {
		t.Fatalf("kept %v", got)
	}
	if err := s.forget([]*result{b, c}); err != nil {
		t.Fatal(err)
	}
	if _, got := reopen(t, dir); len(got) != 0 {
		t.Errorf("kept %v", got)
	}
}

func TestADamagedSpoolKeepsWhatIsBeforeTheDamage(t *testing.T) {
	damages := map[string]func([]byte) []byte{
		"cut short":        func(content []byte) []byte { return content[:len(content)-1] },
		"cut in a header":  func(content []byte) []byte { return content[:len(content)/2+3] },
		"a changed byte":   func(content []byte) []byte { content[len(content)-2] ^= 1; return content },
		"zeros behind":     func(content []byte) []byte { clear(content[len(content)/2:]); return content },
		"a mad length":     func(content []byte) []byte { content[len(content)/2+3] = 0xff; return content },
		"an unknown frame": func(content []byte) []byte { return append(content[:len(content)/2], seal(make([]byte, 20))...) },
	}
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s, _ := reopen(t, dir)
			// Both frames are of the same length.
			mustWrite(t, s, resultFor("a", 10), resultFor("b", 10))
			file := filepath.Join(dir, spoolFile)
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, damage(content), 0o600); err != nil {
				t.Fatal(err)
			}
			s, got := reopen(t, dir)
			if len(got) != 1 || got["a"] == nil {
				t.Errorf("kept %v", got)
			}
			mustWrite(t, s, resultFor("c", 10))
			if _, got := reopen(t, dir); len(got) != 2 || got["c"] == nil {
				t.Errorf("then kept %v", got)
			}
		})
	}
}

func TestTheSpoolStaysSmall(t *testing.T) {
	dir := t.TempDir()
	s, _ := reopen(t, dir)
	stays := resultFor("stays", tailBytes)
	mustWrite(t, s, stays)
	const n = 3 * compactBytes / tailBytes
	for i := range n {
		r := resultFor(fmt.Sprint(i), tailBytes)
		mustWrite(t, s, r)
		if err := s.forget([]*result{r}); err != nil {
			t.Fatal(err)
		}
	}
	info, err := os.Stat(filepath.Join(dir, spoolFile))
	if err != nil || info.Size() > compactBytes+maxFrame {
		t.Errorf("%d bytes, error %v", info.Size(), err)
	}
	if _, got := reopen(t, dir); len(got) != 1 || len(got["stays"].output) != tailBytes {
		t.Errorf("kept %d results", len(got))
	}
	if err := s.forget([]*result{stays}); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, spoolFile)); err != nil || info.Size() > shrinkBytes {
		t.Errorf("%d bytes of nothing, error %v", info.Size(), err)
	}
}

// What a rewrite leaves behind that has failed would take room on a disk that is full.
func TestARewriteThatFailsLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	s, _ := reopen(t, dir)
	mustWrite(t, s, resultFor("stays", tailBytes))
	if err := errors.Join(os.Remove(filepath.Join(dir, spoolFile)), s.file.Close()); err != nil { // it can't be read any more
		t.Fatal(err)
	}
	if err := s.write(resultFor("next", tailBytes)); err == nil {
		t.Fatal("it did not fail")
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left %v, error %v", left, err)
	}
}

func FuzzSpool(f *testing.F) {
	frame, err := encodeResult(resultFor("a", 10))
	if err != nil {
		f.Fatal(err)
	}
	settled, err := proto.MarshalOptions{}.MarshalAppend([]byte{frameSettled}, tokenFor("a"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(frame)
	f.Add(append(slices.Clone(frame), frame[:20]...))
	f.Add(append(slices.Clone(frame), seal(append(make([]byte, frameHeader), settled...))...))
	f.Fuzz(func(t *testing.T, content []byte) {
		// Whatever the file has, an agent starts, keeps what fits, and finds the same the next time.
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, spoolFile), content, 0o600); err != nil {
			t.Fatal(err)
		}
		_, first := reopen(t, dir)
		s, second := reopen(t, dir)
		if len(first) != len(second) || len(first) > maxResults {
			t.Fatalf("%d results, then %d", len(first), len(second))
		}
		mustWrite(t, s, resultFor("more", 10))
		if _, third := reopen(t, dir); third["more"] == nil {
			t.Fatal("what was written behind it is lost")
		}
		in := bytes.NewReader(content)
		for {
			got, err := readFrame(in)
			if err != nil {
				return
			}
			if len(got) == 0 || len(got) > maxFrame {
				t.Fatalf("a frame of %d bytes", len(got))
			}
			if r, _, err := decodeFrame(got); err == nil && r != nil && r.token.task.jobUID == "" {
				t.Fatal("a result without a token")
			}
			if in.Len() == 0 {
				if _, err := readFrame(in); !errors.Is(err, io.EOF) {
					t.Fatalf("behind the last frame: %v", err)
				}
				return
			}
		}
	})
}

// A job can write what it likes into the file.
func TestASpoolThatIsTooLargeIsBounded(t *testing.T) {
	dir := t.TempDir()
	var content []byte
	for i := range maxResults + 10 {
		frame, err := encodeResult(resultFor(fmt.Sprint(i), 0))
		if err != nil {
			t.Fatal(err)
		}
		content = append(content, frame...)
	}
	large := resultFor("large", tailBytes+1)
	frame, err := encodeResult(large)
	if err != nil {
		t.Fatal(err)
	}
	content = append(frame, content...)
	for len(content) < 3*compactBytes {
		content = append(content, seal(make([]byte, frameHeader+maxFrame))...)
	}
	file := filepath.Join(dir, spoolFile)
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	_, kept := reopen(t, dir)
	if len(kept) != maxResults || kept["large"] != nil {
		t.Errorf("%d results, the one that is too large: %v", len(kept), kept["large"])
	}
	if info, err := os.Stat(file); err != nil || info.Size() > 2*compactBytes {
		t.Errorf("%d bytes, error %v", info.Size(), err)
	}
}
