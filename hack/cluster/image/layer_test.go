package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// folder makes a small image root: a program, a link to it and a sticky /tmp.
func folder(t *testing.T, modified time.Time) string {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{"bin", "tmp"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(filepath.Join(root, "tmp"), 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(root, "bin", "program")
	if err := os.WriteFile(program, []byte("content"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("program", filepath.Join(root, "bin", "alias")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(program, modified, modified); err != nil {
		t.Fatal(err)
	}
	return root
}

func imageOf(t *testing.T, modified time.Time) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "image.tar")
	ref, err := run(options{out: out, ref: "localhost/test:dev", root: folder(t, modified), arch: "amd64", digestTag: true})
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func TestTheSameFilesAtAnotherTimeGiveTheSameTag(t *testing.T) {
	first, second := imageOf(t, time.Unix(1, 0)), imageOf(t, time.Unix(2, 0))
	if first != second {
		t.Errorf("tags differ: %s and %s", first, second)
	}
}

func TestLayerKeepsModesAndLinks(t *testing.T) {
	file := filepath.Join(t.TempDir(), "layer.tar")
	if err := writeLayer(file, folder(t, time.Unix(1, 0))); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]tar.Header{}
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got[header.Name] = *header
	}
	if mode := got["tmp/"].Mode + got["tmp"].Mode; mode != 0o1777 {
		t.Errorf("/tmp has mode %o, want 1777", mode)
	}
	if link := got["bin/alias"].Linkname; link != "program" {
		t.Errorf("bin/alias points to %q, want program", link)
	}
	if h := got["bin/program"]; h.Mode != 0o755 || h.Size != int64(len("content")) || h.Uid != 0 {
		t.Errorf("bin/program: mode %o, size %d, uid %d", h.Mode, h.Size, h.Uid)
	}
}
