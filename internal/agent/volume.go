package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// volume is the folder that the agent shares with its jobs. A job may remove, lock or replace anything in it, also by
// links that lead elsewhere. So names in it are looked up from the open folder, and lead to nothing outside of it.
// Its owner guards it.
type volume struct {
	path string
	root *os.Root
}

const folderMode = 0o755

func openVolume(path string) (*volume, error) {
	v := &volume{path: path}
	return v, v.open()
}

// open makes the volume's own folder if it is not there.
func (v *volume) open() error {
	info, err := os.Lstat(v.path)
	if err == nil && !info.IsDir() {
		if err := os.Remove(v.path); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(v.path, folderMode); err != nil {
		return err
	}
	root, err := os.OpenRoot(v.path)
	if err != nil {
		return err
	}
	v.root = root // an earlier one may be in use, and is closed when it is not
	return nil
}

// folder sees to it that there is a folder with this name that the agent can work in.
func (v *volume) folder(name string) error {
	info, err := v.root.Lstat(name)
	switch {
	case err == nil && info.IsDir() && info.Mode()&0o700 == 0o700:
		return nil
	case err == nil && info.IsDir():
		return v.root.Chmod(name, folderMode)
	case err == nil:
		if err := v.root.Remove(name); err != nil {
			return err
		}
	}
	err = v.root.Mkdir(name, folderMode)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	// The volume itself is gone.
	if err := v.open(); err != nil {
		return err
	}
	return v.root.Mkdir(name, folderMode)
}

// clear removes what has the name, and what is in it, read-only folders too.
func (v *volume) clear(name string) error { return clearIn(v.root, name) }

func clearIn(root *os.Root, name string) error {
	if root.RemoveAll(name) == nil {
		return nil
	}
	if info, err := root.Lstat(name); err == nil && info.IsDir() {
		if err := unlock(root, name); err != nil {
			return err
		}
	}
	return root.RemoveAll(name)
}

// unlock has the folder and all folders in it be ones that can be emptied.
func unlock(in *os.Root, name string) error {
	if err := in.Chmod(name, tmpMode); err != nil {
		return err
	}
	folder, err := in.OpenRoot(name)
	if err != nil {
		return err
	}
	defer folder.Close()
	list, err := folder.Open(".")
	if err != nil {
		return err
	}
	entries, err := list.ReadDir(-1)
	err = errors.Join(err, list.Close())
	for _, entry := range entries {
		if entry.IsDir() {
			err = errors.Join(err, unlock(folder, entry.Name()))
		}
	}
	return err
}

// isFull tells errors that pass when there is room again from those that stay.
func isFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }

// file opens a file that is read and written, and makes it if there is none. What is no file is removed.
func (v *volume) file(folder, name string) (*os.File, error) {
	if err := v.folder(folder); err != nil {
		return nil, err
	}
	path := filepath.Join(folder, name)
	if info, err := v.root.Lstat(path); err == nil {
		switch {
		case !info.Mode().IsRegular():
			err = v.clear(path)
		case info.Mode()&fileMode != fileMode:
			err = v.root.Chmod(path, fileMode)
		}
		if err != nil {
			return nil, fmt.Errorf("make room for %s: %w", path, err)
		}
	}
	return v.root.OpenFile(path, os.O_RDWR|os.O_CREATE, fileMode)
}

const fileMode = 0o600
