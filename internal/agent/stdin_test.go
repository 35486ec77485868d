package agent

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
)

func TestStdin(t *testing.T) {
	const most = 512 << 10
	tests := map[string]struct {
		script string
		size   int
		want   string
	}{
		"is read whole":          {"wc -c | tr -d ' '", most, fmt.Sprintln(most)},
		"is read from its start": {"head -c 3; echo", most, "xxx\n"},
		"is closed early":        {"exec <&-; echo closed", most, "closed\n"},
		"is never read":          {"echo unread", most, "unread\n"},
		"is a file's end":        {"cat; echo end", 0, "end\n"},
		"of one byte":            {"cat; echo end", 1, "xend\n"},
		"can't be changed":       {"(echo y >&0) 2> /dev/null || echo refused", 1, "refused\n"},
	}
	s := start(t)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			a := shell(name, test.script)
			a.Stdin = bytes.Repeat([]byte("x"), test.size)
			r := s.run(a)
			if r.GetExitCode() != 0 || string(r.GetOutput()) != test.want {
				t.Errorf("result %v, want %q", r, test.want)
			}
		})
	}
}

func TestStdinHasAnyByte(t *testing.T) {
	s := start(t)
	a := shell("a", "od -An -v -tu1 -w256")
	var want strings.Builder
	for i := range 256 {
		a.Stdin = append(a.Stdin, byte(i))
		fmt.Fprintf(&want, " %3d", i)
	}
	if r := s.run(a); strings.TrimSuffix(string(r.GetOutput()), "\n") != want.String() {
		t.Errorf("read %q", r.GetOutput())
	}
}

func TestStdinIsNotKept(t *testing.T) {
	o := newOperator(t)
	a, _, _ := runAgent(t, testConfig(t, o), &lockedBuffer{})
	s := o.accepted()
	assignment := shell("a", "exec sleep 1000")
	assignment.Stdin = []byte("x")
	s.assign(assignment)
	s.running(tokenFor("a"))
	a.mu.Lock()
	defer a.mu.Unlock()
	if kept := a.table.live[tokenOf(tokenFor("a"))].assignment.GetStdin(); kept != nil {
		t.Errorf("kept %q", kept)
	}
}

func TestNoDescriptorIsLeft(t *testing.T) {
	s := start(t)
	s.run(shell("first", "true"))
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	before := count()
	for i := range 5 {
		a := shell(fmt.Sprint("runs-", i), "cat")
		b := job(fmt.Sprint("fails-", i), "/nonexistent")
		c := job(fmt.Sprint("fails-limited-", i), "/nonexistent")
		a.Stdin, b.Stdin, c.Stdin = []byte("x"), []byte("x"), []byte("x")
		a.MaxOpenFiles, c.MaxOpenFiles = 50, 50
		s.run(a)
		s.run(b)
		s.run(c)
	}
	waitFor(t, "the files to be closed", func() bool { return count() <= before })
}
