package lane

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	inputSize = 8 << 10 // head and, where it fits, body; a longer head is net/http's
	// lenience is the part of a timeout by which it may fire early.
	lenience = 8
	// writeTimeout is for a client that does not read.
	writeTimeout = 60 * time.Second
	// lingerTime is how long a client may still send after the answer to a
	// request whose body was not read whole: closing at once would reset the
	// connection, and the reset may overtake the answer.
	lingerTime = 500 * time.Millisecond
)

// The states of a connection. Only a busy one belongs to its goroutine alone.
const (
	busy int32 = iota
	idle
	stopped
)

// conn is one connection. All that a request needs belongs to it.
type conn struct {
	server *Server
	nc     net.Conn // the socket
	stream net.Conn // what HTTP is spoken over: nc, or TLS over it
	socket syscall.RawConn
	tls    *tls.Conn
	number uint32 // in the watcher
	state  atomic.Int32
	cancel context.CancelFunc

	in           []byte
	next, filled int // unread bytes are in[next:filled]

	readBy, writeBy time.Time // the deadlines that are set; zero is none

	remote   string // the peer's address
	request  *http.Request
	url      url.URL
	values   [maxFields]string
	body     body
	response response
}

func newConn(s *Server, nc net.Conn) *conn {
	return &conn{server: s, nc: nc, stream: nc}
}

// left is told by the watcher that the client has gone.
func (c *conn) left() { c.cancel() }

// stopIdle makes a connection that waits for a request end.
func (c *conn) stopIdle() {
	if c.state.CompareAndSwap(idle, stopped) {
		_ = c.nc.SetReadDeadline(time.Unix(1, 0))
	}
}

// serve is the connection's goroutine.
func (c *conn) serve() {
	base := c.server.base
	if f := c.server.http.ConnContext; f != nil {
		base = f(base, c.nc)
	}
	ctx, cancel := context.WithCancel(base)
	c.cancel = cancel
	watched, given := false, false
	defer func() {
		if e := recover(); e != nil && e != http.ErrAbortHandler { //nolint:errorlint // a panic's value
			stack := make([]byte, 16<<10)
			c.server.logf("lane: panic serving %v: %v\n%s", c.nc.RemoteAddr(), e, stack[:runtime.Stack(stack, false)])
		}
		c.response.release()
		if !given {
			_ = c.stream.Close()
			cancel()
			if watched {
				c.server.watch.drop(c)
			}
		}
		c.server.forget(c)
	}()
	if c.server.tls != nil && !c.handshake(ctx) {
		return
	}
	raw, ok := c.nc.(syscall.Conn)
	if ok && (c.tls == nil || c.tls.ConnectionState().NegotiatedProtocol != "h2") {
		var err error
		if c.socket, err = raw.SyscallConn(); err == nil {
			watched = c.server.watch.add(c, c.socket) == nil
		}
	}
	c.in = make([]byte, inputSize)
	c.prepare(ctx)
	for first := true; watched; first = false {
		if !c.await(first) {
			return
		}
		h, v := c.head()
		if v == incomplete {
			return // in time
		}
		if v == odd {
			break
		}
		if !c.answer(h) {
			return
		}
	}
	if watched {
		c.server.watch.remove(c, c.socket)
	}
	given = true
	cancel()
	c.give()
}

// handshake takes TLS as far as the protocol's choice, within the time for a
// head.
func (c *conn) handshake(ctx context.Context) bool {
	c.tls = tls.Server(c.nc, c.server.tls)
	c.stream = c.tls
	c.deadlines(c.server.headerTimeout())
	if !c.rest() {
		return false
	}
	err := c.tls.HandshakeContext(ctx)
	if !c.state.CompareAndSwap(idle, busy) {
		return false
	}
	if err == nil {
		c.deadlines(0)
		return true
	}
	var plainText tls.RecordHeaderError
	if errors.As(err, &plainText) && plainText.Conn != nil && looksLikeHTTP(plainText.RecordHeader) {
		_, _ = io.WriteString(plainText.Conn, "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")
	}
	c.server.logf("lane: TLS handshake error from %v: %v", c.nc.RemoteAddr(), err)
	return false
}

