//go:build unix

package upstream

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// watch asks the kernel about an idle socket without reading from it and
// without allocating.
type watch struct {
	one    [1]byte
	fds    [1]unix.PollFd
	n      int
	err    error
	pollFn func(fd uintptr)
}

func (w *watch) bind() {
	w.pollFn = func(fd uintptr) {
		w.fds[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
		for {
			if w.n, w.err = unix.Poll(w.fds[:], 0); w.err != unix.EINTR {
				return
			}
		}
	}
}

// poll tells whether bytes or an end can be read, and whether the socket is broken.
func (w *watch) poll(socket syscall.RawConn) (readable, broken bool) {
	if socket.Control(w.pollFn) != nil || w.err != nil {
		return false, true
	}
	events := w.fds[0].Revents
	return w.n > 0 && events&unix.POLLIN != 0, w.n > 0 && events&^unix.POLLIN != 0
}
