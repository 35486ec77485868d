package agent

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
)

// tmpDirs gives each attempt an empty folder of its own. One that an attempt leaves as it was is given to
// a later one: making a folder takes longer than starting a process.
type tmpDirs struct {
	mu     sync.Mutex
	volume *volume
	made   int
	// free are names in the volume.
	free []string
}

const (
	tmpFolder = "tmp"
	tmpMode   = 0o700
	// maxTaken is how many names may be taken by what others have made.
	maxTaken = 100
)

// newTmpDirs removes what an earlier run of the agent has left.
func newTmpDirs(path string) (*tmpDirs, error) {
	v, err := openVolume(path)
	if err != nil {
		return nil, fmt.Errorf("open the volume for TMPDIRs: %w", err)
	}
	if err := errors.Join(v.clear(tmpFolder), v.folder(tmpFolder)); err != nil {
		return nil, fmt.Errorf("clear the folder for TMPDIRs: %w", err)
	}
	return &tmpDirs{volume: v}, nil
}

// get returns the path of a folder, and makes those above it anew if a job has removed them.
func (t *tmpDirs) get() (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.volume.folder(tmpFolder); err != nil {
		return "", fmt.Errorf("make the folder for TMPDIRs: %w", err)
	}
	for n := len(t.free); n > 0; n = len(t.free) {
		name := t.free[n-1]
		t.free = t.free[:n-1]
		if untouched(t.volume.root, name) {
			return filepath.Join(t.volume.path, name), nil
		}
		_ = t.volume.clear(name) // another job has been there
	}
	var err error
	for range maxTaken {
		t.made++
		name := filepath.Join(tmpFolder, strconv.Itoa(t.made))
		if err = t.volume.root.Mkdir(name, tmpMode); err == nil {
			return filepath.Join(t.volume.path, name), nil
		}
		if !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	return "", fmt.Errorf("make a TMPDIR: %w", err)
}

// put takes back a folder that nobody uses any more, and removes all that is in it.
func (t *tmpDirs) put(dir string) error {
	name := filepath.Join(tmpFolder, filepath.Base(dir))
	t.mu.Lock()
	root := t.volume.root
	t.mu.Unlock()
	if !untouched(root, name) {
		return clearIn(root, name)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.free = append(t.free, name)
	return nil
}

// probe returns an error if no attempt could have a folder now.
func (t *tmpDirs) probe() error {
	dir, err := t.get()
	if err != nil {
		return err
	}
	return t.put(dir)
}

// untouched returns whether a folder is as get had made it.
func untouched(root *os.Root, name string) bool {
	info, err := root.Lstat(name)
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || info.Mode() != fs.ModeDir|tmpMode || int(stat.Uid) != os.Getuid() {
		return false
	}
	folder, err := root.Open(name)
	if err != nil {
		return false
	}
	defer folder.Close()
	_, err = folder.Readdirnames(1)
	return errors.Is(err, io.EOF)
}
