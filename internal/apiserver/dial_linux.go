package apiserver

import (
	"context"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Dial connects within so long, and gives up a connection whose other end does not take for so long what was sent. The kernel would send
// it again for many minutes, also after this process has ended.
func Dial(most time.Duration) func(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: most, Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		if e := raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(most.Milliseconds()))
		}); e != nil {
			return e
		}
		return err
	}}
	return dialer.DialContext
}
