package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// tmpDirs gives each attempt an empty folder of its own. One that an attempt leaves as it was is given to
// a later one: making a folder takes longer than starting a process.
type tmpDirs struct {
	parent string

	mu   sync.Mutex
	made int
	free []string
}

const tmpMode = 0o700

// newTmpDirs removes what an earlier run of the agent has left.
func newTmpDirs(parent string) (*tmpDirs, error) {
	if err := removeAll(parent); err != nil {
		return nil, fmt.Errorf("clear the folder for TMPDIRs: %w", err)
	}
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return nil, fmt.Errorf("make the folder for TMPDIRs: %w", err)
	}
	return &tmpDirs{parent: parent}, nil
}

func (t *tmpDirs) get() (string, error) {
	t.mu.Lock()
	if n := len(t.free); n > 0 {
		dir := t.free[n-1]
		t.free = t.free[:n-1]
		t.mu.Unlock()
		return dir, nil
	}
	t.made++
	dir := filepath.Join(t.parent, strconv.Itoa(t.made))
	t.mu.Unlock()
	return dir, os.Mkdir(dir, tmpMode)
}

// put takes back a folder that nobody uses any more, and removes all that is in it.
func (t *tmpDirs) put(dir string) error {
	if !untouched(dir) {
		return removeAll(dir)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.free = append(t.free, dir)
	return nil
}

// untouched returns whether a folder is as get had made it.
func untouched(dir string) bool {
	var stat unix.Stat_t
	if unix.Lstat(dir, &stat) != nil || stat.Mode != unix.S_IFDIR|tmpMode || int(stat.Uid) != os.Getuid() {
		return false
	}
	entries, err := os.ReadDir(dir)
	return err == nil && len(entries) == 0
}

// removeAll also removes what is in read-only folders.
func removeAll(dir string) error {
	if err := os.RemoveAll(dir); err == nil {
		return nil
	}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if entry != nil && entry.IsDir() {
			//nolint:gosec // no process of the job is left to race with, and all have the agent's own user
			err = errors.Join(err, os.Chmod(path, tmpMode))
		}
		return err
	})
	return errors.Join(err, os.RemoveAll(dir))
}
