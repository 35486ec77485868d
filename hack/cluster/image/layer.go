package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// writeLayer writes the files, folders and symbolic links below root to a tar file, in lexical order, owned by
// root and without their times, so that the same content always gives the same bytes.
func writeLayer(file, root string) (err error) {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	w := tar.NewWriter(f)
	walk := func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		return addEntry(w, root, path, entry)
	}
	if err := filepath.WalkDir(root, walk); err != nil {
		return fmt.Errorf("packing %s: %w", root, err)
	}
	return w.Close()
}

func addEntry(w *tar.Writer, root, path string, entry fs.DirEntry) error {
	header, err := headerOf(root, path, entry)
	if err != nil {
		return err
	}
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	if !entry.Type().IsRegular() {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

func headerOf(root, path string, entry fs.DirEntry) (*tar.Header, error) {
	info, err := entry.Info()
	if err != nil {
		return nil, err
	}
	link := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if link, err = os.Readlink(path); err != nil {
			return nil, err
		}
	}
	header, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return nil, err
	}
	if header.Name, err = filepath.Rel(root, path); err != nil {
		return nil, err
	}
	header.Uid, header.Gid, header.Uname, header.Gname = 0, 0, "", ""
	header.ModTime, header.AccessTime, header.ChangeTime = time.Unix(0, 0), time.Time{}, time.Time{}
	return header, nil
}
