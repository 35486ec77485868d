package agent

import (
	"errors"
	"fmt"
	"io"
	"os"
)

// Install copies the running program to dest with mode 0755. The file appears whole or not at all,
// and replaces one that is there.
func Install(dest string) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the agent's program: %w", err)
	}
	part := dest + ".part"
	if err := copyProgram(self, part); err != nil {
		return errors.Join(fmt.Errorf("install the agent: %w", err), os.RemoveAll(part))
	}
	if err := os.Rename(part, dest); err != nil {
		return errors.Join(fmt.Errorf("install the agent: %w", err), os.RemoveAll(part))
	}
	return nil
}

func copyProgram(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	// Whatever the umask: the job container may run as another user.
	return errors.Join(err, dst.Chmod(0o755), dst.Close())
}
