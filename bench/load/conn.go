//go:build linux

package load

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// socket is a non-blocking TCP socket. crypto/tls reads through it: a
// temporary error leaves a tls.Conn usable, so that the same loop drives
// plain and encrypted connections without a goroutine for each.
type socket struct {
	net.Conn // nil: only what is defined here is ever called
	fd       int
	blocking bool // during the handshake
}

// errAgain says that nothing more can be read for now.
var errAgain net.Error = again{}

type again struct{}

func (again) Error() string   { return "nothing to read now" }
func (again) Timeout() bool   { return true }
func (again) Temporary() bool { return true }

const dialTimeout = 5 * time.Second

func dial(address string) (*socket, error) {
	c, err := net.DialTimeout("tcp", address, dialTimeout)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	f, err := c.(*net.TCPConn).File() // a duplicate that the runtime does not poll
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	return &socket{fd: fd}, unix.SetNonblock(fd, true)
}

func (s *socket) Read(p []byte) (int, error) {
	for {
		n, err := unix.Read(s.fd, p)
		switch {
		case n > 0:
			return n, nil
		case err == nil:
			return 0, io.EOF
		case errors.Is(err, unix.EINTR):
		case !errors.Is(err, unix.EAGAIN):
			return 0, os.NewSyscallError("read", err)
		case !s.blocking:
			return 0, errAgain
		default:
			if err := s.poll(unix.POLLIN); err != nil {
				return 0, err
			}
		}
	}
}

func (s *socket) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n, err := unix.Write(s.fd, p[done:])
		done += max(n, 0)
		switch {
		case err == nil, errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			if err := s.poll(unix.POLLOUT); err != nil {
				return done, err
			}
		default:
			return done, os.NewSyscallError("write", err)
		}
	}
	return done, nil
}

func (s *socket) poll(events int16) error {
	fds := []unix.PollFd{{Fd: int32(s.fd), Events: events}}
	n, err := unix.Poll(fds, int(dialTimeout.Milliseconds()))
	if err == nil && n == 0 {
		return os.ErrDeadlineExceeded
	}
	if errors.Is(err, unix.EINTR) {
		return nil
	}
	return err
}

func (s *socket) Close() error { return unix.Close(s.fd) }

// conn is one connection and the request that is on it, if any.
type conn struct {
	answer
	*socket
	stream io.ReadWriter // the socket, or TLS over it
	start  time.Duration // when the request went out, or should have
	first  time.Duration // when its first token came; 0 not yet
	busy   bool
}

func connect(o *Options, tlsConfig *tls.Config) (*conn, error) {
	s, err := dial(o.Address)
	if err != nil {
		return nil, err
	}
	c := &conn{socket: s, stream: s}
	if tlsConfig == nil {
		return c, nil
	}
	t := tls.Client(s, tlsConfig)
	s.blocking = true
	err = t.Handshake()
	s.blocking = false
	if err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("TLS handshake with %s: %w", o.Address, err)
	}
	if v := t.ConnectionState().Version; v != tls.VersionTLS13 {
		_ = s.Close()
		return nil, fmt.Errorf("%s speaks %s, which would be no comparison", o.Address, tls.VersionName(v))
	}
	c.stream = t
	return c, nil
}
