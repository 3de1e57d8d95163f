package lane

import (
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"syscall"
)

// handover is the listener through which net/http gets connections.
type handover struct {
	address net.Addr
	conns   chan net.Conn
	done    chan struct{}
	once    sync.Once
}

func newHandover(address net.Addr) *handover {
	return &handover{address: address, conns: make(chan net.Conn), done: make(chan struct{})}
}

func (h *handover) Accept() (net.Conn, error) {
	select {
	case nc := <-h.conns:
		return nc, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

func (h *handover) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

func (h *handover) Addr() net.Addr { return h.address }

// give passes a connection on; it is closed when nobody takes it any more.
func (h *handover) give(nc net.Conn) {
	select {
	case h.conns <- nc:
	case <-h.done:
		_ = nc.Close()
	}
}

// replayed is a connection of which some bytes were read already. net/http
// looks for CloseWrite.
type replayed struct {
	net.Conn
	prefix []byte
}

func (r *replayed) Read(p []byte) (int, error) {
	if len(r.prefix) > 0 {
		n := copy(p, r.prefix)
		if r.prefix = r.prefix[n:]; len(r.prefix) == 0 {
			r.prefix = nil
		}
		return n, nil
	}
	return r.Conn.Read(p)
}

func (r *replayed) CloseWrite() error { return closeWrite(r.Conn) }

// replayedTLS is where net/http looks for the state of TLS.
type replayedTLS struct {
	replayed
	tls *tls.Conn
}

func (r *replayedTLS) ConnectionState() tls.ConnectionState { return r.tls.ConnectionState() }

func closeWrite(nc net.Conn) error {
	if half, ok := nc.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// isShortage says that accepting may work again in a moment.
func isShortage(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.ECONNABORTED, syscall.EINTR} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
