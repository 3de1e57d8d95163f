//go:build unix

package simulator

import (
	"net"
	"os"
	"syscall"
)

// pair returns the two ends of a connected pair of stream sockets.
func pair() (near, far net.Conn, err error) {
	syscall.ForkLock.RLock() // no child may inherit them before CloseOnExec
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fds[0])
		syscall.CloseOnExec(fds[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	if near, err = conn(fds[0]); err != nil {
		_ = syscall.Close(fds[1])
		return nil, nil, err
	}
	if far, err = conn(fds[1]); err != nil {
		_ = near.Close()
		return nil, nil, err
	}
	return near, far, nil
}

// conn hands a descriptor to the runtime's poller, which works on a copy.
func conn(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "foundry-simulator")
	c, err := net.FileConn(f)
	if closeErr := f.Close(); err == nil && closeErr != nil {
		_ = c.Close()
		return nil, closeErr
	}
	return c, err
}
