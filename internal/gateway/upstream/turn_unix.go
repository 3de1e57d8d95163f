//go:build unix

package upstream

import (
	"errors"
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

const turns = true

// turn is one request on a pooled plain-text connection: a look whether the
// connection lives, the request, and the first bytes of the answer, with three
// system calls. All happens in one RawConn.Read, whose callback is called
// again when there is something to read.
//
// The runtime's poller is edge-triggered, and RawConn.Read forgets an edge that
// came before it began. None is missed: the look comes after that and finds the
// socket empty, so whatever arrives later makes an edge of its own.
type turn struct {
	out, in []byte
	hook    func() // tests; between the look and the writing
	asked   bool
	stale   bool // ended, broken or noisy before the request: nothing was written
	wrote   int
	werr    error
	n       int
	err     error
	step    func(fd uintptr) bool
}

func (t *turn) bind() {
	t.step = func(fd uintptr) bool {
		if !t.asked {
			t.asked = true
			return !t.ask(int(fd))
		}
		return t.listen(int(fd))
	}
}

// ask sends the request; false when there is nothing to wait for.
func (t *turn) ask(fd int) bool {
	if _, err := read(fd, t.in[:1]); !errors.Is(err, unix.EAGAIN) {
		t.stale = true
		return false
	}
	if t.hook != nil {
		t.hook()
	}
	for {
		n, err := unix.Write(fd, t.out)
		if err == unix.EINTR {
			continue
		}
		if t.wrote = max(n, 0); err != nil && err != unix.EAGAIN {
			t.werr = os.NewSyscallError("write", err)
		}
		return t.wrote == len(t.out)
	}
}

// listen takes what has arrived of the answer; false when that is nothing yet.
func (t *turn) listen(fd int) bool {
	n, err := read(fd, t.in)
	switch {
	case err == unix.EAGAIN:
		return false
	case err != nil:
		t.err = os.NewSyscallError("read", err)
	case n == 0:
		t.err = io.EOF
	default:
		t.n = n
	}
	return true
}

func read(fd int, p []byte) (int, error) {
	for {
		if n, err := unix.Read(fd, p); err != unix.EINTR {
			return n, err
		}
	}
}

// take runs one turn with buffers that are used until it returns.
func (t *turn) take(socket syscall.RawConn, out, in []byte) error {
	*t = turn{out: out, in: in, hook: t.hook, step: t.step}
	err := socket.Read(t.step)
	t.out, t.in = nil, nil
	return err
}
