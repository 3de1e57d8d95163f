package lane

import (
	"errors"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// watcher tells connections that their peer has left. The kernel wakes it for
// the end of a stream and for a reset only (EPOLLRDHUP, epoll_ctl(2)), never
// for data, so that a request costs nothing here. The epoll instance is itself
// waited for by the runtime's poller.
type watcher struct {
	file *os.File
	raw  syscall.RawConn
	done chan struct{}

	mu    sync.Mutex
	next  uint32
	conns map[uint32]*conn
}

func newWatcher() (*watcher, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // for os.NewFile to give it to the poller
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	w := &watcher{file: os.NewFile(uintptr(fd), "epoll"), done: make(chan struct{}), conns: map[uint32]*conn{}}
	if w.raw, err = w.file.SyscallConn(); err != nil {
		_ = w.file.Close()
		return nil, err
	}
	go w.run()
	return w, nil
}

func (w *watcher) close() {
	_ = w.file.Close()
	<-w.done
}

func (w *watcher) run() {
	defer close(w.done)
	var events [64]unix.EpollEvent
	for {
		n := 0
		err := w.raw.Read(func(fd uintptr) bool {
			var err error
			n, err = unix.EpollWait(int(fd), events[:], 0)
			return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
		})
		if err != nil || n < 0 {
			return
		}
		for _, e := range events[:n] {
			w.mu.Lock()
			c := w.conns[uint32(e.Fd)]
			w.mu.Unlock()
			if c != nil {
				c.left()
			}
		}
	}
}

// add watches a connection's socket. An event carries the number given here,
// never the file descriptor, which another connection may have by then.
func (w *watcher) add(c *conn, socket syscall.RawConn) error {
	w.mu.Lock()
	w.next++
	for w.conns[w.next] != nil {
		w.next++
	}
	c.number = w.next
	w.conns[c.number] = c
	w.mu.Unlock()
	err := w.control(socket, unix.EPOLL_CTL_ADD, c.number)
	if err != nil {
		w.drop(c)
	}
	return err
}

// remove stops watching a socket that stays open.
func (w *watcher) remove(c *conn, socket syscall.RawConn) {
	_ = w.control(socket, unix.EPOLL_CTL_DEL, c.number)
	w.drop(c)
}

// drop forgets a connection whose socket is closed: the kernel has, too.
func (w *watcher) drop(c *conn) {
	w.mu.Lock()
	delete(w.conns, c.number)
	w.mu.Unlock()
}

func (w *watcher) control(socket syscall.RawConn, op int, number uint32) error {
	var inner, failed error
	outer := w.raw.Control(func(epoll uintptr) {
		inner = socket.Control(func(fd uintptr) {
			failed = os.NewSyscallError("epoll_ctl", unix.EpollCtl(int(epoll), op, int(fd),
				&unix.EpollEvent{Events: unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(number)}))
		})
	})
	return errors.Join(outer, inner, failed)
}