func looksLikeHTTP(start [5]byte) bool {
	switch string(start[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO":
		return true
	}
	return false
}

// deadlines sets both deadlines; 0 is none.
func (c *conn) deadlines(after time.Duration) {
	at := time.Time{}
	if after > 0 {
		at = time.Now().Add(after)
	}
	c.readBy, c.writeBy = at, at
	_ = c.nc.SetDeadline(at)
}

// prepare makes what all requests of the connection share.
func (c *conn) prepare(ctx context.Context) {
	r := (&http.Request{Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: make(http.Header, 16), URL: &c.url}).WithContext(ctx)
	if a := c.nc.RemoteAddr(); a != nil {
		c.remote = a.String()
	}
	if c.tls != nil {
		state := c.tls.ConnectionState()
		r.TLS = &state
	}
	c.request = r
	c.body.c, c.response.c = c, c
	c.response.header = make(http.Header, 16)
}

// rest marks the connection as one that may be ended at any moment; false if
// the server is stopping. What deadlines it needs are set before.
func (c *conn) rest() bool {
	c.state.Store(idle)
	return !c.server.closed.Load()
}

// await waits for the first bytes of a request.
func (c *conn) await(first bool) bool {
	if first {
		c.readWithin(c.server.headerTimeout())
	} else {
		c.readAbout(c.server.idleTimeout())
	}
	if !c.rest() {
		return false
	}
	n, err := c.stream.Read(c.in)
	if !c.state.CompareAndSwap(idle, busy) {
		return false
	}
	c.next, c.filled = 0, n
	return n > 0 || err == nil
}

// head reads until the request's head is whole, or not plain. incomplete means
// that the time for it is over.
func (c *conn) head() (head, verdict) {
	by := time.Time{}
	for seen := 0; ; {
		h, v := plain(c.in[:c.filled], seen, c.request, &c.url, &c.values)
		if v == whole && int64(c.filled-h.size) > h.length {
			v = odd // pipelined
		}
		if v == incomplete && c.filled == len(c.in) {
			v = odd
		}
		if v != incomplete {
			c.next = h.size
			return h, v
		}
		if by.IsZero() {
			if t := c.server.headerTimeout(); t > 0 {
				by = time.Now().Add(t)
			}
			c.readUntil(by)
		}
		seen = c.filled
		n, err := c.stream.Read(c.in[c.filled:])
		c.filled += n
		if n == 0 && err != nil {
			var late net.Error
			if errors.As(err, &late) && late.Timeout() {
				return h, incomplete
			}
			return h, odd // net/http has words for a head that is cut
		}
	}
}

// answer runs the handler; false when the connection is at its end.
func (c *conn) answer(h head) bool {
	c.body = body{c: c, left: h.length}
	c.request.Body, c.request.RemoteAddr = c.bodyOf(h.length), c.remote
	w := &c.response
	w.begin()
	c.server.http.Handler.ServeHTTP(w, c.request)
	keep := w.finish()
	whole := c.body.left == 0
	if keep && !whole {
		keep = c.body.drain()
	}
	w.release()
	if !keep && !whole {
		c.linger()
	}
	return keep && !c.server.closed.Load()
}

// linger lets the client read the answer before the connection ends.
func (c *conn) linger() {
	if closeWrite(c.stream) != nil {
		return
	}
	_ = c.nc.SetReadDeadline(time.Now().Add(lingerTime))
	for n, err := 0, error(nil); err == nil; {
		n, err = c.nc.Read(c.in)
		_ = n
	}
}

// give passes the connection on to net/http.
func (c *conn) give() {
	_ = c.nc.SetDeadline(time.Time{})
	switch {
	case c.filled == 0:
		c.server.odd.give(c.stream)
	case c.tls != nil:
		c.server.odd.give(&replayedTLS{replayed{c.stream, c.in[:c.filled]}, c.tls})
	default:
		c.server.odd.give(&replayed{c.stream, c.in[:c.filled]})
	}
}

// readWithin lets reads wait for so long; 0 is for ever.
func (c *conn) readWithin(timeout time.Duration) {
	at := time.Time{}
	if timeout > 0 {
		at = time.Now().Add(timeout)
	}
	c.readUntil(at)
}

func (c *conn) readUntil(at time.Time) {
	if !c.readBy.Equal(at) {
		c.readBy = at
		_ = c.nc.SetReadDeadline(at)
	}
}

// readAbout is readWithin that leaves a deadline which is near enough.
func (c *conn) readAbout(timeout time.Duration) {
	if timeout > 0 && near(c.readBy, time.Now(), timeout) {
		return
	}
	c.readWithin(timeout)
}

// writeAbout lets writes wait for about so long.
func (c *conn) writeAbout(timeout time.Duration) {
	now := time.Now()
	if near(c.writeBy, now, timeout) {
		return
	}
	c.writeBy = now.Add(timeout)
	_ = c.nc.SetWriteDeadline(c.writeBy)
}

// near tells whether a deadline is at most an eighth earlier than timeout from
// now, and no later.
func near(by, now time.Time, timeout time.Duration) bool {
	left := by.Sub(now)
	return left <= timeout && left >= timeout-timeout/lenience
}

// headerTimeout and idleTimeout are net/http's.
func (s *Server) headerTimeout() time.Duration {
	if t := s.http.ReadHeaderTimeout; t != 0 {
		return t
	}
	return s.http.ReadTimeout
}

func (s *Server) idleTimeout() time.Duration {
	if t := s.http.IdleTimeout; t != 0 {
		return t
	}
	return s.http.ReadTimeout
}
