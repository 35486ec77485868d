package agent

import (
	"os"

	"golang.org/x/sys/unix"
)

// newStdin returns the descriptor of a file in memory with that content, which nobody can change.
//
// A file needs no goroutine to feed it, whether the program reads all, some or nothing. It takes memory of
// the container, though of no process, until the last that has it open has ended.
func newStdin(content []byte) (int, error) {
	fd, err := unix.MemfdCreate("stdin", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return -1, os.NewSyscallError("memfd_create", err)
	}
	// Written by position, so that the program begins to read at the beginning.
	for offset := 0; offset < len(content); {
		n, err := unix.Pwrite(fd, content[offset:], int64(offset))
		if err != nil && err != unix.EINTR {
			_ = unix.Close(fd)
			return -1, os.NewSyscallError("pwrite", err)
		}
		offset += max(n, 0)
	}
	const seals = unix.F_SEAL_WRITE | unix.F_SEAL_GROW | unix.F_SEAL_SHRINK | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		_ = unix.Close(fd)
		return -1, os.NewSyscallError("fcntl", err)
	}
	return fd, nil
}
